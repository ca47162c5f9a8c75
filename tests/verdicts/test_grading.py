"""Shares of layers that hold, their phases and their words."""

from __future__ import annotations

import math

import numpy
import pandas
import pytest

from harness.verdicts.grading import grades, phase_steps, shares, word


def table(**scores):
    """A layer table of one trial with four layers at each of the given probes."""
    steps, layers, values = [], [], []
    for step, row in scores.items():
        for layer, score in enumerate(row, 1):
            steps.append(int(step.removeprefix("at_")))
            layers.append(layer)
            values.append(score)
    return {
        "step": numpy.array(steps),
        "layer": numpy.array(layers),
        "score_weights": numpy.array(values, float),
    }


@pytest.mark.parametrize(
    "share, expected",
    [
        (1.0, "holds"),
        (0.9, "holds"),
        (0.89, "mixed"),
        (0.11, "mixed"),
        (0.1, "fails"),
        (0, "fails"),
    ],
)
def test_words_come_from_shares(share, expected):
    assert word(share) == expected


def test_an_unknown_share_has_the_word_unknown():
    assert word(math.nan) == "unknown"


def test_a_share_counts_the_layers_whose_score_is_at_most_one():
    found = shares(table(at_0=[0.2, 1.0, 1.1, 5.0]), ["weights"])
    assert found["share_weights"].tolist() == [0.5]
    assert found["first_layer_weights"].tolist() == [3.0]


def test_unknown_layers_are_left_out_of_a_share():
    found = shares(table(at_0=[math.nan, 0.5, 0.5, 2.0]), ["weights"])
    assert found["share_weights"][0] == pytest.approx(2 / 3)


def test_a_probe_without_a_known_layer_has_no_share():
    found = shares(table(at_0=[math.nan] * 4), ["weights"])
    assert math.isnan(found["share_weights"][0])
    assert math.isnan(found["first_layer_weights"][0])


def test_a_name_that_was_not_judged_is_unknown():
    found = shares(table(at_0=[0.5] * 4), ["weights", "gradients"])
    assert math.isnan(found["share_gradients"][0])


@pytest.mark.parametrize(
    "steps, last, expected",
    [
        ([0, 1, 8, 64, 510], 510, {"init": 0, "early": 64, "end": 510}),
        ([0, 510], 510, {"init": 0, "early": math.nan, "end": 510}),
        ([0], 0, {"init": 0, "early": math.nan, "end": math.nan}),
        ([0, 1, 8], 510, {"init": 0, "early": math.nan, "end": math.nan}),
        ([5, 10], 10, {"init": math.nan, "early": 5, "end": 10}),
    ],
)
def test_phases_are_probed_steps(steps, last, expected):
    assert phase_steps(numpy.array(steps), last) == pytest.approx(expected, nan_ok=True)


def test_grades_name_the_phase_the_layer_and_the_step_that_leave():
    layers = table(at_0=[0.5] * 4, at_10=[0.5, 0.5, 1.5, 0.5], at_100=[2.5] * 4)
    found = grades(shares(layers, ["weights"]), ["weights"], {"": 100}).loc[""]
    assert found["share_weights_init"] == 1.0
    assert found["share_weights_early"] == 0.75
    assert found["first_layer_weights_early"] == 3
    assert found["share_weights_end"] == 0.0
    assert found["left_step_weights"] == 10


def test_trials_are_graded_apart():
    first = table(at_0=[0.5] * 4, at_10=[0.5] * 4)
    second = table(at_0=[3.0] * 4, at_10=[0.5] * 4)
    both = {name: numpy.concatenate([first[name], second[name]]) for name in first}
    both["trial_id"] = numpy.repeat(["a", "b"], len(first["step"]))
    found = grades(shares(both, ["weights"]), ["weights"], {"a": 10, "b": 10})
    assert found["share_weights_init"].tolist() == [1.0, 0.0]
    assert math.isnan(found.loc["a", "left_step_weights"])
    assert found.loc["b", "left_step_weights"] == 0


def test_a_diverged_trial_has_no_end():
    found = grades(shares(table(at_0=[0.5] * 4), ["weights"]), ["weights"], {"": 100})
    assert isinstance(found, pandas.DataFrame)
    assert math.isnan(found["share_weights_end"].iloc[0])
