"""A damaged trial does not count as done: the next sweep names it once and trains it again."""

import shutil

import pandas
import pytest

from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 3,
    "budget.evaluations": 1,
    "budget.probes": 2,
    "seeds": 3,
}
# Columns that say when and beside what a trial was trained.
CIRCUMSTANCES = ["started", "ended", "seconds", "pack_id", "pack_size"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "name", ["trial.json", "summary.json", "curves.parquet", "layers.parquet", "done"]
)
def test_a_damaged_trial_is_trained_again_and_no_other(make_config, capsys, name):
    config = make_config(**TINY)
    sweep.prefetch([config])
    whole = collect(Store(config.runs))
    damaged, *others = Store(config.runs).trial_ids()
    ended = {trial_id: Store(config.runs).read(trial_id).ended for trial_id in others}
    path = Store(config.runs).folder(damaged) / name
    if name == "trial.json":
        path.unlink()
    else:
        cut(path)
    capsys.readouterr()
    score = sweep.run_cell(config)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("set aside: ")] == [
        line for line in lines if f"{damaged}/{name} is " in line
    ]
    assert len([line for line in lines if damaged in line]) == 1
    assert "3 trials: 2 done, 0 failed, 1 to run, in 1 pack" in lines
    store = Store(config.runs)
    assert {trial_id: store.read(trial_id).ended for trial_id in others} == ended
    again = collect(store)
    assert again.set_aside == {}
    pandas.testing.assert_frame_equal(
        again.trials.drop(columns=CIRCUMSTANCES), whole.trials.drop(columns=CIRCUMSTANCES)
    )
    assert score == pytest.approx(whole.trials["validation_accuracy"].mean())


def test_a_copied_folder_is_neither_trained_nor_counted(make_config):
    config = make_config(**TINY)
    sweep.prefetch([config])
    store = Store(config.runs)
    original = store.trial_ids()[0]
    shutil.copytree(store.folder(original), store.folder("copy"))
    sweep.prefetch([config])
    assert sorted(collect(store).set_aside) == ["copy"]
    assert len(collect(store).trials) == 3
