import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from harness.configuration.schema import (
    CONF_DIR,
    DatasetConfig,
    PreprocessingConfig,
    known_names,
    options,
)
from harness.data import catalog, datasets
from harness.data.preprocessing import preprocessings
from harness.errors import RequestError


def test_the_names_of_the_configuration_are_those_that_can_be_loaded():
    assert known_names("dataset") == datasets.datasets.names()
    assert known_names("preprocessing") == preprocessings.names()


@pytest.mark.parametrize("name", known_names("dataset"))
def test_every_data_set_file_is_a_request_that_passes(name):
    config = OmegaConf.to_object(
        OmegaConf.merge(
            OmegaConf.structured(DatasetConfig),
            OmegaConf.load(CONF_DIR / "dataset" / f"{name}.yaml"),
        )
    )
    catalog.check(config)
    assert config.name == name
    assert config.root is None


@pytest.mark.parametrize("name", known_names("preprocessing"))
def test_every_preprocessing_file_gives_all_its_options(name):
    given = OmegaConf.load(CONF_DIR / "preprocessing" / f"{name}.yaml")
    OmegaConf.merge(OmegaConf.structured(PreprocessingConfig), given)
    assert set(given) == {"name", *options("preprocessing", name)}
    assert (
        given["shift"],
        given["scale"],
    ) == (0, 1)


@pytest.mark.parametrize(
    "name, shape, classes, training_samples",
    [
        ("digits", (1, 8, 8), 10, 1_079),
        ("mnist", (1, 28, 28), 10, 48_000),
        ("fashion_mnist", (1, 28, 28), 10, 48_000),
        ("kmnist", (1, 28, 28), 10, 48_000),
        ("cifar10", (3, 32, 32), 10, 40_000),
        ("cifar100", (3, 32, 32), 100, 40_000),
        ("svhn", (3, 32, 32), 10, 58_606),
    ],
)
def test_facts_of_the_published_sets_need_no_file(name, shape, classes, training_samples):
    config = DatasetConfig(name, root="/nowhere", download=False)
    assert catalog.facts(config) == catalog.Facts(name, shape, classes, training_samples)
    assert catalog.fingerprint(config) is None


def test_facts_follow_the_splits_and_the_subsample():
    assert catalog.facts(DatasetConfig("mnist", validation_share=0.1)).training_samples == 54_000
    assert catalog.facts(DatasetConfig("mnist", training_samples=500)).training_samples == 500
    assert catalog.facts(
        DatasetConfig("gaussian", samples=100, shape=[3, 4, 5], classes=7)
    ) == catalog.Facts("gaussian", (3, 4, 5), 7, 60)


def test_facts_and_fingerprint_load_no_torch():
    program = """
import sys
from harness.data import catalog
from harness.configuration.schema import DatasetConfig
catalog.facts(DatasetConfig("digits"))
sys.exit("torch" in sys.modules or "sklearn" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def gaussian(**changes):
    return DatasetConfig(
        "gaussian", **({"samples": 100, "shape": [1, 4, 4], "classes": 3} | changes)
    )


@pytest.mark.parametrize(
    "config, told",
    [
        (DatasetConfig("mnits"), "unknown dataset 'mnits'; known: cifar10, cifar100, digits"),
        (
            DatasetConfig("mnist", image_size=8),
            "dataset.image_size=8: dataset=mnist takes no such option; it belongs to image_folder",
        ),
        (
            DatasetConfig("digits", samples=8),
            "dataset.samples=8: dataset=digits takes no such option; it belongs to gaussian",
        ),
        (
            DatasetConfig("image_folder", root="x", image_size=0),
            "dataset.image_size=0: expected an integer of at least 1",
        ),
        (
            DatasetConfig("image_folder"),
            "dataset.root is missing: dataset=image_folder needs the folder",
        ),
        (
            DatasetConfig("digits", split_seed=-1),
            "dataset.split_seed=-1: expected an integer of at least 0",
        ),
        (
            DatasetConfig("digits", training_samples=1080),
            "dataset.training_samples=1080: expected from 1 to 1079",
        ),
        (gaussian(samples=None), "dataset.samples is missing"),
        (gaussian(shape=[4, 4]), "dataset.shape=\\[4, 4\\]: expected three integers"),
        (gaussian(shape=[1, 0, 4]), "dataset.shape=\\[1, 0, 4\\]: expected three integers"),
        (gaussian(classes=1), "dataset.classes=1: expected an integer of at least 2"),
        (gaussian(samples=2), "dataset.samples=2: expected at least as many samples as classes"),
        (
            gaussian(participation_ratio=0.9),
            "dataset.participation_ratio=0.9: expected a number from 1 to 16",
        ),
        (
            gaussian(participation_ratio=16.1),
            "dataset.participation_ratio=16.1: expected a number from 1 to 16",
        ),
        (
            gaussian(participation_ratio=float("nan")),
            "dataset.participation_ratio=nan: expected a number from 1 to 16",
        ),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_read(config, told):
    with pytest.raises(RequestError, match=told):
        catalog.facts(config)
