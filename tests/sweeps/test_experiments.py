"""Every experiment of conf composes, and its cells train in a short form."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from harness.configuration.composing import register_schema, to_config
from harness.configuration.hydra_version import VERSION_OPTIONS
from harness.configuration.named_networks import is_named
from harness.configuration.options import CONF_DIR
from harness.configuration.schema import Config
from harness.configuration.validation import validate
from harness.sweeps.cells import cell
from harness.sweeps.runner import run_pack

FOLDER = CONF_DIR / "experiment"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
# Sets that need no download; others are replaced by digits.
BUNDLED = ("digits", "gaussian")
TINY = (
    "seeds=1",
    "budget.epochs=null",
    "budget.steps=2",
    "budget.batch_size=16",
    "budget.evaluations=1",
    "budget.probes=2",
    "probe.samples=64",
)
MOST_LAYERS = 4
# Here lies the module that stands for a large named network.
NETWORKS = Path(__file__).parents[1] / "networks"


def composed(name: str, overrides: list[str]):
    register_schema()
    with initialize_config_dir(str(CONF_DIR), **VERSION_OPTIONS):
        return compose("config", [f"experiment={name}", *overrides], return_hydra_config=True)


@cache
def axes(name: str) -> dict[str, list[str]]:
    """The values of every axis that an experiment sweeps, as overrides."""
    params = composed(name, [])["hydra"]["sweeper"]["params"] or {}
    parsed = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in params.items()])
    values = {}
    for override in parsed:
        if override.is_sweep_override():
            values[override.key_or_group] = list(override.sweep_string_iterator())
        else:
            values[override.key_or_group] = [override.get_value_element_as_str()]
    return values


def request(name: str, end: int) -> Config:
    """One job of an experiment with a tiny budget: the first value of each axis, or the last."""
    chosen = {axis: values[end] for axis, values in axes(name).items()}
    config = to_config(composed(name, [f"{axis}={value}" for axis, value in chosen.items()]))
    validate(config)  # as it is
    tiny = [*TINY, *_tiny_size(config)]
    if config.dataset.name not in BUNDLED:
        tiny += ["dataset=digits", "dataset.training_samples=null"]
    replaced = {word.partition("=")[0] for word in tiny}
    kept = [f"{axis}={value}" for axis, value in chosen.items() if axis not in replaced]
    return to_config(composed(name, [*kept, *tiny]))


def _tiny_size(config: Config) -> list[str]:
    """Returns the overrides that make a network small; one of listed layers stays as it is."""
    if is_named(config.architecture):
        return ["architecture.library=factory", "architecture.name=named_modules:Functional"]
    if config.architecture.layers is not None:
        return []
    return ["width=8", f"depth={min(config.depth, MOST_LAYERS)}"]


def test_experiments_are_found():
    assert "quickstart" in NAMES


@pytest.mark.parametrize("end", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_a_cell_of_an_experiment_trains(name, end, monkeypatch):
    monkeypatch.syspath_prepend(NETWORKS)
    config = request(name, end)
    validate(config)
    trained = cell(config)
    results = run_pack(trained.jobs, "auto", lambda steps: None)
    assert [len(result.layers["layer"]) for result in results] == [2 * trained.config.depth]


@pytest.mark.slow
def test_the_named_network_of_an_experiment_trains_itself():
    config = to_config(composed("named_networks", list(TINY)))
    trained = cell(config)
    (result,) = run_pack(trained.jobs, "auto", lambda steps: None)
    assert len(result.layers["layer"]) == 2 * 17


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_for_several_cells(name):
    assert any(len(values) > 1 for values in axes(name).values())
    assert Path(FOLDER, f"{name}.yaml").read_text().startswith("# @package _global_\n# Question: ")
