"""One probe of a pack: every layer's taps on the fixed probe set, reduced to the chosen statistics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.networks.normalizations import StandardizedConv2d, StandardizedLinear, standardize
from harness.probes.readings import LayerReading
from harness.probes.statistics import STANDARD, Columns, finish
from harness.training.events import Probed, ProbedLayer, Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE

STATISTICS: dict[str, tuple[Callable[[LayerReading], Columns], ...]] = {"standard": STANDARD}

# Bytes that one layer's tap may take: few enough trials at once that a probe's taps stay far below the pack's own memory.
_TAP_BYTES = 8 * 2**20


def probe(pack: Pack, samples: Samples, statistics: str, step: int, before: Tensor | None) -> Probed:
    """Read all layers of all trials. `before` holds the parameters before the last update, None at initialisation."""
    widest = max(module.weight.shape[0] for module in pack.groups[0].network.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    positions = samples.images[0, 0, 0].numel() if pack.trials[0].spec["architecture"]["name"] == "cnn" else 1
    size = max(1, _TAP_BYTES // (4 * len(samples) * widest * positions))
    parts = [_probe_part(pack, start, stop, samples, STATISTICS[statistics], before) for start, stop in pack.parts(size)]
    layers = []
    for pieces in zip(*parts):
        columns = {name: torch.cat([piece.columns[name] for piece in pieces]) for name in pieces[0].columns}
        layers.append(ProbedLayer(pieces[0].name, pieces[0].kind, pieces[0].units, pieces[0].fan_in, columns))
    finish([layer.columns for layer in layers])
    return Probed(step, layers)


def _probe_part(pack: Pack, start: int, stop: int, samples: Samples, statistics: tuple[Callable[[LayerReading], Columns], ...], before: Tensor | None) -> list[ProbedLayer]:
    program, parameters, buffers = pack.part(start, stop)
    taps = _Taps()
    weights = {name: tensor.requires_grad_() for name, tensor in parameters.items() if name.endswith("weights.weight")}
    with torch.enable_grad():
        logits = program(parameters | weights, buffers, samples.of(start, stop), PROBE, taps)
        labels = samples.labels.expand(stop - start, -1)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        wanted = [weights[f"{tap.weights_name}.weight"] for tap in taps.layers] + [tap.entry for tap in taps.layers]
        gradients = torch.autograd.grad(loss, wanted)
    layers = []
    for index, tap in enumerate(taps.layers):
        name = f"{tap.weights_name}.weight"
        raw = weights[name].detach()
        weight = _effective(tap.weights, raw).flatten(2)
        update = None
        if before is not None:
            update = (weight - _effective(tap.weights, pack.of(before, name)[start:stop]).flatten(2))
        reading = LayerReading(
            name=tap.weights_name.rpartition(".")[0],
            kind="linear" if isinstance(tap.weights, nn.Linear) else "conv2d",
            activation_module=tap.activation,
            inputs=tap.inputs.detach(),
            pre_activation=tap.pre_activation.detach(),
            activation=tap.output.detach(),
            gradient=gradients[len(taps.layers) + index],
            weight=weight,
            weight_gradient=gradients[index].flatten(2) / len(samples),
            update=update,
        )
        columns = {key: values for statistic in statistics for key, values in statistic(reading).items()}
        layers.append(ProbedLayer(reading.name, reading.kind, weight.shape[1], weight.shape[2], columns))
    return layers


def _effective(module: nn.Module, weight: Tensor) -> Tensor:
    """The weight that acts: a standardised layer's weight is what it computes, not what it stores."""
    return standardize(weight, inputs_from=2) if isinstance(module, (StandardizedLinear, StandardizedConv2d)) else weight


class _Tap:
    """What was seen of one hidden layer: its weight module, what entered it, and its activation."""

    def __init__(self, weights_name: str, weights: nn.Module, inputs: Tensor) -> None:
        self.weights_name, self.weights, self.inputs = weights_name, weights, inputs

    def see_activation(self, module: nn.Module, pre_activation: Tensor, output: Tensor, entry: Tensor) -> None:
        self.activation, self.pre_activation, self.output, self.entry = module, pre_activation, output, entry


class _Taps:
    """Collects the taps of a program's forward pass in order."""

    def __init__(self) -> None:
        self.layers: list[_Tap] = []

    def __call__(self, name: str, module: nn.Module, x: Tensor, y: Tensor, entry: Tensor) -> None:
        if name.endswith("weights"):
            self.layers.append(_Tap(name, module, x))
        else:
            self.layers[-1].see_activation(module, x, y, entry)
