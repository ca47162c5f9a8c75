"""Verdicts from layer tables.

Effect sizes decide, bands say if theory is at fault, and absent numbers are unknown.
"""

from __future__ import annotations

import math

import numpy
import pandas
import pytest
from scipy.special import ndtr

from harness.verdicts.criteria import load
from harness.verdicts.criterion import column, constant, formula, interval, interval_columns
from harness.verdicts.evaluation import evaluate, verdicts


def layer_table(rows: int = 4, step: int = 0, **changes) -> pandas.DataFrame:
    """Layers of 256 units that keep every premise and promise; `changes` overrides columns."""
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
        "theorem_1_weight_share": 1.0,
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


def verdict(condition: str, **changes) -> pandas.Series:
    """The verdict on one premise or promise for a single layer with changed columns."""
    judged = verdicts(layer_table(1, **changes))
    return judged[judged["condition"] == condition].iloc[0]


def test_a_clean_network_keeps_every_premise_and_promise():
    judged = verdicts(layer_table())
    assert len(judged) == 4 * len(load().names)
    assert set(judged["verdict"]) == {"holds"}
    assert set(judged["fault"]) == {""}
    assert set(judged["reason"]) == {""}
    assert judged["score"].max() <= 1


# One column changed at a time: (condition, column, value, verdict).
DOSES = [
    ("input", "input_mean", 0.1, "holds"),
    ("input", "input_mean", -0.11, "strained"),
    ("input", "input_mean", 1.2, "fails"),
    ("input", "input_variance", 0.8, "holds"),
    ("input", "input_variance", 0.5, "strained"),
    ("input", "input_variance", 0.1, "fails"),
    ("input", "input_variance", 3.1, "fails"),
    ("input", "mean_drive", 0.04, "holds"),
    ("input", "mean_drive", 0.25, "holds"),
    ("input", "mean_drive", 0.67, "strained"),
    ("input", "mean_drive", 1.1, "fails"),
    ("weights", "tau_mean", 1 / 3, "fails"),
    ("weights", "tau_mean", 2.0, "fails"),
    ("weights", "tau_mean", 1.21, "strained"),
    ("weights", "tau_mean", 0.7737, "fails"),
    ("weights", "tau_sd", 0.2, "strained"),
    ("weights", "tau_sd", 0.7, "fails"),
    ("weights", "theorem_1_weight_share", 0.89, "strained"),
    ("weights", "theorem_1_weight_share", 0.058, "fails"),
    ("gaussianity", "unit_wasserstein_q90", 0.06, "holds"),
    ("gaussianity", "unit_wasserstein_q90", 0.12, "holds"),
    ("gaussianity", "unit_wasserstein_q90", 0.3, "strained"),
    ("gaussianity", "unit_wasserstein_q90", 0.4, "fails"),
    ("gaussianity", "pooled_wasserstein", 0.2, "strained"),
    ("gaussianity", "residual_unit", 0.3, "strained"),
    ("dependence", "unit_variance_cv", 0.25, "strained"),
    ("dependence", "unit_variance_cv", 0.7, "fails"),
    ("dependence", "mean_abs_correlation", 0.2, "strained"),
    ("dependence", "residual_map", 0.6, "fails"),
    ("moments", "activation_variance", 18.46, "fails"),
    ("moments", "activation_mean", 0.4, "strained"),
    ("units", "theorem_1_moment_share", 0.6, "strained"),
    ("units", "theorem_1_moment_share", 0.03, "fails"),
    ("gradients", "gradient_product", 9.9, "holds"),
    ("gradients", "gradient_product", 0.05, "strained"),
    ("gradients", "gradient_product", 1e4, "fails"),
    ("gradients", "gradient_product", 1e-4, "fails"),
    ("contraction", "empirical_slope", 1.0, "strained"),
    ("contraction", "empirical_slope", 1.3, "fails"),
    ("contraction", "residual_pooled", 0.5, "fails"),
]


@pytest.mark.parametrize("condition, column, value, expected", DOSES)
def test_a_changed_column_changes_the_verdict_on_its_condition(condition, column, value, expected):
    assert verdict(condition, **{column: value}).verdict == expected


# These columns also enter the effect of another condition's criterion.
SHARED = ("input_mean", "input_variance", "tau_mean", "activation_mean", "activation_variance")


@pytest.mark.parametrize(
    "condition, column, value", [dose[:3] for dose in DOSES if dose[1] not in SHARED]
)
def test_a_changed_column_leaves_the_other_verdicts(condition, column, value):
    judged = verdicts(layer_table(1, **{column: value})).set_index("condition")["verdict"]
    assert set(judged.drop(condition)) == {"holds"}


def test_sums_of_weights_matter_only_where_inputs_have_a_mean():
    # omega is N(0, 1) at any fan-in: without effect on inputs of mean 0, but raw pixels shift
    # every unit by it.
    assert verdict("weights").verdict == "holds"
    raw = verdict("weights", input_mean=0.47, input_variance=0.06)
    assert raw.verdict == "fails"
    assert raw.effect == pytest.approx(0.47 / math.sqrt(0.06))
    assert verdict("weights", input_mean=0.47, input_variance=0.06, omega_sd=0.0).verdict == "holds"


def test_a_premise_can_be_strained_as_theory_predicts():
    # MNIST: participation ratio 31, so that the units' variances spread by sqrt(2 / 31) = 0.254.
    row = verdict(
        "dependence", unit_variance_cv=0.251, predicted_unit_variance_cv=math.sqrt(2 / 31)
    )
    assert (row.verdict, row.fault) == ("strained", "condition")
    assert not row.outside_band


def test_theory_can_miss_where_the_premise_holds():
    row = verdict("dependence", unit_variance_cv=0.14, predicted_unit_variance_cv=0.09)
    assert (row.verdict, row.fault) == ("holds", "theory")
    assert row.outside_band


def test_a_premise_can_fail_where_theory_misses():
    row = verdict("dependence", unit_variance_cv=0.7, predicted_unit_variance_cv=0.1)
    assert (row.verdict, row.fault) == ("fails", "both")


@pytest.mark.parametrize(
    "low, high, missed",
    [(0.70, 0.75, True), (0.75, 0.85, False), (0.79, 0.85, True), (math.nan, math.nan, False)],
)
def test_theory_misses_where_its_number_lies_outside_the_measured_interval(low, high, missed):
    changes = {
        "empirical_slope": 0.9 if math.isnan(low) else (low + high) / 2,
        "predicted_empirical_slope": 0.78,
        "empirical_slope_low": low,
        "empirical_slope_high": high,
    }
    row = evaluate(layer_table(1, **changes)).set_index("column").loc["empirical_slope"]
    assert bool(row["theory_missed"]) == missed
    assert row["verdict"] == "holds"


@pytest.mark.parametrize("map_low, outside", [(0.04, True), (0.02, False)])
def test_a_measurement_is_outside_the_band_where_the_intervals_do_not_overlap(map_low, outside):
    changes = {
        "residual_unit_low": 0.0,
        "residual_unit_high": 0.03,
        "residual_map_low": map_low,
        "residual_map_high": 0.07,
    }
    row = evaluate(layer_table(1, **changes)).set_index("column").loc["residual_map"]
    assert bool(row["outside_band"]) == outside
    assert not row["theory_missed"]
    assert row["verdict"] == "holds"


def test_intervals_change_no_verdict():
    measured = ("input_mean", "residual_unit", "residual_map", "residual_pooled", "empirical_slope")
    distant = {f"{name}_low": 5.0 for name in measured} | {f"{name}_high": 9.0 for name in measured}
    table = layer_table(**distant)
    assert evaluate(table)["outside_band"].any()
    assert verdicts(table)["verdict"].tolist() == verdicts(layer_table())["verdict"].tolist()


def test_a_deviation_from_the_premises_own_value_is_no_fault_of_theory():
    he = verdict("weights", tau_mean=2.0, tau_sd=2 * math.sqrt(2 / 256), omega_sd=math.sqrt(2))
    assert bool(he.outside_band)
    assert not he.theory_missed
    assert he.fault == "condition"


def test_predictions_agree_with_reference_values():
    table = evaluate(
        layer_table(1, fan_in=512, units=512, input_q_cv=1.372, theorem_1_weight_share=0.05)
    ).set_index("column")
    # Klambauer's box at fan-in 512: P(|omega| <= 0.1) P(tau in [0.95, 1.1]) = 0.0797 x 0.73 with
    # the Gaussian limit of tau.
    assert table.loc["theorem_1_weight_share", "predicted"] == pytest.approx(0.0583, abs=2e-4)
    # Per-pixel standardised MNIST: excess kurtosis 3 CV(q)^2 = 5.65.
    assert table.loc["pooled_excess_kurtosis", "predicted"] == pytest.approx(5.65, abs=0.01)
    assert not table.loc["theorem_1_weight_share", "outside_band"]


def test_a_missing_column_makes_a_condition_unknown_and_is_named():
    table = layer_table(2).drop(
        columns=["mean_abs_correlation", "unit_variance_cv", "residual_map"]
    )
    judged = verdicts(table)
    rows = judged[judged["condition"] == "dependence"]
    assert set(rows["verdict"]) == {"unknown"}
    assert rows["measured"].isna().all()
    assert all(
        reason.startswith("not measured: ") and "unit_variance_cv" in reason
        for reason in rows["reason"]
    )
    assert set(judged[judged["condition"] != "dependence"]["verdict"]) == {"holds"}


def test_the_remaining_criteria_decide_and_name_what_is_absent():
    table = layer_table(2)
    table.loc[1, "empirical_slope"] = math.nan
    table["absent"] = ["", "the last layer has none behind it"]
    rows = verdicts(table)
    rows = rows[rows["condition"] == "contraction"].set_index("layer")
    assert rows.loc[2, "verdict"] == "holds"
    assert (
        rows.loc[2, "reason"]
        == "empirical_slope is no number here: the last layer has none behind it"
    )
    assert rows.loc[1, "reason"] == ""


def test_an_infinite_number_fails_and_an_absent_number_is_unknown():
    assert verdict("moments", activation_variance=math.inf).verdict == "fails"
    table = layer_table(1, activation_mean=math.nan, activation_variance=math.nan)
    judged = verdicts(table).set_index("condition")
    assert judged.loc["moments", "verdict"] == "unknown"
    assert "no number" in judged.loc["moments", "reason"]


def test_rows_keep_their_order_and_keys():
    table = pandas.concat(
        [layer_table(3).assign(trial_id="b"), layer_table(3).assign(trial_id="a")]
    )
    judged = verdicts(table)
    per_row = len(load().names)
    assert list(judged["trial_id"][::per_row]) == ["b"] * 3 + ["a"] * 3
    assert list(judged["layer"][::per_row]) == [1, 2, 3, 1, 2, 3]


def test_every_criterion_is_complete():
    criteria = load()
    assert criteria.version == 3
    assert criteria.premises == ("input", "weights", "gaussianity", "dependence")
    assert criteria.promises == ("moments", "units", "contraction", "gradients")
    assert all(criteria.deciding(name) for name in criteria.names)
    assert all(criteria.claims[name] for name in criteria.names)


@pytest.mark.parametrize("criterion", load().criteria, ids=lambda criterion: criterion.column)
def test_thresholds_surround_the_target(criterion):
    ends = [
        criterion.strained[0],
        criterion.holds[0],
        criterion.target,
        criterion.holds[1],
        criterion.strained[1],
    ]
    assert ends == sorted(ends)
    assert criterion.holds[0] < criterion.holds[1]
    assert criterion.source
    assert criterion.effect


def test_names_of_criteria_are_unique():
    names = [criterion.name for criterion in load().criteria]
    assert len(set(names)) == len(names)


# Functions that the descriptions of formulas use.
FUNCTIONS = {
    "sqrt": numpy.sqrt,
    "abs": numpy.abs,
    "log": numpy.log,
    "max": numpy.maximum,
    "normal_cdf": ndtr,
}
DESCRIBED = [
    described
    for criterion in load().criteria
    for described in (*criterion.prediction, *criterion.effect)
]


@pytest.mark.parametrize("described", DESCRIBED, ids=lambda described: described.description)
def test_the_description_of_a_formula_is_its_arithmetic(described):
    generator = numpy.random.default_rng(0)
    columns = {name: generator.uniform(-1, 3, 100) for name in described.columns}
    with numpy.errstate(invalid="ignore"):
        expected = eval(described.description, {"__builtins__": {}}, FUNCTIONS | columns)
    assert numpy.nanmax(expected) != 0 or not columns
    assert numpy.array_equal(described(columns), expected, equal_nan=True)


def test_every_column_of_the_criteria_is_one_that_a_layer_table_can_have():
    # The clean table has all measured columns; the others are predictions, intervals and options.
    table = layer_table(1)
    unmeasured = [name for name in load().columns if name not in table]
    optional = ("weight_excess_kurtosis",)
    others = [
        name
        for name in unmeasured
        if not name.startswith("predicted_") and not name.endswith(("_low", "_high"))
    ]
    assert set(others) <= set(optional)
    assert "prediction" not in load().columns


def test_a_formula_reads_the_columns_that_its_parameters_name():
    @formula("max(a, -b) ** 2")
    def larger_square(b, a):
        return numpy.maximum(a, -b) ** 2

    columns = {"a": numpy.array([1.0, 2.0]), "b": numpy.array([-3.0, 5.0])}
    assert larger_square.columns == ("a", "b")
    assert larger_square(columns | {"c": numpy.ones(2)}) == pytest.approx([9.0, 4.0])
    assert column("a")(columns) is columns["a"]
    assert constant(0.5)(columns) == 0.5


def test_an_interval_has_two_ends():
    @interval
    def band(prediction, units):
        return prediction - 1 / units, prediction + 1 / units

    columns = {"prediction": numpy.array([2.0]), "units": numpy.array([4.0])}
    assert (band.low(columns), band.high(columns)) == (1.75, 2.25)
    assert band.low.columns == band.high.columns == ("prediction", "units")
    assert interval_columns("tau_mean").low.columns == ("tau_mean_low",)
    assert interval_columns("tau_mean").high.columns == ("tau_mean_high",)


@pytest.mark.filterwarnings("error")
def test_arithmetic_without_a_result_is_no_number_and_no_warning():
    row = verdict("weights", tau_mean=0.0, tau_sd=0.0, input_variance=0.0, input_mean=0.0)
    assert row.verdict == "fails"
    assert "tau_sd / tau_mean is no number here" in row.reason
