"""`python -m harness.train` as a user meets it: its mistakes, its help, a sweep, its scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf.errors import OmegaConfBaseException

from harness.commands import (
    selu_collect,
    selu_report,
    selu_status,
    selu_sync,
    selu_verify,
)
from harness.configuration.result_folder import writable_folder
from harness.errors import RequestError
from harness.sweeps import command_line
from harness.sweeps.progress import say
from tests.in_process import command, train

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "depth=2",
    "width=8",
    "budget.epochs=null",
    "budget.steps=2",
    "budget.evaluations=1",
    "budget.probes=2",
    "seeds=2",
    "tracking=none",
]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Python in the repository's folder."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def assert_refused(answer: subprocess.CompletedProcess[str], message: str) -> None:
    """A refusal is exit code 2 with one line on stderr that holds `message`."""
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert message in answer.stderr


# These start a process: one that is told by Hydra, one that needs torch, and one of a sweep.
STARTED = ("dept=3", "device=cuda:77", "hydra.launcher.pack=0")
MISTAKES = {
    "dept=3": "unknown option 'dept'; did you mean depth",
    "activation=sellu": "unknown activation 'sellu'; known: celu, ",
    "depth=0": "depth=0: expected an integer of at least 1",
    "normalization=batch budget.batch_size=1": "a batch of one has no variance",
    "initializer=lecun_exact width=1": "fan-in 1",
    "architecture=stack architecture.layers=[{conv:4,groups:3}]": "groups=3 do not divide",
    "optimizer.learning_rate=inf": "optimizer.learning_rate=inf: expected a number above 0",
    "optimizer.learning_rate=nan": "optimizer.learning_rate=nan: expected a number above 0",
    "budget.epochs=inf": "budget.epochs=inf: expected a number above 0",
    "optimizer.learning_rate=abc": "could not be converted to Float",
    "device=cuda:77": "device=cuda:77 is not there",
    "activation=math:nothing": "has no attribute 'nothing'",
    "architecture=math:nothing": "architecture 'math:nothing' cannot be loaded",
    "architecture=torchvision architecture.name=resnet19": "did you mean resnet18",
    "tracking=mlflow tracking.uri=ftp://here": "expected an address that begins with",
    "architecture=cnn architecture.kernel_size=2": "expected an odd integer of at least 1",
    "architecture=cnn width=input": "width=input: only for architecture=mlp",
    "initializer=pytorch_default initializer.bias=ones": "expected one of zeros, uniform",
    "dropout=none dropout.rate=0.5": "takes no such option",
    "+arm.unheard=1": "unknown option 'arm'; conf/README.md lists those of a cell",
    "+actvation=relu": "unknown option 'actvation'; did you mean activation",
    "dataset=mnist dataset.root=/nowhere dataset.download=false": "no such folder",
}
MISTAKES_OF_SWEEPS = {
    "hydra.launcher.pack=0": "hydra.launcher.pack=0: expected auto or an integer of at least 1",
    "hydra.launcher.program=magic": "expected one of auto, batched, stacked",
    "hydra.launcher.foo=1": (
        "unknown option 'hydra.launcher.foo'; conf/README.md lists those of a cell, "
        "harness/sweeps/README.md those of hydra.launcher"
    ),
    "+hydra.launcher.foo=1": "unknown option 'hydra.launcher.foo'",
    "normalization=none,batch budget.batch_size=1": "a batch of one has no variance",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, mistake):
    assert_refused(train(*mistake.split(), f"runs={tmp_path / 'runs'}"), MISTAKES[mistake])
    assert list(tmp_path.iterdir()) == []


def in_processes(mistakes: dict[str, str]) -> list[object]:
    """The mistakes as parameters, of which most are slow."""
    return [
        mistake if mistake in STARTED else pytest.param(mistake, marks=pytest.mark.slow)
        for mistake in mistakes
    ]


@pytest.mark.parametrize("mistake", in_processes(MISTAKES))
def test_a_mistake_ends_its_process_with_one_line(tmp_path, mistake):
    answer = run("-m", "harness.train", *mistake.split(), f"runs={tmp_path / 'runs'}")
    assert_refused(answer, MISTAKES[mistake])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--multirun --cfg job", "Only one of --run, --multirun, --cfg"),
        ("--multirun --info all", "Only one of"),
        ("--resolve", "--resolve flag"),
        ("--shell-completion", "subcommand"),
    ],
)
def test_flags_that_exclude_each_other_are_one_line(tmp_path, flags, message):
    assert_refused(train(*flags.split(), "depth=2", f"runs={tmp_path / 'runs'}"), message)
    assert list(tmp_path.iterdir()) == []


def test_a_request_can_be_shown_without_training(tmp_path):
    answer = train("--cfg", "job", "depth=5", f"runs={tmp_path / 'runs'}")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "depth: 5" in answer.stdout.splitlines()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def multirun(monkeypatch):
    """The arguments of a sweep in this process; HYDRA_FULL_ERROR is as before afterwards."""
    monkeypatch.setattr(sys, "argv", ["train", "--multirun"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.delenv("HYDRA_FULL_ERROR")


@pytest.mark.usefixtures("multirun")
def test_a_defect_keeps_its_traceback():
    def main() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        command_line.run(main)


@pytest.mark.parametrize("mistake", MISTAKES_OF_SWEEPS)
def test_a_mistake_in_a_sweep_stops_it_before_anything_trains(tmp_path, mistake):
    words = ["--multirun", "depth=2,3", *mistake.split(), f"runs={tmp_path / 'runs'}"]
    assert_refused(train(*words), MISTAKES_OF_SWEEPS[mistake])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mistake", in_processes(MISTAKES_OF_SWEEPS))
def test_a_mistake_in_a_sweep_ends_its_process_with_one_line(tmp_path, mistake):
    words = ["--multirun", "depth=2,3", *mistake.split(), f"runs={tmp_path / 'runs'}"]
    assert_refused(run("-m", "harness.train", *words), MISTAKES_OF_SWEEPS[mistake])
    assert list(tmp_path.iterdir()) == []


# Not even root can make a folder in /proc.
@pytest.mark.parametrize("parent", ["file", "/proc", "/proc/of/no/process"])
@pytest.mark.parametrize("mode", [[], ["--multirun"]], ids=["one cell", "sweep"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, mode, parent):
    (tmp_path / "file").write_text("no folder")
    answer = train(*mode, *TINY, f"runs={tmp_path / parent / 'runs'}")
    assert answer.returncode == 2
    assert "runs" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (tmp_path / "file").read_text() == "no folder"


def test_an_empty_folder_name_is_not_the_working_directory():
    with pytest.raises(RequestError, match="runs is empty"):
        writable_folder("")


@pytest.mark.usefixtures("multirun")
@pytest.mark.parametrize("error", [UnboundLocalError, ValueError, OmegaConfBaseException])
def test_ctrl_c_is_told_as_such_inside_code_that_turns_it_into_an_error(capsys, error):
    def main() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise error("local variable 'old'")  # noqa: B904 - what Hydra's code does

    assert command_line.run(main) == 130
    assert capsys.readouterr().err.startswith("interrupted: finished trials are kept")


@pytest.mark.parametrize("place", ["full disk", "pipe without a reader"])
def test_standard_error_that_takes_nothing_changes_no_exit_code(tmp_path, place):
    """Python flushes it once more when it ends, and would end with 120."""
    if place == "full disk":
        errors = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, errors = os.pipe()
        os.close(reader)
    try:
        words = [sys.executable, "-m", "harness.train", "depth=0", f"runs={tmp_path / 'runs'}"]
        assert subprocess.run(words, stderr=errors, cwd=ROOT).returncode == 2
    finally:
        os.close(errors)


@pytest.mark.usefixtures("multirun")
def test_lines_of_progress_that_nobody_took_are_dropped_at_the_end(monkeypatch):
    # Leaving the context flushes the stream, as Python does when it ends.
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert command_line.run(lambda: say("4/4 trials", full)) == 0


QUICK = [
    "--help",
    "depth=0",
    "initializer=lecun_exact width=1",
    "architecture=cnn width=input",
    "--multirun depth=2,0",
    "--multirun activation=selu,sellu",
    "--multirun hydra.launcher.pack=0",
]
# Runs command lines one after another, and says after each what it has loaded.
LOADED = """
import contextlib, io, json, os, runpy, sys
for line in json.loads(sys.argv[1]):
    sys.argv = ["train", *line.split()]
    os.environ.pop("HYDRA_FULL_ERROR", None)
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_module("harness.train", run_name="__main__")
    except SystemExit as end:
        code = end.code
    loaded = [name for name in ("torch", "mlflow", "pandas") if name in sys.modules]
    print(json.dumps([code, loaded, output.getvalue()]))
"""


def test_help_and_mistakes_load_no_torch(tmp_path):
    runs = f" runs={tmp_path}"
    lines = [line if line == "--help" else line + runs for line in QUICK]
    answer = run("-c", LOADED, json.dumps(lines))
    assert answer.returncode == 0, answer.stderr
    ends = [json.loads(line) for line in answer.stdout.splitlines()]
    for line, (code, loaded, output) in zip(QUICK, ends, strict=True):
        help_asked = line == "--help"
        assert loaded == [], line
        assert code == (0 if help_asked else 2), line
        assert ("activation: celu, " in output) == help_asked, line
    assert answer.stderr.count("error: ") == len(QUICK) - 1
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_trains_what_no_earlier_command_has_trained(tmp_path):
    runs = tmp_path / "runs"
    one_cell = train(*TINY, f"runs={runs}")
    assert one_cell.returncode == 0, one_cell.stderr
    assert "2 trials: 0 done, 0 failed, 2 to run, in 1 pack" in one_cell.stderr
    cells = ["activation=selu,relu", "initializer=lecun_normal,he_normal"]
    sweep = train("--multirun", *TINY, *cells, f"runs={runs}")
    assert sweep.returncode == 0, sweep.stderr
    # Both activations and initializers share one program.
    assert "8 trials: 2 done, 0 failed, 6 to run, in 1 pack" in sweep.stderr
    folders = list((runs / "trials").iterdir())
    assert len(folders) == 8
    assert all((folder / "done").exists() for folder in folders)
    repeated = train("--multirun", *TINY, *cells, "depth=2,3", f"runs={runs}")
    assert "16 trials: 8 done, 0 failed, 8 to run" in repeated.stderr
    # Cells that were done are not run as jobs again.
    last = max((runs / "sweeps").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    assert len([folder for folder in last.iterdir() if folder.is_dir()]) == 4


def test_a_finished_cell_is_checked_again_and_says_that_it_is_done(tmp_path):
    cell = [*TINY, f"runs={tmp_path}"]
    assert train(*cell).returncode == 0
    assert "2 trials: 2 done, 0 failed, 0 to run" in train(*cell).stderr
    assert_refused(train(*cell, "device=cuda:77"), "device=cuda:77 is not there")


def test_a_users_own_activation_is_a_choice_among_others(tmp_path, monkeypatch):
    (tmp_path / "own_cubed.py").write_text("def cubed(x):\n    return x + 0.1 * x**3\n")
    monkeypatch.syspath_prepend(tmp_path)
    choices = "activation=selu,own_cubed:cubed"
    answer = train("--multirun", *TINY, choices, f"runs={tmp_path / 'runs'}")
    assert answer.returncode == 0, answer.stderr
    activations = set()
    for path in (tmp_path / "runs" / "trials").glob("*/trial.json"):
        activations.add(json.loads(path.read_text())["axes"]["activation"])
    assert activations == {"own_cubed:cubed", "selu"}


def test_a_failing_trial_costs_no_other_and_is_listed_last(tmp_path, monkeypatch):
    (tmp_path / "own_failing.py").write_text(
        "def fails(x):\n    if x.dim() == 3:\n        raise ValueError('not today')\n    return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    choices = "activation=selu,own_failing:fails"
    answer = train("--multirun", *TINY, choices, f"runs={tmp_path / 'runs'}")
    assert answer.returncode == 1
    end, *last = answer.stderr.strip().splitlines()[-3:]
    assert end.endswith("trials/ID/status.json in the folder for results has the traceback of each")
    assert all(line.endswith("ValueError: not today") for line in last), answer.stderr
    states = []
    for path in (tmp_path / "runs" / "trials").glob("*/status.json"):
        states.append(json.loads(path.read_text())["status"])
    assert sorted(states) == ["done", "done", "failed", "failed"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The results of a sweep of four cells with two seeds each, in a process of its own."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    words = ["--multirun", *TINY, "activation=selu,relu", "depth=2,3", f"runs={runs}"]
    answer = run("-m", "harness.train", *words)
    assert answer.returncode == 0, answer.stderr
    return runs


def test_every_job_of_a_sweep_has_its_folder(trained):
    (sweep,) = (trained / "sweeps").iterdir()
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2", "3"]


def test_status_counts_the_trials(trained):
    answer = command(selu_status.main, "--runs", trained, "--json")
    assert json.loads(answer.stdout)["done"] == 8


@pytest.mark.parametrize(
    "command",
    [
        "scripts/status.py",
        "scripts/collect.py",
        "scripts/report.py --claims",
        "-m harness.train --help",
    ],
)
def test_a_command_ends_quietly_when_nobody_reads_it(trained, command):
    option = f"--runs {trained}" if command.startswith("scripts") else ""
    answer = subprocess.run(
        f"{sys.executable} {command} {option} | true",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert answer.stderr == ""


def test_collect_writes_a_row_for_every_trial(trained):
    answer = command(selu_collect.main, "--runs", trained)
    assert "trials.parquet: 8 rows" in answer.stdout, answer.stderr


def test_the_report_opens_offline_and_names_its_sweep(trained):
    answer = run("scripts/report.py", "--runs", trained, "--quiet")
    html = Path(answer.stdout.strip()).read_text()
    assert "Does it matter" in html
    assert "activation=selu,relu" in html
    assert "depth=2,3" in html
    loaded = html.replace("http://www.w3.org/", "")  # names of formats, which nothing loads
    assert "http://" not in loaded
    assert "https://" not in loaded
    assert html.count("<svg") >= 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--where", "colour=red"], "unknown axis"),
        (["--where", "depth=77"], "no trial has depth"),
        (["--where", "depth"], "expected axis=value"),
    ],
)
def test_a_report_of_no_trial_is_refused(trained, arguments, message):
    answer = command(selu_report.main, "--runs", trained, *arguments)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert message in answer.stderr


@pytest.mark.parametrize("module", [selu_status, selu_collect, selu_report, selu_sync, selu_verify])
def test_commands_refuse_a_folder_without_results(tmp_path, module):
    answer = command(module.main, "--runs", tmp_path / "nothing")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1), answer.stderr
