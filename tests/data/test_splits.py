"""The stratified order, and the sizes of the splits."""

from __future__ import annotations

import numpy as np
import pytest

from harness.configuration.schema import DatasetConfig
from harness.data.splits import (
    LEAST_TRAINING_SAMPLES,
    OfficialSplits,
    SplitSizes,
    hashes,
    split_sizes,
    stratified_order,
)
from harness.errors import RequestError
from harness.theory.networks.representatives import Inputs


def test_hashes_are_the_published_outputs_of_splitmix64():
    # The first outputs for seed 1234567: reference implementation of Vigna,
    # prng.di.unimi.it/splitmix64.c.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert hashes(1234567, 5).tolist() == expected


def test_the_order_is_a_permutation_that_the_seed_alone_decides():
    labels = np.repeat(np.arange(7), [3, 50, 1, 20, 9, 100, 17])
    order = stratified_order(labels, 4)
    assert sorted(order.tolist()) == list(range(200))
    assert (order == stratified_order(labels, 4)).all()
    assert (order != stratified_order(labels, 5)).any()


def test_every_run_of_the_order_holds_the_classes_in_proportion():
    counts = np.array([100, 300, 600])
    labels = np.repeat(np.arange(3), counts)
    drawn = labels[stratified_order(labels, 0)]
    for start, stop in [(0, 100), (100, 350), (350, 1000), (613, 733)]:
        share = np.bincount(drawn[start:stop], minlength=3)
        assert np.abs(share - counts * (stop - start) / 1000).max() <= 3


def test_a_class_is_drawn_at_random_and_not_in_file_order():
    order = stratified_order(np.zeros(1000, dtype=np.int64), 0)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1


def sizes(official, validation_share=0.2, test_share=0.2, training_samples=None):
    config = DatasetConfig(
        "x",
        validation_share=validation_share,
        test_share=test_share,
        training_samples=training_samples,
    )
    return split_sizes(official, config, "dataset=x")


def test_sizes_add_up_to_all_samples():
    assert sizes(OfficialSplits(1797)) == SplitSizes(1079, 359, 359)


def test_official_splits_are_kept_whole():
    with_test = OfficialSplits(60_000, test=10_000)
    assert sizes(with_test) == SplitSizes(48_000, 12_000, 10_000)
    with_validation = OfficialSplits(100, validation=7)
    assert sizes(with_validation, test_share=0.3) == SplitSizes(70, 7, 30)


def test_training_samples_cut_the_training_split_alone():
    assert sizes(OfficialSplits(100), training_samples=50) == SplitSizes(50, 20, 20)
    assert sizes(OfficialSplits(100), training_samples=4) == SplitSizes(4, 20, 20)


@pytest.mark.parametrize(
    "samples, changes, message",
    [
        (
            3,
            {"validation_share": 0.1, "test_share": 0.1},
            "3 samples are too few for the splits",
        ),
        (100, {"validation_share": 0.5, "test_share": 0.5}, "their sum stays below 1"),
        (
            100,
            {"training_samples": 61},
            "dataset.training_samples=61: expected from 4 to 60, the training split of dataset=x",
        ),
        (100, {"training_samples": 0}, "dataset.training_samples=0: expected from 4 to 60"),
        (100, {"training_samples": 3}, "dataset.training_samples=3: expected from 4 to 60"),
        (5, {}, r"5 samples are too few for the splits \(training 3, .* at least 4, 1 and 1 are"),
    ],
)
def test_impossible_splits_are_refused(samples, changes, message):
    with pytest.raises(RequestError, match=message):
        sizes(OfficialSplits(samples), **changes)


def test_the_smallest_training_split_is_enough_for_theory():
    images = np.eye(LEAST_TRAINING_SAMPLES)[:, None, None]
    Inputs(images)
    with pytest.raises(RequestError, match="expected at least 4 samples"):
        Inputs(images[1:])
