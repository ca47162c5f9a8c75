"""What predicts training: outcomes, the rule without parameters, areas, calibration, misses."""

from __future__ import annotations

import math

import numpy
import pandas
import pytest

from harness.reports import prediction
from harness.reports.trainability import trainability


def trial(**values) -> pandas.DataFrame:
    defaults = {"chance": 0.1, "train_accuracy": 0.98, "status": "done"}
    return pandas.DataFrame([{**defaults, **values}])


@pytest.mark.parametrize(
    "values, expected",
    [
        ({}, 1.0),
        ({"train_accuracy": 0.54}, 0.0),
        ({"train_accuracy": 0.56}, 1.0),
        ({"train_accuracy": 0.98, "status": "diverged"}, 0.0),
        ({"train_accuracy": math.nan, "chance": math.nan, "status": "diverged"}, 0.0),
        # Always the class of 80 % of the samples gets 0.8, and half of the rest is 0.9.
        ({"train_accuracy": 0.85, "majority_share": 0.8}, 0.0),
        ({"train_accuracy": 0.85, "majority_share": math.nan}, 1.0),
    ],
)
def test_a_trial_trains_half_way_from_guessing_to_1(values, expected):
    assert prediction.trains(trial(**values)).tolist() == [expected]


def test_an_outcome_that_nothing_tells_is_unknown():
    assert prediction.trains(trial(chance=math.nan)).isna().all()
    assert prediction.trains(trial(train_accuracy=math.nan)).isna().all()
    assert prediction.trains(trial().drop(columns="train_accuracy")).isna().all()


def rule(**values) -> pandas.Series:
    defaults = {
        "predicted_last_mean": 0.0,
        "predicted_last_variance": 1.0,
        "predicted_last_cosine": 0.0,
        "predicted_gradient_product": 1.0,
        "predicted_training_gradient_product": math.nan,
        "stability_margin_init": 0.0,
    }
    return trainability(pandas.DataFrame([{**defaults, **values}])).iloc[0]


def test_a_perfect_network_is_certain_to_train():
    assert rule()["worst"] == 0.0
    assert rule()["probability"] == 1.0


@pytest.mark.parametrize(
    "values, criterion",
    [
        ({"predicted_last_variance": math.exp(6)}, "signal"),
        ({"predicted_last_variance": math.exp(-6)}, "signal"),
        ({"predicted_gradient_product": math.exp(6)}, "gradients"),
        ({"predicted_gradient_product": math.exp(-6)}, "gradients"),
        ({"predicted_training_gradient_product": math.exp(6)}, "gradients"),
        ({"predicted_last_cosine": 1 - math.exp(-6)}, "correlation"),
        ({"stability_margin_init": 1.0}, "stability"),
    ],
)
def test_six_e_folds_and_the_stability_limit_are_the_limits(values, criterion):
    found = rule(**values)
    assert found[criterion] == pytest.approx(1.0)
    assert found["decided_by"] == criterion
    assert found["probability"] == pytest.approx(0.5)


def test_a_dead_signal_is_infinitely_far_beyond_its_limit():
    assert rule(predicted_last_variance=0.0)["probability"] == 0.0
    assert rule(predicted_last_cosine=1.0)["worst"] > 4


def test_stability_does_not_restrict_normalised_networks():
    assert rule(stability_margin_init=5.0, normalization="none")["worst"] == 5.0
    assert rule(stability_margin_init=5.0, normalization="batch")["worst"] == 0.0


def test_missing_theory_does_not_restrict_and_is_no_score_when_all_is_missing():
    known = trainability(pandas.DataFrame({"stability_margin_init": [0.5, math.nan]}))
    assert known["worst"].tolist()[0] == 0.5
    assert math.isnan(known["probability"].iloc[1])
    assert known["decided_by"].tolist() == ["stability", "unknown"]


def add_limit(sweep, seeds=range(4)):
    """Networks at eight rates that train below the stability limit and diverge above it."""
    for depth in (8, 32):
        for rate in numpy.geomspace(1e-3, 0.3, 8):
            margin = float(rate * depth)
            dead = margin > 1
            sweep.add(
                seeds,
                depth=depth,
                learning_rate=float(rate),
                stability_margin_init=margin,
                share_moments_init=0.95,
                share_weights_init=sweep.near(0.06, 0.01),
                status="diverged" if dead else "done",
                train_accuracy=math.nan if dead else 0.98,
                search_role="tuning" if rate > 1e-3 else "confirmation",
            )
    return sweep


def test_what_decides_training_has_the_largest_area_within_tasks(sweep):
    table = prediction.areas(add_limit(sweep).evidence())
    inside = table[table["scope"] == "within data set and depth"].set_index("predictor")
    assert inside.loc["stability margin", "area"] == 1.0
    assert inside.loc["share of layers: moments", "area"] == 0.5
    assert 0.3 < inside.loc["share of layers: weights", "area"] < 0.7
    pooled = table[table["scope"] == "pooled"].set_index("predictor")
    # The margin sees the depth, the rate alone does not.
    assert pooled.loc["control: smaller learning rate", "area"] < 1.0
    assert pooled.loc["stability margin", "area"] == 1.0
    assert (table["low"] < table["high"]).all()


def test_draws_of_a_search_are_asked_and_untrained_networks_are_not(sweep):
    add_limit(sweep).add(steps=0.0, width=128)
    asked = prediction.asked(sweep.evidence())
    assert len(asked) == 64
    assert set(asked["search_role"]) == {"tuning", "confirmation"}


def test_networks_that_all_train_have_no_areas(sweep):
    evidence = sweep.add(stability_margin_init=0.5).evidence()
    assert not len(prediction.areas(evidence))
    assert not len(prediction.sensitivity(evidence))


def test_calibration_counts_what_happened_by_ranges_of_the_rule(sweep):
    table = prediction.rule_calibration(add_limit(sweep).evidence())
    assert table["trials"].sum() == 64
    assert (
        table[table["worst_to"] <= 1]["trained"].tolist() == [1.0] * (table["worst_to"] <= 1).sum()
    )
    assert (table[table["worst_from"] >= 1]["trained"] == 0).all()


def test_worst_misses_are_named(sweep):
    add_limit(sweep).add(
        [7], depth=64, learning_rate=0.5, stability_margin_init=5.0, train_accuracy=0.9
    )
    misses = prediction.worst_misses(sweep.evidence())
    assert misses["cell"].tolist()[0] == "depth 64, learning_rate 0.5"
    assert misses["decided_by"].tolist()[0] == "stability"
    assert misses["seed"].tolist()[0] == 7


def test_other_meanings_of_training_stand_beside(sweep):
    table = prediction.sensitivity(add_limit(sweep).evidence())
    assert table["share_of_the_way"].tolist() == [0.1, 0.5, 0.75]
    assert (table["area"] == 1.0).all()
