"""Files that are cut, changed, emptied or replaced are read, refused in a line, or set aside.

The long form:
    FUZZ_EXAMPLES=500 pytest -n 0 -s -m slow tests/fuzzing
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness import trained_network
from harness.commands import selu_collect, selu_report, selu_status, selu_sync, selu_verify
from harness.configuration.schema import DatasetConfig
from harness.data import datasets, idx
from harness.errors import RequestError
from harness.store import searches, tables
from harness.store.searches import DrawRecord, SearchRecord
from harness.store.trials import Store
from harness.sweeps import choices, sweep
from harness.sweeps.pack_checkpoints import PackCheckpoints
from harness.training import loop
from tests.fuzzing.damage import damaged
from tests.fuzzing.test_command_lines import EXAMPLES

SHORT, LONG = 8, int(os.environ.get("FUZZ_EXAMPLES", "500"))
COUNTS = [
    pytest.param(SHORT, id="short"),
    pytest.param(LONG, id="long", marks=pytest.mark.slow),
]
# Trained trials are behind each example, which would take the default suite half a minute.
LONG_ONLY = COUNTS[1:]
TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 4,
    "budget.evaluations": 2,
    "budget.probes": 2,
    "probe.samples": 16,
    "seeds": 2,
}


def try_damage(paths: list[Path], count: int, look: Callable[[Path, bool], str]) -> None:
    """Damages the files so often, one at a time, and fails with all the looks that went wrong.

    Args:
        paths: the files; each is whole again after every look.
        count: the number of examples.
        look: reads the file that is damaged; is told whether its content is another now, and
            returns what became of it.
    """
    contents = {path: path.read_bytes() for path in paths}
    outcomes: Counter[str] = Counter()
    failures = []

    @settings(EXAMPLES, max_examples=count, derandomize=count == SHORT)
    @given(data=st.data())
    def attempt(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(paths))
        content = data.draw(damaged(contents[path]))
        outcomes["damaged files"] += 1
        # A new inode, as a damaged file may be looked at again within one tick of the clock.
        path.unlink()
        path.write_bytes(content)
        try:
            outcomes[look(path, content != contents[path])] += 1
        except Exception:
            failures.append(f"{path.name}: {content[:300]!r}\n{traceback.format_exc()}")
        finally:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[path])

    attempt()
    print(dict(outcomes))
    assert failures == [], "\n\n".join(failures)


def refused_or_read(read: Callable[[], object]) -> str:
    """Reads; returns `refused` where that is a RequestError of one line."""
    try:
        read()
    except RequestError as error:
        message = str(error)
    else:
        return "read"
    assert len(message.splitlines()) == 1
    return "refused"


def run(main: Callable[[list[str]], int], *arguments: str) -> tuple[int, str]:
    """Runs a command; returns its exit code and its standard error."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    assert code in (0, 1, 2)
    assert "Traceback" not in errors.getvalue()
    return code, errors.getvalue()


@pytest.fixture
def store(make_config) -> Store:
    """Four trained trials, with trained weights, tables, and the record of a search."""
    config = make_config(**TINY, keep_weights="last")
    sweep.prefetch([config, make_config(**TINY, activation="relu", keep_weights="last")])
    store = Store(config.runs)
    ids = store.trial_ids()
    draws = (DrawRecord(0, 0.1, (ids[0],), (0.4,)), DrawRecord(1, 0.2, (ids[1],), (0.5,)))
    record = SearchRecord("key", {}, {}, {}, (5,), draws, 1, (ids[2],))
    searches.write(store.runs, record)
    tables.collect(store).write(store.runs / "tables")
    return store


@pytest.fixture
def survey(store) -> Callable[[], None]:
    """Runs every command that only looks at the store, at every tenth call: they take long."""
    calls = []

    def look() -> None:
        calls.append(len(calls))
        if len(calls) % 10:
            return
        run(selu_status.main, "--runs", str(store.runs))
        run(selu_status.main, "--runs", str(store.runs), "--json")
        run(selu_verify.main, "--runs", str(store.runs))
        run(selu_collect.main, "--runs", str(store.runs))

    return look


@pytest.mark.parametrize(
    "count, sealed",
    [
        pytest.param(SHORT, True, id="short"),
        pytest.param(LONG, True, id="long", marks=pytest.mark.slow),
        pytest.param(LONG, False, id="long without digests", marks=pytest.mark.slow),
    ],
)
def test_a_trial_with_a_damaged_file_costs_no_other(store, survey, count, sealed):
    """Markers of earlier versions have no digests."""
    first, *others = store.trial_ids()
    if not sealed:
        (store.folder(first) / "done").write_bytes(b"")
    names = ["trial.json", "status.json", "summary.json", "curves.parquet", "layers.parquet"]
    paths = [store.folder(first) / name for name in names]
    if sealed:
        paths.append(store.folder(first) / "done")

    def look(path: Path, is_changed: bool) -> str:
        fresh = Store(store.runs)
        collected = tables.collect(fresh)
        kept = set(collected.trials["trial_id"])
        assert set(others) <= kept
        assert kept | set(collected.set_aside) == {first, *others}
        if sealed and is_changed and path.name != "done":
            assert first in collected.set_aside
        assert all(fresh.is_done(trial_id) for trial_id in others)
        survey()
        return "set aside" if first in collected.set_aside else "read"

    try_damage(paths, count, look)


@pytest.mark.parametrize("count", LONG_ONLY)
def test_an_unfinished_trial_with_a_damaged_file_costs_no_other(store, survey, count):
    first, *others = store.trial_ids()
    (store.folder(first) / "done").unlink()
    paths = [store.folder(first) / name for name in ("trial.json", "status.json")]

    def look(path: Path, is_changed: bool) -> str:
        collected = tables.collect(Store(store.runs))
        assert set(others) <= set(collected.trials["trial_id"])
        survey()
        assert not Store(store.runs).is_done(first)
        Store(store.runs).failed_at(first)
        return "set aside" if first in collected.set_aside else "read"

    try_damage(paths, count, look)


@pytest.mark.parametrize("count", LONG_ONLY)
def test_damaged_tables_are_refused_and_collected_anew(store, count):
    whole = tables.collect(store)
    shutil.rmtree(store.runs / "tables")
    folder = store.runs / "tables"
    paths = whole.write(folder)

    def look(path: Path, is_changed: bool) -> str:
        collected = tables.collect(Store(store.runs))
        for name in ("trials", "curves", "layers"):
            pandas.testing.assert_frame_equal(getattr(collected, name), getattr(whole, name))
        assert collected.histograms.equals(whole.histograms)
        outcome = refused_or_read(lambda: tables.read(folder))
        if outcome == "read":
            same = tables.read(folder)
            pandas.testing.assert_frame_equal(same.layers, whole.layers)
        else:
            code, errors = run(selu_report.main, "--tables", str(folder), "--claims")
            assert code == 2
            assert errors.count("\n") == 1
        return outcome

    try_damage(paths, count, look)


@pytest.mark.parametrize("count", LONG_ONLY)
def test_a_damaged_record_of_a_search_is_set_aside(store, survey, count):
    (path,) = (store.runs / "searches").iterdir()
    ids = store.trial_ids()

    def look(path: Path, is_changed: bool) -> str:
        collected = tables.collect(Store(store.runs))
        assert list(collected.trials["trial_id"]) == ids
        assert searches.earlier(store.runs, "key") is None or not collected.set_aside
        survey()
        return "set aside" if collected.set_aside else "read"

    try_damage([path], count, look)


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_weights_are_refused(store, count):
    folder = store.folder(store.trial_ids()[0])
    done = folder / "done"

    def look(path: Path, is_changed: bool) -> str:
        outcome = refused_or_read(lambda: trained_network(folder))
        assert outcome == "refused" or not is_changed or path == done
        return outcome

    try_damage([folder / "weights.safetensors", done], count, look)


@pytest.mark.parametrize("count", LONG_ONLY)
def test_damaged_checkpoints_are_refused_and_their_trials_start_again(
    make_config, monkeypatch, count
):
    config = make_config(**TINY | {"checkpoint_minutes": 1e-9})
    ordinary = loop.train

    def stopped(*rest):
        for number, event in enumerate(ordinary(*rest)):
            if number == 4:
                raise KeyboardInterrupt
            yield event

    monkeypatch.setattr("harness.sweeps.runner.train", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep.prefetch([config])
    monkeypatch.undo()
    checkpoints = PackCheckpoints(Store(config.runs).runs)
    (saved,) = checkpoints.saved()
    trials = list(saved.trials)

    def look(path: Path, is_changed: bool) -> str:
        checkpoints.clean(lambda trial_id: False)
        found = checkpoints.find(trials)
        for left in checkpoints.folder.glob("*.refused"):
            left.unlink()
            return "refused"
        return "found" if found else "of other trials"

    try_damage([saved.path], count, look)


@contextlib.contextmanager
def remembering_nothing() -> Iterator[None]:
    datasets.forget()
    try:
        yield
    finally:
        datasets.forget()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "gif", "bmp", "webp"])
def test_damaged_images_are_read_or_refused(tmp_path, count, kind):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(5):
            pixels = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.{kind}")
    config = DatasetConfig("image_folder", root=str(tmp_path))

    def look(path: Path, is_changed: bool) -> str:
        with remembering_nothing():
            return refused_or_read(lambda: datasets.load(config))

    try_damage([tmp_path / "cat" / f"0.{kind}"], count, look)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_damaged_idx_files_are_read_or_refused(tmp_path, count, packed):
    shape = (20, 8, 8)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    content = bytes([0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 8, 0, 0, 0, 8]) + pixels.tobytes()
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(content) if packed else content)

    def look(path: Path, is_changed: bool) -> str:
        return refused_or_read(lambda: idx.read(path, shape))

    try_damage([path], count, look)


@pytest.mark.slow
def test_damaged_measurements_and_marks_stop_no_sweep(store):
    """What is only remembered, to be quicker: the fastest packs, and where runs of MLflow are."""
    choices.keep(store.runs, "kind", choices.Arrangement("batched", 4, 1))
    assert run(selu_sync.main, "--runs", str(store.runs))[0] == 0
    marks = [store.folder(trial_id) / "mlflow.json" for trial_id in store.trial_ids()[:1]]

    def look(path: Path, is_changed: bool) -> str:
        choices.keep(store.runs, "other kind", choices.Arrangement("batched", 2, 1))
        code, errors = run(selu_sync.main, "--runs", str(store.runs))
        assert code == 0, errors
        return "synchronised"

    try_damage([store.runs / "packs" / "choices.json", *marks], min(LONG, 100), look)
