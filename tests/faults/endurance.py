"""Faults against real sweeps: what disturbs them, and what is left of it afterwards.

The long form, with a table of what every fault did:
    python -m tests.faults.endurance --rounds 100 --others 5
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import multiprocessing.context
import os
import random
import signal
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
from tests.faults.unreliable import MODES, Unreliable
from tests.tracking.mlflow_server import MlflowServer

# Columns that say when, where and beside what a trial was trained.
CIRCUMSTANCES = ["started", "ended", "seconds", "pack_id", "pack_size", "device"]
# Another pack adds float32 numbers in another order.
TOLERANCE = 1e-3
_PATIENCE_SECONDS = 600
# Four trials in two packs of two networks, which train for some seconds.
WORDS = (
    "depth=2,3",
    "width=8",
    "seeds=2",
    "budget.epochs=null",
    "budget.steps=1000",
    "budget.evaluations=4",
    "budget.probes=3",
    "device=cpu",
    "checkpoint_minutes=0.005",
    "hydra.launcher.workers=1",
    "hydra.launcher.pack=2",
)


@dataclass
class Outcome:
    """The ends of sweeps that a fault disturbed.

    Attributes:
        fault: its name.
        rounds: how often it disturbed a sweep.
        sweeps: the sweeps that came to their end.
        lost: trials that are missing.
        doubled: trials that are there twice, or that nobody asked for.
        runs_lost: done trials without a finished run in MLflow.
        runs_doubled: runs in MLflow beside the one of a trial.
        unequal: the tables that differ from those of an undisturbed sweep.
        verification: what `selu-verify` objects to.
    """

    fault: str
    rounds: int
    sweeps: int = 0
    lost: int = 0
    doubled: int = 0
    runs_lost: int = 0
    runs_doubled: int = 0
    unequal: list[str] = field(default_factory=list)
    verification: str = ""

    @property
    def is_clean(self) -> bool:
        """True where nothing was lost, doubled or changed."""
        counts = (self.lost, self.doubled, self.runs_lost, self.runs_doubled)
        return not (any(counts) or self.unequal or self.verification)

    def row(self) -> str:
        """Returns a line of the table."""
        equal = "no: " + ", ".join(self.unequal) if self.unequal else "yes"
        cells = [self.fault, self.rounds, self.sweeps, self.lost, self.doubled]
        cells += [self.runs_lost, self.runs_doubled, equal, self.verification or "ok"]
        return f"| {' | '.join(map(str, cells))} |"


HEADER = (
    "| fault | rounds | sweeps | trials lost | doubled | runs lost | doubled | tables equal "
    "| verification |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Forked:
    """A program in a process of its own.

    It is forked from a process that has imported everything, as imports take longer than a sweep.

    Args:
        program: runs in the process and returns its exit code.
        arguments: are given to the program.
        said: the file for what it says.
    """

    def __init__(
        self, program: Callable[[list[str]], int], arguments: Sequence[str], said: Path
    ) -> None:
        self._said = said
        said.parent.mkdir(parents=True, exist_ok=True)
        said.write_text("")
        self._process = _context().Process(target=_run, args=(program, list(arguments), said))
        self._process.start()

    @property
    def ended(self) -> bool:
        """True once the process has ended."""
        return self._process.exitcode is not None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, unless it has ended."""
        if not self.ended and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def finish(self) -> tuple[int, str]:
        """Waits for the end; returns the exit code and what was said."""
        self._process.join(_PATIENCE_SECONDS)
        self._process.kill()
        self._process.join()
        return self._process.exitcode, self._said.read_text()


class Sweep(Forked):
    """A sweep in a process of its own.

    Args:
        runs: the folder for results.
        words: the other words of the command line.
    """

    def __init__(self, runs: Path, words: Sequence[str]) -> None:
        arguments = ["--multirun", *words, f"runs={runs}"]
        super().__init__(_train, arguments, runs.with_name(f"{runs.name}.said"))


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    # A thread that is there before the fork is not there after it.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("harness.train", "harness.sweeps.sweep", "harness.commands.selu_verify"),
            *("harness.tracking.connection", "sklearn.datasets"),
        ]
    )
    return context


def _run(program: Callable[[list[str]], int], arguments: list[str], said: Path) -> None:
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(program(arguments))


def _train(arguments: list[str]) -> int:
    from harness import train
    from harness.sweeps import command_line

    sys.argv = ["harness.train", *arguments]
    return command_line.run(train.main)


def _verify(arguments: list[str]) -> int:
    from harness.commands import selu_verify

    return selu_verify.main(arguments)


def undisturbed(runs: Path, words: Sequence[str]) -> tuple[Tables, float]:
    """Returns the tables of a sweep that nothing disturbs, and the seconds that it takes.

    Raises:
        RuntimeError: it fails.
    """
    # The first sweep of all waits for the imports.
    Sweep(runs.with_name("imports"), ["depth=0"]).finish()
    before = time.monotonic()
    code, errors = Sweep(runs, words).finish()
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
        self.server = MlflowServer(folder)
        self.proxy = Unreliable(self.server.port)

    def endure(self, fault: str, rounds: int) -> Outcome:
        """Disturbs sweeps so often, lets each end, and compares what is left.

        A sweep that has come to its end in spite of its disturbances is followed by a new one.
        """
        outcome = Outcome(fault, rounds)
        left = rounds
        while left:
            name = fault.replace(" ", "_")
            runs = self._folder / f"{name}_{outcome.sweeps}"
            words, address = [*WORDS], None
            if fault in FAULTS_OF_SERVERS:
                self.server.ensure()
                address = self.server.address
                words += [f"tracking.uri={self.proxy.address}", f"tracking.experiment={runs.name}"]
            while left and not self._is_done(runs):
                sweep = Sweep(runs, words)
                FAULTS[fault](self, sweep, runs)
                sweep.finish()
                left -= 1
            self._end(outcome, runs, words, address)
        return outcome

    def close(self) -> None:
        """Ends the server and the proxy before it."""
        self.server.kill()
        self.proxy.close()

    def _is_done(self, runs: Path) -> bool:
        done = [path.parent.name for path in runs.glob("trials/*/done")]
        return len(done) == len(self._expected.trials)

    def _end(self, outcome: Outcome, runs: Path, words: list[str], address: str | None) -> None:
        """Lets a sweep end, and adds what is left of it."""
        code, errors = Sweep(runs, words).finish()
        if code:
            outcome.unequal.append(f"exit code {code}: {errors.strip().splitlines()[-1]}")
        outcome.sweeps += 1
        compare(outcome, self._expected, runs)
        count_runs(outcome, runs, address, runs.name if address else "selu")
        options = ["--uri", address, "--experiment", runs.name] if address else []
        verify(outcome, runs, *options)

    def moment(self, sweep: Sweep) -> None:
        """Waits until a random moment of the time that a sweep takes."""
        until = time.monotonic() + self._chance.uniform(0, self._seconds)
        while not sweep.ended and time.monotonic() < until:
            time.sleep(0.01)

    def signal(self, number: signal.Signals, sweep: Sweep) -> None:
        """Sends a signal at a random moment."""
        self.moment(sweep)
        sweep.send(number)

    def tear(self, sweep: Sweep, runs: Path) -> None:
        """Cuts a random file of a random trial, or of a checkpoint, after the sweep has ended."""
        self.signal(signal.SIGTERM, sweep)
        sweep.finish()
        files = [
            path for path in runs.glob("trials/*/*") if path.name not in ("lock", "status.json")
        ]
        files += runs.glob("packs/checkpoints/*.checkpoint")
        if files:
            path = self._chance.choice(sorted(files))
            os.truncate(path, self._chance.randrange(path.stat().st_size + 1))

    def crowd(self, sweep: Sweep, runs: Path) -> None:
        """Runs two more sweeps beside the first one, which is killed at a random moment."""
        others = [Sweep(runs, WORDS) for _ in range(2)]
        self.signal(signal.SIGKILL, sweep)
        for other in others:
            other.finish()

    def fail(self, mode: str, sweep: Sweep) -> None:
        """Lets the tracking server fail from one random moment to another."""
        self.moment(sweep)
        self.proxy.mode = mode
        self.moment(sweep)
        self.proxy.mode = "open"
        sweep.finish()

    def kill_server(self, sweep: Sweep, _: Path) -> None:
        """Kills the tracking server at a random moment, and starts it again."""
        self.moment(sweep)
        self.server.kill()
        self.server.start()
        sweep.finish()


def _by_signal(number: signal.Signals) -> Fault:
    return lambda course, sweep, runs: course.signal(number, sweep)


def _by_server(mode: str) -> Fault:
    return lambda course, sweep, runs: course.fail(mode, sweep)


Fault = Callable[[Course, Sweep, Path], None]
FAULTS_OF_SERVERS: dict[str, Fault] = {
    **{f"MLflow {mode}": _by_server(mode) for mode in MODES},
    "MLflow killed": Course.kill_server,
}
FAULTS: dict[str, Fault] = {
    "SIGKILL": _by_signal(signal.SIGKILL),
    "SIGTERM": _by_signal(signal.SIGTERM),
    "SIGHUP": _by_signal(signal.SIGHUP),
    "SIGUSR1": _by_signal(signal.SIGUSR1),
    "torn file": Course.tear,
    "three sweeps": Course.crowd,
    **FAULTS_OF_SERVERS,
}


def compare(outcome: Outcome, expected: Tables, runs: Path) -> Outcome:
    """Adds what was lost, doubled or changed against an undisturbed sweep."""
    tables = collect(Store(runs))
    ids, expected_ids = tables.trials["trial_id"], expected.trials["trial_id"]
    outcome.lost += len(set(expected_ids) - set(ids[tables.trials["status"] == "done"]))
    outcome.doubled += len(ids) - len(set(ids)) + len(set(ids) - set(expected_ids))
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


def runs_by_trial(
    address: str, experiment: str, tag: str = "trial_id"
) -> dict[str, tuple[str, ...]]:
    """Returns the states of the runs of each trial in an experiment, by the trial's id.

    Of another experiment, the states of its runs by the value of a tag.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    present = client.get_experiment_by_name(experiment)
    states: dict[str, tuple[str, ...]] = {}
    for run in client.search_runs([present.experiment_id]) if present else ():
        value = run.data.tags[tag]
        states[value] = (*states.get(value, ()), run.info.status)
    return states


def count_runs(outcome: Outcome, runs: Path, address: str | None, experiment: str) -> None:
    """Adds the runs in MLflow that are missing or too many."""
    states = runs_by_trial(address or f"sqlite:///{runs / 'mlflow.db'}", experiment)
    done = [path.parent.name for path in runs.glob("trials/*/done")]
    outcome.runs_lost += sum("FINISHED" not in states.get(trial_id, ()) for trial_id in done)
    outcome.runs_doubled += sum(map(len, states.values())) - len(states)


def verify(outcome: Outcome, runs: Path, *options: str) -> None:
    """Adds what `selu-verify` objects to, the runs in MLflow included."""
    arguments = ["--runs", str(runs), *options]
    code, said = Forked(_verify, arguments, runs.with_name(f"{runs.name}.verified")).finish()
    if code:
        outcome.verification = "; ".join(said.splitlines())


def main() -> int:
    """Runs all faults and prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Disturb real sweeps and look what is left.")
    parser.add_argument("--rounds", type=int, default=100, help="of SIGKILL (default: 100)")
    parser.add_argument("--others", type=int, help="of every other fault (default: as many)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    others = options.rounds if options.others is None else options.others
    with tempfile.TemporaryDirectory() as name:
        course = Course(Path(name), random.Random(options.seed))
        print(HEADER, flush=True)
        clean = True
        try:
            for fault in options.fault or FAULTS:
                outcome = course.endure(fault, options.rounds if fault == "SIGKILL" else others)
                clean = clean and outcome.is_clean
                print(outcome.row(), flush=True)
        finally:
            course.close()
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
