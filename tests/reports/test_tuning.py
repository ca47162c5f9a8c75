"""Tables of searches: curves of the score against the rate, and the best of so many draws."""

from __future__ import annotations

import itertools
import math

import pandas
import pytest

from harness.reports import tuning
from harness.reports.evidence import Evidence

# Validation accuracies of two tuning seeds by arm and rate; None for a seed that diverged.
SCORES = {
    ("selu", 4): {0.01: (0.8, 0.9), 0.1: (0.6, 0.7), 1.0: (None, None)},
    ("relu", 4): {0.01: (0.5, 0.5), 0.1: (0.7, 0.75), 1.0: (0.6, None)},
    ("selu", 8): {0.01: (0.4, 0.4), 0.1: (0.3, 0.3), 1.0: (None, None)},
}
CHOSEN = {("selu", 4): 0.01, ("relu", 4): 0.1}


def row(arm: tuple[str, int], rate: float, seed: int, role: str, score: float | None) -> dict:
    activation, depth = arm
    return {
        "trial_id": f"{arm} {rate} {seed}",
        "cell_id": f"{arm} {rate}",
        "seed": seed,
        "status": "done" if score is not None else "diverged",
        "activation": activation,
        "depth": depth,
        "learning_rate": rate,
        "validation_accuracy": math.nan if score is None else score,
        "chance": 0.1,
        "search_role": role,
        "search": str(arm) if role else "",
        "search_draw": float(list(SCORES[arm]).index(rate)),
    }


def evidence(*more: dict) -> Evidence:
    rows = []
    for arm, by_rate in SCORES.items():
        for rate, scores in by_rate.items():
            rows += [
                row(arm, rate, 100 + seed, "tuning", score) for seed, score in enumerate(scores)
            ]
    for arm, rate in CHOSEN.items():
        rows.append(row(arm, rate, 0, "confirmation", 0.99))
    # A trial of no search, at a rate that none tried.
    rows.append(
        row(("selu", 4), 0.1, 0, "", 0.01) | {"learning_rate": 0.5, "search_draw": math.nan}
    )
    table = pandas.DataFrame([*rows, *more])
    axes = ("activation", "depth", "learning_rate")
    return Evidence(table, pandas.DataFrame(), pandas.DataFrame(), axes)


def test_a_curve_has_the_mean_of_the_tuning_seeds_at_every_rate():
    curves = tuning.tuning_curves(evidence())
    assert len(curves) == 9
    curve = curves[(curves["arm"] == "relu") & (curves["task"] == "depth 4")]
    assert curve["learning_rate"].tolist() == [0.01, 0.1, 1.0]
    assert curve["score"].tolist() == pytest.approx([0.5, 0.725, 0.35])
    assert curve["seeds"].tolist() == [2, 2, 2]
    assert curve["diverged"].tolist() == [0.0, 0.0, 0.5]
    assert curve["default"].tolist() == [True, False, False]
    assert curve["chosen"].tolist() == [False, True, False]


def test_an_unconfirmed_search_has_a_curve_without_a_chosen_rate():
    curves = tuning.tuning_curves(evidence())
    curve = curves[curves["task"] == "depth 8"]
    assert curve["score"].tolist() == pytest.approx([0.4, 0.3, 0.1])
    assert not curve["chosen"].any()


def test_a_trial_that_is_not_finished_enters_no_mean():
    running = row(("relu", 4), 0.1, 102, "tuning", 0.0) | {"status": "running"}
    curves = tuning.tuning_curves(evidence(running))
    pandas.testing.assert_frame_equal(curves, tuning.tuning_curves(evidence()))


def test_the_expected_best_is_the_mean_over_all_sets_of_draws():
    best = tuning.expected_best(evidence())
    table = best[(best["arm"] == "relu") & (best["task"] == "depth 4")]
    assert table["draws"].tolist() == [1, 2, 3]
    scores = (0.5, 0.725, 0.35)
    for draws, value in zip(table["draws"], table["expected_best"], strict=True):
        sets = list(itertools.combinations(scores, draws))
        assert value == pytest.approx(sum(map(max, sets)) / len(sets))


def test_the_expected_best_never_falls_with_more_draws():
    best = tuning.expected_best(evidence())
    assert len(best) == 9
    for _, table in best.groupby(["task", "arm"]):
        assert table["expected_best"].is_monotonic_increasing


@pytest.mark.parametrize("table", [tuning.tuning_curves, tuning.expected_best])
def test_tables_without_a_search_are_empty_with_their_columns(table):
    searched = evidence()
    ordinary = searched.trials[searched.trials["search_role"] == ""]
    older = ordinary.drop(columns=["search_role", "search", "search_draw"])
    columns = table(searched).columns.tolist()
    for trials in (ordinary, older, ordinary.iloc[:0]):
        without = Evidence(trials, searched.curves, searched.layers, searched.axes)
        assert table(without).empty
        assert table(without).columns.tolist() == columns
