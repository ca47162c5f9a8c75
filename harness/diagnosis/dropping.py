"""What dropout does to each activated layer when it acts, as in training: measured in a forward pass of its own, beside theory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from harness.diagnosis.structure import Dropout, Layer
from harness.diagnosis.tracing import Activated
from harness.networks.dropouts import StandardDropout
from harness.theory.networks.dropout import alpha_dropout, standard_dropout_moments

# The masks of every diagnosis, so that two of one model agree.
_SEED = 0


@dataclass(frozen=True)
class Dropped:
    """Pooled mean and variance of one activated layer with dropout acting there and in all layers before.

    Attributes:
        samples: how many were used.
        mean, variance: behind the first dropout that follows the layer; of the activations where none does.
        before: mean and variance of what enters that dropout, None where there is none.
        predicted: what theory makes of `before`, None where it says nothing.
    """

    samples: int
    mean: float
    variance: float
    before: tuple[float, float] | None = None
    predicted: tuple[float, float] | None = None

    @property
    def growth(self) -> float | None:
        """Mean square behind the dropout relative to that before it; None where there is none or nothing entered."""
        square = 0.0 if self.before is None else self.before[1] + self.before[0] ** 2
        return (self.variance + self.mean**2) / square if square > 0 else None

    def columns(self) -> dict[str, float]:
        """Of the layer table; a prediction is absent where no dropout follows the layer."""
        measured = {
            "dropout_activation_mean": self.mean,
            "dropout_activation_variance": self.variance,
        }
        if self.predicted is None:
            return measured
        return measured | {
            "predicted_dropout_activation_mean": self.predicted[0],
            "predicted_dropout_activation_variance": self.predicted[1],
        }


class Dropping:
    """Listens to a `Tracer` of a pass with dropout acting; keeps numbers, no tensors."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.found: dict[Layer, Dropped] = {}

    def on_activation(self, seen: Activated) -> None:
        """A layer's activations, which stand for it until a dropout follows."""
        self.found[seen.layer] = Dropped(self.samples, *_moments(seen.activation))

    def on_dropout(self, layer: Layer, x: Tensor, y: Tensor, dropout: Dropout) -> None:
        """The first dropout behind a layer's activation; a pooling may stand between, so `x` is what counts, not the activation."""
        known = self.found.get(layer)
        if known is not None and known.before is None:
            before = _moments(x)
            self.found[layer] = Dropped(
                self.samples, *_moments(y), before, _predicted(dropout, *before)
            )


def acting_dropouts(model: nn.Module) -> list[nn.Module]:
    """The modules that drop something in training."""
    torchs = [
        module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0
    ]
    return torchs + [
        module
        for module in model.modules()
        if isinstance(module, StandardDropout) and bool((module.rate > 0).any())
    ]


@contextmanager
def acting(modules: list[nn.Module], device: torch.device) -> Iterator[None]:
    """These modules, and no others, in training mode with fixed masks; the caller keeps the random generators' state.

    Seeded one by one: `torch.manual_seed` would also change what a generator that does not exist yet begins with.
    """
    flags = [module.training for module in modules]
    torch.default_generator.manual_seed(_SEED)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(_SEED)
    try:
        for module in modules:
            module.training = True
        yield
    finally:
        for module, training in zip(modules, flags):
            module.training = training


def _moments(tensor: Tensor) -> tuple[float, float]:
    variance, mean = torch.var_mean(tensor.detach().float(), correction=0)
    return float(mean), float(variance)


def _predicted(dropout: Dropout, mean: float, variance: float) -> tuple[float, float]:
    return (
        alpha_dropout(dropout.rate).moments(mean, variance)
        if dropout.kind == "alpha"
        else standard_dropout_moments(dropout.rate, mean, variance)
    )
