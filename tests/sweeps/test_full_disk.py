"""A disk fills or becomes read-only while results are written.

The command says so in one line, no unfinished trial reads as done, and the next run goes on.
"""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import NotStored
from harness.store import claims
from harness.store.trials import Store
from harness.sweeps import choices, sweep

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "depth": 2,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 3,
    "budget.evaluations": 1,
    "budget.probes": 2,
}
TRIAL = {
    "trial_id": "0123456789abcdef",
    "cell_id": "fedcba9876543210",
    "rules_version": 1,
    "seed": 3,
    "axes": {},
    "spec": {},
}
FULL = "No space left on device"


def fill(monkeypatch, name: str, times: int = 1) -> None:
    """Lets the disk be full from the `times`-th write of a file whose name holds `name`.

    The error names no file, as the system's does not.
    """
    real, left = builtins.open, [times]

    def scarce(path, mode="r", *rest, **options):
        file = real(path, mode, *rest, **options)
        if "w" in mode and name in str(path):
            left[0] -= 1
            if left[0] <= 0:
                file.write = refuse
        return file

    def refuse(content):
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(builtins, "open", scarce)


def attempt(store: Store) -> None:
    with store.claim(TRIAL["trial_id"]):
        store.begin(TRIAL)
        store.finish(
            TRIAL["trial_id"],
            summary={"test_accuracy": 0.5},
            curves={"step": [0]},
            layers={"step": [0]},
        )


@pytest.mark.parametrize(
    "name, times",
    [
        ("trial.json", 1),
        ("status.json", 1),
        ("summary.json", 1),
        ("curves.parquet", 1),
        ("layers.parquet", 1),
        ("status.json", 2),
        ("done", 1),
    ],
)
def test_a_trial_whose_file_has_no_space_is_not_done_and_can_be_tried_again(tmp_path, name, times):
    store = Store(tmp_path)
    folder = store.folder(TRIAL["trial_id"])
    with pytest.MonkeyPatch.context() as full:
        fill(full, name, times)
        with pytest.raises(NotStored) as refused:
            attempt(store)
    assert str(refused.value) == f"cannot write {folder / name}: {FULL}"
    assert not store.is_done(TRIAL["trial_id"])
    assert not store.has_failed(TRIAL["trial_id"])
    assert not claims.is_locked(folder / "lock")
    # No temporary file is left, which would keep the disk full.
    assert not list(folder.glob(".*"))
    assert name == "trial.json" or store.read(TRIAL["trial_id"]).status == "interrupted"
    attempt(store)
    assert store.read(TRIAL["trial_id"]).status == "done"


def test_a_trial_that_does_not_reach_the_disk_is_not_done(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(NotStored, match=f"cannot write {tmp_path}.*: {FULL}"):
        attempt(Store(tmp_path))
    assert not Store(tmp_path).is_done(TRIAL["trial_id"])


def test_a_failure_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.begin(TRIAL)
    fill(monkeypatch, "status.json")
    with pytest.raises(NotStored, match=f"status.json: {FULL}"):
        store.fail(TRIAL["trial_id"], "ValueError: no")
    assert not store.has_failed(TRIAL["trial_id"])


def test_a_claim_in_a_read_only_folder_is_a_result_not_stored(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(claims, "take", refuse)
    with pytest.raises(NotStored, match="lock: Read-only file system"):
        Store(tmp_path).claim(TRIAL["trial_id"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_sweep_releases_all_claims_and_the_next_trains_the_rest(make_config, workers):
    config = make_config(**TINY | {"seeds": 8})
    store = Store(config.runs)
    with pytest.MonkeyPatch.context() as full:
        fill(full, "layers.parquet", times=4)
        with pytest.raises(NotStored, match=f"layers.parquet: {FULL}"):
            sweep.prefetch([config], pack=2, workers=workers)
    kept = {record.trial_id: record.ended for record in store.records() if record.finished}
    assert len(kept) == 3
    assert {record.status for record in store.records()} == {
        "done",
        "interrupted",
    }
    assert not any(claims.is_locked(lock) for lock in store.trials.glob("*/lock"))
    sweep.prefetch([config])
    records = list(store.records())
    assert [record.status for record in records] == ["done"] * 8
    assert kept.items() <= {record.trial_id: record.ended for record in records}.items()


def test_a_choice_that_cannot_be_written_names_its_file(tmp_path, monkeypatch):
    fill(monkeypatch, "choices.json")
    with pytest.raises(NotStored, match=f"packs/choices.json: {FULL}"):
        choices.keep(tmp_path, "kind", choices.Arrangement("batched", 4, 1))
    assert list((tmp_path / "packs").iterdir()) == []


# A whole program. Once files whose name holds NAME were begun TIMES times, the disk is full or
# read-only for everything.
BROKEN = f"""
import builtins, errno, io, os, runpy, sys
kind, name, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.argv = ["train", *sys.argv[4:]]
runs, seen = sys.argv[-1].removeprefix("runs="), 0
CALLS = ("open", "mkdir", "rmdir", "unlink", "replace")
real = {{name: getattr(os, name) for name in CALLS}} | {{"file": builtins.open}}

def refuse(path=None, *_, **__):
    if kind == "full":
        raise OSError(errno.ENOSPC, "{FULL}")
    raise OSError(errno.EROFS, "Read-only file system", str(path))

def changing(name):
    def call(path, *rest, **options):
        reads = name == "open" and not rest[0] & os.O_CREAT
        broken = kind == "read-only" and seen >= times and str(path).startswith(runs)
        if broken and not reads:
            refuse(path)
        return real[name](path, *rest, **options)
    return call

def file(path, mode="r", *rest, **options):
    global seen
    writing = "w" in mode and str(path).startswith(runs)
    seen += writing and name in str(path)
    if writing and seen >= times and kind == "read-only":
        refuse(path)
    opened = real["file"](path, mode, *rest, **options)
    if writing and seen >= times:
        opened.write = refuse
    return opened

for call in CALLS:
    setattr(os, call, changing(call))
builtins.open = io.open = file
runpy.run_module("harness.train", run_name="__main__")
"""
WORDS = [
    "depth=2",
    "width=8",
    "budget.epochs=null",
    "budget.steps=2",
    "budget.evaluations=1",
    "budget.probes=2",
    "tracking=none",
    "seeds=2",
]
SWEEP = [
    "--multirun",
    "hydra.launcher.pack=1",
    "hydra.launcher.workers=1",
    "activation=selu,relu",
    *WORDS,
]


def train(
    runs: Path, *words: str, broken: tuple[str, str, int]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BROKEN, *map(str, broken), *words, f"runs={runs}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    "words, broken, done, where",
    [
        (SWEEP, ("full", "layers.parquet", 2), 1, "/layers.parquet: No space"),
        (SWEEP, ("read-only", "curves.parquet", 2), 1, "/curves.parquet: Read-only"),
        pytest.param(
            SWEEP,
            ("full", "1/.hydra/hydra.yaml", 1),
            4,
            "a file below {runs}/sweeps: No space",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            WORDS,
            ("full", "layers.parquet", 2),
            1,
            "/layers.parquet: No space",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["full disk", "read-only", "full disk for a job's folder", "full disk, one cell"],
)
def test_a_sweep_on_a_failing_disk_says_so_in_one_line(tmp_path, words, broken, done, where):
    runs = tmp_path / "runs"
    answer = train(runs, *words, broken=broken)
    errors = [
        line
        for line in answer.stderr.splitlines()
        if line.startswith("error") or " trials" not in line
    ]
    assert answer.returncode == 1, answer.stderr
    assert len(errors) == 1, answer.stderr
    assert errors[0].startswith("error: cannot write ")
    assert where.format(runs=runs) in errors[0]
    assert errors[0].endswith("finished trials are kept, and the same command goes on from here")
    assert len(list(runs.glob("trials/*/done"))) == done


@pytest.mark.parametrize(
    "words, name",
    [(SWEEP, "multirun.yaml"), (WORDS, ".hydra/config.yaml")],
    ids=["a sweep", "one cell"],
)
def test_a_disk_that_was_full_before_is_a_wrong_request_and_leaves_nothing(tmp_path, words, name):
    answer = train(tmp_path / "runs", *words, broken=("full", name, 1))
    assert answer.returncode == 2
    assert answer.stderr == (
        f"error: runs: a file below {tmp_path}/runs/sweeps cannot be made ({FULL}); "
        "choose another folder with runs=FOLDER\n"
    )
    assert list(tmp_path.iterdir()) == []
