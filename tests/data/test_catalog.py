"""Declared data sets against the configuration, and what is refused before anything is read."""

from __future__ import annotations

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
from harness.data import catalog
from harness.data.catalog import DatasetInfo, dataset_info
from harness.data.preprocessing import preprocessings
from harness.errors import RequestError


def test_the_names_of_the_configuration_are_those_that_can_be_loaded():
    assert known_names("dataset") == catalog.datasets.names()
    assert known_names("preprocessing") == preprocessings.names()


@pytest.mark.parametrize("name", known_names("dataset"))
def test_every_data_set_file_gives_all_its_options(name):
    given = OmegaConf.load(CONF_DIR / "dataset" / f"{name}.yaml")
    assert set(given) == {"name", *catalog.datasets[name].options}


@pytest.mark.parametrize("name", known_names("dataset"))
def test_every_data_set_file_is_a_request_that_passes(name):
    given = OmegaConf.load(CONF_DIR / "dataset" / f"{name}.yaml")
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DatasetConfig), given))
    catalog.check(config)
    assert config.name == name
    assert config.root is None


@pytest.mark.parametrize("name", known_names("preprocessing"))
def test_every_preprocessing_file_gives_all_its_options(name):
    given = OmegaConf.load(CONF_DIR / "preprocessing" / f"{name}.yaml")
    OmegaConf.merge(OmegaConf.structured(PreprocessingConfig), given)
    assert set(given) == {"name", *options("preprocessing", name)}
    assert given["shift"] == 0
    assert given["scale"] == 1


PUBLISHED = [
    DatasetInfo("digits", (1, 8, 8), 10, 1_079),
    DatasetInfo("mnist", (1, 28, 28), 10, 48_000),
    DatasetInfo("fashion_mnist", (1, 28, 28), 10, 48_000),
    DatasetInfo("kmnist", (1, 28, 28), 10, 48_000),
    DatasetInfo("cifar10", (3, 32, 32), 10, 40_000),
    DatasetInfo("cifar100", (3, 32, 32), 100, 40_000),
    DatasetInfo("svhn", (3, 32, 32), 10, 58_606),
]


@pytest.mark.parametrize("expected", PUBLISHED, ids=lambda info: info.name)
def test_published_sets_are_known_without_a_file(expected):
    config = DatasetConfig(expected.name, root="/nowhere", download=False)
    assert dataset_info(config) == expected
    assert catalog.fingerprint(config) is None


def test_sets_of_options_are_not_among_the_published_ones():
    assert {info.name for info in PUBLISHED} <= set(catalog.PUBLISHED)
    assert not {"gaussian", "image_folder"} & set(catalog.PUBLISHED)


def test_training_samples_follow_the_shares_and_the_subsample():
    whole = dataset_info(DatasetConfig("mnist", validation_share=0.1))
    part = dataset_info(DatasetConfig("mnist", training_samples=500))
    assert whole.training_samples == 54_000
    assert part.training_samples == 500
    config = DatasetConfig("gaussian", samples=100, shape=[3, 4, 5], classes=7)
    assert dataset_info(config) == DatasetInfo("gaussian", (3, 4, 5), 7, 60)


def test_facts_and_fingerprints_import_no_torch():
    program = """
import sys
from harness.data import catalog
from harness.configuration.schema import DatasetConfig
catalog.dataset_info(DatasetConfig("digits"))
catalog.fingerprint(DatasetConfig("digits"))
sys.exit("torch" in sys.modules or "sklearn" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def gaussian(**changes):
    values = {"samples": 100, "shape": [1, 4, 4], "classes": 3}
    return DatasetConfig("gaussian", **(values | changes))


@pytest.mark.parametrize(
    "config, message",
    [
        (DatasetConfig("mnits"), "unknown dataset 'mnits'; known: .*cifar10, cifar100, digits"),
        (
            DatasetConfig("mnist", image_size=8),
            "dataset.image_size=8: dataset=mnist takes no such option; it belongs to image_folder",
        ),
        (
            DatasetConfig("digits", samples=8),
            "dataset.samples=8: dataset=digits takes no such option; it belongs to gaussian",
        ),
        (
            DatasetConfig("digits", classes=8),
            "dataset.classes=8: dataset=digits takes no such option; "
            "it belongs to gaussian, image_folder",
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
            r"dataset.split_seed=-1: expected an integer of at least 0, below 2\^31",
        ),
        (
            DatasetConfig("digits", training_samples=1080),
            "dataset.training_samples=1080: expected from 4 to 1079",
        ),
        (gaussian(samples=None), "dataset.samples is missing"),
        (gaussian(shape=[4, 4]), r"dataset.shape=\[4, 4\]: expected three integers"),
        (gaussian(shape=[1, 0, 4]), r"dataset.shape=\[1, 0, 4\]: expected three integers"),
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
def test_a_wrong_request_is_refused_before_anything_is_read(config, message):
    with pytest.raises(RequestError, match=message):
        dataset_info(config)


def test_files_that_a_data_set_does_not_need_are_ignored():
    here = DatasetConfig("digits")
    moved = DatasetConfig("digits", root="/nowhere", download=False)
    assert dataset_info(here) == dataset_info(moved)
