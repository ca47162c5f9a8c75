"""scripts/theory.py as a user starts it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "theory.py"


def load_main():
    spec = importlib.util.spec_from_file_location("theory_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["theory_script"] = module
    spec.loader.exec_module(module)
    return module.main


main = load_main()


@pytest.fixture
def ask(capsys):
    """(exit code, parsed answer) of a command with --json."""

    def run(line: str):
        code = main([*line.split(), "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else printed.err

    return run


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_activations.py").write_text(
        "import numpy as np\n"
        "def hat(x): return np.clip(x, -1, 1)\n"
        "def pooled(x): return x.mean(axis=-1)\n"
        "def undefined(x): return np.log(x)\n"
        "def fast(x): return np.exp(x * x)\n"
        "def step(x): return np.sign(x)\n"
        "constant = 3\n"
    )
    (tmp_path / "own_torch.py").write_text(
        "import torch\n"
        "def leaky(x): return torch.nn.functional.leaky_relu(x, 0.2)\n"
        "class Twice(torch.nn.Module):\n"
        "    def forward(self, x): return 2 * torch.tanh(x)\n"
        "def total(x): return x.sum()\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_activations", "own_torch"):
        sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def test_map(ask):
    code, answer = ask("map --mu 0 --nu 1 --omega 0 --tau 1")
    assert code == 0
    assert set(answer) == {"mean", "variance", "jacobian", "spectral_norm", "theorem"}
    assert answer["variance"] == pytest.approx(1)
    assert answer["theorem"] == 1
    assert answer["spectral_norm"] == pytest.approx(0.787673360465716)
    assert answer["jacobian"][1] == pytest.approx([0, 0.782647883196813])
    assert ask("map --mu -1 --nu 3 --omega -1e-1 --tau 1.25")[1]["theorem"] == 2
    other = ask("map --mu 0 --nu 1 --omega 0 --tau 1 --alpha 1 --lam 1")[1]
    assert other["theorem"] is None
    assert other["mean"] == pytest.approx(0.16052057226656)


def test_fixed_points(ask):
    assert ask("fixed-points --omega 0 --tau 1.25") == (
        0,
        [
            {
                "mean": pytest.approx(0.1519674507),
                "variance": pytest.approx(2.178855643),
                "stable": True,
            }
        ],
    )
    assert ask("fixed-points --omega 0 --tau 3") == (0, [])


def test_parameters(ask):
    assert ask("parameters --mean 0 --variance 2") == (
        0,
        {"alpha": pytest.approx(1.971255750346), "lam": pytest.approx(1.060709076103)},
    )
    assert ask("parameters --mean -0.1 --variance 2 --omega 1 --tau 1")[1][
        "alpha"
    ] == pytest.approx(1.976902195424)


def test_card(ask):
    code, answer = ask("card selu")
    keys = {
        "q_star",
        "c_star",
        "chi_1",
        "chi_q",
        "chi_c",
        "xi_q",
        "xi_c",
        "c_map",
        "vanish_sigma_w2",
        "diverge_sigma_w2",
        "conditions",
    }
    assert code == 0
    assert keys <= set(answer)
    assert answer["xi_c"] == pytest.approx(33.6043420216)
    assert set(answer["c_map"]) == {"0", "0.25", "0.5", "0.9"}
    assert len(answer["conditions"]) == 6
    assert [name for name, condition in answer["conditions"].items() if condition["holds"]] == [
        "q_1",
        "c_0",
    ]
    code, answer = ask("card relu")
    assert code == 0
    assert answer["q_star"] is None
    assert answer["status"] == "vanishes"
    assert ask("card relu --sigma-w2 2")[1]["c_star"] == 1
    assert ask("card leaky_relu --option negative_slope=0.2")[1]["c_map"]["0.5"] == pytest.approx(
        0.56707555756568
    )


def test_edge_of_chaos(ask):
    assert ask("edge-of-chaos tanh --sigma-b2 0.05")[1] | {"others": 0} == {
        "sigma_w2": pytest.approx(1.76095464),
        "sigma_b2": 0.05,
        "q_star": pytest.approx(0.57004788),
        "stable": True,
        "others": 0,
    }
    assert ask("edge-of-chaos selu --q-star 1")[1]["sigma_w2"] == pytest.approx(0.933205801778)
    code, answer = ask("edge-of-chaos relu --sigma-b2 0.1")
    assert code == 0
    assert answer["sigma_w2"] is None
    assert answer["q_star"] is None


def test_dropout(ask):
    code, answer = ask("dropout --rate 0.05")
    assert code == 0
    assert {"a", "b", "forward_factor", "backward_factor"} <= set(answer)
    assert (answer["a"], answer["b"]) == (
        pytest.approx(0.9548444760050309),
        pytest.approx(0.08393557219381019),
    )
    assert answer["backward_factor"] == pytest.approx(0.8661415747)
    assert answer["forward_factor"] == pytest.approx(0.95 * 0.8661415747)


def test_own_callables(ask, own_module):
    answer = ask("card own_activations:hat --sigma-w2 1.2")[1]
    assert answer["kinks"] == pytest.approx([-1, 1])
    assert answer["q_star"] == pytest.approx(0.3667936188)
    told = ask("card own_activations:hat --sigma-w2 1.2 --kink -1 --kink 1")[1]
    assert told["q_star"] == pytest.approx(answer["q_star"], rel=1e-12)
    assert ask("card own_torch:leaky")[1]["c_map"]["0.5"] == pytest.approx(
        0.56707555756568, abs=1e-12
    )
    assert ask("card own_torch:Twice")[1]["numbers"]["second_moment"] == pytest.approx(
        4 * 0.394294490398
    )
    assert ask("edge-of-chaos torch:tanh --sigma-b2 0.05")[1]["sigma_w2"] == pytest.approx(
        1.76095464
    )


@pytest.mark.parametrize(
    "line, words",
    [
        ("map --mu 0 --nu 0 --omega 0 --tau 1", "nu=0 must be above 0"),
        ("map --mu 0 --nu -1 --omega 0 --tau 1", "nu=-1 must be above 0"),
        ("map --mu 0 --nu 1 --omega 0 --tau -1", "tau=-1 must not be below 0"),
        ("map --mu 0 --nu nan --omega 0 --tau 1", "nu must be a finite number"),
        ("map --mu 0 --nu one --omega 0 --tau 1", "invalid float value: 'one'"),
        ("map --mu 0 --nu 1", "--omega, --tau"),
        ("map --mu 0 --nu 1 --omega 0 --tau 1 --alpha nan", "alpha must be a finite number"),
        ("map --mu 1e308 --nu 1 --omega 10 --tau 1", "overflows"),
        ("fixed-points --omega 0 --tau 1e300", "at most 1e100"),
        ("parameters --mean 1e300 --variance 1", "must lie between"),
        ("fixed-points --omega 0 --tau -1", "tau=-1 must be above 0"),
        ("parameters --mean 0 --variance 0", "variance=0 must be above 0"),
        ("parameters --mean 5 --variance 1", "must lie between"),
        ("card sellu", "unknown activation 'sellu'; known: elu, erf, gelu"),
        ("card relu --option alpha=1", "has no option 'alpha'"),
        ("card elu --option alpha", "expected NAME=VALUE"),
        ("card relu --kink 0", "--kink is for module:function"),
        ("card own_activations:hat --option a=1", "--option is for built-in"),
        ("card selu --sigma-w2 0", "sigma_w2=0 must be"),
        ("card selu --sigma-b2 -1", "sigma_b2=-1 must be"),
        ("card nowhere:function", "cannot be loaded"),
        ("card own_activations:missing", "cannot be loaded"),
        ("card own_activations:constant", "is not callable"),
        ("card own_activations:pooled", "expected the same shape"),
        ("card own_activations:undefined", "is nan at x = "),
        ("card own_activations:fast", "grows too fast: its second moment"),
        ("card own_activations:step", "jumps at x = 0"),
        ("card own_torch:total", "expected the same shape"),
        ("card torch.nn:Linear", "cannot be made without arguments"),
        ("edge-of-chaos selu", "one of the arguments"),
        ("edge-of-chaos selu --sigma-w2 1 --q-star 1", "not allowed with argument"),
        ("edge-of-chaos selu --q-star -1", "q_star=-1"),
        ("edge-of-chaos selu --sigma-b2 -1", "sigma_b2=-1"),
        ("dropout --rate 1", "rate=1 must be in [0, 1)"),
        ("dropout --rate -0.1", "rate=-0.1"),
        ("dropout --rate 0.1 --variance 0", "variance=0"),
        ("", "COMMAND"),
        ("mop --mu 1", "invalid choice: 'mop'"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(line, words, own_module, capsys):
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert words in printed.err


@pytest.mark.parametrize(
    "line",
    [
        "map --mu 0.1 --nu 1.5 --omega 0.1 --tau 1.1",
        "fixed-points --omega 0 --tau 3",
        "parameters --mean 0 --variance 1",
        "card gelu --sigma-w2 2 --sigma-b2 0.1",
        "card relu",
        "card relu --sigma-w2 2",
        "edge-of-chaos relu --sigma-b2 1",
        "dropout --rate 0.1",
        "dropout --rate 0.1 --lam 0",
        "map --mu 0 --nu 1 --omega 0 --tau 0",
        "card tanh --sigma-w2 1e6 --sigma-b2 1e5",
        "fixed-points --omega 1e6 --tau 1",
        "card leaky_relu --option negative_slope=-1",
    ],
)
def test_answers_in_words(line, capsys):
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert out.strip()
    assert "nan" not in out
    assert "None" not in out
    assert "np.float64" not in out


def test_in_a_shell(own_module):
    """Real processes: an answer, a wrong request, a module in the working directory, a closed pipe."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    run = lambda *words: subprocess.run(
        [sys.executable, SCRIPT, *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=own_module,
    )  # noqa: E731
    answer = run("dropout", "--rate", "0.05", "--json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["a"] == pytest.approx(0.9548444760050309)
    wrong = run("map", "--mu", "0", "--nu", "0", "--omega", "0", "--tau", "1")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: g: nu=0 must be above 0, it is the variance of the inputs\n"
    assert not wrong.stdout
    assert run("card", "own_activations:hat").returncode == 0
    piped = subprocess.run(
        f"{sys.executable} {SCRIPT} card selu | head -1",
        shell=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert piped.stdout.startswith("selu at")
    assert not piped.stderr
