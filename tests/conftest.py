"""Fixtures that several folders share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from harness.configuration.layer_lists import register_resolvers
from harness.configuration.schema import CONF_DIR, Config
from harness.configuration.trial import Trial, trials

_ROOT = Path(__file__).resolve().parents[1]
_COPIED = (
    "conf",
    "harness",
    "scripts",
    "tests",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
    "setup.py",
)
_DEFAULTS = {
    "dataset": "digits",
    "preprocessing": "global",
    "augmentation": "none",
    "architecture": "mlp",
    "activation": "selu",
    "initializer": "lecun_normal",
    "normalization": "none",
    "dropout": "none",
    "readout": "linear",
    "optimizer": "momentum",
    "schedule": "constant",
    "budget": "short",
    "probe": "standard",
    "search": "none",
    "tracking": "none",
}


register_resolvers()


@pytest.fixture(autouse=True)
def short_errors(monkeypatch) -> None:
    """Takes back what a command line that ran within the test has set for its process."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("HYDRA_FULL_ERROR")


@pytest.fixture
def make_config(tmp_path) -> Callable[..., Config]:
    """Makes a request from the files in conf.

    For example `make_config(activation="relu", depth=4, **{"budget.steps": 3})`.
    """

    def make(**choices: Any) -> Config:
        values: dict[str, Any] = {
            "runs": str(tmp_path / "runs"),
            "depth": "${listed_depth:8}",
            "width": "${listed_width:64}",
        }
        request = OmegaConf.structured(Config)
        for group, default in _DEFAULTS.items():
            name = choices.pop(group, default)
            file = OmegaConf.load(CONF_DIR / group / f"{name}.yaml")
            request[group] = OmegaConf.merge(request[group], file)
        for key, value in (values | choices).items():
            OmegaConf.update(request, key, value)
        return OmegaConf.to_object(request)

    return make


@pytest.fixture
def make_trial(make_config) -> Callable[..., Trial]:
    """Makes one trial of such a request, for example `make_trial(seed=3, activation="relu")`."""

    def make(seed: int = 0, **choices: Any) -> Trial:
        return trials(make_config(**choices, seeds=[seed]))[0]

    return make


@pytest.fixture(scope="session")
def copy_project() -> Callable[[Path], None]:
    """Copies the project's files, without results and without an environment, to a new folder."""

    def copy(folder: Path) -> None:
        folder.mkdir()
        for name in _COPIED:
            if (_ROOT / name).is_dir():
                # Compiled files go along, so that the copy's first import is as fast as any.
                ignored = shutil.ignore_patterns("*.egg-info")
                shutil.copytree(_ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy(_ROOT / name, folder / name)

    return copy
