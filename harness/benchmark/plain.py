"""The yardsticks: one trial at a time, as a competent user writes it in plain PyTorch.

(a) is what one commonly meets: a `DataLoader`, forward hooks for the statistics of the layers,
calls of a tracker for all that is measured. (b) is the same with all tensors on the device and no
tracker. Both train the same network as the harness and compute the same statistics at the same
steps; a test holds them to the harness's numbers. The order of their batches is their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from harness.configuration.trial import Trial
from harness.networks.architectures import architecture_of, build_network
from harness.probes.measurement import measure, statistics_for
from harness.probes.readings import LayerReading
from harness.sweeps.inputs import Prepared
from harness.training import devices
from harness.training.schedules import Plan

# Function that takes metrics by name, and the step to which they belong.
Log = Callable[[dict[str, float], int], None]
Batches = Iterator[tuple[Tensor, Tensor]]

_EVALUATION_BATCH = 2048
# Training alone: steps before the reading, its least time, and the steps between two looks at the
# clock.
_WARM_UP_STEPS = 5
_READING_SECONDS = 1.0
_STEPS_AT_ONCE = 10


@dataclass(frozen=True)
class PlainData:
    """The preprocessed images (samples, channels, height, width) and labels of each split."""

    training: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    probe: tuple[Tensor, Tensor]


def plain_data(prepared: Prepared, probe_samples: int) -> PlainData:
    """Returns the splits of preprocessed images, with the probe set that the harness uses."""
    images, labels = prepared.validation.images, prepared.validation.labels
    return PlainData(
        training=(prepared.training.images, prepared.training.labels),
        validation=(images, labels),
        test=(prepared.test.images, prepared.test.labels),
        probe=(images[:probe_samples], labels[:probe_samples]),
    )


class PlainTrial:
    """One training in plain PyTorch.

    Args:
        trial: the trial; its optimizer is `sgd`, `momentum` or `adam`, its learning rate constant.
        data: what it is trained and measured on.
        plan: the steps, and when to look.
        classes: the number of classes.
        device: where it trains.
        logged: whether it is yardstick (a), with a `DataLoader` on the host, and not (b), with all
            tensors on the device.
    """

    def __init__(
        self,
        trial: Trial,
        data: PlainData,
        plan: Plan,
        classes: int,
        device: torch.device,
        logged: bool,
    ) -> None:
        self.plan = plan
        self.device = device
        training_images, _ = data.training
        shape = tuple(training_images.shape[1:])
        self.network = build_network(trial.spec, shape, classes)
        state = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        kind = architecture_of(trial.spec)
        with torch.no_grad():
            kind.initialize(self.network, trial.spec, trial.seed, (shape, classes), state)
        self.network.to(device)
        self.optimizer = _optimizer(self.network, trial.spec["optimizer"])
        self.validation = _moved(data.validation, device)
        self.test = _moved(data.test, device)
        self.probe = _moved(data.probe, device)
        self.batches = self._loaded(data.training) if logged else self._indexed(data.training)
        self.losses: list[Tensor] = []
        self.before: list[Tensor] | None = None

    def run(self, log: Log) -> dict[str, float]:
        """Trains by the plan, and returns the final scores by name."""
        for step in range(self.plan.steps + 1):
            if step in self.plan.probes:
                images, labels = self.probe
                first_or_last = step in (0, self.plan.steps)
                log(
                    layer_statistics(self.network, images, labels, self.before, first_or_last),
                    step,
                )
            if step in self.plan.evaluations:
                log(self._evaluation(), step)
            if step < self.plan.steps:
                self.step(keep_before=step + 1 in self.plan.probes)
        loss, accuracy = evaluate(self.network, *self.test)
        scores = {"test_loss": loss, "test_accuracy": accuracy}
        log(scores, self.plan.steps)
        return scores

    def step(self, keep_before: bool = False) -> None:
        """Makes one update; `keep_before` keeps the parameters before it in `before`."""
        images, labels = next(self.batches)
        self.network.train()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.network(images), labels)
        loss.backward()
        self.before = None
        if keep_before:
            self.before = [parameter.detach().clone() for parameter in self.network.parameters()]
        self.optimizer.step()
        self.losses.append(loss.detach())

    def steps_per_second(self) -> float:
        """Returns steps per second of training alone."""
        for _ in range(_WARM_UP_STEPS):
            self.step()
        devices.wait(self.device)
        taken = 0
        started = time.perf_counter()
        while time.perf_counter() - started < _READING_SECONDS:
            for _ in range(_STEPS_AT_ONCE):
                self.step()
            taken += _STEPS_AT_ONCE
        devices.wait(self.device)
        return taken / (time.perf_counter() - started)

    def _evaluation(self) -> dict[str, float]:
        loss, accuracy = evaluate(self.network, *self.validation)
        train_loss = float(torch.stack(self.losses).mean()) if self.losses else float("nan")
        self.losses = []
        return {"train_loss": train_loss, "validation_loss": loss, "validation_accuracy": accuracy}

    def _loaded(self, training: tuple[Tensor, Tensor]) -> Batches:
        """Yields batches of a `DataLoader` without end."""
        loader = DataLoader(
            TensorDataset(*training),
            self.plan.batch_size,
            shuffle=True,
            drop_last=True,
            pin_memory=self.device.type == "cuda",
        )
        while True:
            for images, labels in loader:
                yield (
                    images.to(self.device, non_blocking=True),
                    labels.to(self.device, non_blocking=True),
                )

    def _indexed(self, training: tuple[Tensor, Tensor]) -> Batches:
        """Yields batches that are indexed on the device, without end."""
        images, labels = _moved(training, self.device)
        size = self.plan.batch_size
        whole_batches = self.plan.steps_per_epoch(len(labels)) * size
        while True:
            order = torch.randperm(len(labels), device=self.device)
            for start in range(0, whole_batches, size):
                indices = order[start : start + size]
                yield images[indices], labels[indices]


def _moved(split: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    images, labels = split
    return images.to(device), labels.to(device)


def _optimizer(network: nn.Module, spec: dict[str, Any]) -> torch.optim.Optimizer:
    shared = {"lr": spec["learning_rate"], "weight_decay": spec["weight_decay"]}
    if spec["name"] == "sgd":
        return torch.optim.SGD(network.parameters(), **shared)
    if spec["name"] == "momentum":
        return torch.optim.SGD(network.parameters(), momentum=spec["momentum"], **shared)
    if spec["name"] == "adam":
        betas = spec["beta1"], spec["beta2"]
        return torch.optim.Adam(network.parameters(), betas=betas, eps=spec["epsilon"], **shared)
    raise ValueError(f"optimizer {spec['name']}: the plain trial has sgd, momentum and adam")


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Returns loss and accuracy on a split.

    Args:
        network: the network.
        images: (samples, channels, height, width).
        labels: (samples,).
    """
    network.eval()
    loss, correct = 0.0, 0
    batches = zip(images.split(_EVALUATION_BATCH), labels.split(_EVALUATION_BATCH), strict=True)
    for x, batch_labels in batches:
        logits = network(x)
        loss += float(functional.cross_entropy(logits, batch_labels, reduction="sum"))
        correct += int((logits.argmax(1) == batch_labels).sum())
    return loss / len(labels), correct / len(labels)


def layer_statistics(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    before: list[Tensor] | None,
    first_or_last: bool,
) -> dict[str, float]:
    """Returns the standard statistics of every hidden layer, read by forward hooks.

    Args:
        network: the network, whose hidden layers have children `weights` and `activation`.
        images: (samples, channels, height, width).
        labels: (samples,).
        before: the parameters before the last update, or None.
        first_or_last: whether this is the first or the last probe, which measure more.

    Returns:
        Numbers by name, such as `layer_01/activation_mean`.
    """
    layers = {
        name: layer for name, layer in network.named_children() if hasattr(layer, "activation")
    }
    seen = _hooked_pass(network, layers, images, labels)
    weights_before = {}
    if before is not None:
        names = [name for name, _ in network.named_parameters()]
        weights_before = dict(zip(names, before, strict=True))
    readings = [
        _reading(name, layer, seen[name], weights_before.get(f"{name}.weights.weight"), len(images))
        for name, layer in layers.items()
    ]
    columns_of_layers = measure(readings, statistics_for("standard", first_or_last))
    named = {}
    for name, columns in zip(layers, columns_of_layers, strict=True):
        for column, value in columns.items():
            named[f"{name}/{column}"] = value.double()
    # One transfer from the device for all numbers.
    numbers = torch.cat(list(named.values())).tolist()
    return dict(zip(named, numbers, strict=True))


def _hooked_pass(
    network: nn.Module, layers: dict[str, nn.Module], images: Tensor, labels: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Runs a forward and a backward pass; returns the tensors that hooks saw, by layer."""
    seen: dict[str, dict[str, Tensor]] = {name: {} for name in layers}

    def weights_hook(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            seen[name]["inputs"] = inputs[0]

        return hook

    def activation_hook(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            inputs[0].retain_grad()
            seen[name]["pre_activation"] = inputs[0]
            seen[name]["activation"] = output

        return hook

    handles = []
    for name, layer in layers.items():
        handles.append(layer.weights.register_forward_hook(weights_hook(name)))
        handles.append(layer.activation.register_forward_hook(activation_hook(name)))
    network.eval()
    network.zero_grad()
    functional.cross_entropy(network(images), labels, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    return seen


def _reading(
    name: str,
    layer: nn.Module,
    seen: dict[str, Tensor],
    weight_before: Tensor | None,
    samples: int,
) -> LayerReading:
    """Returns the reading of one layer, as of a pack of one trial."""
    weight = layer.weights.weight.detach()
    update = None
    if weight_before is not None:
        update = (weight - weight_before).flatten(1)[None]
    return LayerReading(
        name=name,
        kind="linear" if isinstance(layer.weights, nn.Linear) else "conv2d",
        activation_module=layer.activation,
        inputs=seen["inputs"].detach()[None],
        pre_activation=seen["pre_activation"].detach()[None],
        activation=seen["activation"].detach()[None],
        gradient=seen["pre_activation"].grad[None],
        weight=weight.flatten(1)[None],
        weight_gradient=layer.weights.weight.grad.flatten(1)[None] / samples,
        update=update,
        bias=layer.weights.bias.detach()[None],
        weights_module=layer.weights,
        weights_output=None,
    )
