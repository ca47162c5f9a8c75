"""Batch order as a function of the seed, and batches from the device or the host."""

from __future__ import annotations

import pytest
import torch

from harness.data import batches
from harness.data.batches import Resident, Streamed, make_source, permutation, splitmix64
from harness.errors import RequestError
from harness.training.devices import free_memory

CPU = torch.device("cpu")
WORD = 2**64
without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def reference_splitmix64(state):
    """SplitMix64 in Python's unbounded integers."""
    z = (state + 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def signed(word):
    return word - WORD if word >= WORD // 2 else word


def test_splitmix64_is_the_published_generator():
    # The first output for seed 1234567: reference implementation of Vigna,
    # prng.di.unimi.it/splitmix64.c.
    assert splitmix64(torch.tensor(1234567)).item() == 6457827717110365317
    states = [0, 1, 2**63 - 1, -1, -(2**63), 0x0123456789ABCDEF, -987654321]
    expected = [signed(reference_splitmix64(state % WORD)) for state in states]
    assert splitmix64(torch.tensor(states)).tolist() == expected


def test_permutation_is_the_order_of_the_reference_keys():
    seed, epoch, samples = 2**62 + 3, 5, 200
    stream = reference_splitmix64(reference_splitmix64(seed) ^ epoch)
    keys = [
        signed(reference_splitmix64((stream + index * 0x9E3779B97F4A7C15) % WORD))
        for index in range(samples)
    ]
    order = permutation(torch.tensor([seed]), epoch, samples)[0]
    assert order.tolist() == sorted(range(samples), key=keys.__getitem__)


def test_permutation_is_frozen():
    # Another order would be another training under the same trial id.
    assert permutation(torch.tensor([0, 1]), 0, 10).tolist() == [
        [9, 4, 6, 3, 1, 0, 7, 8, 2, 5],
        [0, 3, 6, 5, 1, 9, 8, 7, 4, 2],
    ]
    assert permutation(torch.tensor([0, 1]), 1, 10).tolist() == [
        [3, 2, 1, 8, 5, 9, 0, 6, 7, 4],
        [1, 3, 2, 9, 8, 7, 0, 6, 4, 5],
    ]


@pytest.mark.parametrize("samples", [1, 2, 1079, 5000])
def test_every_row_is_a_permutation(samples):
    orders = permutation(torch.tensor([0, 1, 2**63 - 1]), 3, samples)
    assert orders.shape == (3, samples)
    assert orders.dtype == torch.int64
    assert torch.equal(orders.sort(1).values, torch.arange(samples).expand(3, -1))


def test_a_row_depends_on_its_own_seed_and_the_epoch_alone():
    seeds = torch.tensor([7, 3, 7, 11, 3])
    together = permutation(seeds, 2, 300)
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(row, permutation(seed[None], 2, 300)[0])
    assert torch.equal(together[0], together[2])
    assert (together[0] != together[1]).any()
    assert (together != permutation(seeds, 3, 300)).any(1).all()


def test_orders_are_uniform():
    # Each sample's mean place over 2,000 seeds is that of a uniform place, within 5 standard
    # errors.
    seeds, samples = torch.arange(2000), 20
    orders = permutation(seeds, 0, samples)
    places = orders.argsort(1).double()
    error = (((samples**2 - 1) / 12) / len(seeds)) ** 0.5
    assert (places.mean(0) - (samples - 1) / 2).abs().max() < 5 * error
    firsts = orders[:, 0].bincount(minlength=samples)
    # A chi-square with 19 degrees of freedom exceeds 60 once in 200,000.
    assert ((firsts - 100).square() / 100).sum() < 60


def test_consecutive_epochs_and_seeds_are_uncorrelated():
    orders = []
    for seed in (0, 1, 2):
        for epoch in (0, 1, 2):
            orders.append(permutation(torch.tensor([seed]), epoch, 5000)[0].double())
    correlation = torch.corrcoef(torch.stack(orders)) - torch.eye(9)
    assert correlation.abs().max() < 5 / 5000**0.5


@pytest.mark.gpu
@without_gpu
def test_permutation_is_the_same_on_the_gpu():
    seeds = torch.tensor([0, 5, 2**62 + 11])
    for samples in (10, 48_000):
        on_gpu = permutation(seeds.cuda(), 4, samples).cpu()
        assert torch.equal(on_gpu, permutation(seeds, 4, samples))


@pytest.fixture
def variants():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(40, 2, 3, 3, generator=generator) for _ in range(3)]


LABELS = torch.arange(40) % 7
VARIANT_OF_TRIAL = [2, 0, 0, 1, 2]
INDICES = [permutation(torch.arange(5), epoch, 40)[:, :8] for epoch in range(4)]


def assert_batch(batch, variants, variant_of_trial, indices):
    """The batch holds each trial's images, from its own variant, and labels."""
    images, labels = batch
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    for trial, variant in enumerate(variant_of_trial):
        assert torch.equal(images[trial].cpu(), variants[variant][indices[trial]])
        assert torch.equal(labels[trial].cpu(), LABELS[indices[trial]])


@pytest.mark.parametrize("source_class", [Resident, Streamed])
@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_holds_each_trials_images_and_labels(variants, source_class, count):
    variant_of_trial = [variant % count for variant in VARIANT_OF_TRIAL]
    source = source_class(variants[:count], LABELS, variant_of_trial, CPU)
    assert source.samples == (40,) * 5
    for indices in INDICES:
        assert_batch(source.gather(indices), variants, variant_of_trial, indices)


@pytest.mark.parametrize("source_class", [Resident, Streamed])
def test_variants_may_hold_fewer_samples(variants, source_class):
    doses = [variants[0], variants[1][:9], variants[2][:25]]
    source = source_class(doses, LABELS, VARIANT_OF_TRIAL, CPU)
    assert source.samples == (25, 40, 40, 9, 25)
    rows = [
        permutation(torch.tensor([trial]), 0, count)[0, :8]
        for trial, count in enumerate(source.samples)
    ]
    indices = torch.stack(rows)
    assert_batch(source.gather(indices), doses, VARIANT_OF_TRIAL, indices)


@pytest.mark.parametrize("source_class", [Resident, Streamed])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_batches_come_in_order(variants, source_class, steps):
    source = source_class(variants, LABELS, VARIANT_OF_TRIAL, CPU)
    received = list(source.batches(iter(INDICES[:steps])))
    assert len(received) == steps
    for batch, indices in zip(received, INDICES[:steps], strict=True):
        assert_batch(batch, variants, VARIANT_OF_TRIAL, indices)


def test_one_batch_is_read_ahead_and_no_more(variants):
    drawn = []

    def draw():
        for number, indices in enumerate(INDICES):
            drawn.append(number)
            yield indices

    stream = Streamed(variants, LABELS, VARIANT_OF_TRIAL, CPU).batches(draw())
    next(stream)
    assert drawn == [0, 1]
    next(stream)
    assert drawn == [0, 1, 2]


def test_an_index_out_of_range_is_raised_where_the_batch_is_taken(variants):
    source = Streamed(variants[:1], LABELS, [0] * 5, CPU)
    stream = source.batches([INDICES[0], INDICES[0] + 40])
    next(stream)
    with pytest.raises(IndexError):
        next(stream)


def test_one_variant_is_not_copied(variants):
    source = Resident(variants[:1], LABELS, [0] * 5, CPU)
    first = source.gather(INDICES[0])[0].clone()
    variants[0].zero_()
    assert first.any()
    assert not source.gather(INDICES[0])[0].any()


def test_residency_is_chosen_by_name(variants):
    assert isinstance(make_source(variants, LABELS, VARIANT_OF_TRIAL, CPU), Resident)
    assert isinstance(make_source(variants, LABELS, VARIANT_OF_TRIAL, CPU, "resident"), Resident)
    assert isinstance(make_source(variants, LABELS, VARIANT_OF_TRIAL, CPU, "streamed"), Streamed)


def test_an_unknown_residency_is_refused(variants):
    expected = "dataset.residency=both: expected one of auto, resident, streamed"
    with pytest.raises(RequestError, match=expected):
        make_source(variants, LABELS, VARIANT_OF_TRIAL, CPU, "both")


@pytest.fixture
def source_class_on_gpu(variants, monkeypatch):
    """Returns the name of the class that `make_source` takes on a GPU; nothing is transferred."""
    for name in ("Resident", "Streamed"):
        monkeypatch.setattr(batches, name, lambda *arguments, name=name: name)

    def choose(residency="auto"):
        return make_source(variants, LABELS, VARIANT_OF_TRIAL, torch.device("cuda"), residency)

    return choose


@pytest.fixture
def pretend_memory(monkeypatch):
    """Sets what the driver and torch say about the GPU's memory, in bytes."""

    def pretend(free, reserved=0, allocated=0):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100_000))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)

    return pretend


# The three variants take 3 x 40 x 18 x 4 = 8,640 bytes.
@pytest.mark.parametrize(
    "free, residency, expected",
    [
        (10_000, "auto", "Streamed"),
        (20_000, "auto", "Resident"),
        (10_000, "resident", "Resident"),
        (8_000, "streamed", "Streamed"),
    ],
)
def test_a_gpu_holds_the_images_while_they_fit_in_a_share_of_its_free_memory(
    source_class_on_gpu, pretend_memory, free, residency, expected
):
    pretend_memory(free)
    assert source_class_on_gpu(residency) == expected


def test_resident_images_that_exceed_the_gpus_memory_are_refused(
    source_class_on_gpu, pretend_memory
):
    pretend_memory(8_000)
    expected = "dataset.residency=resident: the images need .* use dataset.residency=streamed"
    with pytest.raises(RequestError, match=expected):
        source_class_on_gpu("resident")


def test_memory_that_torch_keeps_of_deleted_tensors_is_free(source_class_on_gpu, pretend_memory):
    """The driver counts it as used; 8,640 bytes of images fit into what is left of it."""
    pretend_memory(1_000, reserved=90_000, allocated=65_000)
    assert source_class_on_gpu() == "Resident"
    assert free_memory(torch.device("cuda")) == 26_000
    pretend_memory(1_000, reserved=90_000, allocated=89_000)
    assert source_class_on_gpu() == "Streamed"


@pytest.mark.gpu
@without_gpu
@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_batches_arrive_on_the_gpu(variants, residency):
    source = make_source(variants, LABELS, VARIANT_OF_TRIAL, torch.device("cuda"), residency)
    on_index_device = [indices.to(source.index_device) for indices in INDICES]
    for batch, indices in zip(source.batches(on_index_device), INDICES, strict=True):
        assert all(part.is_cuda for part in batch)
        assert_batch(batch, variants, VARIANT_OF_TRIAL, indices)
    assert_batch(source.gather(INDICES[0].cuda()), variants, VARIANT_OF_TRIAL, INDICES[0])
