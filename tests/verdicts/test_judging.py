"""Judgements of whole trials, and of tables that an earlier version of the criteria wrote.

The tables in `version_2` are three trials of digits with SELU, 16 units and 24 steps at a learning
rate of 0.3: two with three layers, and one with 24 layers that diverged at step 7.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy
import pandas
import pytest

from harness.commands import selu_collect
from harness.reports.evidence import gather
from harness.store.tables import Tables, collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.sweeps.results import Result, add_verdicts
from harness.verdicts.criteria import VERSION, load
from harness.verdicts.evaluation import scores, verdicts
from harness.verdicts.judging import judge_network, judge_tables, planned_steps, score_columns

OLD = Path(__file__).with_name("version_2")
LECUN, DIVERGED = "b779d291bd92b0b6", "c59e3ac80a6695c0"
NAMES = load().names


@pytest.fixture
def old() -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The tables of trials and layers."""
    trials = pandas.read_parquet(OLD / "trials.parquet")
    return trials, pandas.read_parquet(OLD / "layers.parquet")


def test_scores_are_those_of_the_verdicts(old):
    layers = old[1]
    judged = verdicts(layers)
    for name, values in scores(layers).items():
        expected = judged[judged["condition"] == name]["score"].to_numpy()
        assert numpy.array_equal(values, expected, equal_nan=True)


def test_scores_do_not_depend_on_the_number_of_rows(old):
    layers = old[1]
    many = pandas.concat([layers] * 400, ignore_index=True)
    for name, values in scores(many).items():
        few = scores(layers)[name]
        assert numpy.array_equal(values[-len(few) :], few, equal_nan=True)


def test_scores_of_missing_columns_are_no_numbers(old):
    few = old[1][["step", "layer", "activation_mean"]]
    result = scores(few)
    assert numpy.isfinite(result["moments"]).all()
    assert numpy.isnan(result["gradients"]).all()


def test_an_old_table_gets_scores_grades_and_words(old):
    trials, layers = judge_tables(*old)
    assert set(layers) >= {f"score_{name}" for name in NAMES}
    assert (trials["criteria_version"] == VERSION).all()
    row = trials.set_index("trial_id").loc[LECUN]
    assert row["share_gradients_init"] == 1
    assert row["verdict_gradients_init"] == "holds"
    assert row["share_weights_init"] == 0
    assert row["verdict_weights_end"] == "fails"
    assert row["verdict_sentence"].startswith("Of the premises, at initialisation ")


def test_words_of_an_old_version_disappear(old):
    trials, _ = judge_tables(*old)
    words = [name for name in trials if name.startswith("verdict_")]
    assert "verdict_input" in old[0]
    assert len(words) == 3 * len(NAMES) + 1
    assert "verdict_input" not in words


def test_measured_numbers_stay_as_they_are(old):
    trials, layers = judge_tables(*old)
    pandas.testing.assert_frame_equal(layers[list(old[1])], old[1])
    kept = [name for name in old[0] if not name.startswith("verdict_")]
    pandas.testing.assert_frame_equal(trials[kept], old[0][kept])


def test_a_diverged_trial_has_no_end(old):
    row = judge_tables(*old)[0].set_index("trial_id").loc[DIVERGED]
    assert row["steps"] == 7
    assert math.isnan(row["share_moments_end"])
    assert row["verdict_moments_end"] == "unknown"
    assert "at the end" not in row["verdict_sentence"]


def test_an_old_table_is_judged_as_the_same_trial_trained_now(old, make_config):
    config = make_config(
        depth=3,
        width=16,
        budget="initialization",
        seeds=1,
        **{"budget.steps": 24, "budget.probes": 5, "optimizer.learning_rate": 0.3},
    )
    sweep.prefetch([config], workers=1)
    now = collect(Store(config.runs))
    trials, layers = judge_tables(*old)
    assert now.trials["trial_id"].tolist() == [LECUN]
    then = trials.set_index("trial_id").loc[LECUN]
    for name in NAMES:
        for prefix in ("share", "first_layer", "verdict"):
            expected = then[f"{prefix}_{name}_init"]
            measured = now.trials[f"{prefix}_{name}_init"].iloc[0]
            assert measured == expected or (measured != measured and expected != expected)
    columns = [f"score_{name}" for name in NAMES]
    at_first = layers[(layers["trial_id"] == LECUN) & (layers["step"] == 0)][columns]
    trained = now.layers[now.layers["step"] == 0][columns]
    numpy.testing.assert_allclose(trained, at_first, rtol=1e-3, atol=1e-6)
    assert (now.trials["criteria_version"] == VERSION).all()
    assert judge_tables(now.trials, now.layers)[0] is now.trials


def test_tables_of_this_version_are_left_as_they_are(old):
    judged = judge_tables(*old)
    again = judge_tables(*judged)
    assert again[0] is judged[0]
    assert again[1] is judged[1]


def test_only_trials_of_an_old_version_are_judged_anew(old):
    trials, layers = judge_tables(*old)
    is_lecun = trials["trial_id"] == LECUN
    mixed = trials.assign(
        criteria_version=numpy.where(is_lecun, VERSION, 2.0),
        share_moments_init=numpy.where(is_lecun, 0.123, 0.456),
    )
    again, scored = judge_tables(mixed, layers.assign(score_moments=7.0))
    assert (again["criteria_version"] == VERSION).all()
    expected = trials["share_moments_init"].where(~is_lecun, 0.123)
    assert again["share_moments_init"].tolist() == expected.tolist()
    untouched = scored["trial_id"] == LECUN
    assert (scored.loc[untouched, "score_moments"] == 7.0).all()
    assert (scored.loc[~untouched, "score_moments"] != 7.0).any()


def test_a_trial_without_layers_is_not_judged(old):
    trials, layers = old
    extra = trials.head(1).assign(trial_id="failed", status="failed")
    judged, _ = judge_tables(pandas.concat([trials, extra], ignore_index=True), layers)
    row = judged.set_index("trial_id").loc["failed"]
    assert pandas.isna(row["criteria_version"])
    assert pandas.isna(row["verdict_moments_init"])
    nothing = judge_tables(trials, layers.head(0))
    assert nothing[0] is trials


def test_a_report_judges_old_tables(old):
    trials, layers = old
    # Columns between `ended` and the first one of `spec.` are the axes.
    trials.insert(5, "ended", None)
    trials.insert(trials.columns.get_loc("train_loss"), "spec.depth", trials["depth"])
    nothing = pandas.DataFrame({"trial_id": []})
    evidence = gather(Tables(trials, nothing, layers, nothing))
    assert evidence.finished["share_moments_init"].notna().all()
    assert "score_moments" in evidence.layers


def test_collected_tables_of_old_trials_are_judged(old, tmp_path, capsys):
    trials, layers = old
    row = trials.set_index("trial_id").loc[LECUN]
    store = Store(tmp_path)
    identity = {"trial_id": LECUN, "cell_id": row["cell_id"], "seed": 0, "rules_version": 1}
    store.begin(identity | {"axes": {"depth": 3}, "spec": {}})
    store.finish(
        LECUN,
        summary={"steps": 24.0, "epochs": 1.0, "verdict_input": "fails"},
        curves={"step": [0]},
        layers=layers[layers["trial_id"] == LECUN].drop(columns="trial_id"),
    )
    assert selu_collect.main(["--runs", str(tmp_path)]) == 0
    collected = pandas.read_parquet(tmp_path / "tables" / "trials.parquet").iloc[0]
    expected = judge_tables(*old)[0].set_index("trial_id").loc[LECUN]
    assert collected["criteria_version"] == VERSION
    assert collected["share_contraction_end"] == expected["share_contraction_end"]
    assert "verdict_input" not in collected.index
    assert "score_units" in pandas.read_parquet(tmp_path / "tables" / "layers.parquet")
    assert "trials.parquet: 1 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({"status": "done", "steps": 24.0, "epochs": 2.0, "budget.steps": math.nan}, 24),
        ({"status": "diverged", "steps": 7.0, "epochs": 0.5, "budget.steps": 24.0}, 24),
        ({"status": "diverged", "steps": 7.0, "epochs": 0.5, "budget.epochs": 3.0}, 42),
        ({"status": "diverged", "steps": 7.0, "epochs": 0.5}, math.nan),
        ({"status": "diverged", "steps": 0.0, "epochs": 0.0, "budget.epochs": 3.0}, math.nan),
    ],
)
def test_steps_of_a_budget(columns, expected):
    assert planned_steps(pandas.DataFrame([columns]))[0] == pytest.approx(expected, nan_ok=True)


def test_a_pack_is_graded_trial_by_trial(old):
    trials, layers = judge_tables(*old)
    ids = trials["trial_id"].tolist()
    results = [
        Result(None, {}, {}, dict(old[1][old[1]["trial_id"] == trial_id])) for trial_id in ids
    ]
    add_verdicts(results, 24)
    for result, row in zip(results, trials.to_dict("records"), strict=True):
        assert result.summary["verdict_sentence"] == row["verdict_sentence"]
        assert result.summary["share_moments_init"] == row["share_moments_init"]
        assert len(result.layers["score_units"]) == len(result.layers["layer"])


def test_a_trial_without_probes_is_unknown(old):
    empty = {name: values[:0] for name, values in dict(old[1]).items()}
    result = Result(None, {}, {}, empty)
    add_verdicts([result], 24)
    assert result.summary["verdict_moments_init"] == "unknown"
    assert "nothing was probed" in result.summary["verdict_sentence"]


def test_a_network_at_one_probe_has_shares_and_a_sentence(old):
    layers = old[1]
    table = layers[(layers["trial_id"] == LECUN) & (layers["step"] == 0)]
    summary = judge_network(table)
    assert summary["share_gradients"] == 1
    assert summary["verdict_weights"] == "fails"
    assert summary["criteria_version"] == VERSION
    assert "initialisation" not in summary["verdict_sentence"]
    assert judge_network(table.head(0))["verdict_weights"] == "unknown"


def test_score_columns_have_the_names_of_all_conditions(old):
    assert list(score_columns(old[1])) == [f"score_{name}" for name in NAMES]
