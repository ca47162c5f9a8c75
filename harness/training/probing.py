"""One probe of a pack: every layer's taps on the fixed probe set, reduced to the chosen statistics."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.networks.normalizations import StandardizedConv2d, StandardizedLinear, standardize
from harness.probes.measurement import Statistic, measure, statistics_for
from harness.probes.readings import LayerReading, why_absent
from harness.training.events import Probed, ProbedLayer, Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE

# Bytes that one layer's tap may take: few enough trials at once that a probe's taps stay far below the pack's own memory.
_TAP_BYTES = 8 * 2**20


def probe(pack: Pack, samples: Samples, step: int, last: bool, before: Tensor | None) -> Probed:
    """Read all layers of all trials. `last`: training is over. `before` holds the parameters before the last update, None at initialisation."""
    statistics = statistics_for(pack.trials[0].spec["probe"]["statistics"], step == 0 or last)
    widest = max(
        module.weight.shape[0]
        for module in pack.groups[0].network.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    )
    positions = (
        samples.images[0][0, 0].numel()
        if pack.trials[0].spec["architecture"]["name"] == "cnn"
        else 1
    )
    size = max(1, _TAP_BYTES // (4 * len(samples) * widest * positions))
    parts = [
        _probe_part(pack, start, stop, samples, statistics, before)
        for start, stop in pack.parts(size)
    ]
    return Probed(step, [_joined(pieces) for pieces in zip(*parts)])


def _joined(pieces: tuple[ProbedLayer, ...]) -> ProbedLayer:
    if len(pieces) == 1:
        return pieces[0]
    columns = {
        name: torch.cat([piece.columns[name] for piece in pieces]) for name in pieces[0].columns
    }
    return dataclasses.replace(pieces[0], columns=columns)


def _probe_part(
    pack: Pack,
    start: int,
    stop: int,
    samples: Samples,
    statistics: tuple[Statistic, ...],
    before: Tensor | None,
) -> list[ProbedLayer]:
    readings = read(pack, start, stop, samples, before)
    return [
        ProbedLayer(
            reading.name,
            reading.kind,
            reading.weight.shape[1],
            reading.weight.shape[2],
            columns,
            why_absent(reading),
        )
        for reading, columns in zip(readings, measure(readings, statistics))
    ]


def read(
    pack: Pack, start: int, stop: int, samples: Samples, before: Tensor | None
) -> list[LayerReading]:
    """The readings of every activated layer of trials `start:stop`, which share one activation."""
    program, parameters, buffers = pack.part(start, stop)
    taps = _Taps()
    weights = {
        name: tensor.requires_grad_()
        for name, tensor in parameters.items()
        if name.endswith("weights.weight")
    }
    with torch.enable_grad():
        logits = program(parameters | weights, buffers, samples.of(start, stop), PROBE, taps)
        labels = samples.labels.expand(stop - start, -1)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        wanted = [weights[f"{tap.weights_name}.weight"] for tap in taps.layers] + [
            tap.entry for tap in taps.layers
        ]
        gradients = torch.autograd.grad(loss, wanted)
    readings = []
    for index, tap in enumerate(taps.layers):
        name = f"{tap.weights_name}.weight"
        weight = _effective(tap.weights, weights[name].detach()).flatten(2)
        update = None
        if before is not None:
            update = weight - _effective(tap.weights, pack.of(before, name)[start:stop]).flatten(2)
        bias = parameters.get(f"{tap.weights_name}.bias")
        readings.append(
            LayerReading(
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
                bias=None if bias is None else bias.detach(),
                weights_module=tap.weights,
                weights_output=None
                if _same(tap.weights_output, tap.pre_activation)
                else tap.weights_output.detach(),
            )
        )
    return readings


def _same(output: Tensor, pre_activation: Tensor) -> bool:
    """Whether nothing stands between the weights and the activation."""
    if output is pre_activation:
        return True
    return output.shape == pre_activation.shape and torch.equal(
        output.nan_to_num(), pre_activation.nan_to_num()
    )


def _effective(module: nn.Module, weight: Tensor) -> Tensor:
    """The weight that acts: a standardised layer's weight is what it computes, not what it stores."""
    return (
        standardize(weight, inputs_from=2)
        if isinstance(module, (StandardizedLinear, StandardizedConv2d))
        else weight
    )


class _Tap:
    """What was seen of one hidden layer: its weight module, what entered and left it, and its activation."""

    def __init__(
        self, weights_name: str, weights: nn.Module, inputs: Tensor, output: Tensor
    ) -> None:
        self.weights_name, self.weights, self.inputs, self.weights_output = (
            weights_name,
            weights,
            inputs,
            output,
        )

    def see_activation(
        self, module: nn.Module, pre_activation: Tensor, output: Tensor, entry: Tensor
    ) -> None:
        self.activation, self.pre_activation, self.output, self.entry = (
            module,
            pre_activation,
            output,
            entry,
        )


class _Taps:
    """Collects the taps of a program's forward pass in order."""

    def __init__(self) -> None:
        self.layers: list[_Tap] = []

    def __call__(self, name: str, module: nn.Module, x: Tensor, y: Tensor, entry: Tensor) -> None:
        if name.endswith("weights"):
            self.layers.append(_Tap(name, module, x, y))
        else:
            self.layers[-1].see_activation(module, x, y, entry)
