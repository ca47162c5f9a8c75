"""The options `--uri` and `--experiment`, which several commands share."""

from __future__ import annotations

import argparse


def add_tracking_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a tracking store and an experiment in it."""
    parser.add_argument(
        "--uri",
        help="the tracking server or database (default: MLFLOW_TRACKING_URI, or RUNS/mlflow.db)",
    )
    parser.add_argument(
        "--experiment",
        help="the experiment's name (default: MLFLOW_EXPERIMENT_NAME, or selu)",
    )
