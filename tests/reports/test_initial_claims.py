"""Claims about initialisation: data that supports each, refutes it, leaves it open, or misses."""

from __future__ import annotations

import math

import pytest

from harness.reports.claims.claim import (
    CONDITIONAL,
    NOT_ENOUGH_DATA,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
)
from harness.theory.selu import ALPHA


@pytest.mark.parametrize(
    "share, spread, word",
    [(0.06, 0.01, REFUTED), (0.97, 0.01, SUPPORTED), (0.9, 0.05, UNDECIDED)],
)
@pytest.mark.parametrize(
    "claim_of_column",
    [
        ("lecun_weights_meet_the_premise", "theorem_1_weight_share"),
        ("single_units_are_normalised", "theorem_1_moment_share"),
    ],
)
def test_units_inside_a_domain(sweep, decide, claim_of_column, share, spread, word):
    name, column = claim_of_column
    draw = sweep.near(share, spread)
    sweep.add(steps=0.0, layer={column: lambda trial, layer: min(1.0, draw(trial))}, depth=2)
    found = decide(name)
    assert found.word == word
    assert found.numbers["share"] == pytest.approx(share, abs=spread)
    assert found.numbers["share_n"] == 5


@pytest.mark.parametrize(
    "shares, word",
    [
        ({4: 0.98, 32: 0.97}, SUPPORTED),
        ({4: 0.4, 32: 0.5}, REFUTED),
        ({4: 0.98, 32: 0.4}, CONDITIONAL),
    ],
)
def test_pooled_moments_by_depth(sweep, decide, shares, word):
    for depth, share in shares.items():
        sweep.add(depth=depth, share_moments_init=sweep.near(share, 0.005), steps=0.0)
    found = decide("pooled_moments_hold_at_initialisation")
    assert found.word == word
    assert [row["depth"] for row in found.rows] == [4, 32]
    if word == CONDITIONAL:
        assert "true at depth 4 width 64; false at depth 32 width 64" in found.sentence


def test_pooled_moments_between_the_answers_are_undecided(sweep, decide):
    sweep.add(share_moments_init=sweep.near(0.9, 0.03))
    assert decide("pooled_moments_hold_at_initialisation").word == UNDECIDED


def test_layers_that_all_hold_in_few_trials_are_undecided(sweep, decide):
    sweep.add(range(5), share_moments_init=1.0)
    assert decide("pooled_moments_hold_at_initialisation").word == UNDECIDED
    sweep.add(range(5, 40), share_moments_init=1.0)
    found = decide("pooled_moments_hold_at_initialisation")
    assert found.word == SUPPORTED
    assert found.numbers["share_low"] < 1


@pytest.mark.parametrize("tau, word", [(1.0, REFUTED), (1.2, SUPPORTED)])
def test_the_scale_of_lecun_weights(sweep, decide, tau, word):
    sweep.add(layer={"tau_mean": sweep_draw(sweep, tau, 0.002)})
    assert decide("the_scale_is_a_simplification").word == word


def test_the_scale_is_undecided_where_tau_varies(sweep, decide):
    for trial_tau in (0.9, 1.0, 1.1):
        sweep.add([len(sweep.trials)], layer={"tau_mean": trial_tau})
    assert decide("the_scale_is_a_simplification").word == UNDECIDED


def sweep_draw(sweep, value: float, spread: float):
    """A column of layers that is drawn around a value."""
    draw = sweep.near(value, spread)
    return lambda trial, layer: draw(trial)


@pytest.mark.parametrize(
    "growth, word",
    [((1.07,) * 5, REFUTED), ((1.0,) * 5, SUPPORTED), ((0.98, 1.0, 1.02, 1.04, 1.06), UNDECIDED)],
)
def test_growth_of_gradients(sweep, decide, growth, word):
    def product(trial, layer):
        rate = growth[trial["seed"]] + 1e-4 * sweep.noise.standard_normal()
        return rate ** (trial["depth"] - layer)

    sweep.add(depth=[8, 32], layer={"gradient_product": product})
    found = decide("gradients_cannot_explode")
    assert found.word == word
    if word == REFUTED:
        assert found.rows[-1]["growth_in_all"] == pytest.approx(1.07**31, rel=0.02)


def test_plain_weights_that_hold_need_no_alpha(sweep, decide):
    sweep.add(share_moments_init=sweep.near(0.97))
    assert decide("lecun_needs_an_alpha").word == REFUTED


@pytest.mark.parametrize("scaled, word", [(0.9, SUPPORTED), (0.45, REFUTED)])
def test_an_alpha_is_needed_only_if_it_helps(sweep, decide, scaled, word):
    sweep.add(share_moments_init=sweep.near(0.4, 0.01))
    assert decide("lecun_needs_an_alpha").word == UNDECIDED
    sweep.add(
        initializer="gaussian",
        share_moments_init=sweep.near(scaled, 0.01),
        **{"initializer.sigma_w2": ALPHA**2},
    )
    assert decide("lecun_needs_an_alpha").word == word


@pytest.mark.parametrize(
    "variance, word", [(0.1996**2, REFUTED), (1.0, SUPPORTED), (0.8, UNDECIDED)]
)
def test_deviation_with_torchs_gain(sweep, decide, variance, word):
    sweep.add(
        depth=16,
        initializer="torch_selu_gain",
        layer={"activation_variance": sweep_draw(sweep, variance, 0.02 * variance)},
    )
    found = decide("torch_gain_suits_selu")
    assert found.word == word
    assert found.numbers["deviation"] == pytest.approx(math.sqrt(variance), rel=0.05)


@pytest.mark.parametrize(
    "shallow, deep, word",
    [(0.1, 0.0, SUPPORTED), (0.97, 0.96, REFUTED), (0.97, 0.2, CONDITIONAL), (0.9, 0.9, UNDECIDED)],
)
def test_the_promise_with_he_weights(sweep, decide, shallow, deep, word):
    for depth, share in ((4, shallow), (32, deep)):
        draw = sweep.near(share, 0.02)
        sweep.add(
            depth=depth,
            initializer="he_normal",
            share_moments_init=lambda trial, draw=draw: min(1.0, max(0.0, draw(trial))),
        )
    found = decide("he_weights_break_the_promise")
    assert found.word == word
    if word == CONDITIONAL:
        assert "kept at depth 4; lost at depth 32" in found.sentence


def add_standardised(sweep, seeds) -> None:
    """The recipe, whose late layers are inside in all but a few networks."""
    inside = {
        "activation_variance": lambda trial, layer: 1.0 + (trial["seed"] == 0 and layer == 16)
    }
    sweep.add(seeds, depth=16, share_moments_init=1.0, layer={**inside, "activation_mean": 0.0})


@pytest.mark.parametrize(
    "early, late, word",
    [
        (0.3, 0.3, SUPPORTED),
        (1.0, 1.0, REFUTED),
        (0.3, 1.0, CONDITIONAL),
    ],
)
def test_inputs_that_are_not_standardised(sweep, decide, early, late, word):
    add_standardised(sweep, range(40))
    sweep.add(
        range(40),
        depth=16,
        preprocessing="none",
        share_moments_init=1.0 if early == late == 1.0 else sweep.near(0.4),
        layer={
            "activation_variance": lambda trial, layer: early if layer <= 12 else late,
            "activation_mean": 0.0,
        },
    )
    found = decide("unstandardised_inputs_negate_it")
    assert found.word == word
    assert ("true of the first layers" in found.sentence) == (word == CONDITIONAL)


def test_inputs_are_undecided_with_few_seeds(sweep, decide):
    draw = sweep.near(0.9, 0.04)
    add_standardised(sweep, range(4))
    sweep.add(
        range(4),
        depth=16,
        preprocessing="none",
        share_moments_init=draw,
        layer={"activation_variance": 1.0, "activation_mean": 0.0},
    )
    assert decide("unstandardised_inputs_negate_it").word == UNDECIDED


def add_shapes(sweep, column: str, shares: dict[str, float], spread: float) -> None:
    base = {seed: float(sweep.noise.normal(0, 0.01)) for seed in range(10)}
    for name, share in shares.items():
        draw = sweep.near(share, spread)
        settings = {column: lambda trial, draw=draw: base[trial["seed"]] + draw(trial)}
        sweep.add(range(10), initializer=name, **settings)


@pytest.mark.parametrize(
    "uniform, exact, spread, word",
    [
        (0.95, 0.95, 0.01, REFUTED),
        (0.7, 0.75, 0.01, SUPPORTED),
        (0.95, 0.7, 0.01, CONDITIONAL),
        (0.9, 0.9, 0.05, UNDECIDED),
    ],
)
def test_shapes_of_lecun_weights_at_initialisation(sweep, decide, uniform, exact, spread, word):
    shares = {"lecun_normal": 0.95, "lecun_uniform": uniform, "lecun_exact": exact}
    add_shapes(sweep, "share_moments_init", shares, spread)
    found = decide("the_shape_of_lecun_weights_matters")
    assert found.word == word
    assert {row["initializer"] for row in found.rows} == {"lecun_uniform", "lecun_exact"}


@pytest.mark.parametrize(
    "accuracy, spread, word",
    [(0.95, 0.002, SUPPORTED), (0.9, 0.002, REFUTED), (0.945, 0.02, UNDECIDED)],
)
def test_shapes_of_lecun_weights_in_training(sweep, decide, accuracy, spread, word):
    shares = {"lecun_normal": 0.95, "lecun_uniform": accuracy}
    add_shapes(sweep, "test_accuracy", shares, spread)
    assert decide("lecun_shapes_train_alike").word == word


def test_the_formula_is_told_rightly_without_any_trial_of_its_own(sweep, decide):
    sweep.add(activation="relu")
    assert decide("the_formula_is_selu").word == SUPPORTED


def test_layers_without_the_column_are_missing(sweep, decide):
    sweep.add(layer={"tau_mean": 1.0})
    found = decide("lecun_weights_meet_the_premise")
    assert found.word == NOT_ENOUGH_DATA
    assert "theorem_1_weight_share" in found.sentence
