"""Sweeps as real processes.

They are interrupted, run side by side on one folder, see files edited meanwhile, and are led by a
sweeper that learns.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.trials import Store
from tests.in_process import train

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "depth=2",
    "width=8",
    "budget.epochs=null",
    "budget.evaluations=1",
    "budget.probes=2",
    "tracking=none",
    "device=cpu",
]


def environment(root: Path = ROOT, path: str = "") -> dict[str, str]:
    """Returns the environment of a process that imports the code below `root`, and from `path`."""
    folders = [str(root), str(root / "harness" / "plugins")]
    if path:
        folders.append(path)
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "2"}


def start(runs: Path, *arguments: str, root: Path = ROOT, path: str = "") -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "harness.train",
        "--multirun",
        *TINY,
        f"runs={runs}",
        *arguments,
    ]
    # A shell's background job ignores Ctrl-C, and so would its children. The sweep must hear it
    # however the tests were started.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env=environment(root, path),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end of a sweep; returns its exit code and what it wrote to standard error."""
    try:
        _, errors = process.communicate(timeout=180)
    finally:
        # One that did not end would hold a core through all tests after it.
        process.kill()
    return process.returncode, errors


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def done(runs: Path) -> set[str]:
    return {path.parent.name for path in (runs / "trials").glob("*/done")}


@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra.launcher.workers=1", "hydra.launcher.pack=4"],
        ["hydra.launcher.workers=2", "hydra.launcher.pack=1"],
    ],
    ids=["inside a pack", "inside two packs at a time"],
)
def test_ctrl_c_inside_a_pack_leaves_interrupted_trials(tmp_path, launcher):
    runs = tmp_path / "runs"
    process = start(runs, "seeds=4", "budget.steps=1000000", *launcher)
    wait_until(lambda: bool(list((runs / "trials").glob("*/status.json"))), process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, errors = ended(process)
    assert code == 130, errors
    assert "interrupted: finished trials are kept" in errors
    assert "Traceback" not in errors
    assert done(runs) == set()
    assert {record.status for record in Store(runs).records()} == {"interrupted"}


@pytest.mark.slow
def test_ctrl_c_between_packs_loses_nothing_and_the_same_command_goes_on(tmp_path):
    runs = tmp_path / "runs"
    command = ["seeds=8", "budget.steps=600", "hydra.launcher.pack=1", "hydra.launcher.workers=2"]
    process = start(runs, *command)
    wait_until(lambda: len(done(runs)) >= 2, process)
    process.send_signal(signal.SIGINT)
    code, errors = ended(process)
    kept = done(runs)
    assert code == 130, errors
    assert 2 <= len(kept) < 8
    times = {trial_id: Store(runs).read(trial_id).ended for trial_id in kept}
    code, errors = ended(start(runs, *command))
    assert code == 0
    assert f"8 trials: {len(kept)} done, 0 failed, {8 - len(kept)} to run" in errors
    assert len(done(runs)) == 8
    assert times == {trial_id: Store(runs).read(trial_id).ended for trial_id in kept}


@pytest.mark.slow
def test_two_sweeps_at_once_train_every_trial_once(tmp_path):
    runs = tmp_path / "runs"
    both = [
        start(
            runs,
            "seeds=6",
            "depth=1,2",
            "budget.steps=150",
            "hydra.launcher.pack=2",
            "hydra.launcher.workers=2",
        )
        for _ in range(2)
    ]
    for process in both:
        code, errors = ended(process)
        assert code == 0, errors
    records = list(Store(runs).records())
    assert [record.status for record in records] == ["done"] * 12
    # All of a pack have one id. Were a trial trained twice, its second result would have another.
    assert sum(1 / record.summary["pack_size"] for record in records) == pytest.approx(
        len({record.summary["pack_id"] for record in records})
    )


@pytest.mark.slow
def test_relative_paths_mean_the_folder_of_the_command_though_jobs_change_it(tmp_path):
    arguments = ["seeds=2", "activation=selu,relu", "budget.steps=5", "hydra.job.chdir=true"]
    command = [sys.executable, "-m", "harness.train", "--multirun", *TINY, *arguments]
    for launcher in ("packed", "basic"):
        answer = subprocess.run(
            [*command, f"runs=results-{launcher}", f"hydra/launcher={launcher}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
        )
        assert answer.returncode == 0, answer.stderr
        assert len(done(tmp_path / f"results-{launcher}")) == 4
    # Nothing was written into the folders of the jobs but Hydra's own files.
    assert len(list(tmp_path.rglob("trials"))) == 2


@pytest.mark.slow
def test_a_file_edited_during_the_sweep_changes_none_of_its_jobs(tmp_path):
    for name in ("harness", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    runs, edited = tmp_path / "runs", tmp_path / "conf" / "optimizer" / "momentum.yaml"
    process = start(
        runs,
        "seeds=1",
        "activation=selu,relu,tanh",
        "budget.steps=300",
        "hydra.launcher.pack=1",
        "hydra.launcher.workers=1",
        root=tmp_path,
    )
    wait_until(lambda: bool(list((runs / "trials").glob("*/status.json"))), process)
    edited.write_text(edited.read_text().replace("learning_rate: 0.01", "learning_rate: 0.77"))
    code, errors = ended(process)
    assert code == 0, errors
    assert {record.spec["optimizer"]["learning_rate"] for record in Store(runs).records()} == {0.01}
    assert len(done(runs)) == 3
    composed = [path.read_text() for path in (runs / "sweeps").glob("*/[0-9]/.hydra/config.yaml")]
    assert len(composed) == 3
    assert all("learning_rate: 0.01" in text for text in composed)


def test_another_launcher_trains_job_by_job_what_packs_left(tmp_path):
    runs = tmp_path / "runs"
    assert ended(start(runs, "seeds=2", "activation=selu", "budget.steps=5"))[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (runs / "trials").glob("*/done")}
    code, errors = ended(
        start(runs, "seeds=2", "activation=selu,relu", "budget.steps=5", "hydra/launcher=basic")
    )
    assert code == 0, errors
    assert "2 trials: 0 done, 0 failed, 2 to run" in errors
    assert len(before) == 2
    assert len(done(runs)) == 4
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


SWEEPER = '''
"""Tries five learning rates, then the best of them once more with ten times the steps."""
from dataclasses import dataclass
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


@dataclass
class Conf:
    _target_: str = "hydra_plugins.learning.sweeper.Learning"


ConfigStore.instance().store(group="hydra/sweeper", name="learning", node=Conf, provider="test")


class Learning(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments):
        rates = [1e-6, 1e-5, 1e-4, 3e-2, 1e-1]
        jobs = [[*arguments, f"optimizer.learning_rate={rate}"] for rate in rates]
        first = self.launcher.launch(jobs, initial_job_idx=0)
        scores = [job.return_value for job in first]
        best = max(range(5), key=scores.__getitem__)
        again = self.launcher.launch([[*jobs[best], "budget.steps=400"]], initial_job_idx=5)
        print("LEARNED", rates[best], max(scores), again[0].return_value)
'''


@pytest.mark.slow
def test_a_sweeper_can_optimise_the_score_of_the_jobs(tmp_path):
    folder = tmp_path / "plugins" / "hydra_plugins" / "learning"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "sweeper.py").write_text(SWEEPER)
    runs = tmp_path / "runs"
    process = start(
        runs, "hydra/sweeper=learning", "seeds=2", "budget.steps=40", path=str(tmp_path / "plugins")
    )
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    line = next(line for line in output.splitlines() if line.startswith("LEARNED")).split()
    assert float(line[1]) in (3e-2, 1e-1)
    assert 0.2 < float(line[2]) < float(line[3]) <= 1.0
    # The score is the mean validation accuracy of the job's seeds.
    last = [record for record in Store(runs).records() if record.spec["budget"]["steps"] == 400]
    assert len(last) == 2
    assert sum(record.summary["validation_accuracy"] for record in last) / 2 == pytest.approx(
        float(line[3])
    )
    # Six jobs have folders of their own, numbered through both batches.
    (folder_of_sweep,) = (runs / "sweeps").iterdir()
    folders = sorted(path.name for path in folder_of_sweep.iterdir() if path.is_dir())
    assert folders == ["0", "1", "2", "3", "4", "5"]
    # The ten trials of the first batch are one pack.
    assert "10 trials: 0 done, 0 failed, 10 to run, in 1 pack" in errors


WRONG_SWEEPS = {
    "depth=0,-1": "depth=0: expected an integer of at least 1",
    "hydra.launcher.workers=0": (
        "hydra.launcher.workers=0: expected auto or an integer of at least 1"
    ),
    "hydra.launcher.pack=-3": "hydra.launcher.pack=-3: expected auto",
    "device=cuda:77": "device=cuda:77 is not there",
    "hydra.launcher.packs=3": "unknown option 'hydra.launcher.packs'",
    "hydra.launcher.program=sideways": "expected one of auto, batched, stacked",
    "hydra.launcher.program=batched hydra.launcher.pack=two": (
        "hydra.launcher.pack=two: expected auto"
    ),
}


def assert_refused(code: int, errors: str, message: str) -> None:
    """A refusal is exit code 2 with one line on stderr that holds `message`."""
    assert code == 2, errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize("request_", WRONG_SWEEPS)
def test_a_wrong_sweep_is_one_line_before_anything_trains(tmp_path, request_):
    words = ["--multirun", *TINY, "budget.steps=5", *request_.split(), f"runs={tmp_path / 'runs'}"]
    answer = train(*words)
    assert_refused(answer.returncode, answer.stderr, WRONG_SWEEPS[request_])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("request_", WRONG_SWEEPS)
def test_a_wrong_sweep_ends_its_process_with_one_line(tmp_path, request_):
    code, errors = ended(start(tmp_path / "runs", "budget.steps=5", *request_.split()))
    assert_refused(code, errors, WRONG_SWEEPS[request_])
    assert list(tmp_path.iterdir()) == []
