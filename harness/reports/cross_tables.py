"""Premises, promises and outcome of cells side by side, and the map over four axes."""

from __future__ import annotations

import pandas

from harness.reports import statistics
from harness.reports.accuracies import accuracy_interval
from harness.reports.axis_values import ordered, plain_value
from harness.reports.evidence import Evidence
from harness.reports.prediction import trains
from harness.reports.share_tables import NAMES, PREMISES, cell_shares, trial_shares
from harness.verdicts.grading import word

WORDS = ("holds", "mixed", "fails", "unknown")
# The axes of the map: down and across inside a panel, then rows and columns of panels.
MAP_AXES = ("initializer", "depth", "normalization", "preprocessing")


def outcomes(evidence: Evidence) -> pandas.DataFrame:
    """Returns the outcome of each finished trial: trial_id, cell_id, `trains`, `score`.

    `trains` is missing for a trial that took no step or does not say its training accuracy.
    """
    trials = evidence.finished
    table = trials[["trial_id", "cell_id", "score"]].copy()
    table["trains"] = float("nan")
    if "train_accuracy" in trials and evidence.trained:
        table["trains"] = trains(trials).where(trials["steps"] > 0)
        table["score"] = table["score"].where(trials["steps"] > 0)
    return table


def cross(evidence: Evidence) -> pandas.DataFrame:
    """Returns counts of cells by premises, promise and outcome.

    Networks that were only initialised have no outcome, and are left out where others trained. One
    row per combination that occurs. `premises`: the word of the mean share of layers over the
    four premises at initialisation. `promise_start` and `promise_end`: that of the pooled moments
    at initialisation and at the end. `cells`; `trains`, the share of their trials that train, with
    a Wilson interval over trials `low`, `high`; `accuracy`, the mean score.
    """
    trials = evidence.finished
    if evidence.trained:
        trials = trials[(trials["steps"] > 0) | (trials["status"] == "diverged")]
    table = trials[["trial_id", "cell_id"]].set_index("trial_id")
    shares = trial_shares(evidence)
    premises = [f"share_{name}_init" for name in PREMISES if f"share_{name}_init" in shares]
    columns = {
        "premises": shares[premises].mean(axis=1) if premises else None,
        "promise_start": shares.get("share_moments_init"),
        "promise_end": shares.get("share_moments_end"),
    }
    for name, values in columns.items():
        table[name] = float("nan") if values is None else values
    results = outcomes(evidence).set_index("trial_id")
    table = table.join(results[["trains", "score"]])
    words = table.groupby("cell_id", sort=False)[list(columns)].mean()
    words = words.map(word)
    keys = list(columns)
    joined = table[["cell_id", "trains", "score"]].join(words, on="cell_id")
    rows = []
    for combination, group in joined.groupby(keys, sort=False):
        known = group["trains"].dropna()
        share = statistics.wilson(int(known.sum()), len(known))
        rows.append(
            {
                **dict(zip(keys, combination, strict=True)),
                "cells": group["cell_id"].nunique(),
                "trials": len(group),
                "trains": share.value,
                "low": share.low,
                "high": share.high,
                "accuracy": group["score"].mean(),
            }
        )
    result = pandas.DataFrame(rows)
    return result.sort_values(keys, key=lambda names: names.map(WORDS.index), ignore_index=True)


def by_word(evidence: Evidence) -> pandas.DataFrame:
    """Returns how cells fare by the word of each premise and promise.

    One row per name, phase and word that occurs: `cells`, `share`, the mean share of layers, and
    `trains` and `accuracy` as in `cross`.
    """
    shares = cell_shares(evidence)
    if not len(shares):
        return pandas.DataFrame()
    results = outcomes(evidence).groupby("cell_id")[["trains", "score"]].mean()
    joined = shares.join(results, on="cell_id")
    grouped = joined.groupby(["name", "phase", "word"], sort=False)
    table = grouped.agg(
        cells=("cell_id", "nunique"),
        share=("share", "mean"),
        trains=("trains", "mean"),
        accuracy=("score", "mean"),
    ).reset_index()
    places = {name: place for place, name in enumerate((*NAMES, "init", "early", "end", *WORDS))}
    return table.sort_values(
        ["name", "phase", "word"], key=lambda names: names.map(places), ignore_index=True
    )


def map_cells(evidence: Evidence) -> pandas.DataFrame:
    """Returns shares of layers in the domain and accuracy over the axes of the map.

    One row per combination of `MAP_AXES` of the networks with one activation, SELU where it was
    run, without a repair: `activation`; `start` and `end`, shares of layers in the domain;
    `accuracy`; `cells`, `trials`. Other axes are averaged.
    """
    trials = evidence.finished
    activations = evidence.levels("activation")
    activation = "selu" if "selu" in activations else activations[0]
    trials = trials[trials["activation"].map(plain_value) == activation]
    if "repair" in trials:
        trials = trials[trials["repair"] == "none"]
    shares = trial_shares(evidence)
    table = trials[["trial_id", "cell_id"]].copy()
    for axis in MAP_AXES:
        table[axis] = trials[axis].map(plain_value) if axis in trials else "default"
    for name, column in (("start", "share_moments_init"), ("end", "share_moments_end")):
        table[name] = table["trial_id"].map(shares[column]) if column in shares else float("nan")
    scores = outcomes(evidence).set_index("trial_id")["score"]
    table["accuracy"] = table["trial_id"].map(scores) if evidence.trained else float("nan")
    grouped = table.groupby(list(MAP_AXES), sort=False)
    result = grouped[["start", "end", "accuracy"]].mean()
    result["cells"] = grouped["cell_id"].nunique()
    result["trials"] = grouped.size()
    result = result.reset_index()
    result.insert(0, "activation", activation)
    return result


def map_levels(table: pandas.DataFrame, axis: str) -> list:
    """Returns the levels of an axis of the map, in order."""
    return ordered([plain_value(level) for level in table[axis].unique()])


def headline_accuracy(evidence: Evidence, arm: dict[str, str]) -> statistics.Interval:
    """Returns the mean score of the trained trials with these values, averaged within seeds."""
    trials = evidence.finished
    trials = trials[(trials["steps"] > 0) | (trials["status"] == "diverged")]
    for axis, level in arm.items():
        if axis in trials:
            trials = trials[trials[axis] == level]
    samples = trials["test_samples"].min() if "test_samples" in trials else float("nan")
    return accuracy_interval(trials.groupby("seed")["score"].mean(), samples)
