"""Searches: tuned on seeds of their own, confirmed on the cell's, recorded, and resumed."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from harness import train
from harness.commands import selu_collect, selu_status, selu_sync, selu_verify
from harness.configuration.schema import SearchConfig
from harness.configuration.trial import trials
from harness.configuration.validation import FIRST_TUNING_SEED, validate
from harness.errors import NotStored, RequestError, TrialsFailed
from harness.store import searches
from harness.store.searches import DrawRecord, SearchRecord
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import attempts, cells, command_line, runner, search, sweep

TINY = {
    "depth": 1,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 2,
    "budget.evaluations": 1,
    "budget.probes": 1,
    "probe.samples": 8,
    "seeds": 2,
}
SEARCH = {"search": "learning_rate", "search.draws": 3, "search.seeds": 2}
# At the largest of these rates every network diverges.
DIVERGING = SEARCH | {"search.high": 1e30}


@pytest.fixture
def searched(make_config):
    """Makes a request of the smallest kind that asks for a search."""
    return lambda **changes: make_config(**TINY | SEARCH | changes)


def record_of(config) -> SearchRecord:
    """Returns the only record of a search."""
    (record,), _ = searches.read_all(Path(config.runs))
    return record


def done(config) -> set[str]:
    store = Store(config.runs)
    return {trial_id for trial_id in store.trial_ids() if store.is_done(trial_id)}


def counting(monkeypatch) -> list[list[str]]:
    """Returns a list that receives the trial ids of every pack that is trained."""
    packs: list[list[str]] = []

    def run_pack(jobs, *rest):
        packs.append([job.trial_id for job in jobs])
        return runner.run_pack(jobs, *rest)

    monkeypatch.setattr(attempts, "run_pack", run_pack)
    return packs


# Draws


def test_rates_are_the_configured_one_and_log_spaced_ones():
    settings = SearchConfig(name="learning_rate", draws=5, low=1e-3, high=1.0, seeds=1)
    assert search.learning_rates(settings, 0.05) == {0: 0.05, 1: 0.001, 2: 0.01, 3: 0.1, 4: 1.0}


def test_a_rate_that_repeats_the_configured_one_changes_no_other_number():
    settings = SearchConfig(name="learning_rate", draws=5, low=1e-3, high=1.0, seeds=1)
    assert search.learning_rates(settings, 0.01) == {0: 0.01, 1: 0.001, 3: 0.1, 4: 1.0}


def test_two_draws_are_the_configured_rate_and_the_middle_of_the_range():
    settings = SearchConfig(name="learning_rate", draws=2, low=1e-3, high=0.1, seeds=1)
    assert search.learning_rates(settings, 0.5) == {0: 0.5, 1: 0.01}


def test_every_arm_has_the_same_draws_on_the_same_seeds(searched):
    changes = ({}, {"activation": "relu"}, {"normalization": "batch"}, {"depth": 3})
    drawn = []
    for change in changes:
        asked = search.search_of(cells.cell(searched(**change)))
        rates = [draw.learning_rate for draw in asked.draws]
        seeds = [job.trial.seed for job in asked.jobs]
        drawn.append((rates, seeds))
    assert all(other == drawn[0] for other in drawn)
    assert set(drawn[0][1]) == {FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1}


def test_draws_are_ordinary_trials(searched, make_config):
    asked = search.search_of(cells.cell(searched()))
    rate = asked.draws[2].learning_rate
    seeds = {"seeds": [FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1]}
    ordinary = make_config(**TINY | {"optimizer.learning_rate": rate} | seeds)
    ids = [trial.trial_id for trial in trials(ordinary)]
    assert [job.trial_id for job in asked.draws[2].jobs] == ids


def test_a_search_changes_no_id_of_its_cell(searched, make_config):
    ids = [trial.trial_id for trial in trials(searched())]
    assert ids == [trial.trial_id for trial in trials(make_config(**TINY))]


@pytest.mark.parametrize(
    "change", [{"search.draws": 4}, {"search.high": 0.2}, {"search.seeds": 1}, {"width": 5}]
)
def test_the_key_tells_searches_apart(searched, change):
    keys = {search.search_of(cells.cell(config)).key for config in (searched(), searched(**change))}
    assert len(keys) == 2


def test_the_key_does_not_depend_on_the_seeds_of_the_cell(searched):
    few, many = (search.search_of(cells.cell(searched(seeds=count))) for count in (2, 9))
    assert few.key == many.key


# The choice


def draw(number: int, *scores: float, diverged: int = 0) -> DrawRecord:
    names = tuple(str(index) for index in range(len(scores)))
    return DrawRecord(number, 0.1 / (number + 1), names, scores, diverged)


@pytest.mark.parametrize(
    "draws, best",
    [
        ([draw(0, 0.5, 0.7), draw(1, 0.9, 0.4), draw(2, 0.6, 0.5)], 1),
        ([draw(0, 0.6), draw(1, 0.6)], 1),  # Of equal ones the smaller rate.
        ([draw(0, 0.1, diverged=1), draw(1, 0.08)], 1),  # Chance is better than the slow one.
        ([draw(0, 0.9, 0.1, diverged=1), draw(1, 0.4, 0.4)], 0),  # One seed trained.
        ([draw(0, 0.1, diverged=1), draw(1, 0.1, diverged=1)], 1),
    ],
    ids=["mean", "tie", "diverged", "half diverged", "all diverged"],
)
def test_the_best_mean_is_chosen_and_a_diverging_rate_never(draws, best):
    assert search.best_draw(draws).number == best


# Real runs


def test_a_search_is_tuned_then_confirmed_and_recorded(searched, capsys):
    config = searched(**DIVERGING)
    score = sweep.run_cell(config)
    record = record_of(config)
    store = Store(config.runs)
    assert [draw.number for draw in record.draws] == [0, 1, 2]
    assert record.search == {
        "name": "learning_rate",
        "draws": 3,
        "low": 0.0001,
        "high": 1e30,
        "seeds": 2,
    }
    assert record.axes["activation"] == "selu"
    assert record.spec == trials(config)[0].spec
    assert record.tuning_seeds == (FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1)
    assert record.draws[2].diverged == 2
    assert record.draws[2].scores == (0.1, 0.1)
    assert record.chosen in (0, 1)
    for drawn in record.draws[:2]:
        summaries = [store.read(trial_id).summary for trial_id in drawn.trials]
        measured = [summary["validation_accuracy"] for summary in summaries]
        assert list(drawn.scores) == measured
        assert drawn.score == pytest.approx(sum(measured) / 2)
    assert record.chosen_draw.score == max(drawn.score for drawn in record.draws[:2])
    confirmed = [store.read(trial_id) for trial_id in record.confirmation]
    assert sorted(trial.seed for trial in confirmed) == [0, 1]
    rates = {trial.spec["optimizer"]["learning_rate"] for trial in confirmed}
    assert rates == {record.chosen_draw.learning_rate}
    accuracies = [trial.summary["validation_accuracy"] for trial in confirmed]
    assert score == pytest.approx(sum(accuracies) / 2)
    assert len(done(config)) == 8
    said = capsys.readouterr().err
    assert "tuning: 6 trials of 1 cell" in said
    assert "confirming: 2 trials" in said
    assert f"{record.chosen_draw.learning_rate:g}" in said


def test_cells_and_draws_share_packs(searched, monkeypatch):
    packs = counting(monkeypatch)
    sweep.prefetch([searched(), searched(activation="relu")])
    assert [len(pack) for pack in packs] == [12, 4]


def test_a_search_goes_on_where_it_stopped_and_ends_the_same(searched, monkeypatch):
    config = searched()
    sweep.run_cell(config)
    record = record_of(config)
    file = Path(config.runs) / "searches" / f"{record.key}.json"
    before = file.read_bytes()
    tuning, confirmation = record.draws[1].trials[0], record.confirmation[1]
    for trial_id in (tuning, confirmation):
        shutil.rmtree(Store(config.runs).folder(trial_id))
    packs = counting(monkeypatch)
    sweep.prefetch([config])
    assert packs == [[tuning], [confirmation]]
    assert file.read_bytes() == before
    sweep.prefetch([config])
    assert len(packs) == 2


def test_a_search_that_was_interrupted_while_tuning_knows_its_trials(searched, monkeypatch):
    config = searched()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as first_run:
        first_run.setattr(attempts, "run_pack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep.prefetch([config])
    assert record_of(config).chosen is None
    assert set(collect(Store(config.runs)).trials["search_role"]) == {"tuning"}
    sweep.run_cell(config)
    assert record_of(config).chosen is not None


def test_more_seeds_join_the_confirmation(searched):
    for seeds in ([0, 1], [1, 2]):
        sweep.run_cell(searched(seeds=seeds))
    record = record_of(searched())
    store = Store(searched().runs)
    assert sorted(store.read(trial_id).seed for trial_id in record.confirmation) == [0, 1, 2]


def test_seeds_that_were_trained_without_the_search_join_the_confirmation(searched, make_config):
    config = searched(seeds=[0])
    sweep.run_cell(config)
    rate = record_of(config).chosen_draw.learning_rate
    sweep.run_cell(make_config(**TINY | {"optimizer.learning_rate": rate, "seeds": [0, 1]}))
    sweep.run_cell(searched(seeds=[0, 1]))
    assert len(record_of(config).confirmation) == 2


def test_a_failed_tuning_trial_leaves_its_cell_unconfirmed_and_others_go_on(
    searched, monkeypatch, capsys
):
    good, bad = searched(), searched(activation="relu")

    def picky(jobs, *rest):
        for job in jobs:
            spec = job.trial.spec
            if spec["activation"]["name"] == "relu" and spec["optimizer"]["learning_rate"] == 0.3:
                raise ValueError("not at this rate")
        return runner.run_pack(jobs, *rest)

    with monkeypatch.context() as failing:
        failing.setattr(attempts, "run_pack", picky)
        sweep.prefetch([good, bad])
        assert "not confirmed, as tuning trials failed: 1 of 2 cells" in capsys.readouterr().err
        with pytest.raises(TrialsFailed, match="not at this rate") as failure:
            sweep.run_cell(bad)
        assert len(failure.value.failures) == 2
    assert len(done(good)) == 6 + 2 + 4
    assert 0 < sweep.run_cell(good) < 1
    sweep.prefetch([bad])
    assert 0 < sweep.run_cell(bad) < 1


def test_cells_without_a_search_train_beside(searched, make_config):
    plain = make_config(**TINY | {"activation": "relu"})
    sweep.prefetch([plain, searched()])
    assert len(done(plain)) == 2 + 6 + 2
    roles = collect(Store(plain.runs)).trials.groupby("activation")["search_role"].agg(set)
    assert roles.to_dict() == {"relu": {""}, "selu": {"tuning", "confirmation"}}


def test_a_record_that_cannot_be_written_stops_the_search_before_it_trains(searched):
    config = searched()
    Path(config.runs).mkdir()
    (Path(config.runs) / "searches").write_text("in the way")
    with pytest.raises(NotStored, match="searches"):
        sweep.prefetch([config])
    assert done(config) == set()


# Requests


@pytest.mark.parametrize(
    "change, message",
    [
        ({"search.draws": 1}, "search.draws=1: expected an integer of at least 2"),
        ({"search.low": 0.0}, "expected 0 < search.low < search.high"),
        ({"search.low": 0.5}, "search.low=0.5 and search.high=0.3"),
        ({"search.high": math.inf}, "expected 0 < search.low < search.high"),
        ({"search.high": math.nan}, "expected 0 < search.low < search.high"),
        ({"search.seeds": 0}, "search.seeds=0: expected an integer of at least 1"),
        ({"search.draws": None}, "search.draws is missing"),
        ({"seeds": [3, FIRST_TUNING_SEED + 1]}, "is a tuning seed of search=learning_rate"),
        ({"budget.steps": 0}, "a budget of no steps has no learning_rate to search"),
    ],
    ids=str,
)
def test_an_impossible_search_is_refused_in_one_line(searched, change, message):
    with pytest.raises(RequestError, match=message) as refusal:
        validate(searched(**change))
    assert "\n" not in str(refusal.value)


def test_a_search_over_an_axis_that_an_arm_lacks_is_refused(searched, monkeypatch):
    monkeypatch.setattr("harness.configuration.validation.options", lambda group, name: ())
    with pytest.raises(RequestError, match="optimizer=momentum has no learning_rate to search"):
        validate(replace(searched()))


def test_options_of_a_search_without_a_search_are_refused(make_config):
    with pytest.raises(RequestError, match="search.draws=4: search=none takes no such option"):
        validate(make_config(**TINY | {"search.draws": 4}))


# The command


def command(monkeypatch, runs: Path, *arguments: str) -> int:
    """Runs `python -m harness.train` in this process and returns its exit code."""
    tiny = [f"{name}={'null' if value is None else value}" for name, value in TINY.items()]
    asked = ["search=learning_rate", "search.draws=2", "search.seeds=1", "tracking=none"]
    monkeypatch.setattr(sys, "argv", ["train", *arguments, *tiny, *asked, f"runs={runs}"])
    # Running sets it; so it is taken back.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    return command_line.run(train.main)


@pytest.mark.parametrize(
    "mode, phases",
    [
        (["--multirun", "activation=selu,relu"], ["tuning: 4", "confirming: 4"]),
        (
            ["--multirun", "activation=selu,relu", "hydra/launcher=basic"],
            ["tuning: 2", "confirming: 2", "tuning: 2", "confirming: 2"],
        ),
        (["activation=relu"], ["tuning: 2", "confirming: 2"]),
    ],
    ids=["packed", "basic", "single"],
)
def test_the_command_searches(monkeypatch, tmp_path, capsys, mode, phases):
    assert command(monkeypatch, tmp_path / "runs", *mode) == 0
    lines = capsys.readouterr().err.splitlines()
    said = [" ".join(line.split()[:2]) for line in lines if line.startswith(("tuning", "confirm"))]
    assert said == phases
    cells_asked = 2 if "--multirun" in mode else 1
    records, _ = searches.read_all(tmp_path / "runs")
    assert len(records) == cells_asked
    assert all(len(record.confirmation) == 2 for record in records)
    roles = collect(Store(tmp_path / "runs")).trials["search_role"].value_counts().to_dict()
    assert roles == {"tuning": 2 * cells_asked, "confirmation": 2 * cells_asked}


@pytest.mark.parametrize("mode", [[], ["--multirun"]], ids=["single", "sweep"])
def test_the_command_refuses_an_impossible_search_and_writes_nothing(
    monkeypatch, tmp_path, capsys, mode
):
    assert command(monkeypatch, tmp_path / "runs", *mode, "search.low=1") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: search.low=1")
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


# Records


def stored(runs: Path, key: str, **changes) -> SearchRecord:
    """Writes a record whose draw 0 has trial a, draw 3 trial b, and which c confirms."""
    draws = (DrawRecord(0, 0.1, ("a",), (0.4,)), DrawRecord(3, 0.2, ("b",), (0.5,)))
    record = SearchRecord(key, {}, {}, {}, (5,), draws, 3, ("c",))
    record = replace(record, **changes)
    searches.write(runs, record)
    return record


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = stored(tmp_path, "k")
    assert searches.read_all(tmp_path) == ([record], {})
    assert searches.earlier(tmp_path, "k") == record
    assert json.loads((tmp_path / "searches" / "k.json").read_text())["chosen"] == 3


def test_confirmation_goes_before_tuning_then_the_first_key(tmp_path):
    stored(tmp_path, "k2", confirmation=("c", "a"))
    stored(tmp_path, "k1")
    stored(tmp_path, "k3", chosen=None, confirmation=("d",))
    roles = searches.roles(tmp_path).of_trials
    found = {trial_id: (role.role, role.search, role.draw) for trial_id, role in roles.items()}
    assert found == {
        "a": ("confirmation", "k2", 3),
        "b": ("tuning", "k1", 3),
        "c": ("confirmation", "k1", 3),
    }
    assert searches.tags(tmp_path, "b") == {
        "search_role": "tuning",
        "search": "k1",
        "search_draw": "3",
    }
    assert searches.tags(tmp_path, "z") == {}
    assert searches.tags(tmp_path / "nowhere", "b") == {}


def test_a_torn_record_costs_no_trial_and_is_written_again(searched, monkeypatch, capsys):
    config = searched()
    sweep.prefetch([config])
    runs = Path(config.runs)
    whole = collect(Store(runs)).trials
    (path,) = (runs / "searches").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    torn = collect(Store(runs))
    assert list(torn.set_aside) == [f"searches/{path.name}"]
    assert f"{path} is damaged" in torn.set_aside[f"searches/{path.name}"]
    # What was tuned with counts as no result, though no record says so any more.
    tuned = whole["search_role"] == searches.TUNING
    assert (torn.trials["search_role"] == searches.TUNING).equals(tuned)
    trained = counting(monkeypatch)
    sweep.prefetch([config])
    assert trained == []
    again = collect(Store(runs))
    assert again.set_aside == {}
    pandas.testing.assert_frame_equal(again.trials, whole)


@pytest.mark.parametrize("main", [selu_status.main, selu_sync.main, selu_collect.main])
def test_every_command_names_a_damaged_record(searched, capsys, main):
    config = searched()
    stored(Path(config.runs), "k")
    store = Store(config.runs)
    store.check_writable()
    (store.runs / "searches" / "k.json").write_text("{")
    main(["--runs", config.runs])
    said = capsys.readouterr()
    assert (said.out + said.err).count("k.json is damaged") == 1


def test_verification_names_a_damaged_record_and_moves_it_away(tmp_path, capsys):
    stored(tmp_path, "k")
    (tmp_path / "searches" / "k.json").write_text("{")
    assert selu_verify.main(["--runs", str(tmp_path)]) == 1
    assert "k.json is damaged" in capsys.readouterr().out
    assert selu_verify.main(["--runs", str(tmp_path), "--repair"]) == 0
    assert (tmp_path / "set_aside" / "k.json").read_text() == "{"
    assert searches.read_all(tmp_path) == ([], {})


def test_a_changed_record_is_damaged(tmp_path):
    stored(tmp_path, "k")
    path = tmp_path / "searches" / "k.json"
    path.write_text(path.read_text().replace('"chosen": 3', '"chosen": 0'))
    assert (
        "its content is not what was written" in searches.read_all(tmp_path)[1]["searches/k.json"]
    )


def test_a_record_of_an_earlier_version_is_read(tmp_path):
    """It has no digest."""
    record = stored(tmp_path, "k")
    path = tmp_path / "searches" / "k.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert searches.read_all(tmp_path) == ([record], {})


def test_an_empty_store_has_the_columns_of_searches(tmp_path):
    assert set(searches.COLUMNS) <= set(collect(Store(tmp_path)).trials.columns)
