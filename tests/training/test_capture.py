"""A captured step is recorded once and replayed, and gives way where it cannot be recorded.

The first tests need no GPU: a fixture plays the few functions of `torch.cuda` that `CapturedStep`
calls, and counts what it is asked. The tests marked `gpu` use a real one.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch

from harness.training import devices
from harness.training.capture import WARM_UP_CALLS, CapturedStep
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper
from harness.training.workers import Workers

CPU = torch.device("cpu")
GPU = torch.device("cuda")
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
CASES = {
    "plain": {},
    "batch": {"normalization": "batch"},
    "alpha": {"dropout": "alpha", "dropout.rate": 0.2},
    "adam": {"optimizer": "adam"},
    "cosine": {"schedule": "cosine"},
    "cnn": {"architecture": "cnn", "architecture.pool": "max"},
}
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)
# Side streams are kept per device, so every test of the pretended API has a device of its own.
device_indices = itertools.count(10)


class PretendedApi:
    """The part of `torch.cuda` that `CapturedStep` uses, without a GPU behind it.

    Attributes:
        device: the pretended device.
        replays: how often a graph was replayed.
        recordings: how often a recording began.
        recording_fails: set it to let recordings fail as torch 2.11 does.
        devices: the devices that were named in calls.
        streams: the side streams that were made.
        current_stream: the stream that is set, None for the default one.
        debug_mode: what happens when the host waits: "default" or "warn".
    """

    def __init__(self) -> None:
        self.device = torch.device("cuda", next(device_indices))
        self.replays = 0
        self.recordings = 0
        self.recording_fails = False
        self.devices: set[torch.device] = set()
        self.streams: list[object] = []
        self.current_stream: object = None
        self.debug_mode = "default"

    def make_graph(self) -> SimpleNamespace:
        def replay() -> None:
            self.replays += 1

        return SimpleNamespace(replay=replay)

    @contextlib.contextmanager
    def record(self, graph, stream, **options):
        self.recordings += 1
        if self.recording_fails:
            self.current_stream = stream  # some versions of torch leave it set
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        yield

    @contextlib.contextmanager
    def use_stream(self, stream):
        before = self.current_stream
        self.current_stream = stream
        try:
            yield
        finally:
            self.current_stream = before

    def make_stream(self, device):
        self.devices.add(device)
        stream = SimpleNamespace(wait_stream=lambda other: None)
        self.streams.append(stream)
        return stream

    def get_current_stream(self, device=None):
        self.devices.add(device)
        return SimpleNamespace(wait_stream=lambda other: None)

    def synchronize(self, device=None) -> None:
        self.devices.add(device)

    def set_debug_mode(self, mode: str) -> None:
        self.debug_mode = mode


@pytest.fixture
def api(monkeypatch) -> PretendedApi:
    pretended = PretendedApi()
    for name, function in {
        "CUDAGraph": pretended.make_graph,
        "graph": pretended.record,
        "Stream": pretended.make_stream,
        "current_stream": pretended.get_current_stream,
        "stream": pretended.use_stream,
        "synchronize": pretended.synchronize,
        "get_sync_debug_mode": lambda: pretended.debug_mode,
        "set_sync_debug_mode": pretended.set_debug_mode,
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    return pretended


def call(step: CapturedStep, times: int) -> None:
    for _ in range(times):
        step()


def test_step_is_recorded_after_it_has_run_and_replayed_from_then_on(api):
    calls = []
    step = CapturedStep(lambda: calls.append(1), api.device)
    call(step, 10)
    # Ordinary calls, and one while recording, which on a GPU runs nothing.
    assert len(calls) == WARM_UP_CALLS + 1
    assert api.recordings == 1
    assert api.replays == 10 - WARM_UP_CALLS


def test_step_that_cannot_be_recorded_goes_on_with_one_warning(api):
    api.recording_fails = True
    calls = []
    step = CapturedStep(lambda: calls.append(1), api.device)
    with pytest.warns(RuntimeWarning) as caught:
        call(step, 10)
    assert len(calls) == 10
    assert api.recordings == 1
    assert api.replays == 0
    assert [str(warning.message) for warning in caught] == [
        "the training step cannot be recorded as a CUDA graph (operation not permitted when "
        "stream is capturing); its operations are launched one by one, which is slower"
    ]
    # Later operations run on the stream on which they ran before.
    assert api.current_stream is None


def test_step_that_waits_for_the_device_is_never_recorded(api):
    """A recording that breaks off cannot be mended within the process."""
    calls = []

    def waiting_step() -> None:
        calls.append(1)
        if api.debug_mode == "warn":
            warnings.warn(
                "called a synchronizing CUDA operation (Triggered internally at CUDAFunctions.cpp)",
                stacklevel=1,
            )

    step = CapturedStep(waiting_step, api.device)
    with pytest.warns(RuntimeWarning) as caught:
        call(step, 10)
    assert len(calls) == 10
    assert api.recordings == 0
    assert api.replays == 0
    assert api.debug_mode == "default"
    assert [str(warning.message) for warning in caught] == [
        "the training step cannot be recorded as a CUDA graph (it waits for the device); "
        "its operations are launched one by one, which is slower"
    ]


def test_waits_of_other_threads_and_the_debug_mode_itself_are_passed_over(api):
    def step_beside_a_waiting_thread() -> None:
        if api.debug_mode != "warn":
            return
        for text in (
            "called a synchronizing CUDA operation (Triggered internally at CUDAFunctions.cpp)",
            "Synchronization debug mode is a prototype feature and does not yet detect all",
        ):
            other = threading.Thread(target=warnings.warn, args=(text,))
            other.start()
            other.join()

    step = CapturedStep(step_beside_a_waiting_thread, api.device)
    with warnings.catch_warnings(record=True) as caught:
        call(step, WARM_UP_CALLS)
    assert caught == []
    assert step.recording


def test_other_warnings_of_a_step_are_shown(api):
    step = CapturedStep(lambda: warnings.warn("a user's own", stacklevel=1), api.device)
    with pytest.warns(UserWarning, match="a user's own"):
        call(step, WARM_UP_CALLS)


@pytest.mark.filterwarnings("ignore:the training step cannot be recorded")
@pytest.mark.parametrize("fails", [False, True])
def test_step_waits_on_its_own_device_which_need_not_be_the_current_one(api, fails):
    api.recording_fails = fails
    step = CapturedStep(lambda: None, api.device)
    call(step, 5)
    assert api.devices == {api.device}


def test_all_steps_of_a_thread_share_one_side_stream(api):
    for _ in range(3):
        step = CapturedStep(lambda: None, api.device)
        call(step, 5)
    assert len(api.streams) == 1


@pytest.fixture
def make_stepper(make_data):
    """A stepper of trials: `make_stepper(trials, device, capture)`."""

    def make(trials, device: torch.device = GPU, capture: bool = True) -> Stepper:
        pack = Pack(trials, SHAPE, CLASSES, device)
        data = make_data([SAMPLES] * len(trials), device)
        return Stepper(pack, data, plan(trials[0].spec, SAMPLES), capture)

    return make


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_equal_launched_steps(make_stepper, make_trial, case):
    settings = SMALL | {"budget.steps": 40} | CASES[case]
    trials = [make_trial(seed=seed, **settings) for seed in (0, 1, 2)]
    replayed = make_stepper(trials, capture=True)
    launched = make_stepper(trials, capture=False)
    replayed.take_steps(40)
    launched.take_steps(40)
    assert replayed.captured_update.graph is not None
    assert launched.captured_update.graph is None
    torch.testing.assert_close(
        replayed.pack.parameters, launched.pack.parameters, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(replayed.mean_loss(), launched.mean_loss(), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@needs_gpu
def test_nothing_waits_for_a_gpu_within_an_epoch(make_stepper, make_trial):
    stepper = make_stepper([make_trial(seed=seed, **SMALL) for seed in (0, 1)])
    stepper.take_steps(4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.take_steps(9)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
def test_gpu_and_cpu_agree(make_data, make_trial):
    trials = [make_trial(seed=seed, **SMALL) for seed in (0, 1)]
    losses = []
    for device in (CPU, GPU):
        pack = Pack(trials, SHAPE, CLASSES, device)
        data = make_data([SAMPLES] * 2, device)
        events = list(train(pack, data, plan(trials[0].spec, SAMPLES)))
        losses.append(events[-1].scores["test_loss"].cpu())
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@needs_gpu
def test_gpu_still_records_after_a_step_that_waits(make_stepper, make_trial):
    ones = torch.ones(3, device=GPU)
    waiting = CapturedStep(lambda: ones[ones > 0].add_(1), GPU)
    with pytest.warns(RuntimeWarning, match="it waits for the device"):
        call(waiting, 6)
    assert waiting.graph is None
    stepper = make_stepper([make_trial(**SMALL)])
    stepper.take_steps(6)
    torch.cuda.empty_cache()  # fails where a recording broke off
    assert stepper.captured_update.graph is not None


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("case", ["batch", "cnn"])
def test_lower_precision_is_recorded_and_near_float32(make_stepper, make_trial, case, precision):
    losses = []
    for trial_precision in ("float32", precision):
        trial = make_trial(**SMALL | CASES[case], precision=trial_precision)
        stepper = make_stepper([trial])
        devices.prepare(GPU, trial_precision)
        stepper.take_steps(9)
        assert stepper.captured_update.graph is not None
        losses.append(stepper.mean_loss())
    devices.prepare(GPU, "float32")
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.0)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("case", ["plain", "batch"])
def test_packs_that_train_at_the_same_time_are_each_what_they_are_alone(
    make_stepper, make_trial, case
):
    trials = [
        make_trial(seed=seed, **SMALL | {"budget.steps": 60} | CASES[case]) for seed in (0, 1)
    ]
    alone = [make_stepper([trial]) for trial in trials]
    together = [make_stepper([trial]) for trial in trials]
    for stepper in alone:
        stepper.take_steps(60)

    def take(stepper: Stepper) -> None:
        with devices.on_thread_stream(GPU):
            stepper.take_steps(60)
            devices.wait_for_thread(GPU)

    list(Workers(2, 1).map(take, together))
    for stepper, expected in zip(together, alone, strict=True):
        assert stepper.captured_update.graph is not None
        torch.testing.assert_close(
            stepper.pack.parameters, expected.pack.parameters, rtol=1e-4, atol=1e-5
        )


@pytest.mark.gpu
@needs_gpu
def test_batch_norm_on_a_gpu_is_that_on_a_cpu(make_data, make_trial):
    """Torch's own kernels on a GPU, the formula on a CPU; running statistics included."""
    trials = [make_trial(seed=seed, **SMALL | CASES["batch"]) for seed in (0, 1, 2)]
    packs = []
    for device in (CPU, GPU):
        pack = Pack(trials, SHAPE, CLASSES, device)
        data = make_data([SAMPLES] * 3, device)
        Stepper(pack, data, plan(trials[0].spec, SAMPLES)).take_steps(9)
        packs.append(pack)
    on_cpu, on_gpu = packs
    torch.testing.assert_close(on_gpu.parameters.cpu(), on_cpu.parameters, rtol=1e-3, atol=1e-4)
    for name, buffer in on_cpu.buffers.items():
        torch.testing.assert_close(on_gpu.buffers[name].cpu(), buffer, rtol=1e-3, atol=1e-4)
