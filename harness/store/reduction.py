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

_KEYS = ("trial_id", "step", "phase", "layer")
# Kept at every probe: whether a layer is inside Theorem 1's domain. A score is replaced by one
# value for each word: it holds up to 1, is strained up to 2, and fails beyond.
_SCORES = ("score_moments",)
_WORD_ENDS = (1.0, 2.0)
_WORD_VALUES = (0.5, 1.5, 3.0)
# Kept at the first probe, and at the last one of a few seeds.
_AT_BOTH_ENDS = ("activation_mean", "activation_variance")
# Kept at the first probe alone: claims ask every network for them.
_AT_INITIALISATION = (
    "tau_mean",
    "theorem_1_weight_share",
    "theorem_1_moment_share",
    "gradient_product",
)
# Kept at the first probe of a few seeds: figures show their means.
_FOR_FIGURES = (
    "pre_activation_mean",
    "pre_activation_variance",
    "between_unit_share",
    "pooled_excess_kurtosis",
    "cosine",
    "predicted_activation_variance",
    "predicted_pooled_excess_kurtosis",
    "predicted_cosine",
    "predicted_gradient_product",
)
_SEEDS_OF_FIGURES = 3
# Significant digits of the numbers of layers.
_DIGITS = 4


def reduced(tables: Tables, histograms_of_seed: int = 0) -> Tables:
    """Returns what claims and the report of a study need of its tables.

    Trials are kept whole. Curves and layers are kept of results alone, not of the trials that a
    search tuned with, and with four significant digits; layers in the columns and at the probes
    above. Histograms are kept of one seed of what was trained, at the first and the last probe.
    """
    trials = tables.trials
    results = trials
    if "search_role" in trials:
        results = trials[trials["search_role"].fillna("") != TUNING]
    trained = results["steps"].fillna(0) > 0 if "steps" in results else True
    one_seed = set(results["trial_id"][(results["seed"] == histograms_of_seed) & trained])
    return dataclasses.replace(
        tables,
        curves=_reduced_curves(tables.curves, set(results["trial_id"])),
        layers=_reduced_layers(tables.layers, results.set_index("trial_id")["seed"]),
        histograms=_reduced_histograms(tables.histograms, one_seed),
    )


def _reduced_curves(curves: pandas.DataFrame, trial_ids: set[str]) -> pandas.DataFrame:
    rows = curves[curves["trial_id"].isin(trial_ids)].reset_index(drop=True)
    for name in rows.select_dtypes("float"):
        rows[name] = _rounded(rows[name].to_numpy())
    return rows


def _reduced_histograms(histograms: pyarrow.Table, trial_ids: set[str]) -> pyarrow.Table:
    if not len(histograms):
        return histograms
    keys = histograms.select(["trial_id", "phase"]).to_pandas()
    kept = keys["trial_id"].isin(trial_ids) & keys["phase"].isin(("init", "end"))
    return histograms.take(numpy.flatnonzero(kept.to_numpy()))


def _reduced_layers(layers: pandas.DataFrame, seeds: pandas.Series) -> pandas.DataFrame:
    """Returns the layers of the trials whose seeds are given by trial_id."""
    if not len(layers):
        return layers
    columns = (*_KEYS, *_SCORES, *_AT_BOTH_ENDS, *_AT_INITIALISATION, *_FOR_FIGURES)
    wanted = [name for name in columns if name in layers]
    rows = layers.loc[layers["trial_id"].isin(seeds.index), wanted].reset_index(drop=True)
    later = rows["phase"] != "init"
    of_further_seeds = rows["trial_id"].map(seeds) >= _SEEDS_OF_FIGURES
    left_out = {
        **dict.fromkeys(_AT_INITIALISATION, later),
        **dict.fromkeys(_FOR_FIGURES, later | of_further_seeds),
        **dict.fromkeys(_AT_BOTH_ENDS, later & ((rows["phase"] != "end") | of_further_seeds)),
    }
    for name in wanted:
        if name in _KEYS:
            continue
        numbers = rows[name].astype(float)
        if name in _SCORES:
            rows[name] = _values_of_words(numbers.to_numpy())
        else:
            rows[name] = _rounded(numbers.mask(left_out[name]).to_numpy())
    return rows


def _values_of_words(scores: numpy.ndarray) -> numpy.ndarray:
    words = numpy.searchsorted(_WORD_ENDS, scores)  # a score at an end still has the word before
    return numpy.where(numpy.isnan(scores), numpy.nan, numpy.take(_WORD_VALUES, words, mode="clip"))


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
