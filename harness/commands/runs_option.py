"""The option `--runs`, which several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.configuration.schema import Config


def add_runs_option(parser: argparse._ActionsContainer) -> None:
    """Adds the option `--runs`; its default is where sweeps put their results."""
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(Config.runs),
        help="the folder that holds trials/ (default: %(default)s in the working directory)",
    )
