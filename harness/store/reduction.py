"""Tables of a study that are small enough to be handed on with its report.

The layers of a study are by far its largest part, and most of their columns explain a verdict that
the tables hold as well. What is left gives every claim the same decision.
"""

from __future__ import annotations

import dataclasses

import numpy
import pandas
import pyarrow

from harness.store.searches import TUNING
from harness.store.tables import Tables

_KEYS = ("trial_id", "step", "epoch", "phase", "layer", "name", "kind", "units", "fan_in")
# Kept at every probe: how far a layer is inside Theorem 1's domain, or outside it.
_AT_EVERY_PROBE = ("score_moments",)
# Kept at the first and the last probe.
_AT_BOTH_ENDS = ("activation_mean", "activation_variance")
# Kept at the first probe alone, where theory speaks.
_AT_INITIALISATION = (
    "pre_activation_mean",
    "pre_activation_variance",
    "between_unit_share",
    "tau_mean",
    "theorem_1_weight_share",
    "theorem_1_moment_share",
    "pooled_excess_kurtosis",
    "cosine",
    "gradient_product",
    "predicted_activation_variance",
    "predicted_pooled_excess_kurtosis",
    "predicted_cosine",
    "predicted_gradient_product",
)
# Significant digits of the numbers of layers.
_DIGITS = 4


def reduced(tables: Tables, histograms_of_seed: int = 0) -> Tables:
    """Returns what claims and the report of a study need of its tables.

    Trials and curves are kept whole. Layers are kept of results alone, not of the trials that a
    search tuned with, in the columns above and with four significant digits. Histograms are kept of
    one seed, at the first and the last probe.
    """
    trials = tables.trials
    results = trials
    if "search_role" in trials:
        results = trials[trials["search_role"].fillna("") != TUNING]
    one_seed = set(results["trial_id"][results["seed"] == histograms_of_seed])
    return dataclasses.replace(
        tables,
        layers=_reduced_layers(tables.layers, set(results["trial_id"])),
        histograms=_reduced_histograms(tables.histograms, one_seed),
    )


def _reduced_histograms(histograms: pyarrow.Table, trial_ids: set[str]) -> pyarrow.Table:
    if not len(histograms):
        return histograms
    keys = histograms.select(["trial_id", "phase"]).to_pandas()
    kept = keys["trial_id"].isin(trial_ids) & keys["phase"].isin(("init", "end"))
    return histograms.take(numpy.flatnonzero(kept.to_numpy()))


def _reduced_layers(layers: pandas.DataFrame, trial_ids: set[str]) -> pandas.DataFrame:
    if not len(layers):
        return layers
    columns = (*_KEYS, *_AT_EVERY_PROBE, *_AT_BOTH_ENDS, *_AT_INITIALISATION)
    wanted = [name for name in columns if name in layers]
    rows = layers.loc[layers["trial_id"].isin(trial_ids), wanted].reset_index(drop=True)
    later = rows["phase"] != "init"
    between = later & (rows["phase"] != "end")
    for name in wanted:
        if name in _KEYS:
            continue
        numbers = rows[name].astype(float)
        if name in _AT_INITIALISATION:
            numbers = numbers.mask(later)
        if name in _AT_BOTH_ENDS:
            numbers = numbers.mask(between)
        rows[name] = _rounded(numbers.to_numpy())
    return rows


def _rounded(numbers: numpy.ndarray) -> numpy.ndarray:
    """Returns numbers with a few significant digits; what is not finite stays as it is."""
    known = numpy.isfinite(numbers) & (numbers != 0.0)
    result = numbers.copy()
    exponents = numpy.floor(numpy.log10(numpy.abs(numbers[known])))
    scale = 10.0 ** (_DIGITS - 1 - exponents)
    with numpy.errstate(over="ignore", invalid="ignore"):
        rounded = numpy.round(numbers[known] * scale) / scale
    result[known] = numpy.where(numpy.isfinite(rounded), rounded, numbers[known])
    return result
