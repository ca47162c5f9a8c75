"""What identifies a trial, and what does not."""

from __future__ import annotations

import pytest

from harness.configuration.composing import compose
from harness.configuration.schema import known_names, seed_list
from harness.configuration.trial import trials
from harness.data.catalog import datasets
from harness.data.preprocessing import preprocessings
from harness.seeding import purpose_seed
from harness.training.schedules import schedules


def identity(*overrides: str) -> str:
    return trials(compose(list(overrides)))[0].trial_id


def test_the_id_of_a_golden_trial_is_frozen():
    # A changed id orphans every stored result: change it only together with RULES_VERSION.
    words = [
        "dataset=digits",
        "preprocessing=global",
        "architecture=mlp",
        "depth=8",
        "width=64",
        "activation=selu",
        "initializer=lecun_normal",
        "normalization=none",
        "dropout=none",
    ]
    words += [
        "optimizer=momentum",
        "optimizer.learning_rate=0.01",
        "schedule=constant",
        "budget=default",
        "probe=standard",
        "seeds=[0]",
    ]
    (trial,) = trials(compose(words))
    assert trial.spec["rules_version"] == 1
    assert (trial.cell_id, trial.trial_id) == ("241d7f6d347c3f0a", "005411bcf7686d82")


@pytest.mark.parametrize(
    "word",
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
    ],
)
def test_what_changes_no_number_changes_no_id(word):
    assert identity(word) == identity()


CHANGES = [
    "dataset=gaussian",
    "dataset.split_seed=1",
    "dataset.validation_share=0.3",
    "dataset.training_samples=500",
    "preprocessing=raw",
    "preprocessing.shift=0.5",
    "architecture=cnn",
    "depth=9",
    "width=65",
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


def test_what_changes_a_number_changes_the_id():
    identities = [identity(change) for change in [*CHANGES, "seeds=[0]"]]
    assert len(set(identities)) == len(identities)


def test_an_edited_function_is_another_trial(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, body in (("first_shape", "x + 1"), ("second_shape", "x + 2")):
        (tmp_path / f"{name}.py").write_text(f"def shape(x):\n    return {body}\n")
    first, second = (
        trials(compose([f"activation={name}:shape"]))[0].spec["activation"]
        for name in ("first_shape", "second_shape")
    )
    assert first["source"] != second["source"]
    assert len(first["source"]) == 16


def test_streams_of_one_seed_are_apart():
    seeds = {
        purpose_seed(seed, purpose)
        for seed in (0, 1, 2**31 - 1)
        for purpose in ("weights/readout", "dropout/readout", "weights/layer_01.weights")
    }
    assert len(seeds) == 9
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_a_count_or_a_list():
    assert seed_list(3) == [0, 1, 2]
    assert seed_list([7, 3]) == [7, 3]


def test_every_name_on_the_command_line_is_implemented():
    assert known_names("dataset") == datasets.names()
    assert known_names("preprocessing") == preprocessings.names()
    assert known_names("schedule") == schedules.names()
