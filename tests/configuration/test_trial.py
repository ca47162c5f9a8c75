"""The id of a trial depends on what can change a number, and on nothing else."""

from __future__ import annotations

import pytest

from harness.configuration.composing import compose
from harness.configuration.options import known_names
from harness.configuration.trial import Trial, trials
from harness.data.catalog import datasets
from harness.data.preprocessing import preprocessings
from harness.seeding import purpose_seed
from harness.training.schedules import schedules

GOLDEN = [
    "dataset=digits",
    "preprocessing=global",
    "architecture=mlp",
    "depth=8",
    "width=64",
    "activation=selu",
    "initializer=lecun_normal",
    "normalization=none",
    "dropout=none",
    "optimizer=momentum",
    "optimizer.learning_rate=0.01",
    "schedule=constant",
    "budget=default",
    "probe=standard",
    "seeds=[0]",
]


def first_trial(*overrides: str) -> Trial:
    return trials(compose(list(overrides)))[0]


def test_the_id_of_a_golden_trial_is_frozen():
    # A changed id orphans every stored result: change it only together with RULES_VERSION.
    trial = first_trial(*GOLDEN)
    assert trial.spec["rules_version"] == 1
    assert (trial.cell_id, trial.trial_id) == ("241d7f6d347c3f0a", "005411bcf7686d82")


@pytest.mark.parametrize(
    "overrides, trial_id",
    [
        ("architecture=cnn", "a4e23dd084882675"),
        ("activation=elu", "110df5530523d21c"),
        ("activation=leaky_relu activation.negative_slope=0.2", "d2dbee73168e2d04"),
        ("initializer=gaussian initializer.sigma_b2=0.1", "49c46c6277fbdd2b"),
        ("initializer=pytorch_default", "5f6cceab7b4e281f"),
        ("normalization=layer normalization.position=after", "61b7f9d666074b21"),
        ("normalization=weight_standardization", "680dad3892ac57c8"),
        ("dropout=alpha", "fabab83978f5ba9d"),
        ("optimizer=adamw", "03fa47a8f59c0f7b"),
        ("schedule=warmup_cosine", "66704bf8907114bb"),
        ("preprocessing=zca", "8f645e5a13a75c0a"),
        ("dataset=gaussian", "3fbc02eff8aa12dd"),
        ("budget=initialization", "106253b0a4dfcb9f"),
        ("repair=lsuv", "daf9ca6581818601"),
        ("readout.initializer=he_normal readout.bias=zeros", "cefde665abfe3b5f"),
    ],
)
def test_the_ids_of_options_are_frozen(overrides, trial_id):
    assert first_trial(*GOLDEN, *overrides.split()).trial_id == trial_id


@pytest.mark.parametrize(
    "overrides, trial_id",
    [
        ("width=[512,256]", "1867bdc945959165"),
        ("architecture=resnet", "332c088f61100f28"),
        ("architecture=stack", "d4a0577f2536e29b"),
        ("architecture=stack architecture.layers=[{conv:8,kernel:5}]", "1c20e2c4353f8a38"),
    ],
)
def test_the_ids_of_lists_are_frozen(overrides, trial_id):
    assert first_trial(*overrides.split()).trial_id == trial_id


@pytest.mark.parametrize(
    "override",
    [
        "runs=/elsewhere",
        "tracking=none",
        "tracking.experiment=other",
        "device=cpu",
        "dataset.root=/elsewhere",
        "dataset.download=false",
        "dataset.residency=streamed",
        "hydra.launcher.pack=3",
        "seeds=[0,5]",
        "normalization.position=after",  # There is no normalization.
    ],
)
def test_trial_id_ignores_paths_devices_and_tracking(override):
    assert first_trial(override).trial_id == first_trial().trial_id


CHANGES = [
    "dataset=gaussian",
    "dataset.split_seed=1",
    "dataset.validation_share=0.3",
    "dataset.training_samples=500",
    "preprocessing=raw",
    "preprocessing.shift=0.5",
    "augmentation=crop_flip",
    "augmentation=crop_flip augmentation.flip=0",
    "architecture=cnn",
    "depth=9",
    "width=65",
    "width=[65,64]",
    "architecture=stack",
    "architecture=resnet",
    "architecture=resnet architecture.residual=scaled",
    "architecture=stack architecture.layers=[{dense:64}]",
    "readout.initializer=he_normal",
    "readout.bias=none",
    "activation=elu",
    "initializer=he_normal",
    "normalization=batch",
    "dropout=alpha",
    "optimizer=adam",
    "optimizer.learning_rate=0.02",
    "optimizer.weight_decay=0.1",
    "schedule=cosine",
    "budget.epochs=31",
    "budget.batch_size=32",
    "budget.evaluations=11",
    "budget.probes=6",
    "probe.samples=511",
    "precision=bfloat16",
    "repair=center_rows",
    "seeds=[1]",
]


def test_every_change_of_a_number_changes_the_trial_id():
    ids = [first_trial(*change.split()).trial_id for change in [*CHANGES, "seeds=[0]"]]
    assert len(set(ids)) == len(ids)


def test_an_edited_function_is_another_trial(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "first_shape.py").write_text("def shape(x):\n    return x + 1\n")
    (tmp_path / "second_shape.py").write_text("def shape(x):\n    return x + 2\n")
    first = first_trial("activation=first_shape:shape").spec["activation"]["source"]
    second = first_trial("activation=second_shape:shape").spec["activation"]["source"]
    assert first != second
    assert len(first) == len(second) == 16


def options_among_axes(*overrides: str) -> dict:
    return {key: value for key, value in first_trial(*overrides).axes.items() if "." in key}


def test_headline_axes_name_every_choice():
    axes = first_trial(*GOLDEN, "normalization=rms", "dropout=alpha", "repair=lsuv").axes
    assert axes == {
        "dataset": "digits",
        "preprocessing": "global",
        "architecture": "mlp",
        "depth": 8,
        "width": 64,
        "activation": "selu",
        "initializer": "lecun_normal",
        "normalization": "rms",
        "dropout": "alpha_0.05",
        "optimizer": "momentum",
        "learning_rate": 0.01,
        "schedule": "constant",
        "precision": "float32",
        "repair": "lsuv",
        "budget.batch_size": 64,
        "budget.epochs": 30.0,
    }


def test_normalization_after_the_activation_is_an_arm_of_its_own():
    axes = first_trial("normalization=rms", "normalization.position=after").axes
    assert axes["normalization"] == "rms_after"


@pytest.mark.parametrize(
    "choice",
    [
        "architecture=cnn",
        "activation=leaky_relu",
        "initializer=pytorch_default",
        "optimizer=adam",
        "schedule=warmup_cosine",
        "preprocessing=zca",
    ],
)
def test_options_at_their_defaults_are_no_axes(choice):
    assert set(options_among_axes(choice)) == {"budget.batch_size", "budget.epochs"}


@pytest.mark.parametrize(
    "overrides, axes",
    [
        ("activation=elu activation.alpha=0.5", {"activation.alpha": 0.5}),
        ("architecture=cnn architecture.pool=max", {"architecture.pool": "max"}),
        ("optimizer=adam optimizer.beta1=0.8", {"optimizer.beta1": 0.8}),
        ("dataset.split_seed=3", {"dataset.split_seed": 3}),
        ("budget.probes=6", {"budget.probes": 6}),
        # The weight decay of all other optimizers is 0.
        ("optimizer=adamw", {"optimizer.weight_decay": 0.01}),
        # Their names alone do not say what they are.
        ("initializer=gaussian", {"initializer.sigma_w2": 1.0, "initializer.sigma_b2": 0.0}),
        (
            "dataset=gaussian",
            {"dataset.samples": 5000, "dataset.shape": [1, 16, 16], "dataset.classes": 10},
        ),
    ],
)
def test_options_that_tell_cells_apart_are_axes(overrides, axes):
    usual = {"budget.batch_size": 64, "budget.epochs": 30.0}
    assert options_among_axes(*overrides.split()) == usual | axes


def test_streams_of_one_seed_are_apart():
    purposes = ("weights/readout", "dropout/readout", "weights/layer_01.weights")
    seeds = {purpose_seed(seed, purpose) for seed in (0, 1, 2**31 - 1) for purpose in purposes}
    assert len(seeds) == 9
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    "group, declared",
    [("dataset", datasets), ("preprocessing", preprocessings), ("schedule", schedules)],
)
def test_every_name_in_conf_is_declared(group, declared):
    assert known_names(group) == declared.names()


def test_the_seeds_of_a_cell_share_what_is_read_from_its_specification(make_config):
    first, second = trials(make_config(seeds=[3, 7]))
    assert first.spec is second.spec
    assert first.axes is second.axes
    assert (first.seed, second.seed) == (3, 7)
    assert first.trial_id != second.trial_id
    assert first == Trial(first.text, 3)
