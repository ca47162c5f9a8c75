"""The step that a GPU replays: its eager form is the plain loop, it touches fixed tensors alone, and it gives way where it cannot be recorded."""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.data.batches import make_source
from harness.training import capture, devices
from harness.training.capture import CapturedStep
from harness.training.events import PackData, Samples
from harness.training.feeds import ResidentFeed, StreamedFeed, feed
from harness.training.loop import Stepper, train
from harness.training.packs import Pack
from harness.training.schedules import plan

CPU = torch.device("cpu")
SHAPE, CLASSES, SAMPLES = (1, 8, 8), 10, 130
SMALL = {
    "depth": 2,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 9,
    "budget.batch_size": 32,
    "budget.evaluations": 2,
    "budget.probes": 3,
}
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)


def pack_data(
    trials: int,
    device: torch.device = CPU,
    residency: str = "auto",
    doses: tuple[int, ...] = (SAMPLES,),
) -> PackData:
    """Trial t has `doses[t % len(doses)]` samples."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    pixels = torch.randn(SAMPLES, *SHAPE, generator=generator)
    variant = [trial % len(doses) for trial in range(trials)]
    samples = Samples([pixels[:dose].to(device) for dose in doses], labels.to(device), variant)
    return PackData(
        make_source([pixels[:dose] for dose in doses], labels, variant, device, residency),
        samples,
        samples,
        samples,
        samples,
    )


def stepper(
    trials, device: torch.device = CPU, captured: bool = True, residency: str = "auto"
) -> Stepper:
    pack = Pack(trials, SHAPE, CLASSES, device)
    return Stepper(
        pack, pack_data(len(trials), device, residency), plan(trials[0].spec, SAMPLES), captured
    )


class Seen(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*arguments, **(options or {}))


CASES = {
    "plain": {},
    "batch": {"normalization": "batch"},
    "alpha": {"dropout": "alpha", "dropout.rate": 0.2},
    "adam": {"optimizer": "adam"},
    "cosine": {"schedule": "cosine"},
    "cnn": {"architecture": "cnn", "architecture.pool": "max"},
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_in_a_step_waits_for_the_device(make_trial, case):
    one = stepper([make_trial(seed=seed, **SMALL | CASES[case]) for seed in (0, 1)])
    one.take_steps(5)  # past the end of an epoch of 4 steps
    with Seen() as seen:
        one.take_steps(8)
    assert {"index_select", "add_"} <= seen.names  # it did see the step
    assert not seen.names & {
        "_local_scalar_dense",
        "item",
        "nonzero",
        "_unique2",
        "unique_dim",
        "is_nonzero",
        "equal",
        "masked_select",
    }


@pytest.mark.parametrize("case", CASES)
def test_a_step_works_on_tensors_that_stay_where_they_are(make_trial, case):
    one = stepper([make_trial(seed=seed, **SMALL | CASES[case]) for seed in (0, 1)])
    fixed = dict((one.pack.state | one.pack.buffers).items())
    fixed |= {
        "parameters": one.pack.parameters,
        "step": one.pack.step,
        "loss": one.loss_sum,
        "diverged": one.watch.step,
        "rates": one.optimizer.rates,
        "order": one.batches.orders.order,
        "next": one.batches.orders.position,
        "position": one.position,
    }
    places = {name: tensor.data_ptr() for name, tensor in fixed.items()}
    one.take_steps(6)
    one.mean_loss()
    one.take_steps(9)
    now = (one.pack.state | one.pack.buffers) | {
        "parameters": one.pack.parameters,
        "step": one.pack.step,
        "loss": one.loss_sum,
        "diverged": one.watch.step,
        "rates": one.optimizer.rates,
        "order": one.batches.orders.order,
        "next": one.batches.orders.position,
        "position": one.position,
    }
    assert {name: tensor.data_ptr() for name, tensor in now.items()} == places
    assert one.pack.step.tolist() == [9, 9]
    assert one.position.tolist() == [9]


@pytest.mark.parametrize("doses", [(SAMPLES,), (SAMPLES, 70, SAMPLES)])
def test_resident_and_streamed_batches_are_equal_to_the_bit(make_trial, doses):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 7, 0)]
    schedule = plan(trials[0].spec, SAMPLES)
    resident, streamed = (
        feed(
            pack_data(3, residency=residency, doses=doses).source,
            [trial.seed for trial in trials],
            schedule,
        )
        for residency in ("resident", "streamed")
    )
    assert isinstance(resident, ResidentFeed)
    assert isinstance(streamed, StreamedFeed)
    for done in range(9):
        resident.prepare(done)
        streamed.prepare(done)
        for ours, other in zip(resident.take(), streamed.take(), strict=True):
            assert torch.equal(ours, other)
            assert torch.equal(ours[0], ours[2])
            assert not torch.equal(ours[0], ours[1])


def test_streamed_training_is_resident_training(make_trial):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 1)]
    losses = []
    for residency in ("resident", "streamed"):
        one = stepper(trials, residency=residency)
        one.take_steps(9)
        losses.append(one.mean_loss())
    assert torch.equal(*losses)


@pytest.fixture
def pretend_gpu(monkeypatch):
    """What `CapturedStep` asks of a GPU, played by this machine; returns what the graph was asked."""
    told = SimpleNamespace(
        replays=0,
        recordings=0,
        fails=False,
        devices=set(),
        streams=[],
        current=None,
        debugging="default",
    )

    class Graph:
        def replay(self) -> None:
            told.replays += 1

    @contextlib.contextmanager
    def recording(graph, stream, **options):
        told.recordings += 1
        if told.fails:  # as in torch 2.11, where a recording that fails leaves its stream
            told.current = stream
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        yield

    @contextlib.contextmanager
    def on(stream):
        before, told.current = told.current, stream
        try:
            yield
        finally:
            told.current = before

    def stream(device):
        told.devices.add(device)
        told.streams.append(SimpleNamespace(wait_stream=lambda other: None))
        return told.streams[-1]

    def current_stream(device=None):
        told.devices.add(device)
        return SimpleNamespace(wait_stream=lambda other: None)

    for name, value in {
        "CUDAGraph": Graph,
        "graph": recording,
        "Stream": stream,
        "current_stream": current_stream,
        "stream": on,
        "synchronize": lambda device=None: told.devices.add(device),
        "get_sync_debug_mode": lambda: told.debugging,
        "set_sync_debug_mode": lambda mode: setattr(told, "debugging", mode),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(capture, "_streams", {})
    return told


def test_a_step_is_recorded_after_it_has_run_and_replayed_from_then_on(pretend_gpu):
    calls = []
    step = CapturedStep(lambda: calls.append(1), torch.device("cuda"))
    for _ in range(10):
        step()
    # Three calls for themselves, one while recording (which on a GPU runs nothing), and the rest replayed.
    assert (len(calls), pretend_gpu.recordings, pretend_gpu.replays) == (
        capture._WARM_UP + 1,
        1,
        10 - capture._WARM_UP,
    )


def test_a_step_that_cannot_be_recorded_goes_on_with_one_warning(pretend_gpu, capsys):
    pretend_gpu.fails = True
    calls = []
    step = CapturedStep(lambda: calls.append(1), torch.device("cuda"))
    for _ in range(10):
        step()
    assert (len(calls), pretend_gpu.recordings, pretend_gpu.replays) == (10, 1, 0)
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: the training step cannot be recorded as a CUDA graph (operation not permitted when stream is capturing)"
    )
    assert said.count("\n") == 1
    assert pretend_gpu.current is None  # what follows runs where it ran before


def test_a_step_that_waits_for_the_device_is_not_even_tried(pretend_gpu, capsys):
    """A recording that breaks off cannot be mended within the process."""
    calls = []

    def waiting() -> None:
        calls.append(1)
        if pretend_gpu.debugging == "warn":
            warnings.warn(
                "called a synchronizing CUDA operation (Triggered internally at CUDAFunctions.cpp)"
            )

    step = CapturedStep(waiting, torch.device("cuda"))
    for _ in range(10):
        step()
    assert (len(calls), pretend_gpu.recordings, pretend_gpu.replays, pretend_gpu.debugging) == (
        10,
        0,
        0,
        "default",
    )
    assert (
        capsys.readouterr().err
        == "warning: the training step cannot be recorded as a CUDA graph (it waits for the device); it runs launch by launch\n"
    )


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_waits_on_its_own_device_which_need_not_be_the_current_one(pretend_gpu, fails):
    pretend_gpu.fails = fails
    second = torch.device("cuda", 1)
    step = CapturedStep(lambda: None, second)
    for _ in range(5):
        step()
    assert pretend_gpu.devices == {second}


def test_all_steps_of_a_thread_share_one_side_stream(pretend_gpu):
    for _ in range(3):
        step = CapturedStep(lambda: None, torch.device("cuda"))
        for _ in range(5):
            step()
    assert len(pretend_gpu.streams) == 1


def test_a_pack_is_let_go_at_once(make_trial):
    """With the memory of a GPU that it holds: nobody looks for cycles before the next pack is made."""
    gc.collect()
    gc.disable()
    try:
        one = stepper([make_trial(**SMALL)])
        one.take_steps(4)
        pack = weakref.ref(one.pack)
        del one
        assert pack() is None
    finally:
        gc.enable()


def test_on_a_cpu_a_step_is_only_called(make_trial):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 1)]
    one, other = stepper(trials), stepper(trials)
    one.take_steps(9)
    for done in range(9):
        other.batches.prepare(done)
        other._update()
        other.losses += 1
    assert torch.equal(one.pack.parameters, other.pack.parameters)
    assert torch.equal(one.mean_loss(), other.mean_loss())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_replayed_equals_launched(make_trial, case):
    trials = [
        make_trial(seed=seed, **SMALL | {"budget.steps": 40} | CASES[case]) for seed in (0, 1, 2)
    ]
    device = torch.device("cuda")
    replayed, launched = (
        stepper(trials, device, captured=True),
        stepper(trials, device, captured=False),
    )
    for one in (replayed, launched):
        one.take_steps(40)
    assert replayed.update.graph is not None
    assert launched.update.graph is None
    torch.testing.assert_close(
        replayed.pack.parameters, launched.pack.parameters, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(replayed.mean_loss(), launched.mean_loss(), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@needs_gpu
def test_nothing_waits_for_a_gpu_within_an_epoch(make_trial):
    one = stepper([make_trial(seed=seed, **SMALL) for seed in (0, 1)], torch.device("cuda"))
    one.take_steps(4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        one.take_steps(9)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_and_a_cpu_agree(make_trial):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 1)]
    events = [
        list(
            train(
                Pack(trials, SHAPE, CLASSES, device),
                pack_data(2, device),
                plan(trials[0].spec, SAMPLES),
            )
        )
        for device in (CPU, torch.device("cuda"))
    ]
    torch.testing.assert_close(
        events[0][-1].scores["test_loss"],
        events[1][-1].scores["test_loss"].cpu(),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.gpu
@needs_gpu
def test_after_a_step_that_waits_a_gpu_still_records_another(make_trial, capsys):
    device = torch.device("cuda")
    ones = torch.ones(3, device=device)
    waiting = CapturedStep(lambda: ones[ones > 0].add_(1), device)
    for _ in range(6):
        waiting()
    assert waiting.graph is None
    assert "it waits for the device" in capsys.readouterr().err
    one = stepper([make_trial(**SMALL)], device)
    one.take_steps(6)
    torch.cuda.empty_cache()  # fails where a recording broke off
    assert one.update.graph is not None


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("case", ["batch", "cnn"])
def test_lower_precision_is_recorded_and_near(make_trial, case, precision):
    losses = []
    for chosen in ("float32", precision):
        one = stepper([make_trial(**SMALL | CASES[case], precision=chosen)], torch.device("cuda"))
        devices.prepare(torch.device("cuda"), chosen)
        one.take_steps(9)
        assert one.update.graph is not None
        losses.append(one.mean_loss())
    devices.prepare(torch.device("cuda"), "float32")
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.0)
