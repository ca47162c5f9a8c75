"""The printed table of a diagnosis: one row for each layer, as texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas

from harness.verdicts.criteria import load


class Column(NamedTuple):
    """A column of numbers: its heading, its column of the layer table, and the number's format."""

    heading: str
    name: str
    form: str


_NUMBERS = (
    Column("in mean", "input_mean", "{:.3f}"),
    Column("in var", "input_variance", "{:.3g}"),
    Column("tau", "tau_mean", "{:.3g}"),
    Column("z var", "pre_activation_variance", "{:.3g}"),
    Column("mean", "activation_mean", "{:.3f}"),
    Column("var", "activation_variance", "{:.3g}"),
    Column("between", "between_unit_share", "{:.2f}"),
    Column("PR in", "input_participation_ratio", "{:.3g}"),
    Column("kurtosis", "pooled_excess_kurtosis", "{:.2g}"),
    Column("grad^2", "gradient_product", "{:.3g}"),
)
HEADINGS = (
    "layer",
    "name",
    "kind",
    "units",
    "activation",
    *(column.heading for column in _NUMBERS),
)


def layer_cells(row: Mapping[Any, Any]) -> list[str]:
    """Returns the texts of one layer under `HEADINGS`, from its row of the layer table."""
    activation = row["activation"]
    if row["normalization"] != "none":
        activation += f" ({row['normalization']})"
    numbers = [number_text(row.get(column.name), column.form) for column in _NUMBERS]
    return [str(row["layer"]), row["name"], row["kind"], str(row["units"]), activation, *numbers]


def verdicts_by_layer(verdicts: pandas.DataFrame) -> dict[tuple[Any, str], dict[Any, Any]]:
    """Returns the rows of a table of verdicts by (layer, condition)."""
    return {(row["layer"], row["condition"]): row for row in verdicts.to_dict("records")}


def condition_names() -> tuple[str, ...]:
    """Returns the premises and promises in the order of their columns."""
    return load().names


def share_cells(summary: dict[str, Any]) -> list[str]:
    """Returns the last row of the table: the share of layers that hold, under each condition."""
    left = ["", "share of layers that hold", *[""] * (len(HEADINGS) - 2)]
    return left + [number_text(summary[f"share_{name}"], "{:.2f}") for name in condition_names()]


def number_text(value: Any, form: str) -> str:
    """Returns a number in this format, or `-` where there is none."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return form.format(value)
    return "-"
