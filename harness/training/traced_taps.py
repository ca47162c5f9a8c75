"""Taps of networks whose layers a traced forward pass finds, one trial at a time.

Such a network may call its activations as functions, use a module twice, or add what branches
give. So its layers are found where they run, by the tracer that a diagnosis uses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from harness.networks.tracing.structure import Layer
from harness.networks.tracing.trace import Activated, Listeners, Trace
from harness.networks.tracing.tracer import run_traced
from harness.probes.readings import LayerReading
from harness.probes.traced_readings import Cut, layer_reading
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE, State, set_mode

# Numbers that all layers of a network may give in one probe. A larger network is read on fewer of
# the samples, but on no fewer than `_FEWEST_SAMPLES`.
_MOST_NUMBERS = 2**26
_FEWEST_SAMPLES = 32
# The name of the network within the module that traces it.
_NETWORK = "network"


@dataclass(frozen=True)
class TracedLayer:
    """One activated layer of one trial.

    Attributes:
        reading: its tensors, cut to what is read of a large layer.
        layer: how it was found, with the sizes of the whole layer.
    """

    reading: LayerReading
    layer: Layer


def probed_samples(pack: Pack, samples: int) -> int:
    """Returns how many of the samples a probe reads of networks of this size."""
    numbers = sum(size.units * size.height * size.width for size in pack.sizes)
    return min(samples, max(_FEWEST_SAMPLES, _MOST_NUMBERS // numbers))


def read_traced_layers(
    pack: Pack, trial: int, samples: Samples, before: Tensor | None
) -> tuple[list[TracedLayer], Tensor]:
    """Reads every activated layer of one trial.

    Gradients are those of `harness.training.probing.read_layers`.

    Args:
        pack: the pack.
        trial: the trial's number in the pack.
        samples: the probe images.
        before: the parameters before the last update, or None at initialisation.

    Returns:
        The layers in the order of their activations, and the logits (samples, classes).
    """
    count = probed_samples(pack, len(samples))
    state = {name: tensor.detach()[trial] for name, tensor in pack.state.items()}
    weights = {name: tensor.requires_grad_() for name, tensor in state.items() if tensor.dim() > 1}
    buffers = {name: tensor[trial].clone() for name, tensor in pack.buffers.items()}
    images = samples.images_of(trial, trial + 1)[0, :count]
    network = pack.network_of(trial)
    set_mode(network, PROBE)
    recorder = _Recorder(network)
    with torch.enable_grad():
        # A copy, as a network may write over its images.
        logits = functional_call(recorder, _prefixed(state | buffers), (images.clone(),))
        loss = functional.cross_entropy(logits, samples.labels[:count], reduction="sum")
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    weight_gradients = dict(zip(weights, gradients, strict=True))
    uses = Counter(layer.name for layer in recorder.trace.structure.layers if not layer.repeats)
    layers = []
    for tap, arrived in zip(recorder.taps, recorder.trace.tokens, strict=True):
        name = f"{tap.layer.name}.weight"
        reading = replace(tap.reading, gradient=tap.gradient(arrived))
        gradient = weight_gradients.get(name)
        # Weights that are used several times have one gradient, that of all uses.
        if gradient is not None and uses[tap.layer.name] == 1:
            reading = replace(reading, weight_gradient=gradient.flatten(1).unsqueeze(0) / count)
        if before is not None and name in state:
            update = state[name] - pack.parameter_in(before, name)[trial]
            reading = replace(reading, update=tap.cut.rows(update.detach()))
        layers.append(TracedLayer(reading, tap.layer))
    return layers, logits.detach()


def _prefixed(state: State) -> State:
    return {f"{_NETWORK}.{name}": tensor for name, tensor in state.items()}


class _Arrived:
    """The gradient by a pre-activation, None until it arrives."""

    def __init__(self) -> None:
        self.gradient: Tensor | None = None

    def __call__(self, gradient: Tensor) -> None:
        """Keeps the gradient."""
        self.gradient = gradient


@dataclass(frozen=True)
class _Tap:
    """An activated layer as it ran."""

    layer: Layer
    cut: Cut
    reading: LayerReading

    def gradient(self, arrived: _Arrived) -> Tensor | None:
        """Returns what is read of the gradient by z; None where none arrived in z's shape."""
        if arrived.gradient is None:
            return None
        gradient = self.cut.outputs(arrived.gradient)
        return gradient if gradient.shape == self.reading.pre_activation.shape else None


class _Recorder(nn.Module):
    """Runs a network under the tracer, and keeps its trace and its taps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.add_module(_NETWORK, network)
        self.taps: list[_Tap] = []
        self.trace: Trace

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        listeners = Listeners(on_activation=self._keep, before_activation=_watched)
        self.trace = run_traced(self.get_submodule(_NETWORK), images, listeners)
        return self.trace.output

    def _keep(self, activated: Activated) -> None:
        if activated.overwritten:
            raise RuntimeError(
                f"{activated.layer.label}: its inputs were overwritten before its activation ran, "
                "so that they cannot be measured"
            )
        reading = layer_reading(activated)
        # Copies, as what follows may write over them.
        outputs = reading.weights_output
        reading = replace(
            reading,
            inputs=reading.inputs.clone(),
            pre_activation=reading.pre_activation.clone(),
            activation=reading.activation.clone(),
            weights_output=None if outputs is None else outputs.clone(),
        )
        self.taps.append(_Tap(activated.layer, Cut.of(activated), reading))


def _watched(layer: Layer, z: Tensor) -> _Arrived:
    arrived = _Arrived()
    if z.requires_grad:
        z.register_hook(arrived)
    return arrived
