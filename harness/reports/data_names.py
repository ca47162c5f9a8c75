"""Names that tell doses of one data set apart."""

from __future__ import annotations

import functools
from typing import Any

import pandas

from harness.reports.axis_values import value_label


def data_names(axes: pandas.DataFrame) -> pandas.Series:
    """Returns the data of each trial in words: the data set, and its options that differ.

    Args:
        axes: plain values of the axes, one row per trial. An option differs where the trials of one
            data set have several values of it, as those of `digits` and `digits, label_noise 0.5`.
    """
    names = axes["dataset"].astype(str)
    options = [str(axis) for axis in axes if str(axis).startswith("dataset.")]
    for _, rows in axes.groupby(names, sort=False):
        for option in options:
            if rows[option].astype(str).nunique() > 1:
                words = rows[option].map(functools.partial(_option_words, option))
                names[rows.index] = names[rows.index] + words
    return names


def _option_words(option: str, value: Any) -> str:
    """Returns an option behind the name of a data set; no text where a trial does not have it."""
    if value == "default":
        return ""
    return f", {value_label(option, value)}"
