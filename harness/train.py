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
from harness.configuration.hydra_version import VERSION_OPTIONS
from harness.configuration.schema import CONF_DIR
from harness.configuration.validation import validate
from harness.errors import NotStored, RequestError
from harness.sweeps import command_line
from harness.sweeps.cells import with_paths_from
from harness.sweeps.hydra_boundary import HydraBoundary
from harness.sweeps.leftovers import sweeps_folder

register_schema()
_boundary = HydraBoundary()


def train_cell(composed: DictConfig) -> float:
    """Trains one cell and returns its mean validation accuracy, which any sweeper can optimise."""
    with _boundary.own_code():
        # Hydra may have changed the working directory for this job.
        config = with_paths_from(to_config(composed), HydraConfig.get().runtime.cwd)
        validate(config)
        # Loads torch, once the request is known to be right.
        from harness.sweeps.sweep import run_cell

        try:
            return run_cell(config)
        except (RequestError, NotStored) as error:
            if HydraConfig.get().mode != RunMode.RUN:
                raise
            _boundary.refuse(error)
            return math.nan


def prefetch(jobs: Iterable[DictConfig], **options: Any) -> None:
    """Trains all jobs of a sweep; see `harness.sweeps.command_line.prefetch`."""
    with _boundary.own_code():
        command_line.prefetch(jobs, **options)


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
    _boundary.run(_application, sweeps_folder(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
