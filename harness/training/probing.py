"""Probes of a pack: every layer's taps on the fixed probe images, reduced to columns.

A tap is a named tensor of a hidden layer: what enters its weights, what leaves them, what enters
its activation (the pre-activation) and what leaves that. A probe runs the pack forward and
backward once, without dropout and without an update, and hands the taps of each layer to the
statistics of `harness.probes`.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.networks.weight_forms import FormedConv2d, FormedLinear
from harness.probes.histograms import histogram
from harness.probes.measurement import Statistic, measure, statistics_for
from harness.probes.readings import LayerReading, why_absent
from harness.probes.statistics.gradients import add_gradient_ratios
from harness.training.events import Probed, ProbedLayer, Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE, State
from harness.training.schedules import Plan
from harness.training.sharpness import sharpness
from harness.training.traced_taps import TracedLayer, read_traced_layers

# Bytes of one layer's tap: so few trials are probed at once that all taps of a probe stay far
# below the memory of the pack itself.
_TAP_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
_FLOAT_BYTES = 4


def probe(pack: Pack, samples: Samples, step: int, plan: Plan, before: Tensor | None) -> Probed:
    """Measures all layers of all trials, and at some probes the sharpness of their losses.

    Args:
        pack: the pack; nothing in it changes.
        samples: the probe images.
        step: the number of updates done; 0 at initialisation.
        plan: the pack's plan.
        before: the parameters before the last update, laid out as `pack.parameters`; None at
            initialisation.
    """
    setting = pack.trials[0].spec["probe"]["statistics"]
    statistics = statistics_for(setting, step in (0, plan.steps))
    with_sharpness = setting == "full" or step in plan.sharpness_probes
    if pack.is_named:
        return _probe_traced(pack, samples, step, statistics, before, with_sharpness)
    numbers_per_trial = len(samples) * pack.activations_per_sample(samples.images[0])
    most_bytes = _TAP_BYTES[pack.device.type]
    most_trials = max(1, most_bytes // (_FLOAT_BYTES * numbers_per_trial))
    parts = []
    eigenvalues = []
    for start, stop in pack.ranges(most_trials):
        readings, logits = read_layers(pack, start, stop, samples, before)
        parts.append(_measured_layers(readings, statistics))
        if with_sharpness:
            eigenvalues.append(sharpness(pack, start, stop, samples, logits=logits))
    layers = [_joined(pieces) for pieces in zip(*parts, strict=True)]
    return Probed(step, layers, torch.cat(eigenvalues) if with_sharpness else None)


def _probe_traced(
    pack: Pack,
    samples: Samples,
    step: int,
    statistics: tuple[Statistic, ...],
    before: Tensor | None,
    with_sharpness: bool,
) -> Probed:
    """Measures networks whose layers a traced pass finds, one trial after the other."""
    parts = []
    eigenvalues = []
    for trial in range(len(pack.trials)):
        layers, logits = read_traced_layers(pack, trial, samples, before)
        parts.append(_measured_traced(layers, statistics))
        if with_sharpness:
            read = samples.first(len(logits))
            eigenvalues.append(sharpness(pack, trial, trial + 1, read, logits=logits[None]))
    joined = [_joined(pieces) for pieces in zip(*parts, strict=True)]
    return Probed(step, joined, torch.cat(eigenvalues) if with_sharpness else None)


def _measured_traced(
    layers: list[TracedLayer], statistics: tuple[Statistic, ...]
) -> list[ProbedLayer]:
    columns_of_layers = [measure([traced.reading], statistics)[0] for traced in layers]
    add_gradient_ratios(columns_of_layers)
    measured = []
    for traced, columns in zip(layers, columns_of_layers, strict=True):
        reading = traced.reading
        measured.append(
            ProbedLayer(
                name=reading.name,
                kind=reading.kind,
                units=traced.layer.units,
                fan_in=traced.layer.fan_in,
                columns=columns,
                histogram=histogram(reading.pre_activation, columns["pre_activation_variance"]),
                absent=why_absent(reading),
            )
        )
    return measured


def _measured_layers(
    readings: list[LayerReading], statistics: tuple[Statistic, ...]
) -> list[ProbedLayer]:
    layers = []
    for reading, columns in zip(readings, measure(readings, statistics), strict=True):
        _, units, fan_in = reading.weight.shape
        layers.append(
            ProbedLayer(
                name=reading.name,
                kind=reading.kind,
                units=units,
                fan_in=fan_in,
                columns=columns,
                histogram=histogram(reading.pre_activation, columns["pre_activation_variance"]),
                absent=why_absent(reading),
            )
        )
    return layers


def _joined(pieces: tuple[ProbedLayer, ...]) -> ProbedLayer:
    """Returns one layer for all trials, from its pieces for neighbouring ranges of trials."""
    if len(pieces) == 1:
        return pieces[0]
    columns = {}
    for name in pieces[0].columns:
        columns[name] = torch.cat([piece.columns[name] for piece in pieces])
    counts = torch.cat([piece.histogram for piece in pieces])
    return dataclasses.replace(pieces[0], columns=columns, histogram=counts)


def read_layers(
    pack: Pack, start: int, stop: int, samples: Samples, before: Tensor | None
) -> tuple[list[LayerReading], Tensor]:
    """Reads every activated layer of trials `start:stop`.

    The trials must share one activation. Gradients with respect to pre-activations are those of
    each sample's own loss; those with respect to weights are of the mean loss.

    Args:
        pack: the pack.
        start: the first trial.
        stop: the trial after the last.
        samples: the probe images.
        before: the parameters before the last update, or None at initialisation.

    Returns:
        The readings of the layers in order, and the logits (trials, samples, classes).
    """
    program, parameters, buffers = pack.part(start, stop)
    weights = {
        name: tensor.requires_grad_()
        for name, tensor in parameters.items()
        if name.endswith("weights.weight")
    }
    recorder = _TapRecorder()
    with torch.enable_grad():
        images = samples.images_of(start, stop)
        logits = program(parameters | weights, buffers, images, PROBE, recorder)
        labels = samples.labels.expand(stop - start, -1)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        tapped_weights = [weights[tap.weight_name] for tap in recorder.taps]
        entries = [tap.entry for tap in recorder.taps]
        gradients = torch.autograd.grad(loss, tapped_weights + entries)
    weight_gradients = gradients[: len(recorder.taps)]
    entry_gradients = gradients[len(recorder.taps) :]
    readings = []
    for tap, weight_gradient, entry_gradient in zip(
        recorder.taps, weight_gradients, entry_gradients, strict=True
    ):
        earlier = None
        if before is not None:
            earlier = {
                name: pack.parameter_in(before, name)[start:stop]
                for name in parameters
                if name.startswith(f"{tap.weights_name}.")
            }
        mean_gradient = weight_gradient.flatten(2) / len(samples)
        readings.append(tap.reading(parameters, buffers, earlier, mean_gradient, entry_gradient))
    return readings, logits.detach()


class _Tap:
    """The tensors of one hidden layer, gathered in a forward pass."""

    def __init__(self, name: str, weights: nn.Module, inputs: Tensor, output: Tensor) -> None:
        self.weights_name = name
        self.weights = weights
        self.inputs = inputs
        self.weights_output = output

    @property
    def weight_name(self) -> str:
        """The name of the layer's weight among the parameters."""
        return f"{self.weights_name}.weight"

    def add_activation(
        self, activation: nn.Module, pre_activation: Tensor, output: Tensor, entry: Tensor
    ) -> None:
        """Adds what the layer's activation took and gave."""
        self.activation = activation
        self.pre_activation = pre_activation
        self.output = output
        self.entry = entry

    def reading(
        self,
        parameters: State,
        buffers: State,
        earlier: State | None,
        weight_gradient: Tensor,
        entry_gradient: Tensor,
    ) -> LayerReading:
        """Returns the layer's reading.

        Args:
            parameters: those of the trials, by name.
            buffers: those of the trials, by name.
            earlier: the layer's parameters before the last update, or None.
            weight_gradient: (trials, units, fan_in), of the mean loss.
            entry_gradient: of each sample's loss, in the shape of the pre-activation.
        """
        weight = self._effective(parameters, buffers)
        update = None if earlier is None else weight - self._effective(earlier, buffers)
        bias = parameters.get(f"{self.weights_name}.bias")
        return LayerReading(
            name=self.weights_name.split(".")[-2],
            kind="linear" if isinstance(self.weights, nn.Linear) else "conv2d",
            activation_module=self.activation,
            inputs=self.inputs.detach(),
            pre_activation=self.pre_activation.detach(),
            activation=self.output.detach(),
            gradient=entry_gradient,
            weight=weight,
            weight_gradient=weight_gradient,
            update=update,
            bias=None if bias is None else bias.detach(),
            weights_module=self.weights if self._is_on_the_same_map() else None,
            weights_output=None if self._is_direct() else self.weights_output.detach(),
        )

    def _effective(self, parameters: State, buffers: State) -> Tensor:
        """Returns the weight that acts, (trials, units, fan_in).

        A layer with a form of weights multiplies by what it computes from those that it stores.
        """
        weight = parameters[self.weight_name].detach()
        if isinstance(self.weights, (FormedLinear, FormedConv2d)):
            form = self.weights.form
            companion = (buffers | parameters).get(f"{self.weights_name}.{form.companion}")
            weight, _ = form.effective(weight, companion, 2)
        return weight.detach().flatten(2)

    def _is_on_the_same_map(self) -> bool:
        """Returns whether z has the positions of the weights' output, so no pooling between."""
        return self.weights_output.shape == self.pre_activation.shape

    def _is_direct(self) -> bool:
        """Returns whether nothing stands between the weights and the activation."""
        if self.weights_output is self.pre_activation:
            return True
        if not self._is_on_the_same_map():
            return False
        return torch.equal(self.weights_output.nan_to_num(), self.pre_activation.nan_to_num())


class _TapRecorder:
    """Gathers the taps of a program's forward pass in order; see `programs.Record`."""

    def __init__(self) -> None:
        self.taps: list[_Tap] = []

    def __call__(self, name: str, module: nn.Module, x: Tensor, y: Tensor, entry: Tensor) -> None:
        if name.endswith("weights"):
            self.taps.append(_Tap(name, module, x, y))
        else:
            self.taps[-1].add_activation(module, x, y, entry)
