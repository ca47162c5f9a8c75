"""Composing once for each choice of files gives what Hydra composes."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hydra_plugins.harness_packed.launcher import ComposeOnce
from omegaconf import DictConfig, OmegaConf

from harness.command import register_schema, to_config
from harness.schema import CONF_DIR

JOBS = [
    [], ["depth=3"], ["depth=3", "width=input"], ["activation=relu", "depth=5"], ["initializer=gaussian", "initializer.sigma_w2=1.5", "optimizer.learning_rate=1e-3"],
    ["seeds=[3,7]", "architecture=cnn", "architecture.head=average"], ["experiment=quickstart", "depth=4"], ["+dataset.unheard=1"], ["dept=3"], ["depth=three"], ["activation=sellu"],
    ["budget.epochs=null", "budget.steps=5"], ["depth=3", "depth=4"], ["optimizer.learning_rate=0.1", "optimizer=sgd"],
]  # fmt: skip


@pytest.fixture
def loaders():
    register_schema()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        loader: ConfigLoaderImpl = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["seeds=2"], run_mode=RunMode.MULTIRUN)
        yield loader, ComposeOnce(loader), master


def outcome(loader, master: DictConfig, overrides: list[str]) -> object:
    try:
        return OmegaConf.to_container(loader.load_sweep_config(master, overrides), resolve=False)
    except Exception as error:  # noqa: BLE001 - the kind and the text are what is compared
        return type(error), str(error)


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_a_job_is_what_hydra_composes(loaders, job):
    plain, once, master = loaders
    expected = outcome(plain, master, ["seeds=2", *job])
    for _ in range(2):  # read, and kept
        assert outcome(once, master, ["seeds=2", *job]) == expected


def test_a_copy_is_ones_own_and_files_are_read_once(loaders, monkeypatch):
    plain, once, master = loaders
    composed = []
    real = plain.load_sweep_config
    monkeypatch.setattr(plain, "load_sweep_config", lambda *arguments: composed.append(arguments) or real(*arguments))
    first, second = (once.load_sweep_config(master, ["activation=relu", f"depth={depth}"]) for depth in (3, 4))
    assert (first.depth, second.depth, len(composed)) == (3, 4, 1)
    first.optimizer.learning_rate = 7.0
    assert once.load_sweep_config(master, ["activation=relu", "depth=3"]).optimizer.learning_rate != 7.0
    assert to_config(second).activation.name == "relu"
