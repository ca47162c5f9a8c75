"""The command `selu-theory` and scripts/theory.py, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands.selu_theory import main

SCRIPT = Path(__file__).parents[2] / "scripts" / "theory.py"


@pytest.fixture
def ask(capsys):
    """Function that runs a command with --json: its exit code, and the parsed answer or stderr."""

    def run(line: str):
        code = main([*line.split(), "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else printed.err

    return run


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Working directory with a module of NumPy functions and one of torch functions."""
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


def test_map_answers_moments_jacobian_norm_and_theorem(ask):
    code, answer = ask("map --mu 0 --nu 1 --omega 0 --tau 1")
    assert code == 0
    assert set(answer) == {"mean", "variance", "jacobian", "spectral_norm", "theorem"}
    assert answer["variance"] == pytest.approx(1)
    assert answer["theorem"] == 1
    assert answer["spectral_norm"] == pytest.approx(0.787673360465716)
    assert answer["jacobian"][1] == pytest.approx([0, 0.782647883196813])


def test_map_takes_negative_numbers_with_an_exponent(ask):
    assert ask("map --mu -1 --nu 3 --omega -1e-1 --tau 1.25")[1]["theorem"] == 2


def test_map_names_no_theorem_for_other_parameters_than_selus(ask):
    _, answer = ask("map --mu 0 --nu 1 --omega 0 --tau 1 --alpha 1 --lam 1")
    assert answer["theorem"] is None
    assert answer["mean"] == pytest.approx(0.16052057226656)


def test_fixed_points_lists_all_or_none(ask):
    code, (point,) = ask("fixed-points --omega 0 --tau 1.25")
    assert code == 0
    assert point == {
        "mean": pytest.approx(0.1519674507),
        "variance": pytest.approx(2.178855643),
        "stable": True,
    }
    assert ask("fixed-points --omega 0 --tau 3") == (0, [])


def test_parameters_answers_alpha_and_lambda(ask):
    code, answer = ask("parameters --mean 0 --variance 2")
    assert code == 0
    assert answer == {
        "alpha": pytest.approx(1.971255750346),
        "lam": pytest.approx(1.060709076103),
    }
    _, answer = ask("parameters --mean -0.1 --variance 2 --omega 1 --tau 1")
    assert answer["alpha"] == pytest.approx(1.976902195424)


def test_card_of_selu(ask):
    code, answer = ask("card selu")
    assert code == 0
    assert set(answer) >= {
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
    assert answer["xi_c"] == pytest.approx(33.6043420216)
    assert set(answer["c_map"]) == {"0", "0.25", "0.5", "0.9"}
    conditions = answer["conditions"]
    assert len(conditions) == 6
    assert [name for name in conditions if conditions[name]["holds"]] == ["q_1", "c_0"]


def test_card_of_relu_has_a_fixed_point_with_he_weights_only(ask):
    code, answer = ask("card relu")
    assert code == 0
    assert answer["q_star"] is None
    assert answer["status"] == "vanishes"
    assert ask("card relu --sigma-w2 2")[1]["c_star"] == 1


def test_card_takes_an_option_of_a_built_in_activation(ask):
    _, answer = ask("card leaky_relu --option negative_slope=0.2")
    assert answer["c_map"]["0.5"] == pytest.approx(0.56707555756568)


def test_card_takes_the_base_and_the_layers_of_a_tailored_activation(ask):
    _, answer = ask("card gpn --option base=gelu")
    assert answer["numbers"]["second_moment"] == pytest.approx(1)
    _, answer = ask("card dks --option base=softplus --option layers=4 --option slope=1.5")
    assert answer["numbers"]["slope_square"] == pytest.approx(1.5**0.25)
    _, answer = ask("card tat --option base=leaky_relu --option layers=20")
    assert answer["numbers"]["slope_square"] == pytest.approx(1)


def test_edge_of_chaos_answers_a_point_or_none(ask):
    _, answer = ask("edge-of-chaos tanh --sigma-b2 0.05")
    del answer["others"]
    assert answer == {
        "sigma_w2": pytest.approx(1.76095464),
        "sigma_b2": 0.05,
        "q_star": pytest.approx(0.57004788),
        "stable": True,
    }
    _, answer = ask("edge-of-chaos selu --q-star 1")
    assert answer["sigma_w2"] == pytest.approx(0.933205801778)
    code, answer = ask("edge-of-chaos relu --sigma-b2 0.1")
    assert code == 0
    assert answer["sigma_w2"] is None
    assert answer["q_star"] is None


def test_dropout_answers_constants_and_factors(ask):
    code, answer = ask("dropout --rate 0.05")
    assert code == 0
    assert set(answer) >= {"a", "b", "forward_factor", "backward_factor"}
    assert answer["a"] == pytest.approx(0.9548444760050309)
    assert answer["b"] == pytest.approx(0.08393557219381019)
    assert answer["backward_factor"] == pytest.approx(0.8661415747)
    assert answer["forward_factor"] == pytest.approx(0.95 * 0.8661415747)


def test_a_users_own_numpy_function_has_a_card(ask, own_module):
    _, answer = ask("card own_activations:hat --sigma-w2 1.2")
    assert answer["kinks"] == pytest.approx([-1, 1])
    assert answer["q_star"] == pytest.approx(0.3667936188)
    _, with_given_kinks = ask("card own_activations:hat --sigma-w2 1.2 --kink -1 --kink 1")
    assert with_given_kinks["q_star"] == pytest.approx(answer["q_star"], rel=1e-12)


def test_a_users_own_torch_function_or_module_has_a_card(ask, own_module):
    _, answer = ask("card own_torch:leaky")
    assert answer["c_map"]["0.5"] == pytest.approx(0.56707555756568, abs=1e-12)
    _, answer = ask("card own_torch:Twice")
    assert answer["numbers"]["second_moment"] == pytest.approx(4 * 0.394294490398)
    _, answer = ask("edge-of-chaos torch:tanh --sigma-b2 0.05")
    assert answer["sigma_w2"] == pytest.approx(1.76095464)


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
        ("card sellu", "unknown activation 'sellu'; known: celu, "),
        ("card relu --option alpha=1", "has no option 'alpha'"),
        ("card elu --option alpha", "expected NAME=VALUE"),
        (
            "card elu --option alpha=",
            "expected NAME=VALUE, such as negative_slope=0.2 or base=gelu",
        ),
        ("card elu --option alpha=one", "alpha='one' must be a finite number"),
        ("card celu --option alpha=0", "activation.alpha=0: expected a number above 0 for celu"),
        ("card gpn --option base=rely", "activation.base=rely: expected one of celu, elu"),
        (
            "card tat --option layers=2.5",
            "activation.layers=2.5: expected an integer of at least 1",
        ),
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
def test_a_wrong_request_is_one_line_with_exit_code_2(line, words, own_module, capsys):
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
def test_an_answer_in_words_has_no_python_values(line, capsys):
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert out.strip()
    assert "nan" not in out
    assert "None" not in out
    assert "np.float64" not in out


@pytest.fixture
def run_script(own_module):
    """Function that runs scripts/theory.py in a process of its own, in the user's folder."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, SCRIPT, *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=own_module,
        )

    return run


def test_the_script_prints_an_answer(run_script):
    answer = run_script("dropout", "--rate", "0.05", "--json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["a"] == pytest.approx(0.9548444760050309)


def test_the_script_ends_with_exit_code_2_after_a_wrong_request(run_script):
    wrong = run_script("map", "--mu", "0", "--nu", "0", "--omega", "0", "--tau", "1")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: g: nu=0 must be above 0, it is the variance of the inputs\n"
    assert not wrong.stdout


def test_the_script_finds_modules_in_the_working_directory(run_script):
    assert run_script("card", "own_activations:hat").returncode == 0


def test_the_script_ends_quietly_when_its_pipe_closes():
    piped = subprocess.run(
        f"{sys.executable} {SCRIPT} card selu | head -1",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert piped.stdout.startswith("selu at")
    assert not piped.stderr


@pytest.mark.parametrize("line", ["--help", "map --mu 0 --nu 0 --omega 0 --tau 1", "card sellu"])
def test_help_and_wrong_arguments_load_nothing_heavy(line):
    code = (
        "import contextlib, sys\n"
        "from harness.commands.selu_theory import main\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    main({line.split()})\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'hydra', 'mlflow'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stderr
