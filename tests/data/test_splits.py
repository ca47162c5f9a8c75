import numpy as np
import pytest

from harness.data.splits import SplitSizes, hashes, split_sizes, stratified_order
from harness.errors import RequestError


def test_hashes_are_the_published_outputs_of_splitmix64():
    # The first outputs for seed 1234567 (reference implementation of Vigna, prng.di.unimi.it/splitmix64.c).
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


def test_sizes_add_up_and_keep_the_splits_that_a_set_brings_along():
    assert split_sizes(1797, 0.2, 0.2, None, "x") == SplitSizes(1079, 359, 359)
    assert split_sizes(60_000, 0.2, 0.2, None, "x", own_test=10_000) == SplitSizes(
        48_000, 12_000, 10_000
    )
    assert split_sizes(100, 0.2, 0.3, None, "x", own_validation=7) == SplitSizes(70, 7, 30)
    assert split_sizes(100, 0.2, 0.2, 50, "x") == SplitSizes(50, 20, 20)


@pytest.mark.parametrize(
    "arguments, told",
    [
        ((3, 0.1, 0.1, None), "3 samples are too few for the splits"),
        ((100, 0.5, 0.5, None), "their sum stays below 1"),
        ((100, 0.2, 0.2, 61), "dataset.training_samples=61: expected from 1 to 60"),
        ((100, 0.2, 0.2, 0), "dataset.training_samples=0: expected from 1 to 60"),
    ],
)
def test_impossible_splits_are_refused(arguments, told):
    with pytest.raises(RequestError, match=told):
        split_sizes(*arguments, "dataset=x")
