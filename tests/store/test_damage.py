"""One damaged trial costs no other: it is set aside, named, and not counted as done."""

import json
import os
import shutil

import pandas
import pytest

from harness.commands import selu_collect, selu_status
from harness.errors import RequestError
from harness.store import verification
from harness.store.status import survey
from harness.store.tables import collect
from harness.store.trials import Store

CURVES = {"step": [0, 2], "validation_accuracy": [0.1, 0.5]}
LAYERS = {"step": [0, 2], "phase": ["init", "end"], "layer": [1, 1], "activation_mean": [0.0, 0.1]}
FILES = ("trial.json", "status.json", "summary.json", "curves.parquet", "layers.parquet")


def finish(store, number):
    trial_id = f"{number:016x}"
    axes, spec = {"depth": number}, {"depth": number}
    store.begin(
        {
            "trial_id": trial_id,
            "cell_id": "cell",
            "rules_version": 1,
            "seed": number,
            "axes": axes,
            "spec": spec,
        }
    )
    store.finish(trial_id, summary={"test_accuracy": 0.5}, curves=CURVES, layers=LAYERS)
    return trial_id


@pytest.fixture
def store(tmp_path):
    """Eight finished trials, read by a store that has not seen them before."""
    for number in range(8):
        finish(Store(tmp_path, sync=False), number)
    return Store(tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path):
    """Other bytes of the same length, ends kept: no length and no magic number tells."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    path.write_bytes(content)


DAMAGES = {
    "cut": cut,
    "emptied": lambda path: path.write_bytes(b""),
    "overwritten": overwrite,
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_trial_is_set_aside_and_no_other(store, name, how):
    whole = collect(store)
    damaged, *others = store.trial_ids()
    DAMAGES[how](store.folder(damaged) / name)
    store = Store(store.runs)
    assert not store.is_done(damaged)
    assert all(store.is_done(trial_id) for trial_id in others)
    tables = collect(store)
    assert list(tables.set_aside) == [damaged]
    assert str(store.folder(damaged) / name) in tables.set_aside[damaged]
    assert "\n" not in tables.set_aside[damaged]
    for table in ("trials", "curves", "layers"):
        before = getattr(whole, table)
        kept = before[before["trial_id"] != damaged].reset_index(drop=True)
        pandas.testing.assert_frame_equal(getattr(tables, table), kept)
    state = survey(store)
    assert list(state.damaged) == [damaged]
    assert state.counts == {"done": 7}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", sorted(set(DAMAGES) - {"overwritten"}))
def test_damage_shows_where_the_marker_vouches_for_nothing(store, name, how):
    """Earlier versions left the marker empty."""
    damaged, sound, *_ = store.trial_ids()
    for trial_id in (damaged, sound):
        (store.folder(trial_id) / "done").write_bytes(b"")
    DAMAGES[how](store.folder(damaged) / name)
    assert not store.is_done(damaged)
    assert store.is_done(sound)
    assert list(collect(store).set_aside) == [damaged]


def test_a_table_damaged_within_is_set_aside_where_the_marker_vouches_for_nothing(store):
    trial_id, *others = store.trial_ids()
    (store.folder(trial_id) / "done").write_bytes(b"")
    path = store.folder(trial_id) / "layers.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) - 12) + content[-8:])
    tables = collect(store)
    assert list(tables.set_aside) == [trial_id]
    assert sorted(set(tables.curves["trial_id"])) == others
    assert list(verification.problems(store)[1]) == store.trial_ids()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"sha256": {}}', b"\xff"])
def test_a_torn_marker_does_not_count_as_done(store, content):
    trial_id = store.trial_ids()[0]
    (store.folder(trial_id) / "done").write_bytes(content)
    assert not store.is_done(trial_id)
    assert list(survey(store).damaged) == [trial_id]


def test_a_copied_folder_counts_once_and_is_named(store):
    original = store.trial_ids()[0]
    shutil.copytree(store.folder(original), store.folder(f"{original} copy"))
    tables = collect(store)
    assert len(tables.trials) == 8
    assert list(tables.set_aside) == [f"{original} copy"]
    assert f"holds trial {original} under another name" in tables.set_aside[f"{original} copy"]
    assert store.is_done(original)


def test_a_folder_copied_over_another_trial_is_not_that_trial(store):
    first, second, *_ = store.trial_ids()
    shutil.rmtree(store.folder(second))
    shutil.copytree(store.folder(first), store.folder(second))
    assert not store.is_done(second)
    assert list(survey(store).damaged) == [second]


def test_a_damaged_trial_may_be_claimed_and_trained_again(store):
    trial_id = store.trial_ids()[0]
    cut(store.folder(trial_id) / "curves.parquet")
    store = Store(store.runs)
    with store.claim(trial_id) as claim:
        assert claim is not None
        finish(store, 0)
    assert store.is_done(trial_id)
    assert Store(store.runs).read(trial_id).finished


def test_what_was_found_whole_is_not_read_again_until_it_is_written_anew(store, monkeypatch):
    trial_id = store.trial_ids()[0]
    assert store.is_done(trial_id)
    from harness.store import wholeness

    monkeypatch.setattr(wholeness, "check", lambda *_, **__: pytest.fail("read again"))
    assert store.is_done(trial_id)
    os.replace(store.folder(trial_id) / "done", store.folder(trial_id) / "gone")
    assert not store.is_done(trial_id)


def test_commands_name_each_damaged_trial_once(store, capsys):
    damaged = store.trial_ids()[:2]
    cut(store.folder(damaged[0]) / "layers.parquet")
    cut(store.folder(damaged[1]) / "trial.json")
    assert selu_collect.main(["--runs", str(store.runs)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("set aside: ") for line in lines] == [True, True]
    assert f"{damaged[0]}/layers.parquet is damaged" in lines[0]
    assert f"{damaged[1]}/trial.json is damaged" in lines[1]
    assert len(pandas.read_parquet(store.runs / "tables" / "trials.parquet")) == 6
    assert selu_status.main(["--runs", str(store.runs), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["damaged"]) == damaged


def test_verification_names_a_trial_whose_id_is_not_that_of_its_settings(store):
    """The ids of these trials are made up."""
    sound, problems = verification.problems(store)
    assert sound == []
    assert all("trial.json describes trial" in text for text in problems.values())


def test_setting_aside_moves_the_folder_and_deletes_nothing(store):
    trial_id = store.trial_ids()[0]
    names = sorted(os.listdir(store.folder(trial_id)))
    place = verification.set_aside(store, trial_id)
    assert place == store.runs / "set_aside" / trial_id
    assert sorted({*os.listdir(place)} - {"lock"}) == names
    finish(store, 0)
    assert verification.set_aside(store, trial_id).name == f"{trial_id}.2"
    assert len(store.trial_ids()) == 7


def test_a_trial_that_is_being_trained_is_not_set_aside(store):
    trial_id = store.trial_ids()[0]
    (store.folder(trial_id) / "done").unlink()
    with store.claim(trial_id):
        assert verification.set_aside(store, trial_id) is None
    assert store.folder(trial_id).is_dir()


def test_a_folder_that_is_gone_was_repaired_by_another(store):
    trial_id = store.trial_ids()[0]
    verification.set_aside(store, trial_id)
    with pytest.raises(verification.RepairedMeanwhile):
        verification.set_aside(store, trial_id)
    assert not store.folder(trial_id).exists()


def test_a_store_reads_damage_as_a_request_error(store):
    trial_id = store.trial_ids()[0]
    (store.folder(trial_id) / "summary.json").write_text("[" * 100_000)
    with pytest.raises(RequestError, match="summary.json is damaged"):
        store.read(trial_id)


def test_status_is_shown_again_while_it_is_watched(store, monkeypatch, capsys):
    pages = []

    def sleep(seconds):
        pages.append(seconds)
        if len(pages) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(selu_status.time, "sleep", sleep)
    assert selu_status.main(["--runs", str(store.runs), "--watch", "0.5"]) == 130
    assert pages == [0.5, 0.5, 0.5]
    assert capsys.readouterr().out.count("8 trials: 8 done") == 3


@pytest.mark.parametrize("seconds", ["often", "0", "-1", "nan", "inf"])
def test_a_watch_needs_a_number_of_seconds(store, capsys, seconds):
    with pytest.raises(SystemExit) as refused:
        selu_status.main(["--runs", str(store.runs), f"--watch={seconds}"])
    assert refused.value.code == 2
    assert f"{seconds}: expected a number of seconds" in capsys.readouterr().err
