"""Removes what Hydra wrote for a request that turned out to be wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.configuration.composing import experiment_files
from harness.configuration.overrides import value_of
from harness.configuration.result_folder import expanded
from harness.configuration.schema import Config

# Everything that Hydra puts into the folder of a job or sweep in which nothing was trained.
_FILES_OF_HYDRA = {"multirun.yaml", ".hydra", "train.log"}


def sweeps_folder(arguments: Sequence[str]) -> Path:
    """Returns the absolute folder below which Hydra writes for these arguments, which are ready.

    Raises:
        RequestError: the folder for results is below an unknown home folder.
    """
    runs = value_of(arguments, "runs", None) or _runs_of_experiment(arguments) or Config.runs
    return expanded(str(runs), "runs").absolute() / "sweeps"


def _runs_of_experiment(arguments: Sequence[str]) -> str | None:
    """Returns the folder for results in the file of the experiment that arguments name, if any.

    A file that cannot be read is refused with its reason when Hydra composes it.
    """
    for file in experiment_files(arguments):
        with contextlib.suppress(OSError, ValueError, YAMLError, OmegaConfBaseException):
            content = OmegaConf.load(file)
            if isinstance(content, DictConfig) and content.get("runs") is not None:
                return str(content.runs)
    return None


class Leftovers:
    """The folders below `runs/sweeps` as they were before Hydra started."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._sweeps = sweeps_folder(arguments)
        # `os.path.exists` is False for a name that is too long, where `Path.exists` raises.
        self._missing = [
            folder for folder in (self._sweeps, *self._sweeps.parents) if not os.path.exists(folder)
        ]
        # In a container every sweep may have the same process id.
        self._before = set(self._of_this_process())

    def remove(self) -> None:
        """Deletes this process's folders that hold nothing but Hydra's files, and empty parents."""
        for folder in self._of_this_process():
            if folder in self._before:
                continue
            names = {path.name for path in folder.glob("*")}
            if names <= _FILES_OF_HYDRA:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._missing:
            # It may not be there, or another process may have written into it meanwhile.
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _of_this_process(self) -> list[Path]:
        """Returns the folders of sweeps that end in the id of this process."""
        if not os.path.exists(self._sweeps):
            return []
        return list(self._sweeps.glob(f"*_{os.getpid()}"))
