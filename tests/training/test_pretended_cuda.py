"""What runs on a GPU, on a device that this machine only pretends to have: no operation mixes devices, and no training step waits.

Tensors made or moved with `device="cuda"` lie on the CPU and say that they lie on the device, which a mode of torch's tells by their
memory. Their numbers are real, so that a whole training runs through the branches for a GPU and has to end as on a CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import optimizer as torch_optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from harness.benchmark.plain import PlainData, PlainTrial
from harness.data import batches
from harness.data.batches import Resident, Streamed, make_source
from harness.probes import bootstrap
from harness.sweeps import cells, runner
from harness.training import capture, loop
from harness.training.events import PackData, Samples
from harness.training.loop import Stepper, train
from harness.training.packs import Pack
from harness.training.schedules import plan

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
# What asks a GPU for a number, or for a shape that depends on numbers.
WAITING = {
    "_local_scalar_dense",
    "equal",
    "nonzero",
    "masked_select",
    "unique_dim",
    "_unique2",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
}
# What takes tensors of two devices.
BETWEEN = {"copy_", "_to_copy"}


class Mixed(RuntimeError):
    """An operation was given tensors of two devices."""


class PretendedCuda:
    """Within `with gpu:` there is a device "cuda"; `waits` names the calls that made the host wait for it.

    Memory that torch made for itself within an operation is in either place until it meets a tensor of the device.
    """

    def __init__(self) -> None:
        self.waits: list[str] = []
        self._places: dict[
            int, tuple[StorageWeakRef, str]
        ] = {}  # the weak reference keeps the address from being used again

    def __enter__(self) -> PretendedCuda:
        self._modes = _Operations(self), _Calls(self)
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def put(self, tree: Any, place: str) -> None:
        """Say where tensors lie: "device", "host" or "either"."""
        for tensor in _tensors(tree):
            if not _own(tensor).is_meta:
                storage = StorageWeakRef(_own(tensor).untyped_storage())
                self._places[storage.cdata] = storage, place

    def place(self, tensor: Tensor) -> str:
        """Where a tensor lies; what was never put anywhere is the host's."""
        own = _own(tensor)
        return (
            "host"
            if own.is_meta
            else self._places.get(own.untyped_storage()._cdata, (None, "host"))[1]
        )

    def has(self, tensor: Tensor) -> bool:
        return self.place(tensor) == "device"


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return (
        [tensor for part in tree for tensor in _tensors(part)]
        if isinstance(tree, (list, tuple))
        else []
    )


def _own(tensor: Tensor) -> Tensor:
    """Without the wrappers of `vmap`."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


class _Operations(TorchDispatchMode):
    """Every operation, those of the backward pass included: its tensors lie in one place, and so do its results."""

    def __init__(self, gpu: PretendedCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        places: dict[str, list[Tensor]] = {"device": [], "host": [], "either": []}
        for tensor in _tensors((args, kwargs)):
            places[self.gpu.place(tensor)].append(tensor)
        if places["device"] and name not in BETWEEN:
            if any(
                tensor.dim() for tensor in places["host"]
            ):  # a number of the host is handed over by value
                raise Mixed(
                    f"{function}: expected all tensors to be on the same device, but found at least two, {CUDA} and {CPU}"
                )
            by_mask = name.startswith("index") and any(
                index.dtype == torch.bool for index in _tensors(args[1:])
            )
            if name in WAITING or by_mask:
                self.gpu.waits.append(name)
        if name == "copy_" and places["device"] and places["host"]:
            self.gpu.waits.append(name)
        out = function(*args, **(kwargs or {}))
        if name == "copy_":
            return out
        if places["device"]:
            self.gpu.put((places["either"], out), "device")
        elif not places["host"]:
            self.gpu.put(out, "either")
        return out


class _Calls(TorchFunctionMode):
    """Every call from Python: what is made with `device="cuda"`, moved there and back, and asked where it lies."""

    def __init__(self, gpu: PretendedCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if function == torch.Tensor.device.__get__:
            return CUDA if self.gpu.has(args[0]) else function(*args)
        if function == torch.Tensor.is_cuda.__get__:
            return self.gpu.has(args[0])
        if name == "pin_memory":
            return args[0]
        kwargs.pop("pin_memory", None)
        tensors = _tensors((args, kwargs))
        if name in ("numpy", "__array__") and self.gpu.has(args[0]):
            raise Mixed(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        if name == "tolist" and self.gpu.has(args[0]):
            self.gpu.waits.append(name)
        wanted = self._wanted(name, args, kwargs)
        if wanted is None or wanted.type == "meta":
            out = function(*args, **kwargs)
            if not tensors:
                self.gpu.put(out, "host")
            return out
        there = "device" if wanted.type == "cuda" else "host"
        out = function(*tree_map(_here, args), **tree_map(_here, kwargs))
        if not tensors and name == "tensor" and there == "device":
            self.gpu.waits.append(name)
        if tensors and {self.gpu.place(tensors[0]), there} == {"device", "host"}:
            if not kwargs.get("non_blocking"):
                self.gpu.waits.append(name)
            out = out.clone()  # or one memory would lie in two places
        self.gpu.put(out, there)
        return out

    def _wanted(self, name: str, args: tuple, kwargs: dict) -> torch.device | None:
        """The device that a call names, if any."""
        if name in ("cpu", "cuda"):
            return torch.device(name)
        named = [kwargs.get("device"), *(args[1:] if name == "to" else ())]
        for one in named:
            if isinstance(one, Tensor):
                return CUDA if self.gpu.has(one) else one.device
            if isinstance(one, (torch.device, str)):
                return torch.device(one)
        return None


def _here(leaf: Any) -> Any:
    return CPU if isinstance(leaf, (torch.device, str)) and str(leaf).startswith("cuda") else leaf


class _AtOnce:
    """An executor without a thread: a mode of torch's sees its own thread alone."""

    def __init__(self, *options: object, **more: object) -> None: ...

    def __enter__(self) -> _AtOnce:
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, function, *args) -> _Done:
        return _Done(function(*args))


@dataclasses.dataclass
class _Done:
    outcome: Any

    def result(self) -> Any:
        return self.outcome


@pytest.fixture
def gpu(monkeypatch) -> Iterator[PretendedCuda]:
    """With what the harness asks of `torch.cuda`. Steps run launch by launch: there is no graph to replay."""
    one = PretendedCuda()
    grouped = torch_optimizer._group_tensors_by_device_and_dtype

    def group(tensors, with_indices=False):
        return {
            (CUDA if one.has(found[0][0][0]) else device, dtype): found
            for (device, dtype), found in grouped(tensors, with_indices).items()
        }

    monkeypatch.setattr(torch_optimizer, "_group_tensors_by_device_and_dtype", group)
    monkeypatch.setattr(capture.CapturedStep, "__call__", lambda step: step.step())
    monkeypatch.setattr(batches, "ThreadPoolExecutor", _AtOnce)
    for name, value in {
        "device_count": 1,
        "mem_get_info": (2**33, 2**34),
        "get_device_name": "pretended",
        "synchronize": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device=None, value=value: value)
    bootstrap._draws.cache_clear()
    yield one
    bootstrap._draws.cache_clear()  # it keeps tensors of the device


SHAPE, CLASSES = (1, 8, 8), 10
SMALL = {
    "depth": 2,
    "width": 9,
    "budget.epochs": None,
    "budget.steps": 5,
    "budget.batch_size": 32,
    "budget.evaluations": 1,
    "budget.probes": 1,
}  # 4 steps are an epoch


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(200, *SHAPE, generator=generator), torch.randint(
        CLASSES, (200,), generator=generator
    )


def data(
    images: tuple[Tensor, Tensor], trials: int, device: torch.device, residency: str = "auto"
) -> PackData:
    pixels, labels = images
    variant = [0] * trials
    held_out = Samples([pixels[130:].to(device)], labels[130:].to(device), variant)
    return PackData(
        make_source([pixels[:130]], labels[:130], variant, device, residency),
        held_out,
        held_out,
        held_out,
        held_out,
    )


@pytest.fixture
def watched(gpu, monkeypatch) -> list[str]:
    """What waited for the device within training steps, whatever prepares them included."""
    take, waits = Stepper.take_steps, []

    def watching(stepper: Stepper, to: int) -> None:
        before = len(gpu.waits)
        take(stepper, to)
        waits.extend(gpu.waits[before:])

    monkeypatch.setattr(Stepper, "take_steps", watching)
    return waits


def columns(event: Any) -> dict[str, Tensor]:
    """All tensors of an event by name, as they lie."""
    own = {
        name: value for name, value in vars(event).items() if isinstance(value, Tensor)
    } | getattr(event, "scores", {})
    return own | {
        f"{layer.name} {name}": value
        for layer in getattr(event, "layers", [])
        for name, value in layer.columns.items()
    }


MIXED = [
    {"activation": "selu"},
    {"activation": "relu", "optimizer.learning_rate": 0.05},
    {"activation": "selu", "schedule": "cosine", "optimizer.weight_decay": 0.01},
]
CASES = {
    "mixed": ({"budget.probes": 2, "dropout": "alpha", "dropout.rate": 0.2}, MIXED, "auto"),
    "intervals": (
        {"probe.statistics": "full", "optimizer": "adamw", "activation": "gelu"},
        [{}, {}],
        "auto",
    ),
    "intervals of a cnn": (
        {
            "architecture": "cnn",
            "architecture.pool": "max",
            "normalization": "batch",
            "probe.statistics": "full",
        },
        [{}, {}],
        "auto",
    ),
    "standardized cnn": (
        {
            "architecture": "cnn",
            "architecture.padding": "circular",
            "normalization": "weight_standardization",
            "optimizer": "adam",
            "dropout": "standard",
            "dropout.rate": 0.2,
        },
        [{}, {}],
        "auto",
    ),
    "stacked": (
        {
            "budget.probes": 2,
            "normalization": "rms",
            "dropout": "alpha",
            "dropout.rate": 0.2,
            "optimizer": "sgd",
        },
        [{}, {"optimizer.learning_rate": 0.05}],
        "stacked",
    ),
    "stacked cnn": (
        {
            "architecture": "cnn",
            "architecture.head": "average",
            "normalization": "layer",
            "normalization.position": "after",
            "optimizer": "adam",
        },
        [{}, {}],
        "stacked",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pack_is_made_trained_probed_and_evaluated_on_the_device(
    gpu, watched, make_trial, images, case
):
    choices, members, program = CASES[case]
    trials = [make_trial(seed=seed, **SMALL | choices | own) for seed, own in enumerate(members)]
    schedule = plan(trials[0].spec, 130)
    expected = list(
        train(Pack(trials, SHAPE, CLASSES, CPU, program), data(images, len(trials), CPU), schedule)
    )
    with gpu:
        pack = Pack(trials, SHAPE, CLASSES, torch.device("cuda"), program)
        found = list(train(pack, data(images, len(trials), torch.device("cuda")), schedule))
        assert gpu.has(pack.parameters)
        assert all(gpu.has(value) for event in found for value in columns(event).values())
    assert watched == []
    assert gpu.waits
    for there, here in zip(found, expected, strict=True):
        torch.testing.assert_close(
            columns(there), columns(here), rtol=2e-3, atol=2e-5, equal_nan=True
        )


@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize("program", ["batched", "stacked"])
def test_steps_in_bfloat16(gpu, watched, make_trial, images, monkeypatch, program, normalization):
    """Whose products are those of bfloat16, by the rules for a CPU."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: autocast("cpu", dtype))
    losses = []
    for precision in ("float32", "bfloat16"):
        with gpu:
            pack = Pack(
                [
                    make_trial(seed=seed, **SMALL, normalization=normalization, precision=precision)
                    for seed in (0, 1)
                ],
                SHAPE,
                CLASSES,
                torch.device("cuda"),
                program,
            )
            stepper = Stepper(
                pack, data(images, 2, torch.device("cuda")), plan(pack.trials[0].spec, 130)
            )
            stepper.take_steps(5)
            losses.append(stepper.mean_loss().cpu())
    assert watched == []
    assert not torch.equal(*losses)
    torch.testing.assert_close(*losses, rtol=0.02, atol=0.0)


@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_whole_packs_from_their_data_to_their_results(gpu, watched, make_config, residency):
    """Doses, preprocessings and repairs side by side."""
    changes = [
        {"seeds": [0, 1]},
        {"dataset.training_samples": 100, "preprocessing": "zca"},
        {"repair": "lsuv"},
        {"repair": "center_rows"},
        {"repair": "per_sample"},
    ]
    outcomes = []
    for device in ("cpu", "cuda"):
        made = [
            cells.cell(make_config(**SMALL | {"dataset.residency": residency} | one))
            for one in changes
        ]
        members = [
            dataclasses.replace(member, config=dataclasses.replace(member.config, device=device))
            for one in made
            for member in one.jobs
        ]
        if device == "cpu":
            outcomes.append(runner.run_pack(members, "auto", lambda steps: None))
            continue
        with gpu:
            outcomes.append(runner.run_pack(members, "auto", lambda steps: None))
    assert watched == []
    for here, there in zip(*outcomes, strict=True):
        assert here.layers.keys() == there.layers.keys()
        assert there.summary["device"] == "pretended"
        for name in (
            "pre_activation_variance",
            "unit_wasserstein_q50",
            "saturated_share",
            "entropy_rank",
            "gradient_square",
        ):
            assert there.layers[name] == pytest.approx(
                here.layers[name], rel=2e-3, abs=1e-5, nan_ok=True
            ), name
        assert there.summary["test_loss"] == pytest.approx(here.summary["test_loss"], rel=1e-3)


@pytest.mark.parametrize("free, kind", [(2**40, Resident), (2**10, Streamed)])
def test_images_lie_where_there_is_room(gpu, images, monkeypatch, free, kind):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    with gpu:
        source = make_source([images[0]], images[1], [0], torch.device("cuda"))
        assert isinstance(source, kind)
        assert all(
            gpu.has(part)
            for part in source.gather(
                torch.zeros(1, 4, dtype=torch.int64, device=source.index_device)
            )
        )


@pytest.mark.parametrize("logged", [False, True])
def test_the_plain_trial_of_the_benchmark(gpu, make_trial, images, logged):
    pixels, labels = images
    trial, held_out = make_trial(**SMALL), (pixels[130:], labels[130:])
    scores = []
    for device in (CPU, torch.device("cuda")):
        torch.manual_seed(0)
        with gpu:
            one = PlainTrial(
                trial,
                PlainData((pixels[:130], labels[:130]), held_out, held_out, held_out),
                plan(trial.spec, 130),
                SHAPE,
                CLASSES,
                device,
                logged,
            )
            scores.append(one.run(lambda metrics, step: None))
            assert all(
                gpu.has(parameter) == (device != CPU) for parameter in one.network.parameters()
            )
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


def test_a_misplaced_tensor_is_seen(gpu, make_trial, images, monkeypatch):
    right = loop.mean_loss
    monkeypatch.setattr(
        loop, "mean_loss", lambda logits, labels: right(logits, labels) + torch.zeros(len(labels))
    )
    with gpu, pytest.raises(Mixed, match="aten.add"):
        Stepper(
            Pack([make_trial(**SMALL)], SHAPE, CLASSES, torch.device("cuda")),
            data(images, 1, torch.device("cuda")),
            plan(make_trial(**SMALL).spec, 130),
        ).take_steps(1)


@pytest.mark.parametrize(
    "wait",
    [
        lambda loss: loss.sum().item(),
        lambda loss: loss[loss > 0],
        lambda loss: loss.cpu(),
        lambda loss: torch.tensor([1.0], device=loss.device),
        lambda loss: bool(loss.isfinite().all()),
    ],
)
def test_a_wait_is_seen(gpu, watched, make_trial, images, monkeypatch, wait):
    note = loop.Divergence.note
    monkeypatch.setattr(
        loop.Divergence,
        "note",
        lambda divergence, loss, step: (wait(loss), note(divergence, loss, step))[1],
    )
    with gpu:
        Stepper(
            Pack([make_trial(**SMALL)], SHAPE, CLASSES, torch.device("cuda")),
            data(images, 1, torch.device("cuda")),
            plan(make_trial(**SMALL).spec, 130),
        ).take_steps(2)
    assert len(watched) == 2
