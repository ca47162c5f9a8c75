"""Trains cells: `python -m harness.train`.

A job is one cell, whose seeds train side by side; `--multirun` sweeps cells as packs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from harness.configuration.composing import register_schema, to_config
from harness.configuration.help_page import help_page
from harness.configuration.hydra_version import VERSION_OPTIONS
from harness.configuration.overrides import is_multirun
from harness.configuration.schema import CONF_DIR
from harness.configuration.validation import validate
from harness.data.folder_listing import listed_once
from harness.errors import NotStored, RequestError
from harness.sweeps import command_line
from harness.sweeps.cells import with_paths_from
from harness.sweeps.hydra_boundary import HydraBoundary
from harness.sweeps.leftovers import sweeps_folder
from harness.sweeps.progress import answer

# What Hydra's command line knows to answer without running anything.
_QUESTIONS = ("--hydra-help", "--version", "--cfg", "-c", "--info", "-i")
_HELP = {"--help", "-h"}

register_schema()
_boundary = HydraBoundary()
# Whether the packed launcher has trained all cells before they run one by one.
_prefetched = False


def train_cell(composed: DictConfig) -> float:
    """Trains one cell and returns its mean validation accuracy, which any sweeper can optimise."""
    with _boundary.own_code():
        # Hydra may have changed the working directory for this job.
        settings = HydraConfig.get()
        try:
            if settings.mode == RunMode.RUN:
                _require_one_cell(settings)
            config = with_paths_from(to_config(composed), settings.runtime.cwd)
            validate(config)
            # Loads torch, once the request is known to be right.
            from harness.sweeps import sweep

            if not _prefetched:
                # Also a cell that is done is checked and sent, and says so.
                sweep.prefetch([config])
            return sweep.run_cell(config)
        except (RequestError, NotStored) as error:
            if settings.mode != RunMode.RUN:
                raise
            _boundary.refuse(error)
            return math.nan


def prefetch(jobs: Iterable[DictConfig], **options: Any) -> list[float | None]:
    """Trains all jobs of a sweep; see `harness.sweeps.command_line.prefetch`."""
    global _prefetched
    with _boundary.own_code():
        scores = command_line.prefetch(jobs, **options)
        _prefetched = True
        return scores


def _require_one_cell(settings: DictConfig) -> None:
    """Refuses a whole sweep, such as that of an experiment's file, where one cell is trained."""
    values = settings.sweeper.get("params")
    if values:
        raise RequestError(
            f"this is a sweep over {', '.join(map(str, values))}; add --multirun to train it"
        )


# The packed launcher calls it with all jobs of a sweep; other launchers train job by job.
train_cell.prefetch = prefetch  # type: ignore[attr-defined]

_make_application = hydra.main(config_path=str(CONF_DIR), config_name="config", **VERSION_OPTIONS)
_application = _make_application(train_cell)


def main() -> None:
    """Runs Hydra on `sys.argv`; errors of Hydra become errors of the harness.

    Raises:
        RequestError: the request was wrong.
        NotStored: a result could not be written.
        TrialsFailed: some trials failed.
    """
    global _prefetched
    _prefetched = False
    arguments = sys.argv[1:]
    if not _HELP.isdisjoint(arguments):
        answer(help_page().rstrip())
        return
    with listed_once():
        _boundary.run(_application, sweeps_folder(arguments))
    asked = any(argument.partition("=")[0] in _QUESTIONS for argument in arguments)
    if is_multirun(arguments) and not asked and not _boundary.entered:
        raise command_line.no_cells()


if __name__ == "__main__":
    sys.exit(command_line.run(main))
