"""Verdicts from layer tables: effect sizes decide, bands say whether theory is at fault, absent numbers are unknown."""

from __future__ import annotations

import json
import math

import numpy
import pandas
import pytest

from harness.verdicts.criteria import PATH, load
from harness.verdicts.evaluation import evaluate, ranges, summarize, verdicts
from harness.verdicts.formulas import parse


def layer_table(rows: int = 4, step: int = 0, **changes) -> pandas.DataFrame:
    """A network that meets every assumption, of 256 units and inputs; `changes` overrides columns."""
    clean = {
        "step": step,
        "phase": "init",
        "layer": range(1, rows + 1),
        "name": "layer",
        "units": 256,
        "fan_in": 256,
        "input_mean": 0.01,
        "input_variance": 1.0,
        "input_cosine": 0.01,
        "input_q_cv": 0.1,
        "mean_drive": 0.01,
        "input_participation_ratio": 200.0,
        "tau_mean": 1.0,
        "tau_sd": math.sqrt(2 / 256),
        "omega_mean": 0.0,
        "omega_sd": 1.0,
        "theorem_1_weight_share": 0.05,
        "unit_wasserstein_q90": 0.05,
        "unit_wasserstein_q90_null": 0.05,
        "pooled_excess_kurtosis": 0.03,
        "pooled_wasserstein": 0.01,
        "normalized_wasserstein": 0.01,
        "residual_unit": 0.02,
        "residual_map": 0.05,
        "unit_variance_cv": 0.1,
        "predicted_unit_variance_cv": 0.1,
        "mean_abs_correlation": 0.06,
        "mean_abs_correlation_null": 0.04,
        "activation_mean": 0.0,
        "activation_variance": 1.0,
        "empirical_slope": 0.78,
        "residual_pooled": 0.01,
        "theorem_1_moment_share": 0.9,
        "gradient_product": 2.0,
    }
    return pandas.DataFrame(clean | changes)


def verdict(assumption: str, **changes) -> pandas.Series:
    judged = verdicts(layer_table(1, **changes))
    return judged[judged["assumption"] == assumption].iloc[0]


def test_the_clean_network_holds_everywhere():
    judged = verdicts(layer_table())
    assert len(judged) == 4 * len(load().assumptions)
    assert set(judged["verdict"]) == {"holds"}
    assert set(judged["fault"]) == {""}
    assert set(judged["reason"]) == {""}
    assert judged["score"].max() <= 1


# One column moved at a time: (assumption, column, value, verdict).
DOSES = [
    ("input", "input_mean", 0.1, "holds"),
    ("input", "input_mean", -0.11, "strained"),
    ("input", "input_mean", 1.2, "fails"),
    ("input", "input_variance", 0.8, "holds"),
    ("input", "input_variance", 0.5, "strained"),
    ("input", "input_variance", 0.1, "fails"),
    ("input", "input_variance", 3.1, "fails"),
    ("input", "mean_drive", 0.04, "holds"),
    ("input", "mean_drive", 0.2, "strained"),
    ("input", "mean_drive", 0.67, "fails"),
    ("weights", "tau_mean", 1 / 3, "fails"),
    ("weights", "tau_mean", 2.0, "fails"),
    ("weights", "tau_mean", 1.21, "strained"),
    ("weights", "tau_mean", 0.7737, "fails"),
    ("weights", "tau_sd", 0.2, "strained"),
    ("weights", "tau_sd", 0.6, "fails"),
    ("gaussianity", "unit_wasserstein_q90", 0.06, "holds"),
    ("gaussianity", "unit_wasserstein_q90", 0.12, "strained"),
    ("gaussianity", "unit_wasserstein_q90", 0.3, "fails"),
    ("gaussianity", "pooled_wasserstein", 0.2, "fails"),
    ("gaussianity", "residual_unit", 0.2, "strained"),
    ("dependence", "unit_variance_cv", 0.25, "strained"),
    ("dependence", "unit_variance_cv", 0.6, "fails"),
    ("dependence", "mean_abs_correlation", 0.2, "strained"),
    ("dependence", "residual_map", 0.5, "fails"),
    ("contraction", "activation_variance", 18.46, "fails"),
    ("contraction", "activation_mean", 0.4, "strained"),
    ("contraction", "empirical_slope", 1.0, "strained"),
    ("contraction", "empirical_slope", 1.3, "fails"),
    ("contraction", "residual_pooled", 0.5, "fails"),
]


@pytest.mark.parametrize("assumption, column, value, expected", DOSES)
def test_a_dose_moves_one_verdict(assumption, column, value, expected):
    judged = verdicts(layer_table(1, **{column: value})).set_index("assumption")["verdict"]
    assert judged[assumption] == expected
    if column not in (
        "input_mean",
        "input_variance",
        "tau_mean",
    ):  # these also enter another assumption's effect
        assert set(judged.drop(assumption)) == {"holds"}


def test_the_sum_of_weights_matters_by_the_mean_it_multiplies():
    # omega is N(0, 1) whatever the fan-in; with inputs of mean 0 that moves nothing, with raw pixels it moves every unit.
    assert verdict("weights").verdict == "holds"
    raw = verdict("weights", input_mean=0.47, input_variance=0.06)
    assert raw.verdict == "fails"
    assert raw.effect == pytest.approx(0.47 / math.sqrt(0.06))
    assert verdict("weights", input_mean=0.47, input_variance=0.06, omega_sd=0.0).verdict == "holds"


def test_the_assumption_can_fail_as_theory_says_and_theory_can_miss_without_harm():
    # MNIST: participation ratio 31, so that the units' variances spread by sqrt(2 / 31) = 0.254, as measured.
    told = verdict(
        "dependence", unit_variance_cv=0.251, predicted_unit_variance_cv=math.sqrt(2 / 31)
    )
    assert (told.verdict, told.fault, bool(told.outside_band)) == ("strained", "assumption", False)
    missed = verdict("dependence", unit_variance_cv=0.14, predicted_unit_variance_cv=0.09)
    assert (missed.verdict, missed.fault, bool(missed.outside_band)) == ("holds", "theory", True)
    assert (
        verdict("dependence", unit_variance_cv=0.6, predicted_unit_variance_cv=0.1).fault == "both"
    )


@pytest.mark.parametrize(
    "low, high, missed",
    [(0.70, 0.75, True), (0.75, 0.85, False), (0.79, 0.85, True), (math.nan, math.nan, False)],
)
def test_theory_misses_where_its_number_lies_outside_the_measured_interval(low, high, missed):
    changes = {
        "empirical_slope": (low + high) / 2 if low == low else 0.9,
        "predicted_empirical_slope": 0.78,
        "empirical_slope_low": low,
        "empirical_slope_high": high,
    }
    table = evaluate(layer_table(1, **changes)).set_index("column")
    assert (
        bool(table.loc["empirical_slope", "theory_missed"]),
        table.loc["empirical_slope", "verdict"],
    ) == (missed, "holds")


@pytest.mark.parametrize("map_low, apart", [(0.04, True), (0.02, False)])
def test_two_intervals_are_apart_where_they_have_nothing_in_common(map_low, apart):
    changes = {
        "residual_unit_low": 0.0,
        "residual_unit_high": 0.03,
        "residual_map_low": map_low,
        "residual_map_high": 0.07,
    }
    row = evaluate(layer_table(1, **changes)).set_index("column").loc["residual_map"]
    assert (bool(row["outside_band"]), bool(row["theory_missed"]), row["verdict"]) == (
        apart,
        False,
        "holds",
    )


def test_intervals_change_no_verdict():
    wide = {
        f"{name}_{end}": value
        for name in (
            "input_mean",
            "residual_unit",
            "residual_map",
            "residual_pooled",
            "empirical_slope",
        )
        for end, value in (("low", 5.0), ("high", 9.0))
    }
    assert (
        verdicts(layer_table(**wide))["verdict"].tolist()
        == verdicts(layer_table())["verdict"].tolist()
    )


def test_a_band_around_the_assumptions_own_value_blames_no_theory():
    he = verdict("weights", tau_mean=2.0, tau_sd=2 * math.sqrt(2 / 256), omega_sd=math.sqrt(2))
    assert bool(he.outside_band)
    assert not he.theory_missed
    assert he.fault == "assumption"


def test_reference_predictions():
    table = evaluate(layer_table(1, fan_in=512, units=512, input_q_cv=1.372)).set_index("column")
    # Klambauer's box at fan-in 512: P(|omega| <= 0.1) P(tau in [0.95, 1.1]) = 0.0797 x 0.73 with tau's Gaussian limit.
    assert table.loc["theorem_1_weight_share", "predicted"] == pytest.approx(0.0583, abs=2e-4)
    # Per-pixel standardised MNIST: excess kurtosis 3 CV(q)^2 = 5.65.
    assert table.loc["pooled_excess_kurtosis", "predicted"] == pytest.approx(5.65, abs=0.01)
    assert not table.loc["theorem_1_weight_share", "outside_band"]


def test_a_missing_column_is_unknown_with_its_name():
    table = layer_table(2).drop(
        columns=["mean_abs_correlation", "unit_variance_cv", "residual_map"]
    )
    judged = verdicts(table)
    rows = judged[judged["assumption"] == "dependence"]
    assert set(rows["verdict"]) == {"unknown"}
    assert rows["measured"].isna().all()
    assert all(
        reason.startswith("not measured: ") and "unit_variance_cv" in reason
        for reason in rows["reason"]
    )
    assert set(judged[judged["assumption"] != "dependence"]["verdict"]) == {"holds"}


def test_what_remains_decides_and_says_what_it_lacked():
    table = layer_table(2)
    table.loc[1, "empirical_slope"] = math.nan
    table["absent"] = ["", "the last layer has none behind it"]
    rows = verdicts(table)
    rows = rows[rows["assumption"] == "contraction"].set_index("layer")
    assert rows.loc[2, "verdict"] == "holds"
    assert (
        rows.loc[2, "reason"]
        == "empirical_slope is no number here: the last layer has none behind it"
    )
    assert rows.loc[1, "reason"] == ""


def test_an_infinite_number_fails_and_no_number_is_unknown():
    assert verdict("contraction", activation_variance=math.inf).verdict == "fails"
    table = layer_table(
        1,
        **dict.fromkeys(
            ("activation_mean", "activation_variance", "empirical_slope", "residual_pooled"),
            math.nan,
        ),
    )
    judged = verdicts(table).set_index("assumption")
    assert judged.loc["contraction", "verdict"] == "unknown"
    assert "no number" in judged.loc["contraction", "reason"]


def test_an_empty_table():
    summary = summarize(verdicts(layer_table(0)))
    assert all(summary[f"verdict_{name}"] == "unknown" for name in load().assumptions)
    assert "nothing was probed" in summary["verdict_sentence"]


def test_the_sentence_says_from_which_layer_and_which_step():
    start, end = layer_table(4), layer_table(4, step=100, tau_mean=[1.0, 1.0, 1.4, 1.4])
    summary = summarize(verdicts(pandas.concat([start, end])))
    assert summary["verdict_weights"] == "fails"
    assert summary["verdict_input"] == "holds"
    assert (
        "weights fail from layer 3 on, from step 100 on (tau_mean 1.4 at layer 3, assumed 1)"
        in summary["verdict_sentence"]
    )
    raw = summarize(verdicts(layer_table(4, mean_drive=[0.9, 0.8, 0.02, 0.02])))
    assert "Input fails at layers 1-2 (mean_drive 0.9 at layer 1" in raw["verdict_sentence"]
    assert raw["verdict_sentence"].endswith(".")
    assert raw["verdict_sentence"].count(";") == 4


def test_rows_keep_their_order_and_keys():
    table = pandas.concat(
        [layer_table(3).assign(trial_id="b"), layer_table(3).assign(trial_id="a")]
    )
    judged = verdicts(table)
    per_row = len(load().assumptions)
    assert list(judged["trial_id"][::per_row]) == ["b"] * 3 + ["a"] * 3
    assert list(judged["layer"][::per_row]) == [1, 2, 3, 1, 2, 3]


def test_ranges():
    assert ranges([3, 1, 2, 7, 7]) == "1-3, 7"
    assert ranges([5]) == "5"


def test_every_criterion_is_complete():
    data = json.loads(PATH.read_text())
    assert data["version"] >= 1
    criteria = load().criteria
    assert load().assumptions == ("input", "weights", "gaussianity", "dependence", "contraction")
    for criterion in criteria:
        assert criterion.source
        assert criterion.effect
        assert (
            criterion.strained[0]
            <= criterion.holds[0]
            <= criterion.target
            <= criterion.holds[1]
            <= criterion.strained[1]
        )
    assert {criterion.assumption for criterion in criteria if criterion.decides} == set(
        load().assumptions
    )


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "a.b", "a[0]", "open(x)", "lambda: 1", "a if b else c", "'text' + a"],
)
def test_formulas_are_arithmetic_only(text):
    with pytest.raises(ValueError):
        parse(text)({name: numpy.ones(1) for name in "abcx"})


def test_formulas_over_columns():
    formula = parse("max(a, -b) ** 2 + normal_cdf(0)")
    assert formula.columns == ("a", "b")
    assert formula({"a": numpy.array([1.0, 2.0]), "b": numpy.array([-3.0, 5.0])}) == pytest.approx(
        [9.5, 4.5]
    )
