"""Removes what Hydra wrote for a request that turned out to be wrong."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.configuration.schema import Config

# Everything that Hydra puts into the folder of a job or sweep in which nothing was trained.
_FILES_OF_HYDRA = {"multirun.yaml", ".hydra", "train.log"}


def sweeps_folder(arguments: Sequence[str]) -> Path:
    """Returns the absolute folder below which Hydra writes for these command-line arguments."""
    runs = Config.runs
    for argument in arguments:
        if argument.startswith("runs="):
            runs = argument.removeprefix("runs=")
    return Path(runs).expanduser().absolute() / "sweeps"


class Leftovers:
    """The folders below `runs/sweeps` as they were before Hydra started."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = set(arguments)
        self._sweeps = sweeps_folder(arguments)
        self._missing = [
            folder for folder in (self._sweeps, *self._sweeps.parents) if not folder.exists()
        ]
        self._present = set(self._sweeps.glob("*"))

    def remove(self, *, torn: bool = False) -> None:
        """Deletes new folders that hold nothing but Hydra's files, and folders made for them.

        `torn` says that Hydra could not write all its files: then a folder is deleted too whose
        files do not say which command line made it.
        """
        for folder in set(self._sweeps.glob("*")) - self._present:
            names = {path.name for path in folder.glob("*")}
            if names <= _FILES_OF_HYDRA and self._made_here(folder, torn):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._missing:
            # It may not be there, or another process may have written into it meanwhile.
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _made_here(self, folder: Path, unreadable: bool) -> bool:
        """Returns whether this command line made the folder, and not a concurrent one.

        `unreadable` is the answer where the folder's files do not say.
        """
        single = folder / ".hydra" / "overrides.yaml"
        with contextlib.suppress(OSError, OmegaConfBaseException, YAMLError):
            if single.exists():
                overrides = OmegaConf.load(single)
            else:
                overrides = OmegaConf.load(folder / "multirun.yaml").hydra.overrides.task
            return set(overrides) <= self._arguments
        return unreadable
