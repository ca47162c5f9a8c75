"""Arms compared by seed: pairs, baselines, families, recommended pairs, and averages."""

from __future__ import annotations

import pandas
import pytest
from scipy import stats

from harness.reports import comparisons
from harness.reports.evidence import Evidence
from harness.reports.rules import recommended_initializers

SELU = [0.60, 0.62, 0.61]
RELU = [0.55, 0.58, 0.52]


def evidence(unfinished: tuple[str, ...] = ()) -> Evidence:
    """SELU and ReLU, with LeCun's and He's weights, at depths 2 and 4."""
    rows = []
    for activation, scores in (("selu", SELU), ("relu", RELU)):
        for initializer, gain in (("lecun_normal", 0.0), ("he_normal", 0.1)):
            for depth in (2, 4):
                cell_id = f"{activation} {initializer} {depth}"
                for seed, score in enumerate(scores):
                    running = cell_id in unfinished and seed == 2
                    rows.append(
                        {
                            "trial_id": f"{cell_id} {seed}",
                            "cell_id": cell_id,
                            "seed": seed,
                            "status": "running" if running else "done",
                            "activation": activation,
                            "initializer": initializer,
                            "depth": depth,
                            "steps": 5,
                            "test_accuracy": score + gain,
                            "score": score + gain,
                            "validation_accuracy": score,
                            "train_loss": 1.0,
                            "chance": 0.1,
                        }
                    )
    axes = ("activation", "initializer", "depth")
    return Evidence(pandas.DataFrame(rows), pandas.DataFrame(), pandas.DataFrame(), axes)


def rows_of(table: pandas.DataFrame, family: str) -> pandas.DataFrame:
    return table[table["family"] == family].reset_index(drop=True)


def test_arms_are_compared_by_seed_in_every_context():
    table = rows_of(comparisons.paired(evidence()), "activation")
    assert len(table) == 4
    assert set(table["context"]) == {
        f"{initializer}, depth {depth}"
        for initializer in ("lecun_normal", "he_normal")
        for depth in (2, 4)
    }
    reference = stats.ttest_rel(RELU, SELU)
    assert set(zip(table["arm"], table["baseline"], strict=True)) == {("relu", "selu")}
    assert table["difference"].tolist() == pytest.approx([-0.06] * 4)
    assert table["p_value"].tolist() == pytest.approx([reference.pvalue] * 4)
    assert table["low"].tolist() == pytest.approx([reference.confidence_interval().low] * 4)
    assert table["p_holm"].tolist() == pytest.approx([min(1, 4 * reference.pvalue)] * 4)


def test_recommended_pairs_are_a_family_of_their_own():
    table = rows_of(comparisons.paired(evidence()), comparisons.PRACTICE)
    assert recommended_initializers("relu")[0] == "he_normal"
    assert recommended_initializers("module:function") == ()
    assert set(table["arm"]) == {"relu + he_normal"}
    assert set(table["baseline"]) == {"selu + lecun_normal"}
    assert table["context"].tolist() == ["depth 2", "depth 4"]
    assert table["difference"].tolist() == pytest.approx([0.04, 0.04])


def test_cells_with_unfinished_seeds_are_left_out_of_averages():
    whole = comparisons.summaries(comparisons.paired(evidence()))
    row = rows_of(whole, "activation").iloc[0]
    assert (row["tasks"], row["tasks_incomplete"], row["seeds"]) == (4, 0, 3)
    assert row["difference"] == pytest.approx(-0.06)
    assert row["wins"] == 0
    part = comparisons.paired(evidence(("relu lecun_normal 2",)))
    row = rows_of(comparisons.summaries(part), "activation").iloc[0]
    assert (row["tasks"], row["tasks_incomplete"], row["seeds"]) == (3, 1, 3)
    assert row["better"] + row["worse"] + row["undecided"] == 4


def test_one_arm_has_nothing_to_be_compared_with():
    whole = evidence()
    trials = whole.trials
    alone = trials[(trials["activation"] == "selu") & (trials["initializer"] == "he_normal")]
    table = comparisons.paired(Evidence(alone, whole.curves, whole.layers, whole.axes))
    assert not len(table)
    assert {"family", "p_holm"} <= set(table.columns)
