"""Gathered trials: scores, chance, roles in a search, cells, the best cell, and bad input."""

from __future__ import annotations

import dataclasses
import math
import re

import pandas
import pyarrow
import pytest

from harness.errors import RequestError
from harness.reports import comparisons, report, tuning_chapters
from harness.reports.claim_texts import FORMATS
from harness.reports.claims.claim import NOT_ENOUGH_DATA, decide_all
from harness.reports.evidence import gather
from harness.store.tables import Tables

HOSTILE = "<script>alert('x')</script>"


def test_a_diverged_trial_scores_chance_by_its_own_classes(sweep):
    sweep.add([0], status="diverged", dataset="folder", classes=4.0, test_accuracy=math.nan)
    assert sweep.evidence().finished["score"].tolist() == [0.25]


def test_a_diverged_trial_takes_the_classes_of_its_data_set(sweep):
    sweep.add([0], dataset="folder", classes=5.0)
    sweep.add([1], dataset="folder", classes=math.nan, status="diverged")
    assert sweep.evidence().finished["score"].tolist() == [0.95, 0.2]


def test_a_diverged_trial_of_unknown_classes_has_no_score_and_neither_has_its_cell(sweep):
    sweep.add([0, 1], dataset="folder", classes=math.nan)
    sweep.add([2], dataset="folder", classes=math.nan, status="diverged")
    sweep.add(dataset="folder", classes=math.nan, activation="relu")
    evidence = sweep.evidence()
    assert len(evidence.unscored) == 1
    cell = evidence.cells.loc[evidence.unscored["cell_id"].iloc[0]]
    assert math.isnan(cell["score"])
    assert not cell["complete"]
    assert not len(comparisons.paired(evidence))


def test_the_interval_of_a_cell_counts_the_test_set(sweep):
    sweep.add(range(3), test_accuracy=1.0, test_samples=360.0)
    cell = sweep.evidence().cells.iloc[0]
    assert cell["score_high"] == 1.0
    assert 0.98 < cell["score_low"] < 1.0
    assert cell["normalised_score"] == 1.0
    assert cell["majority_share"] == 0.1


def test_equal_seeds_on_a_test_set_of_unknown_size_have_no_interval(sweep):
    sweep.add(range(3), test_accuracy=0.9, test_samples=math.nan)
    assert math.isnan(sweep.evidence().cells.iloc[0]["score_low"])


def test_the_best_cell_counts_diverged_seeds(sweep):
    sweep.add(range(2), validation_accuracy=0.97)
    sweep.add([2], status="diverged", validation_accuracy=math.nan)
    sweep.add(range(3), activation="relu", validation_accuracy=0.9)
    evidence = sweep.evidence()
    assert evidence.cells.loc[evidence.best_cell, "activation"] == "relu"


def test_tables_without_new_columns_are_read(sweep):
    tables = sweep.add().tables()
    names = ["search_role", "search", "search_draw", "test_samples", "majority_share", "classes"]
    evidence = gather(dataclasses.replace(tables, trials=tables.trials.drop(columns=names)))
    assert evidence.finished["score"].tolist() == [0.95] * 5
    assert evidence.finished["chance"].tolist() == [0.1] * 5
    assert not evidence.tuned


def add_search(sweep, confirmed: bool = True):
    """Two arms, three rates, two tuning seeds, and five confirmed seeds at each arm's best."""
    for activation, best in (("selu", 0.01), ("relu", 0.1)):
        arm = {"activation": activation, "search": activation}
        for draw, rate in enumerate((0.001, 0.01, 0.1)):
            sweep.add(
                [1000000, 1000001],
                **arm,
                learning_rate=rate,
                search_role="tuning",
                search_draw=float(draw),
                validation_accuracy=0.9 if rate == best else 0.5,
                test_accuracy=0.99,
            )
        if confirmed:
            sweep.add(**arm, learning_rate=best, search_role="confirmation")
    return sweep


def test_tuning_trials_are_no_results(sweep):
    evidence = add_search(sweep).evidence()
    assert len(evidence.finished) == 10
    assert len(evidence.finished_with_tuning) == 22
    assert evidence.cells["score"].tolist() == [0.95, 0.95]
    assert evidence.cells["seeds"].tolist() == [5, 5]
    assert set(evidence.cells["learning_rates"]) == {"tuned"}


def test_a_tuned_rate_is_no_context_of_a_comparison(sweep):
    evidence = add_search(sweep).evidence()
    assert evidence.varied == ("activation",)
    table = comparisons.paired(evidence)
    assert table["n"].tolist() == [5]
    assert table["learning_rates"].tolist() == ["tuned"]
    assert table["context"].tolist() == ["tuned learning rate"]


def test_fixed_and_tuned_comparisons_stand_apart(sweep):
    add_search(sweep).add(activation=["selu", "relu"], learning_rate=0.05, test_accuracy=0.8)
    table = comparisons.paired(sweep.evidence())
    assert set(table["learning_rates"]) == {"fixed", "tuned"}
    by_rates = table.set_index("learning_rates")["context"]
    assert by_rates["tuned"] == "tuned learning rate"
    assert by_rates["fixed"] == "learning_rate 0.05"
    assert len(comparisons.summaries(table)) == 2


def test_a_rate_that_is_chosen_at_the_end_of_the_range_is_told(sweep):
    chapter = tuning_chapters.tuning_curves(add_search(sweep).evidence())
    curves = chapter.tables["tuning_curves"]
    assert curves.groupby("arm")["chosen"].sum().tolist() == [1, 1]
    largest = curves["learning_rate"] == curves["learning_rate"].max()
    assert curves["arm"][curves["chosen"] & largest].tolist() == ["relu"]


def test_normalised_differences_average_data_sets(sweep):
    for dataset, classes in (("digits", 10.0), ("folder", 2.0)):
        sweep.add(dataset=dataset, classes=classes, test_accuracy=sweep.near(0.9))
        sweep.add(
            dataset=dataset, classes=classes, activation="relu", test_accuracy=sweep.near(0.8)
        )
    row = comparisons.summaries(comparisons.paired(sweep.evidence())).iloc[0]
    assert row["difference"] == pytest.approx(-0.1, abs=0.005)
    assert row["normalised"] == pytest.approx(-(0.1 / 0.9 + 0.1 / 0.5) / 2, abs=0.01)


def test_an_empty_store_says_so():
    empty = pandas.DataFrame()
    with pytest.raises(RequestError, match="no trials to report on; train some"):
        gather(Tables(empty, empty, empty, pyarrow.table({})))


def test_trials_that_did_not_finish_are_counted(sweep):
    sweep.add([0, 1], status="failed").add([2], status="running")
    with pytest.raises(RequestError, match="no finished trial to report on: 2 failed, 1 running"):
        sweep.evidence()


def test_a_search_that_only_tuned_says_how_to_go_on(sweep):
    with pytest.raises(RequestError, match="all 12 trials tune a search; run the same command"):
        add_search(sweep, confirmed=False).evidence()


@pytest.fixture(params=["one trial", "one arm", "half finished", "all diverged", "untrained"])
def poor_evidence(request, sweep):
    """Evidence that lacks much of what a report shows."""
    settings = {
        "one trial": {"seeds": [0]},
        "one arm": {},
        "half finished": {"depth": [4, 8], "share_moments_init": 0.9},
        "all diverged": {"status": "diverged", "test_accuracy": math.nan, "steps": 3.0},
        "untrained": {"steps": 0.0, "test_accuracy": math.nan},
    }[request.param]
    sweep.add(**settings)
    if request.param == "half finished":
        for trial in sweep.trials[5:8]:
            trial["status"] = "running"
            trial["test_accuracy"] = math.nan
    return sweep.evidence()


def test_poor_evidence_is_told_without_numbers_that_it_lacks(poor_evidence):
    words = re.findall(r"[a-z]+", report.markdown(poor_evidence).lower())
    assert "nan" not in words
    decided = decide_all(poor_evidence)
    for text in FORMATS.values():
        assert NOT_ENOUGH_DATA in text(decided).lower()


def test_a_half_finished_sweep_has_a_whole_report(sweep, tmp_path):
    grades = {"share_moments_init": 0.9, "first_layer_moments_init": math.nan}
    sweep.add(depth=[4, 8], **grades)
    sweep.add(range(2), activation="relu").add([2, 3], activation="relu", status="running")
    page = report.write(sweep.evidence(), tmp_path, "title").read_text(encoding="utf-8")
    assert "Claims" in page
    assert "2/5" in page


def test_hostile_names_are_escaped_in_every_chapter(sweep, tmp_path):
    for name in ("selu", HOSTILE):
        for repair in ("none", "lsuv"):
            sweep.add(activation=name, repair=repair, depth=[4, 8], learning_rate=[0.01, 0.1])
    for trial in sweep.trials[::3]:
        trial["train_accuracy"] = 0.1
        trial["search_role"] = "tuning"
        trial["search"] = HOSTILE
        trial["stability_margin_init"] = 0.1
    page = report.write(sweep.evidence(), tmp_path, HOSTILE).read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
