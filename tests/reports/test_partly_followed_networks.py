"""Networks that theory follows only to a residual sum or a concatenation."""

from __future__ import annotations

import math

import pytest

from harness.reports import matter_chapters, signal_tables
from harness.reports.arms import arms

FOLLOWED = 2


def _predicted(trial, number):
    return 1.0 if number <= FOLLOWED else math.nan


@pytest.fixture
def evidence(sweep):
    """Variances of 1, 2, 3 in layers 1, 2, 3; theory predicts those of the first two."""
    layer = {
        "activation_variance": lambda trial, number: float(number),
        "predicted_activation_variance": _predicted,
    }
    accuracies = {"lecun_normal": 0.98, "he_normal": 0.1}
    for initializer, accuracy in accuracies.items():
        sweep.add(range(3), layer=layer, depth=3, initializer=initializer, train_accuracy=accuracy)
    return sweep.evidence()


def test_a_prediction_stands_beside_the_measurement_of_its_own_layer(evidence):
    table = signal_tables.theory(evidence)
    assert table["measured"].tolist() == [FOLLOWED] * 2
    assert table["predicted"].tolist() == [1.0, 1.0]


def test_a_rule_that_expects_nothing_is_told_in_a_sentence(evidence):
    chapter = matter_chapters.matter(evidence)
    texts = [getattr(block, "text", "") for block in chapter.blocks]
    assert any(text.startswith("No trial has any of the four numbers") for text in texts)
    assert "trainability_calibration" not in chapter.tables


def test_arms_of_one_activation_and_normalization_have_markers_of_their_own(evidence, sweep):
    sweep.add(range(3), activation="relu", initializer=["lecun_normal", "he_normal"])
    styles = arms(sweep.evidence()).styles
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(styles) == 4
