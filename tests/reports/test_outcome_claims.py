"""Claims about training and its outcome: supported, refuted, conditional, undecided, biased."""

from __future__ import annotations

import math

import numpy
import pytest

from harness.reports.claims.claim import (
    CONDITIONAL,
    NOT_ENOUGH_DATA,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
)

TUNED = {"search_role": "confirmation"}
RELU = {"activation": "relu", "initializer": "he_normal"}
BATCH = {**RELU, "normalization": "batch"}
HE = {"initializer": "he_normal"}
PIXELS = {"preprocessing": "none"}
RAW = {"preprocessing": "raw"}


def add_arms(sweep, other: dict, difference: float, spread: float, **settings) -> None:
    """The recipe at 0.9 and another arm behind it by a difference, with noise of its own."""
    levels = {seed: float(sweep.noise.normal(0.9, 0.01)) for seed in range(5)}
    for arm, loss in (({}, 0.0), (other, difference)):
        draw = sweep.near(-loss, spread)
        sweep.add(
            **arm,
            **settings,
            test_accuracy=lambda trial, draw=draw: levels[trial["seed"]] + draw(trial),
        )


@pytest.mark.parametrize(
    "difference, spread, word",
    [(0.05, 0.003, SUPPORTED), (-0.02, 0.003, REFUTED), (0.01, 0.02, UNDECIDED)],
)
@pytest.mark.parametrize(
    "case",
    [
        ("tuned_selu_beats_tuned_relu", RELU, TUNED),
        ("he_weights_train_worse", HE, TUNED),
        ("unstandardised_inputs_train_worse", PIXELS, TUNED),
        ("unstandardised_inputs_train_worse", PIXELS, {}),
    ],
)
def test_the_recipe_is_ahead(sweep, decide, case, difference, spread, word):
    name, other, role = case
    add_arms(sweep, other, difference, spread, **role)
    found = decide(name)
    assert found.word == word
    assert ("each tuned" if role else "fixed learning rates") in found.sentence


@pytest.mark.parametrize(
    "name, other", [("tuned_selu_beats_tuned_relu", RELU), ("he_weights_train_worse", HE)]
)
def test_depths_that_disagree_are_the_condition(sweep, decide, name, other):
    add_arms(sweep, other, 0.0, 0.002, depth=8, **TUNED)
    add_arms(sweep, other, 0.3, 0.002, depth=32, **TUNED)
    found = decide(name)
    assert found.word == CONDITIONAL
    assert "true at digits depth 32 width 64; false at digits depth 8 width 64" in found.sentence


def test_tuned_claims_take_no_fixed_rates(sweep, decide):
    add_arms(sweep, RELU, 0.05, 0.002)
    found = decide("tuned_selu_beats_tuned_relu")
    assert found.word == NOT_ENOUGH_DATA
    assert "0 of 3 seeds of SELU and ReLU, each tuned" in found.sentence


def test_tuning_trials_decide_nothing(sweep, decide):
    add_arms(sweep, RELU, 0.05, 0.002, search_role="tuning")
    sweep.add([0], activation="tanh")
    assert decide("tuned_selu_beats_tuned_relu").word == NOT_ENOUGH_DATA


@pytest.mark.parametrize(
    "difference, word", [(0.0, SUPPORTED), (-0.05, REFUTED), (-0.01, UNDECIDED)]
)
def test_selu_replaces_batch_norm_where_it_is_not_behind(sweep, decide, difference, word):
    add_arms(sweep, BATCH, difference, 0.004, **TUNED)
    assert decide("tuned_selu_replaces_batch_norm").word == word


@pytest.mark.parametrize(
    "difference, spread, word",
    [(0.8, 0.003, SUPPORTED), (0.1, 0.003, REFUTED), (0.45, 0.1, UNDECIDED)],
)
def test_raw_pixels_fail_half_way_from_chance(sweep, decide, difference, spread, word):
    add_arms(sweep, RAW, difference, spread, **TUNED)
    assert decide("raw_inputs_fail").word == word


def test_diverged_trials_count_as_chance_and_are_told(sweep, decide):
    sweep.add(**TUNED, test_accuracy=sweep.near(0.9))
    sweep.add(**RAW, **TUNED, status="diverged", test_accuracy=math.nan)
    found = decide("raw_inputs_fail")
    assert found.numbers["difference"] == pytest.approx(0.8, abs=0.01)
    assert "diverged and counted as chance: 0 of standardised inputs, 5 of raw" in found.sentence


def test_a_diverged_trial_without_chance_stops_the_claim(sweep, decide):
    sweep.add(**TUNED, dataset="folder", classes=math.nan)
    sweep.add(**RAW, **TUNED, dataset="folder", classes=math.nan, status="diverged")
    found = decide("raw_inputs_fail")
    assert found.word == NOT_ENOUGH_DATA
    assert "5 diverged trials have no score" in found.sentence


@pytest.mark.parametrize("role", [TUNED, {}])
@pytest.mark.parametrize(
    "ratio, spread, word", [(0.5, 0.05, SUPPORTED), (1.5, 0.05, REFUTED), (0.9, 0.3, UNDECIDED)]
)
def test_losses_of_figure_1(sweep, decide, role, ratio, spread, word):
    for arm, loss in (({}, ratio), (BATCH, 1.0)):
        sweep.add(
            **arm,
            **role,
            train_loss=lambda trial, loss=loss: (
                0.1 * loss * math.exp(spread * sweep.noise.standard_normal())
            ),
        )
    name = "figure_1_fairly_tuned" if role else "figure_1_with_one_rate"
    found = decide(name)
    assert found.word == word
    assert found.numbers["ratio_low"] < found.numbers["ratio"] < found.numbers["ratio_high"]


def test_figure_1_depends_on_the_rate(sweep, decide):
    for rate, ratio in ((0.001, 0.5), (0.1, 3.0)):
        sweep.add(learning_rate=rate, train_loss=lambda trial, r=ratio: r * sweep.near(0.1)(trial))
        sweep.add(**BATCH, learning_rate=rate, train_loss=sweep.near(0.1))
    found = decide("figure_1_with_one_rate")
    assert found.word == CONDITIONAL
    assert "true at digits depth 8 width 64 rate 0.001; false" in found.sentence


def test_a_diverged_loss_is_that_of_guessing(sweep, decide):
    sweep.add(**TUNED, status="diverged", train_loss=math.nan)
    sweep.add(**BATCH, **TUNED, train_loss=sweep.near(0.1))
    found = decide("figure_1_fairly_tuned")
    assert found.word == REFUTED
    assert found.numbers["ratio"] == pytest.approx(math.log(10) / 0.1, rel=0.02)


@pytest.mark.parametrize(
    "difference, spread, word",
    [(0.05, 0.003, SUPPORTED), (0.0, 0.003, REFUTED), (0.01, 0.02, UNDECIDED)],
)
def test_dropouts_are_compared_at_equal_rates(sweep, decide, difference, spread, word):
    for name, loss in (("alpha_0.05", 0.0), ("standard_0.05", difference)):
        sweep.add(dropout=name, test_accuracy=sweep.near(0.9 - loss, spread))
    sweep.add(dropout="alpha_0.5", test_accuracy=0.1)
    found = decide("alpha_dropout_beats_dropout")
    assert found.word == word
    assert [row["variant"] for row in found.rows] == ["dropout 0.05"]


@pytest.mark.parametrize(
    "difference, spread, word",
    [(0.0, 0.003, REFUTED), (0.05, 0.003, SUPPORTED), (0.008, 0.01, UNDECIDED)],
)
def test_xavier_is_compatible_only_where_it_is_equivalent(sweep, decide, difference, spread, word):
    add_arms(sweep, {"initializer": "xavier_normal"}, difference, spread)
    assert decide("xavier_is_incompatible").word == word


@pytest.mark.parametrize(
    "difference, spread, word",
    [(0.05, 0.003, SUPPORTED), (-0.05, 0.003, REFUTED), (0.01, 0.02, UNDECIDED)],
)
def test_neglect_is_compared_with_relu(sweep, decide, difference, spread, word):
    for inputs in ({}, PIXELS, RAW):
        sweep.add(**RELU, **TUNED, **inputs, test_accuracy=sweep.near(0.9, spread))
    for neglect in (HE, {"initializer": "pytorch_default"}, PIXELS):
        sweep.add(**neglect, **TUNED, test_accuracy=sweep.near(0.9 - difference, spread))
    # All parts are asked: one that was not run leaves the claim open.
    missing = decide("neglect_is_worse_than_relu")
    assert missing.word == NOT_ENOUGH_DATA
    assert "no pairs of ReLU and SELU with raw pixels" in missing.sentence
    sweep.add(**RAW, **TUNED, test_accuracy=sweep.near(0.9 - difference, spread))
    found = decide("neglect_is_worse_than_relu")
    assert found.word == word
    assert [row["variant"] for row in found.rows] == [
        "He's weights",
        "pixels in [0, 1]",
        "raw pixels",
        "torch's default weights",
    ]


@pytest.mark.parametrize(
    "share, spread, word",
    [(0.95, 0.005, SUPPORTED), (0.2, 0.02, REFUTED), (0.9, 0.03, UNDECIDED)],
)
def test_shares_at_the_end_of_training(sweep, decide, share, spread, word):
    sweep.add(share_moments_end=sweep.near(share, spread), left_step_moments=math.nan)
    found = decide("self_normalisation_lasts")
    assert found.word == word
    assert found.numbers["stayed"] == found.numbers["started"] == 5


def test_the_step_of_leaving_is_told_and_those_that_learned_nothing_are_not_asked(sweep, decide):
    sweep.add(share_moments_end=sweep.near(0.2, 0.02), left_step_moments=25.0)
    sweep.add(depth=32, share_moments_end=1.0, train_accuracy=0.1, left_step_moments=math.nan)
    found = decide("self_normalisation_lasts")
    assert found.word == REFUTED
    assert "half of the others were outside at the probe of step 25" in found.sentence
    assert found.numbers["started"] == 5
    assert found.numbers["stayed"] == 0
    assert [row["rate"] for row in found.rows] == ["0.01"]


def test_networks_outside_at_initialisation_did_not_leave_in_training(sweep, decide):
    sweep.add(share_moments_end=sweep.near(0.2, 0.02), left_step_moments=0.0)
    assert "none of the networks was inside at initialisation" in (
        decide("self_normalisation_lasts").sentence
    )
    sweep.add(depth=4, share_moments_end=sweep.near(0.2, 0.02), left_step_moments=50.0)
    found = decide("self_normalisation_lasts")
    assert "of 5 networks that were inside at initialisation 0 were so" in found.sentence
    assert found.numbers["median_left_step"] == 50.0


@pytest.mark.parametrize(
    "slope, spread, word",
    [(0.1, 0.002, SUPPORTED), (0.0, 0.002, REFUTED), (0.01, 0.05, UNDECIDED)],
)
def test_losing_the_promise_and_accuracy(sweep, decide, slope, spread, word):
    for cell in range(16):
        share = float(sweep.noise.random())
        sweep.add(
            range(3),
            learning_rate=float(0.001 * 1.2**cell),
            share_moments_end=share,
            test_accuracy=sweep.near(0.85 + slope * share, spread),
        )
    found = decide("losing_it_costs_accuracy")
    assert found.word == word
    assert "an association" in found.sentence


def add_limits(sweep, decides: bool) -> None:
    """Rates below and above the stability limit, which decides or does not."""
    for depth in (4, 8, 16, 32):
        for number, rate in enumerate(numpy.geomspace(1e-3, 1.0, 12)):
            margin = 10 * float(rate)
            dead = margin > 1 if decides else number % 2 == 0
            sweep.add(
                range(3),
                depth=depth,
                learning_rate=float(rate),
                stability_margin_init=margin,
                share_moments_init=sweep.near(0.95),
                train_accuracy=0.1 if dead else 0.98,
            )


def test_the_stability_limit_decides_where_it_does(sweep, decide):
    add_limits(sweep, decides=True)
    found = decide("the_stability_limit_decides")
    assert found.word == SUPPORTED
    assert found.numbers["margin_area"] == 1.0
    assert found.numbers["margin_area_low"] < 1.0
    below = "100 % of 96 trials get a tenth of the way from guessing to 1 below the limit"
    assert below in found.sentence


def test_the_stability_limit_does_not_decide_where_it_does_not(sweep, decide):
    add_limits(sweep, decides=False)
    assert decide("the_stability_limit_decides").word == REFUTED


def test_the_stability_limit_is_undecided_where_the_promise_says_the_same(sweep, decide):
    add_limits(sweep, decides=True)
    for trial in sweep.trials:
        trial["share_moments_init"] = -trial["stability_margin_init"]
    assert decide("the_stability_limit_decides").word == UNDECIDED


def test_the_stability_limit_needs_networks_of_both_kinds(sweep, decide):
    sweep.add(range(30), stability_margin_init=0.5)
    assert decide("the_stability_limit_decides").word == NOT_ENOUGH_DATA


def add_repair(sweep, share: float, gain: float, spread: float = 0.002, **settings) -> None:
    for name, back, more in (("none", 0.0, 0.0), ("rescale_tau", share, gain)):
        sweep.add(
            repair=name,
            share_moments_init=sweep.near(0.1 + back, 0.01),
            test_accuracy=sweep.near(0.8 + more, spread),
            **{**HE, **settings},
        )


@pytest.mark.parametrize(
    "gain, spread, word",
    [(0.1, 0.002, SUPPORTED), (0.0, 0.002, REFUTED), (0.01, 0.03, UNDECIDED)],
)
def test_repairs_and_accuracy(sweep, decide, gain, spread, word):
    add_repair(sweep, 0.8, gain, spread)
    found = decide("repairs_bring_accuracy")
    assert found.word == word
    assert found.rows[0]["repair"] == "rescale_tau"


def test_repairs_that_help_at_one_depth_only_are_a_condition(sweep, decide):
    add_repair(sweep, 0.8, 0.1, depth=32)
    add_repair(sweep, 0.8, 0.0, depth=4)
    assert decide("repairs_bring_accuracy").word == CONDITIONAL


def test_a_repair_that_mends_nothing_is_not_asked(sweep, decide):
    add_repair(sweep, 0.0, 0.1)
    found = decide("repairs_bring_accuracy")
    assert found.word == NOT_ENOUGH_DATA
    assert "no repair that brought more than 0.1 of the layers back" in found.sentence
