"""Subcommands on whole networks: the prediction for a cell of a sweep, and figures."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.theory_command import Answer, Command, Options
from harness.errors import RequestError
from harness.theory.selu import THEOREM_1_BOX

if TYPE_CHECKING:
    from harness.sweeps.cells import Cell

# Axes that bear on a prediction, in the order in which they are printed.
_AXES = (
    "dataset",
    "preprocessing",
    "architecture",
    "depth",
    "width",
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "repair",
)
_OPTIONS_OF = ("architecture", "readout")
_TABLE_COLUMNS = ("q", "mean", "variance", "c", "gradient_product")


def _add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="the words of a sweep for one cell: activation=selu initializer=he_normal depth=32 "
        "preprocessing=global dataset=digits",
    )


def _predict(options: Options) -> Answer:
    # A user's own activation or network may be in the folder in which the command is started.
    sys.path.insert(0, os.getcwd())
    cell = _requested_cell(options.overrides)
    # A request that is known to be right needs the data, and torch with them.
    from harness.sweeps.runner import prediction_of, trained_as, view_of

    job = cell.jobs[0]
    prepared = view_of(job).prepared
    prediction = prediction_of(trained_as(job).spec, prepared, cell.info, job.config.probe.samples)
    inputs = prepared.moments
    variance_depth, cosine_depth = prediction.recovery
    rows = prediction.rows()
    data = {
        "sentence": prediction.sentence,
        "inputs": vars(inputs),
        "layers": rows,
        "variance_recovery_depth": variance_depth,
        "cosine_recovery_depth": cosine_depth,
        "training_gradient_product": prediction.training[0]["gradient_product"],
    }
    axes = job.trial.axes
    low, high = THEOREM_1_BOX.nu
    lines = [
        " ".join(f"{name}={value}" for name, value in axes.items() if _bears_on_prediction(name)),
        f"inputs: q {inputs.q:.4g}, CV of q over samples {inputs.cv_q:.3g}, "
        f"mean cosine {inputs.c:.3g}, participation ratio {inputs.participation_ratio:.3g}",
        "",
        *_prediction_table(rows),
        "",
        prediction.sentence,
        f"Variance of activations inside [{low:g}, {high:g}]: {_first_layer(variance_depth)}",
        f"Cosine at half the inputs': {_first_layer(cosine_depth)}",
    ]
    return Answer(data, lines)


def _bears_on_prediction(axis: str) -> bool:
    """Returns True for the axes of a network and its inputs, and for options of a network."""
    return axis in _AXES or axis.partition(".")[0] in _OPTIONS_OF


def _requested_cell(overrides: list[str]) -> Cell:
    """Returns the cell that the overrides describe.

    Raises:
        RequestError: an override is wrong, or describes several cells.
    """
    # No other subcommand needs configurations.
    from harness.configuration.composing import compose
    from harness.sweeps.cells import cell

    try:
        return cell(compose(overrides))
    except RequestError as error:
        override, several, _ = str(error).partition(": several values")
        if several:
            raise RequestError(
                f"{override}: predict takes one cell, so one value for each axis"
            ) from None
        raise


def _first_layer(depth: int | None) -> str:
    return "at no layer" if depth is None else f"first at layer {depth}"


def _prediction_table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns a table of the layers, each number with its band.

    A band holds 99 % of the networks of this width.
    """
    cells = [_table_cells(row) for row in rows]
    widths = []
    for column, name in enumerate(_TABLE_COLUMNS):
        longest = max(len(line[column]) for line in cells)
        widths.append(max(len(name), longest) + 2)
    lines = ["layer  " + _aligned(_TABLE_COLUMNS, widths)]
    for row, line in zip(rows, cells, strict=True):
        reason = row["reason"]
        text = _aligned(line, widths) if reason is None else f"unknown: {reason}"
        lines.append(f"{row['layer']:>5}  {text}")
    return lines


def _table_cells(row: dict[str, Any]) -> list[str]:
    return [_with_band(row, name) for name in _TABLE_COLUMNS]


def _aligned(cells: list[str] | tuple[str, ...], widths: list[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return "".join(padded).rstrip()


def _with_band(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    band = f" [{low:.3g}, {high:.3g}]" if math.isfinite(low) else ""
    return f"{row[name]:.4g}{band}"


def _add_figures_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/theory"),
        help="the folder to write (default: %(default)s)",
    )


def _figures(options: Options) -> Answer:
    # matplotlib takes a second to load, for which the other subcommands need not wait.
    from harness.reports import theory_figures

    try:
        paths = [str(path.resolve()) for path in theory_figures.write(options.out)]
    except OSError as error:
        raise RequestError(
            f"--out {options.out} cannot be written: {error.strerror or error}; "
            "give a writable folder"
        ) from None
    return Answer({"figures": paths}, paths)


PREDICT = Command(
    "predict",
    "what theory predicts for a cell of a sweep before it trains, layer by layer",
    _add_predict_arguments,
    _predict,
)
FIGURES = Command(
    "figures",
    "phase portrait of g, phase diagram, depth against dropout rate, as PNG and SVG",
    _add_figures_arguments,
    _figures,
)
