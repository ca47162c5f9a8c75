"""Sentences on premises and promises."""

from __future__ import annotations

import math

import pytest

from harness.verdicts.sentences import clause, listed, sentence, sentence_of_one_probe

START = {
    "share_input_init": 0.0,
    "share_weights_init": 0.0,
    "share_gaussianity_init": 1.0,
    "share_dependence_init": 0.0,
    "share_moments_init": 1.0,
    "share_units_init": 0.0,
    "share_contraction_init": 0.875,
    "share_gradients_init": 1.0,
}


def test_a_trial_has_one_sentence_on_premises_and_one_on_promises():
    end = {"share_moments_end": 0.125, "share_gradients_end": 1.0}
    assert sentence(START | end, 8) == (
        "Of the premises, at initialisation gaussianity holds in all 8 layers, input, weights and "
        "dependence in none. Of the promises, at initialisation moments and gradients hold in all "
        "8 layers, contraction in 7 of 8, units in none; at the end gradients hold in all 8 "
        "layers, moments in 1 of 8, units and contraction unknown."
    )


def test_what_stayed_the_same_is_said_so():
    end = {name.replace("init", "end"): share for name, share in START.items()}
    assert sentence(START | end, 8).count("; at the end the same.") == 2


def test_an_unprobed_network_is_unknown():
    assert sentence({}, 0) == (
        "The premises are unknown: nothing was probed. "
        "The promises are unknown: nothing was probed."
    )


def test_a_single_probe_has_no_phase():
    shares = {name.split("_")[1]: share for name, share in START.items()}
    text = sentence_of_one_probe(shares, 8)
    assert text.startswith("Of the premises, gaussianity holds in all 8 layers")


@pytest.mark.parametrize(
    "shares, layers, expected",
    [
        ({"units": 0.0}, 8, "units hold in no layer"),
        ({"input": 0.25}, 8, "input holds in 2 of 8 layers"),
        ({"input": 1.0}, 1, "input holds in its only layer"),
        ({"input": 1.0}, 2, "input holds in both layers"),
        # A layer that is unknown leaves a share of the others.
        ({"contraction": 6 / 7}, 8, "contraction holds in 86% of the layers known"),
        ({"units": 0.0, "input": 0.0}, 3, "units and input hold in no layer"),
        ({"units": math.nan}, 3, ""),
    ],
)
def test_a_clause_counts_layers(shares, layers, expected):
    assert clause(shares, layers) == expected


def test_names_are_listed_in_words():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
