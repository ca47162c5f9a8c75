"""Faults against real sweeps: what disturbs them, and what is left of it afterwards.

The long form, with a table of what every fault did:
    python -m tests.faults.endurance --rounds 100
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas
import pandas.testing

from harness.store.tables import Tables, collect
from harness.store.trials import Store

ROOT = Path(__file__).resolve().parents[2]
# Columns that say when, where and beside what a trial was trained.
CIRCUMSTANCES = ["started", "ended", "seconds", "pack_id", "pack_size", "device"]
# Another pack adds float32 numbers in another order.
TOLERANCE = 1e-3
_PATIENCE_SECONDS = 600
# Eight trials in two packs of two networks, which train for some seconds.
WORDS = (
    "depth=2,3",
    "width=8",
    "seeds=4",
    "budget.epochs=null",
    "budget.steps=1500",
    "budget.evaluations=4",
    "budget.probes=3",
    "device=cpu",
    "checkpoint_minutes=0.005",
    "hydra.launcher.workers=1",
    "hydra.launcher.pack=4",
)


@dataclass
class Outcome:
    """The end of a sweep that a fault disturbed."""

    fault: str
    rounds: int
    lost: int = 0
    doubled: int = 0
    unequal: list[str] = field(default_factory=list)
    verification: str = ""

    @property
    def is_clean(self) -> bool:
        """True where nothing was lost, doubled or changed."""
        return not (self.lost or self.doubled or self.unequal or self.verification)

    def row(self) -> str:
        """Returns a line of the table."""
        equal = "no: " + ", ".join(self.unequal) if self.unequal else "yes"
        verified = self.verification or "ok"
        return (
            f"| {self.fault} | {self.rounds} | {self.lost} | {self.doubled} | {equal} "
            f"| {verified} |"
        )


HEADER = (
    "| fault | rounds | trials lost | doubled | tables equal | verification |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def start(runs: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    """Starts a sweep in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "harness" / "plugins")])
    command = [sys.executable, "-m", "harness.train", "--multirun", *words, f"runs={runs}"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end of a sweep; returns its exit code and its standard error."""
    try:
        _, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    finally:
        process.kill()
    return process.returncode, errors


def undisturbed(runs: Path, words: Sequence[str]) -> tuple[Tables, float]:
    """Returns the tables of a sweep that nothing disturbs, and the seconds that it takes.

    Raises:
        RuntimeError: it fails.
    """
    before = time.monotonic()
    code, errors = finish(start(runs, words))
    if code:
        raise RuntimeError(errors)
    return collect(Store(runs)), time.monotonic() - before


class Course:
    """Disturbs the same command by one fault after the other.

    Args:
        folder: an empty folder for results.
        chance: chooses the moments and the files.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder = folder
        self._chance = chance
        self._expected, self._seconds = undisturbed(folder / "undisturbed", WORDS)

    def endure(self, fault: str, rounds: int) -> Outcome:
        """Disturbs a sweep so often, lets it end, and compares what is left."""
        outcome = Outcome(fault, rounds)
        runs = self._folder / fault.replace(" ", "_")
        for _ in range(rounds):
            process = start(runs, WORDS)
            FAULTS[fault](self, process, runs)
            finish(process)
        code, errors = finish(start(runs, WORDS))
        if code:
            outcome.unequal.append(f"exit code {code}: {errors.strip().splitlines()[-1]}")
        return verify(compare(outcome, self._expected, runs), runs)

    def signal(self, number: signal.Signals, process: subprocess.Popen[str]) -> None:
        """Sends a signal at a random moment of the time that a sweep takes."""
        until = time.monotonic() + self._chance.uniform(0, self._seconds)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(number)

    def tear(self, process: subprocess.Popen[str], runs: Path) -> None:
        """Cuts a random file of a random trial, or of a checkpoint, after the sweep has ended."""
        self.signal(signal.SIGTERM, process)
        finish(process)
        files = [
            path for path in runs.glob("trials/*/*") if path.name not in ("lock", "status.json")
        ]
        files += runs.glob("packs/checkpoints/*.checkpoint")
        if files:
            path = self._chance.choice(sorted(files))
            os.truncate(path, self._chance.randrange(path.stat().st_size + 1))

    def crowd(self, process: subprocess.Popen[str], runs: Path) -> None:
        """Runs two more sweeps beside the first one, which is killed at a random moment."""
        others = [start(runs, WORDS) for _ in range(2)]
        self.signal(signal.SIGKILL, process)
        for other in others:
            finish(other)


def _by_signal(number: signal.Signals) -> Fault:
    return lambda course, process, runs: course.signal(number, process)


Fault = Callable[[Course, subprocess.Popen[str], Path], None]
FAULTS: dict[str, Fault] = {
    "SIGKILL": _by_signal(signal.SIGKILL),
    "SIGTERM": _by_signal(signal.SIGTERM),
    "SIGHUP": _by_signal(signal.SIGHUP),
    "SIGUSR1": _by_signal(signal.SIGUSR1),
    "torn file": Course.tear,
    "three sweeps": Course.crowd,
}


def compare(outcome: Outcome, expected: Tables, runs: Path) -> Outcome:
    """Adds what was lost, doubled or changed against an undisturbed sweep."""
    tables = collect(Store(runs))
    ids, expected_ids = tables.trials["trial_id"], expected.trials["trial_id"]
    outcome.lost = len(set(expected_ids) - set(ids[tables.trials["status"] == "done"]))
    outcome.doubled = len(ids) - len(set(ids)) + len(set(ids) - set(expected_ids))
    for name in ("trials", "curves", "layers"):
        one, other = (
            getattr(each, name).drop(columns=CIRCUMSTANCES, errors="ignore")
            for each in (tables, expected)
        )
        try:
            pandas.testing.assert_frame_equal(one, other, rtol=TOLERANCE, atol=TOLERANCE)
        except AssertionError as error:
            outcome.unequal.append(f"{name} ({str(error).splitlines()[0]})")
    return outcome


def verify(outcome: Outcome, runs: Path) -> Outcome:
    """Adds what `selu-verify` objects to, the runs in MLflow included."""
    answer = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "verify.py"), "--runs", str(runs)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if answer.returncode:
        outcome.verification = "; ".join((answer.stdout + answer.stderr).splitlines())
    return outcome


def main() -> int:
    """Runs all faults and prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Disturb real sweeps and look what is left.")
    parser.add_argument("--rounds", type=int, default=100, help="of every fault (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        course = Course(Path(name), random.Random(options.seed))
        print(HEADER, flush=True)
        clean = True
        for fault in FAULTS:
            outcome = course.endure(fault, options.rounds)
            clean = clean and outcome.is_clean
            print(outcome.row(), flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
