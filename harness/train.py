"""`python -m harness.train`: a job is one cell, whose seeds train side by side; `--multirun` sweeps cells as packs."""

from __future__ import annotations

import math
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from harness.configuration.composing import register_schema, to_config
from harness.configuration.schema import CONF_DIR
from harness.configuration.validation import validate
from harness.errors import NotStored, RequestError
from harness.sweeps.command_line import prefetch, refuse, run

register_schema()


def train_cell(composed: DictConfig) -> float:
    """Train one cell; returns its mean validation accuracy, so that any Hydra sweeper can optimise it."""
    config = to_config(composed)
    validate(config)
    from harness.sweeps.sweep import (
        run_cell,
    )  # torch is loaded once the request is known to be right

    try:
        return run_cell(config)
    except (RequestError, NotStored) as error:
        if HydraConfig.get().mode != RunMode.RUN:
            raise
        refuse(error)
        return math.nan


train_cell.prefetch = (
    prefetch  # the packed launcher shows it all jobs of a sweep first; others train job by job
)
main = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(train_cell)


if __name__ == "__main__":
    sys.exit(run(main))
