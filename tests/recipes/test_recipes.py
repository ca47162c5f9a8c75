"""The recipes of CONTRIBUTING.md, followed in a copy of the project."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas
import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# A place, in words that say how, and the block that follows.
STEP = re.compile(
    r"\*\*`(?P<path>[^`]+)`\*\*, (?P<how>new|beside the others|in `\w+`):\n\n"
    r"```\w+\n(?P<block>.*?)```\n",
    re.DOTALL,
)
MOST_PLACES = {
    "An activation": 2,
    "An initializer": 2,
    "An architecture": 2,
    "A data set": 3,  # one of them a reader, which is needed only where none fits
    "A statistic": 1,
    "A claim": 1,
}
REQUEST = {
    "activation": "softshrink",
    "initializer": "he_fan_out",
    "architecture": "conic",
    "dataset": "breast_cancer",
}
TINY = ("depth=3", "width=16", "budget.epochs=null", "budget.steps=2", "budget.evaluations=1")


class Step(NamedTuple):
    """One change that a recipe asks for."""

    path: str
    how: str
    block: str


def recipes() -> dict[str, list[Step]]:
    """The steps of each recipe by its heading."""
    chapter = GUIDE.partition("## Recipes\n")[2]
    sections = re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]
    steps = {}
    for section in sections:
        heading, _, text = section.partition("\n")
        steps[heading] = [Step(**match.groupdict()) for match in STEP.finditer(text)]
    return steps


def follow(step: Step, project: Path) -> None:
    """Makes one change."""
    path = project / step.path
    if step.how == "new":
        assert not path.exists()
        path.write_text(step.block, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if step.how == "beside the others":
        path.write_text(f"{text}\n\n{step.block}", encoding="utf-8")
        return
    name = step.how.removeprefix("in ").strip("`")
    start = text.index(f"\n{name} = ")
    end = min(text.index(bracket, start) for bracket in ("\n)", "\n}") if bracket in text[start:])
    path.write_text(f"{text[: end + 1]}{step.block}{text[end + 1 :]}", encoding="utf-8")


@pytest.fixture(scope="module")
def project(copy_project, tmp_path_factory) -> Path:
    """A copy of the project in which every recipe has been followed."""
    folder = tmp_path_factory.mktemp("recipes") / "project"
    copy_project(folder)
    for steps in recipes().values():
        for step in steps:
            follow(step, folder)
    return folder


def run(project: Path, *words: object, seconds: float = 300) -> str:
    """Runs Python in the copy, which must succeed, and returns its output.

    It is ended after so many seconds, so that what hangs does not hold the tests.
    """
    command = [sys.executable, *map(str, words)]
    paths = f"{project}{os.pathsep}{project / 'harness' / 'plugins'}"
    environment = os.environ | {"PYTHONPATH": paths}
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, cwd=project, env=environment
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def theory(project: Path, *words: object) -> dict:
    return json.loads(run(project, "scripts/theory.py", *words, "--json"))


@pytest.fixture(scope="module")
def sweep(project) -> Path:
    """The results of a tiny sweep over the new things, beside SELU."""
    request = [f"{axis}={value}" for axis, value in REQUEST.items() if axis != "activation"]
    options = [*request, *TINY, "preprocessing=per_pixel", "seeds=1", "tracking=none"]
    run(project, "-m", "harness.train", "--multirun", "activation=selu,softshrink", *options)
    return project / "runs"


@pytest.fixture(scope="module")
def report(project, sweep) -> str:
    path = run(project, "scripts/report.py", "--runs", sweep, "--quiet").strip()
    return Path(path).read_text(encoding="utf-8")


def test_every_recipe_has_its_steps():
    assert {heading: len(steps) > 0 for heading, steps in recipes().items()} == dict.fromkeys(
        MOST_PLACES, True
    )
    assert len(STEP.findall(GUIDE)) == GUIDE.count("\n**`")


@pytest.mark.parametrize("recipe", MOST_PLACES)
def test_a_recipe_touches_few_places_of_the_product(recipe):
    places = [step.path for step in recipes()[recipe] if not step.path.startswith("tests/")]
    assert len(places) <= MOST_PLACES[recipe]


def test_help_lists_every_new_name(project):
    text = run(project, "-m", "harness.train", "--help")
    for axis, name in REQUEST.items():
        (names,) = re.findall(rf"^{axis}: (.+)$", text, re.MULTILINE)
        assert name in names.split(", ")


def test_theory_knows_the_new_activation(project):
    numbers = theory(project, "card", "softshrink")["numbers"]
    # E (|z| - l)^2 over |z| > l is 2 ((1 + l^2) Phi(-l) - l phi(l)), here with l = 0.5.
    density = math.exp(-0.125) / math.sqrt(2 * math.pi)
    tail = 0.5 * math.erfc(0.5 / math.sqrt(2))
    assert numbers["mean"] == pytest.approx(0.0, abs=1e-12)
    assert numbers["second_moment"] == pytest.approx(2 * (1.25 * tail - 0.5 * density), rel=1e-9)


def test_theory_predicts_the_new_network(project):
    words = ["predict", *(f"{axis}={value}" for axis, value in REQUEST.items())]
    layers = theory(project, *words, *TINY[:2])["layers"]
    assert [layer["units"] for layer in layers] == [16, 8, 4]


def test_a_sweep_trains_the_new_things_and_fills_the_new_columns(sweep):
    trials = [
        json.loads((folder / "trial.json").read_text()) for folder in (sweep / "trials").iterdir()
    ]
    names = {axis: {trial["spec"][axis]["name"] for trial in trials} for axis in REQUEST}
    assert names == {axis: {name} for axis, name in REQUEST.items()} | {
        "activation": {"selu", "softshrink"}
    }
    for folder in (sweep / "trials").iterdir():
        assert (folder / "done").exists()
        layers = pandas.read_parquet(folder / "layers.parquet")
        assert layers["negative_share_mean"].between(0.05, 0.95).all()
        assert layers["negative_share_sd"].notna().all()


def test_the_report_shows_the_new_things(report):
    for name in ("softshrink", "he_fan_out", "conic", "breast_cancer"):
        assert name in report


def test_the_new_claim_is_decided_with_the_others(project, sweep):
    text = run(project, "scripts/report.py", "--runs", sweep, "--claims", "--format", "json")
    (claim,) = [entry for entry in json.loads(text) if entry["name"] == "depth_costs_accuracy"]
    assert claim["verdict"] == "not enough data"
    assert claim["command"].endswith("experiment=reference/training")


def test_the_layers_of_the_guide_are_those_that_are_checked():
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    checked = re.search(r"^layers = \[\n(.*?)^\]", contracts, re.MULTILINE | re.DOTALL)[1]
    listed = GUIDE.partition("## Layers")[2].partition("## Recipes")[0]
    names = [
        re.findall(r"`(\w+)`(?=[:,.]| *$)", line)
        for line in re.findall(r"^\d+\. (.*)", listed, re.MULTILINE)
    ]
    assert names == [re.findall(r"\w+", line) for line in checked.splitlines()]


@pytest.mark.slow
def test_the_tests_of_declarations_pass_with_the_new_things(project):
    run(project, "scripts/document.py")
    tests = (
        "tests/configuration/test_reference.py",
        "tests/configuration/test_trial.py",
        "tests/data/test_catalog.py",
        "tests/networks",
        "tests/probes/test_column_reference.py",
        "tests/probes/test_statistic_declarations.py",
        "tests/theory/test_built_in_activations.py",
    )
    run(project, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests, seconds=3000)
