"""`python -m harness.train` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf.errors import OmegaConfBaseException

from harness.configuration.result_folder import writable_folder
from harness.errors import RequestError
from harness.sweeps import command_line as command

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


def train(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.train", *arguments, f"runs={runs}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


MISTAKES = {
    "dept=3": "unknown option 'dept'; did you mean depth",
    "activation=sellu": "unknown activation 'sellu'; known: elu,",
    "depth=0": "depth=0: expected an integer of at least 1",
    "normalization=batch budget.batch_size=1": "a batch of one has no variance",
    "initializer=lecun_exact width=1": "fan-in 1",
    "optimizer.learning_rate=inf": "optimizer.learning_rate=inf: expected a number above 0",
    "optimizer.learning_rate=nan": "optimizer.learning_rate=nan: expected a number above 0",
    "budget.epochs=inf": "budget.epochs=inf: expected a number above 0",
    "optimizer.learning_rate=abc": "could not be converted to Float",
    "device=cuda:77": "device=cuda:77 is not there",
    "activation=math:nothing": "has no attribute 'nothing'",
    "tracking=mlflow tracking.uri=ftp://here": "expected an address that begins with",
    "dropout=none dropout.rate=0.5": "takes no such option",
    "+arm.unheard=1": "unknown option 'arm'",
    "+actvation=relu": "unknown option 'actvation'; did you mean activation",
    "dataset=mnist dataset.root=/nowhere dataset.download=false": "no such folder",
}
OF_SWEEPS = {
    "hydra.launcher.pack=0": "hydra.launcher.pack=0: expected auto or an integer of at least 1",
    "hydra.launcher.program=magic": "expected one of auto, batched, stacked",
    "hydra.launcher.foo=1": "unknown option 'hydra.launcher.foo'",
    "+hydra.launcher.foo=1": "unknown option 'hydra.launcher.foo'",
    "normalization=none,batch budget.batch_size=1": "a batch of one has no variance",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, mistake):
    answer = train(tmp_path / "runs", *mistake.split())
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert MISTAKES[mistake] in answer.stderr
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
def test_flags_that_do_not_go_together_are_one_line(tmp_path, flags, message):
    answer = train(tmp_path / "runs", *flags.split(), "depth=2")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    assert message in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_request_is_shown_and_not_trained(tmp_path):
    answer = train(tmp_path / "runs", "--cfg", "job", "depth=5")
    assert (answer.returncode, answer.stderr) == (
        0,
        "",
    )
    assert "depth: 5" in answer.stdout.splitlines()
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_value_that_hydra_did_not_refuse_keeps_its_traceback(monkeypatch):
    def main() -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(sys, "argv", ["train", "--multirun"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # so that it is as it was afterwards
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    with pytest.raises(ValueError, match="a defect"):
        command.run(main)


@pytest.mark.parametrize("mistake", OF_SWEEPS)
def test_a_mistake_in_a_sweep_stops_it_before_anything_trains(tmp_path, mistake):
    answer = train(tmp_path / "runs", "--multirun", "depth=2,3", *mistake.split())
    assert answer.returncode == 2
    assert OF_SWEEPS[mistake] in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for mode in ([], ["--multirun"]):
        answer = train(tmp_path / "file" / "runs", *mode, *TINY)
        assert answer.returncode == 2
        assert "runs" in answer.stderr
        assert "Traceback" not in answer.stderr
        for parents in (
            "proc",
            "proc/of/no/process",
        ):  # the system's folder, in which root itself can make nothing
            answer = train(Path("/", parents, "runs"), *mode, *TINY)
            assert (
                answer.returncode == 2
                and "runs" in answer.stderr
                and "Traceback" not in answer.stderr
            ), answer.stderr
    assert (tmp_path / "file").read_text() == "no folder"


def test_an_empty_folder_name_is_not_the_working_directory():
    with pytest.raises(RequestError, match="runs is empty"):
        writable_folder("")


@pytest.mark.parametrize("error", [UnboundLocalError, ValueError, OmegaConfBaseException])
def test_ctrl_c_is_ctrl_c_inside_code_that_meets_it_with_an_error(monkeypatch, capsys, error):
    def main() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise error("local variable 'old'")

    monkeypatch.setattr(sys, "argv", ["train", "--multirun"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # so that it is as it was afterwards
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    assert command.run(main) == 130
    assert capsys.readouterr().err.startswith("interrupted: finished trials are kept")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["depth=0"],
        ["initializer=lecun_exact", "width=1"],
        ["--multirun", "depth=2,0"],
        ["--multirun", "activation=selu,sellu"],
        ["--multirun", "hydra.launcher.pack=0"],
    ],
    ids=" ".join,
)
def test_help_and_mistakes_load_no_torch(tmp_path, arguments):
    words = ["train", *arguments, *([] if "--help" in arguments else [f"runs={tmp_path}"])]
    code = f"import sys; sys.argv = {words}\ntry:\n    import runpy; runpy.run_module('harness.train', run_name='__main__')\nexcept SystemExit: pass\nsys.stderr.write(str([m for m in ('torch', 'mlflow', 'pandas') if m in sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.stderr.endswith("[]"), answer.stderr
    assert ("activation: elu, gelu" in answer.stdout) == ("--help" in arguments)
    assert list(tmp_path.iterdir()) == []


def test_one_cell_then_a_sweep_that_knows_it(tmp_path):
    runs = tmp_path / "runs"
    alone = train(runs, *TINY)
    assert alone.returncode == 0, alone.stderr
    assert "2 trials: 0 done, 0 failed, 2 to run, in 1 pack" in alone.stderr
    sweep = train(
        runs, "--multirun", *TINY, "activation=selu,relu", "initializer=lecun_normal,he_normal"
    )
    assert sweep.returncode == 0, sweep.stderr
    # Both activations and initializers share one program, and the cell that was trained alone is not trained again.
    assert "8 trials: 2 done, 0 failed, 6 to run, in 1 pack" in sweep.stderr
    folders = list((runs / "trials").iterdir())
    assert len(folders) == 8
    assert all((folder / "done").exists() for folder in folders)
    again = train(
        runs, "--multirun", *TINY, "activation=selu,relu", "initializer=lecun_normal,he_normal"
    )
    assert "8 trials: 8 done, 0 failed, 0 to run, in 0 packs" in again.stderr
    jobs = sorted(path.name for path in max((runs / "sweeps").iterdir()).iterdir() if path.is_dir())
    assert jobs == ["0", "1", "2", "3"]


def test_a_users_own_activation_among_others(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "import torch\ndef cubed(x):\n    return x + 0.1 * x**3\ndef fails(x):\n    if x.dim() == 3: raise ValueError('not today')\n    return x\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = train(tmp_path / "runs", "--multirun", *TINY, "activation=selu,own:cubed")
    assert answer.returncode == 0, answer.stderr
    trials = [
        json.loads(path.read_text()) for path in (tmp_path / "runs" / "trials").glob("*/trial.json")
    ]
    assert sorted({trial["axes"]["activation"] for trial in trials}) == ["own:cubed", "selu"]


def test_a_failing_trial_costs_no_other_and_is_listed_last(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "def fails(x):\n    if x.dim() == 3: raise ValueError('not today')\n    return x\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = train(tmp_path / "runs", "--multirun", *TINY, "activation=selu,own:fails")
    assert answer.returncode == 1
    last = answer.stderr.strip().splitlines()[-2:]
    assert all(line.endswith("ValueError: not today") for line in last), answer.stderr
    states = [
        json.loads(path.read_text())["status"]
        for path in (tmp_path / "runs" / "trials").glob("*/status.json")
    ]
    assert sorted(states) == ["done", "done", "failed", "failed"]


def test_the_scripts_read_what_was_trained(tmp_path):
    runs = tmp_path / "runs"
    assert train(runs, "--multirun", *TINY, "activation=selu,relu", "depth=2,3").returncode == 0

    def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, f"scripts/{name}.py", "--runs", str(runs), *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    status = script("status", "--json")
    assert json.loads(status.stdout)["done"] == 8
    unread = subprocess.run(
        f"{sys.executable} scripts/status.py --runs {runs} | true",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert unread.stderr == ""
    collected = script("collect")
    assert "trials.parquet: 8 rows" in collected.stdout, collected.stderr
    report = script("report", "--quiet")
    html = Path(report.stdout.strip()).read_text()
    assert "Does it matter" in html
    assert "activation=selu,relu" in html
    assert "depth=2,3" in html
    # It opens offline: every source is inline, every link is to a chapter or to a file beside it.
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("data:image/png;base64,") >= 5
    for wrong, message in (
        (["--where", "colour=red"], "unknown axis"),
        (["--where", "depth=77"], "no trial has depth"),
        (["--where", "depth"], "expected axis=value"),
    ):
        answer = script("report", *wrong)
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert message in answer.stderr
    for name in ("status", "collect", "report", "sync_mlflow"):
        answer = subprocess.run(
            [sys.executable, f"scripts/{name}.py", "--runs", str(tmp_path / "nothing")],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert answer.returncode == 2 and answer.stderr.count("\n") == 1, answer.stderr
