"""Claims exclude other processes, and a killed holder blocks nobody."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from harness.store import claims
from harness.store.trials import Store

TRIAL_IDS = [f"{number:016x}" for number in range(40)]


def _claim_all(runs, start, taken):
    store = Store(runs)
    start.wait()
    for trial_id in TRIAL_IDS:
        claim = store.claim(trial_id)
        if claim is not None:
            store.begin(
                {
                    "trial_id": trial_id,
                    "cell_id": "c",
                    "rules_version": 1,
                    "seed": 0,
                    "axes": {},
                    "spec": {},
                }
            )
            store.finish(trial_id, summary={}, curves={"step": [0]}, layers={"step": [0]})
            taken.put(trial_id)
            claim.release()


def test_two_processes_train_every_trial_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    start, taken = spawn.Event(), spawn.Queue()
    workers = [spawn.Process(target=_claim_all, args=(tmp_path, start, taken)) for _ in range(2)]
    for worker in workers:
        worker.start()
    start.set()
    trained = sorted(taken.get(timeout=60) for _ in TRIAL_IDS)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert trained == TRIAL_IDS
    assert taken.empty()


def test_a_claim_excludes_others_until_it_is_released(tmp_path):
    store = Store(tmp_path)
    claim = store.claim("a")
    assert store.claim("a") is None
    claim.release()
    claim.release()
    with store.claim("a"):
        assert claims.is_locked(store.folder("a") / "lock")
    assert not claims.is_locked(store.folder("a") / "lock")


LOOKING = """
import sys
from pathlib import Path
from harness.store import claims
print("ready", flush=True)
while True:
    claims.is_locked(Path(sys.argv[1]))
"""


def test_a_look_at_a_claim_does_not_refuse_a_trainer(tmp_path):
    """Surveys lock for an instant; a claim made in that instant succeeds a moment later."""
    store = Store(tmp_path)
    store.claim("a").release()
    looking = subprocess.Popen(
        [sys.executable, "-c", LOOKING, str(store.folder("a") / "lock")],
        stdout=subprocess.PIPE,
    )
    try:
        assert looking.stdout.readline() == b"ready\n"
        refusals = 0
        for _ in range(200):
            claim = store.claim("a")
            refusals += claim is None
            if claim is not None:
                claim.release()
        assert refusals == 0
    finally:
        looking.kill()
        looking.wait()


TRIAL = """
def trial(trial_id):
    ids = {"trial_id": trial_id, "cell_id": "c", "rules_version": 1, "seed": 0}
    return ids | {"axes": {}, "spec": {}}
"""
HOLDING = f"""
import sys, time
from harness.store.trials import Store
{TRIAL}
store = Store(sys.argv[1])
claim = store.claim("a")
if sys.argv[2] == "begun":
    store.begin(trial("a"))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("moment", ["claimed", "begun"])
def test_a_killed_holder_blocks_nobody_and_leaves_an_interrupted_trial(tmp_path, moment):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path), moment], stdout=subprocess.PIPE
    )
    store = Store(tmp_path)
    try:
        assert holder.stdout.readline() == b"ready\n"
        assert store.claim("a") is None
        if moment == "begun":
            assert store.read("a").status == "running"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert store.trial_ids() == (["a"] if moment == "begun" else [])
    if moment == "begun":
        assert store.read("a").status == "interrupted"
    with store.claim("a") as claim:
        assert claim is not None


WRITING = f"""
import itertools, sys
from harness.store.trials import Store
{TRIAL}
store = Store(sys.argv[1])
rows = {{"step": range(3000)}}
print("ready", flush=True)
for number in itertools.count(int(sys.argv[2])):
    trial_id = f"{{number:016x}}"
    with store.claim(trial_id):
        store.begin(trial(trial_id))
        store.finish(trial_id, summary={{"x": 1.0}}, curves=rows, layers=rows)
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_trial_whose_writer_is_killed_is_done_whole_or_not_at_all(tmp_path):
    """A writer that finishes one trial after another is killed at arbitrary moments."""
    store = Store(tmp_path)
    for attempt in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITING, str(tmp_path), str(attempt * 1000)],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout.readline() == b"ready\n"
        # Once it is at work, however busy the machine is.
        written = store.folder(f"{attempt * 1000:016x}") / "done"
        wait_until(written.exists)
        time.sleep(0.013 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    records = list(store.records())
    assert any(record.finished for record in records)
    for record in records:
        assert record.status in ("done", "interrupted")
        if record.finished:
            assert record.summary == {"x": 1.0}
            assert len(record.curves()) == len(record.layers()) == 3000


def test_the_limit_of_open_files_is_raised_and_leaves_room(monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        most = claims.most_held()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        if hard == resource.RLIM_INFINITY:
            assert most == sys.maxsize
        else:
            assert 0 < most < hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for limit, room in ((100, 50), (1_000, 800)):
        monkeypatch.setattr(claims.resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert claims.most_held() == room
