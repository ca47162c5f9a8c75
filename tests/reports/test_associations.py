"""Association of shares with accuracy: slopes, covariates, clusters, and what cannot be told."""

from __future__ import annotations

import numpy
import pandas
import pytest

from harness.reports.associations import association, associations


def add_cells(sweep, slope: float, cells: int = 24, trap: float = 0.0):
    """Cells of four seeds whose final share moves the accuracy by a slope.

    `trap` lets the depth move the accuracy, and the share with it.
    """
    for cell in range(cells):
        depth = (8, 32)[cell % 2]
        share = float(sweep.noise.random()) * 0.5 + (0.5 if depth == 8 else 0.0)
        score = 0.8 + slope * share + (trap if depth == 8 else 0.0)
        sweep.add(
            range(4),
            depth=depth,
            learning_rate=float(0.001 * 1.1**cell),
            share_moments_end=sweep.near(share, 0.01),
            test_accuracy=sweep.near(score, 0.002),
        )
    return sweep


def test_a_slope_is_found_in_units_of_accuracy(sweep):
    row = associations(add_cells(sweep, 0.1).evidence()).iloc[0]
    assert (row["name"], row["phase"]) == ("moments", "end")
    assert row["effect_of_all_layers"] == pytest.approx(0.1, abs=0.01)
    assert row["all_low"] < 0.1 < row["all_high"]
    assert row["variance_added"] > 0.15
    assert row["p_holm"] < 0.01
    assert (row["trials"], row["cells"]) == (96, 24)


def test_a_covariate_that_moves_both_is_held(sweep):
    row = associations(add_cells(sweep, 0.0, trap=0.1).evidence()).iloc[0]
    assert row["low"] < 0 < row["high"]
    assert row["variance_added"] < 0.01


def test_too_few_cells_and_settled_shares_say_nothing(sweep):
    assert not len(associations(add_cells(sweep, 0.1, cells=8).evidence()))


def test_a_share_that_the_depth_settles_says_nothing(sweep):
    for depth in (4, 8, 16, 32):
        for rate in (0.001, 0.003, 0.01):
            sweep.add(depth=depth, learning_rate=rate, share_moments_end=1 / depth)
    assert not len(associations(sweep.evidence()))


def test_trials_that_do_not_train_are_left_out(sweep):
    add_cells(sweep, 0.0)
    sweep.add(range(4), depth=8, status="diverged", share_moments_end=0.0)
    row = associations(sweep.evidence()).iloc[0]
    assert row["trials"] == 96


def test_the_interval_covers_when_cells_differ_and_seeds_do_not():
    generator = numpy.random.default_rng(3)
    cells = numpy.repeat(numpy.arange(16), 3)
    covered = []
    for _ in range(100):
        levels = generator.normal(0.9, 0.02, 16)
        shares = generator.random(16)
        trials = pandas.DataFrame(
            {"cell_id": cells, "score": levels[cells], "share": shares[cells]}
        )
        trials["score"] += generator.normal(0, 0.001, len(trials))
        found = association(trials, "share")
        covered.append(found["low"] < 0 < found["high"])
    assert numpy.mean(covered) > 0.85
