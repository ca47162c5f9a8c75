"""Repairs and doses: paired effects at the same seed, by context."""

from __future__ import annotations

import pytest

from harness.reports import interventions


def add_repair(sweep, gain: float, share: float, repair: str = "rescale_tau", **settings):
    """He's weights with and without a repair."""
    for name, more, back in (("none", 0.0, 0.0), (repair, gain, share)):
        sweep.add(
            initializer="he_normal",
            repair=name,
            test_accuracy=sweep.near(0.8 + more),
            share_moments_init=sweep.near(0.2 + back, 0.01),
            **settings,
        )
    return sweep


def test_a_repair_has_paired_differences_of_shares_and_accuracy(sweep):
    table = interventions.repairs(add_repair(sweep, 0.1, 0.7).evidence())
    row = table.iloc[0]
    assert len(table) == 1
    assert row["repair"] == "rescale_tau"
    assert row["pairs"] == 5
    assert row["score"] == pytest.approx(0.1, abs=0.005)
    assert row["score_low"] < 0.1 < row["score_high"]
    assert row["share_moments"] == pytest.approx(0.7, abs=0.02)


def test_contexts_have_rows_of_their_own(sweep):
    add_repair(sweep, 0.1, 0.7, depth=8)
    add_repair(sweep, 0.0, 0.7, depth=32)
    table = interventions.repairs(sweep.evidence()).set_index("depth")
    assert table.loc[8, "score_low"] > 0.05
    assert table.loc[32, "score_high"] < 0.05
    assert table.loc[8, "context"] == "depth 8"


def test_a_diverged_twin_counts_as_chance(sweep):
    sweep.add(initializer="he_normal", repair="none", status="diverged")
    sweep.add(initializer="he_normal", repair="lsuv", test_accuracy=sweep.near(0.8))
    row = interventions.repairs(sweep.evidence()).iloc[0]
    assert row["score"] == pytest.approx(0.7, abs=0.01)
    assert row["score_without"] == pytest.approx(0.1)


def test_a_twin_without_a_score_makes_no_pair(sweep):
    sweep.add(initializer="he_normal", repair="none", status="diverged", classes=float("nan"))
    for trial in sweep.trials:
        trial["dataset"] = "folder"
    sweep.add(initializer="he_normal", repair="lsuv", dataset="folder", classes=float("nan"))
    assert not len(interventions.repairs(sweep.evidence()))


def test_no_repair_gives_no_rows(sweep):
    assert not len(interventions.repairs(sweep.add().evidence()))
    assert not len(interventions.doses(sweep.evidence()))


def test_doses_are_compared_with_the_mildest(sweep):
    for dose, loss in ((1.0, 0.0), (2.0, 0.05), (4.0, 0.3)):
        sweep.add(
            initializer="gaussian",
            test_accuracy=sweep.near(0.9 - loss),
            **{"initializer.sigma_w2": dose},
        )
    table = interventions.doses(sweep.evidence()).set_index("dose")
    assert set(table["against"]) == {1.0}
    assert table.loc[2.0, "score"] == pytest.approx(-0.05, abs=0.01)
    assert table.loc[4.0, "score_high"] < -0.2
