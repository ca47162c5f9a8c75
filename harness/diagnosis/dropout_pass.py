"""A forward pass with dropout acting, as in training, beside what theory predicts for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from harness.networks.dropouts import StandardDropout
from harness.networks.tracing.structure import Dropout, Layer, Structure
from harness.networks.tracing.trace import Activated, Listeners
from harness.networks.tracing.tracer import run_traced
from harness.theory.networks.dropout import alpha_dropout, standard_dropout_moments

# Seed of the masks of every diagnosis, so that two of one model agree.
_SEED = 0
# As many samples as draw this many entries of the narrowest dropout's mask, within these bounds.
_MASK_ENTRIES = 2**18
_FEWEST_SAMPLES = 64
_MOST_SAMPLES = 256


@dataclass(frozen=True)
class DropoutMeasurement:
    """Pooled mean and variance of one layer, with dropout acting there and in all layers before.

    Attributes:
        samples: number of samples used.
        mean: of the output of the first dropout that follows the layer, or of the activations
            where none does.
        variance: of the same.
        before: mean and variance of what enters that dropout, None where there is none.
        predicted: theory's mean and variance after that dropout, given `before`; or None.
    """

    samples: int
    mean: float
    variance: float
    before: tuple[float, float] | None = None
    predicted: tuple[float, float] | None = None

    @property
    def growth(self) -> float | None:
        """Mean square after the dropout relative to that before; None where there is none."""
        if self.before is None:
            return None
        mean, variance = self.before
        square = variance + mean**2
        return (self.variance + self.mean**2) / square if square > 0 else None

    def columns(self) -> dict[str, float]:
        """Returns columns of the layer table; without a dropout there is no prediction."""
        columns = {
            "dropout_activation_mean": self.mean,
            "dropout_activation_variance": self.variance,
        }
        if self.predicted is not None:
            columns["predicted_dropout_activation_mean"] = self.predicted[0]
            columns["predicted_dropout_activation_variance"] = self.predicted[1]
        return columns


def measure_dropout(
    model: nn.Module, inputs: Tensor, structure: Structure
) -> list[DropoutMeasurement] | None:
    """Measures each activated layer with the model's dropout modules acting.

    Uses the first samples only. Returns None where the model has no dropout, or where it takes
    another way through its layers with them; then `structure.left_out` says so.

    Raises:
        RequestError: the model fails with dropout acting.
    """
    modules = _dropout_modules(model)
    if not modules:
        return None
    widths = [layer.units for layer in structure.activated if layer.dropouts]
    narrowest = min(widths, default=1)
    samples = min(_MOST_SAMPLES, max(_FEWEST_SAMPLES, _MASK_ENTRIES // narrowest))
    inputs = inputs[:samples]
    measurements = _Measurements(len(inputs))
    listeners = Listeners(
        on_activation=measurements.on_activation,
        on_dropout=measurements.on_dropout,
        keep=lambda z, held: z[:0],
    )
    with torch.no_grad(), _acting(modules, inputs.device):
        activated = run_traced(model, inputs.clone(), listeners).structure.activated
    labels = [layer.label for layer in activated]
    if labels != [layer.label for layer in structure.activated]:
        structure.left_out.append(
            "the measurements with dropout acting: the model takes another way through its "
            "layers then"
        )
        return None
    return [measurements.by_layer[layer] for layer in activated]


class _Measurements:
    """Listens to a forward pass with dropout acting; keeps numbers, no tensors."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.by_layer: dict[Layer, DropoutMeasurement] = {}

    def on_activation(self, activated: Activated) -> None:
        """Measures a layer's activations, which stand for it until a dropout follows."""
        mean, variance = _moments(activated.activation)
        self.by_layer[activated.layer] = DropoutMeasurement(self.samples, mean, variance)

    def on_dropout(self, layer: Layer, x: Tensor, y: Tensor, dropout: Dropout) -> None:
        """Measures the first dropout after a layer's activation.

        A pooling may stand between the two, so the prediction starts from `x`.
        """
        measurement = self.by_layer.get(layer)
        if measurement is None or measurement.before is not None:
            return
        before = _moments(x)
        mean, variance = _moments(y)
        predicted = _predicted_moments(dropout, *before)
        self.by_layer[layer] = DropoutMeasurement(self.samples, mean, variance, before, predicted)


def _dropout_modules(model: nn.Module) -> list[nn.Module]:
    """Returns the modules that drop something in training."""
    modules: list[nn.Module] = []
    for module in model.modules():
        of_torch = isinstance(module, _DropoutNd) and module.p > 0
        of_harness = isinstance(module, StandardDropout) and bool(
            (module.get_buffer("rate") > 0).any()
        )
        if of_torch or of_harness:
            modules.append(module)
    return modules


@contextmanager
def _acting(modules: list[nn.Module], device: torch.device) -> Iterator[None]:
    """Puts these modules, and no others, in training mode with fixed masks.

    The caller keeps the random generators' state. Generators are seeded one by one, because
    `torch.manual_seed` would also change the start of a generator that does not exist yet.
    """
    modes = [module.training for module in modules]
    torch.default_generator.manual_seed(_SEED)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(_SEED)
    try:
        for module in modules:
            module.training = True
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training


def _moments(tensor: Tensor) -> tuple[float, float]:
    variance, mean = torch.var_mean(tensor.detach().float(), correction=0)
    return float(mean), float(variance)


def _predicted_moments(dropout: Dropout, mean: float, variance: float) -> tuple[float, float]:
    if dropout.kind == "alpha":
        return alpha_dropout(dropout.rate).moments(mean, variance)
    return standard_dropout_moments(dropout.rate, mean, variance)
