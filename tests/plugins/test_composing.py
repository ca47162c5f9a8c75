"""Composing once for each choice of files gives the configurations that Hydra composes."""

from __future__ import annotations

import itertools

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hydra_plugins.harness_packed.compose_once import ComposeOnce
from omegaconf import DictConfig, OmegaConf

from harness.configuration.composing import register_schema, to_config
from harness.configuration.hydra_version import VERSION_OPTIONS
from harness.configuration.schema import CONF_DIR

JOBS = [
    [],
    ["depth=3"],
    ["depth=3", "width=input"],
    ["activation=relu", "depth=5"],
    ["initializer=gaussian", "initializer.sigma_w2=1.5", "optimizer.learning_rate=1e-3"],
    ["seeds=[3,7]", "architecture=cnn", "architecture.head=average"],
    ["experiment=quickstart", "depth=4"],
    ["+dataset.unheard=1"],
    ["dept=3"],
    ["depth=three"],
    ["activation=sellu"],
    ["budget.epochs=null", "budget.steps=5"],
    ["depth=3", "depth=4"],
    ["optimizer.learning_rate=0.1", "optimizer=sgd"],
]


@pytest.fixture
def loaders():
    register_schema()
    with initialize_config_dir(str(CONF_DIR), **VERSION_OPTIONS):
        loader: ConfigLoaderImpl = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["seeds=2"], run_mode=RunMode.MULTIRUN)
        yield loader, ComposeOnce(loader), master


def outcome(loader, master: DictConfig, overrides: list[str]) -> object:
    try:
        return OmegaConf.to_container(loader.load_sweep_config(master, overrides), resolve=False)
    except Exception as error:  # of any kind: kind and text are compared
        return type(error), str(error)


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_a_job_equals_the_job_that_hydra_composes(loaders, job):
    plain, once, master = loaders
    expected = outcome(plain, master, ["seeds=2", *job])
    for _ in range(2):  # composed from files, then from the kept copy
        assert outcome(once, master, ["seeds=2", *job]) == expected


def test_jobs_have_copies_of_their_own_and_files_are_read_once(loaders, monkeypatch):
    plain, once, master = loaders
    composed = counted(plain, monkeypatch)
    first, second = (
        once.load_sweep_config(master, ["activation=relu", f"depth={depth}"]) for depth in (3, 4)
    )
    assert (first.depth, second.depth, len(composed)) == (3, 4, 1)
    first.optimizer.learning_rate = 7.0
    assert (
        once.load_sweep_config(master, ["activation=relu", "depth=3"]).optimizer.learning_rate
        != 7.0
    )
    assert to_config(second).activation.name == "relu"


def counted(plain, monkeypatch) -> list:
    """Lists the calls of Hydra's own composition as they come."""
    composed = []
    real = plain.load_sweep_config

    def load_sweep_config(master, overrides):
        composed.append(overrides)
        return real(master, overrides)

    monkeypatch.setattr(plain, "load_sweep_config", load_sweep_config)
    return composed


def metadata(node, path: str = "") -> dict[str, tuple]:
    """Returns the metadata of every node: flags, types, whether it may be None, key."""
    data = node._metadata
    rows = {path: (str(data.flags), data.ref_type, data.object_type, data.optional, data.key)}
    if OmegaConf.is_dict(node) and not (node._is_none() or node._is_missing()):
        for key in node:
            rows |= metadata(node._get_node(key), f"{path}.{key}")
    return rows


def choices_of(axis: str, names: str) -> list[str]:
    return [f"{axis}={name}" for name in names.split()]


def test_many_choices_are_joined_from_each_alone(loaders, monkeypatch):
    plain, once, master = loaders
    axes = [
        ("activation", "selu relu gelu"),
        ("initializer", "he_normal lecun_normal gaussian"),
        ("normalization", "none batch"),
        ("dropout", "none alpha"),
        ("dataset", "digits mnist"),
    ]
    choices = [choices_of(axis, names) for axis, names in axes]
    jobs = [["seeds=2", *job, "depth=3"] for job in itertools.product(*choices)]
    composed = counted(plain, monkeypatch)
    configs = [once.load_sweep_config(master, job) for job in jobs]
    assert len(jobs) == 72
    assert len(composed) < 24
    monkeypatch.undo()
    for job, config in zip(jobs[::5], configs[::5], strict=True):
        expected = plain.load_sweep_config(master, job)
        assert OmegaConf.to_yaml(config, sort_keys=False) == OmegaConf.to_yaml(
            expected, sort_keys=False
        )
        assert metadata(config) == metadata(expected)


def test_only_so_many_combinations_of_choices_are_kept(loaders, monkeypatch):
    plain, once, master = loaders
    monkeypatch.setattr(once.__class__.__module__ + "._MOST_KEPT", 8)
    axes = [
        ("activation", "selu relu gelu"),
        ("initializer", "he_normal lecun_normal gaussian"),
        ("normalization", "none batch"),
        ("dropout", "none alpha"),
    ]
    jobs = [list(job) for job in itertools.product(*(choices_of(*axis) for axis in axes))]
    composed = counted(plain, monkeypatch)
    first, second = ([outcome(once, master, job) for job in jobs] for _ in range(2))
    assert first == second
    assert len(once._composed) < 16 < len(jobs)
    assert len(composed) < 24


FILES = {
    "main.yaml": "defaults:\n  - first: a\n  - second: c\n  - third: e\n  - _self_\n",
    "first/a.yaml": "name: a\nsize: 1\n",
    "first/b.yaml": "name: b\nsize: 2\n",
    "second/c.yaml": "name: c\n",
    "second/d.yaml": "name: d\n",
    **{f"third/{name}.yaml": f"name: {name}\n" for name in "efghi"},
}
# Files that make a choice change more than its own part. The difference shows only together with
# certain other choices.
ENTANGLED = {
    "a file for two choices": {
        "main.yaml": FILES["main.yaml"].replace(
            "  - _self_\n", "  - optional both: ${first}_${second}\n  - _self_\n"
        ),
        "both/b_d.yaml": "name: both\n",
    },
    "a package of its own": {
        "second/d.yaml": "# @package _global_\nfirst:\n  size: 1\nsecond:\n  name: d\n"
    },
    "a file that asks for another": {
        "second/d.yaml": "defaults:\n  - /first@first: a\n",
    },
}


@pytest.mark.parametrize("extra", [{}, *ENTANGLED.values()], ids=["each alone", *ENTANGLED])
def test_entangled_choices_equal_those_that_hydra_composes(extra, tmp_path, monkeypatch):
    for name, text in (FILES | extra).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    choices = [choices_of("first", "a b"), choices_of("second", "c d")]
    choices += [choices_of("third", "e f g h i"), ["first.size=7"]]
    jobs = [list(job) for job in itertools.product(*choices)]
    with initialize_config_dir(str(tmp_path), **VERSION_OPTIONS):
        plain: ConfigLoaderImpl = GlobalHydra.instance().config_loader()
        master = plain.load_configuration("main", [], run_mode=RunMode.MULTIRUN)
        expected = [outcome(plain, master, job) for job in jobs]
        composed = counted(plain, monkeypatch)
        once = ComposeOnce(plain)
        assert [outcome(once, master, job) for job in jobs] == expected
        assert extra or len(composed) < 15  # of 20 different choices of files
