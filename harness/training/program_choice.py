"""The programs that can run a trial, the one to use where nothing is measured first."""

from __future__ import annotations

import torch
from torch.nn import functional

from harness.configuration.trial import Trial
from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.networks.layout import layer_sizes
from harness.training.batched import is_sequential
from harness.training.packs import Pack, is_named
from harness.training.programs import TRAIN

# A step of so many trials and samples shows whether a network can have a trial dimension.
_TRIALS = 2
_SAMPLES = 2


def programs_for(
    trial: Trial, shape: tuple[int, int, int], classes: int, device: torch.device
) -> list[str]:
    """Returns the programs that can run a trial's network, the best guess first.

    Of a named network, dense layers gain from a trial dimension, and so do convolutions on a GPU.
    On a CPU convolutions with a trial dimension are slower than one by one.

    Args:
        trial: the trial.
        shape: channels, height and width of the images.
        classes: the number of classes.
        device: where it trains.
    """
    if not is_named(trial):
        with torch.device("meta"):
            network = build_network(trial.spec, shape, classes)
        return ["batched", "stacked"] if is_sequential(network) else ["stacked"]
    if why_not_stacked(trial, shape, classes) is not None:
        return ["looped"]
    sizes = layer_sizes(trial.spec, shape, classes)
    has_convolutions = any(size.kind == "conv2d" for size in sizes)
    if has_convolutions and device.type == "cpu":
        return ["looped", "stacked"]
    return ["stacked", "looped"]


def check_program(program: str, trial: Trial, shape: tuple[int, int, int], classes: int) -> None:
    """Refuses the stacked program for a named network that cannot have a trial dimension.

    Raises:
        RequestError: with the reason.
    """
    if program != "stacked" or not is_named(trial):
        return
    reason = why_not_stacked(trial, shape, classes)
    if reason is not None:
        name = trial.spec["architecture"]["name"]
        raise RequestError(
            f"program=stacked: torch.vmap cannot run {name} ({reason}); use auto or looped"
        )


def why_not_stacked(trial: Trial, shape: tuple[int, int, int], classes: int) -> str | None:
    """Returns why a network cannot have a trial dimension, or None where a step of it works."""
    cpu = torch.device("cpu")
    pack = Pack([trial] * _TRIALS, shape, classes, cpu, "stacked")
    images = torch.zeros(_TRIALS, _SAMPLES, *shape)
    labels = torch.zeros(_TRIALS * _SAMPLES, dtype=torch.int64)
    try:
        logits = pack.program(pack.state, pack.buffers, images, TRAIN)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels)
        torch.autograd.grad(loss, list(pack.state.values()), allow_unused=True)
    except Exception as error:
        # Code that others wrote may do what torch.vmap has no rule for.
        lines = str(error).splitlines() or [type(error).__name__]
        return lines[0]
    return None
