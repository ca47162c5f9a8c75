"""Factors of the score: against statsmodels' type II table, and against frozen numbers."""

from __future__ import annotations

import numpy
import pandas
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from harness.reports import factors
from harness.reports.evidence import Evidence

MEANS = {"selu": 0.6, "relu": 0.5, "tanh": 0.55}
AXES = ("activation", "initializer", "normalization", "depth")


def trials() -> pandas.DataFrame:
    """Three activations at two depths, three seeds, with an interaction and noise."""
    generator = numpy.random.default_rng(4)
    rows = []
    for activation, mean in MEANS.items():
        for depth, gain in ((2, 0.05), (4, 0.0)):
            for seed in range(3):
                interaction = 0.03 if (activation, depth) == ("tanh", 4) else 0
                rows.append(
                    {
                        "trial_id": f"{activation}{depth}{seed}",
                        "cell_id": f"{activation}{depth}",
                        "seed": seed,
                        "status": "done",
                        "activation": activation,
                        "initializer": "lecun_normal",
                        "normalization": "none",
                        "depth": depth,
                        "score": mean + gain + interaction + generator.normal(0, 0.01),
                    }
                )
    return pandas.DataFrame(rows)


def effects_of(table: pandas.DataFrame) -> factors.Effects | None:
    return factors.effects(Evidence(table, pandas.DataFrame(), pandas.DataFrame(), AXES))


def test_shares_are_those_of_the_type_two_table():
    table = trials()
    fit = ols("score ~ C(activation, Sum) * C(depth, Sum)", table).fit()
    reference = anova_lm(fit, typ=2)
    total = ((table["score"] - table["score"].mean()) ** 2).sum()
    shares = effects_of(table).shares.set_index("term")
    names = {
        "activation": "C(activation, Sum)",
        "depth": "C(depth, Sum)",
        "activation x depth": "C(activation, Sum):C(depth, Sum)",
    }
    for term, name in names.items():
        row = reference.loc[name]
        assert shares.loc[term, "share"] == pytest.approx(row["sum_sq"] / total, rel=1e-9)
        assert shares.loc[term, "f"] == pytest.approx(row["F"], rel=1e-9)
        assert shares.loc[term, "p_value"] == pytest.approx(row["PR(>F)"], rel=1e-9)
        assert shares.loc[term, "degrees"] == row["df"]


def test_numbers_are_frozen():
    effects = effects_of(trials())
    assert effects.note == ""
    assert effects.shares["share"].tolist() == pytest.approx(
        [0.7755073273185554, 0.13881414002535697, 0.050713732492260535, 0.0349648001638271],
        abs=1e-12,
    )
    assert effects.levels["effect"].tolist() == pytest.approx(
        [
            0.04442044790785674,
            -0.05537955861282048,
            0.010959110704963734,
            0.017546699498348122,
            -0.017546699498348122,
        ],
        abs=1e-12,
    )
    assert effects.levels["low"].tolist() == pytest.approx(
        [
            0.03498666948497778,
            -0.06481333703569944,
            0.0015253322820847712,
            0.010876010803319073,
            -0.02421738819337717,
        ],
        abs=1e-12,
    )


def test_effects_of_a_balanced_grid_are_differences_from_the_grand_mean():
    table = trials()
    levels = effects_of(table).levels.set_index(["factor", "level"])["effect"]
    for activation in MEANS:
        mean = table["score"][table["activation"] == activation].mean()
        effect = mean - table["score"].mean()
        assert levels["activation", activation] == pytest.approx(effect, abs=1e-12)


def test_without_a_full_grid_there_are_main_effects_only():
    table = trials()
    missing = (table["activation"] == "relu") & (table["depth"] == 4)
    effects = effects_of(table[~missing])
    assert effects.note.startswith("Only main effects")
    assert set(effects.shares["term"]) >= {"activation", "depth"}
    assert "activation x depth" not in set(effects.shares["term"])


def test_factors_that_vary_together_cannot_be_separated():
    table = trials()
    together = (table["activation"] == "selu") == (table["depth"] == 2)
    effects = effects_of(table[together & (table["activation"] != "tanh")])
    assert "cannot be separated" in effects.note
    assert not len(effects.shares)


def test_one_factor_has_no_effects():
    table = trials()
    assert effects_of(table[table["depth"] == 2]) is None
