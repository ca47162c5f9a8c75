"""The yardstick: one trial as a competent user writes it in plain PyTorch, one trial at a time.

(a) is what one meets today: a `DataLoader`, forward hooks for the layer statistics, calls of the tracker for whatever is
measured. (b) is the same with all tensors on the device and no tracker. Both compute the same statistics at the same steps
as the harness, from the same network, and a test holds them to its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from harness.configuration.trial import Trial
from harness.networks.architectures import build_network
from harness.networks.initialization import initialize
from harness.probes.measurement import measure, statistics_for
from harness.probes.readings import LayerReading
from harness.training.schedules import Plan

Log = Callable[[dict[str, float], int], None]
Batches = Iterator[tuple[Tensor, Tensor]]

_OPTIMIZERS = {
    "sgd": lambda parameters, spec: torch.optim.SGD(
        parameters, spec["learning_rate"], weight_decay=spec["weight_decay"]
    ),
    "momentum": lambda parameters, spec: torch.optim.SGD(
        parameters, spec["learning_rate"], spec["momentum"], weight_decay=spec["weight_decay"]
    ),
    "adam": lambda parameters, spec: torch.optim.Adam(
        parameters,
        spec["learning_rate"],
        (spec["beta1"], spec["beta2"]),
        spec["epsilon"],
        spec["weight_decay"],
    ),
}


@dataclass(frozen=True)
class PlainData:
    """One trial's preprocessed images and labels."""

    training: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    probe: tuple[Tensor, Tensor]


class PlainTrial:
    """One training. `logged` says which of the two ways: a `DataLoader` on the host, or all tensors on the device."""

    def __init__(
        self,
        trial: Trial,
        data: PlainData,
        plan: Plan,
        shape: tuple[int, int, int],
        classes: int,
        device: torch.device,
        logged: bool,
    ) -> None:
        self.plan, self.device = plan, device
        self.network = build_network(trial.spec, shape, classes)
        initialize(self.network, trial.spec["initializer"], trial.seed)
        self.network.to(device)
        self.optimizer = _OPTIMIZERS[trial.spec["optimizer"]["name"]](
            self.network.parameters(), trial.spec["optimizer"]
        )
        self.watched = {
            name: tuple(part.to(device) for part in getattr(data, name))
            for name in ("validation", "test", "probe")
        }
        self.batches = self._loaded(data.training) if logged else self._indexed(data.training)
        self.losses: list[Tensor] = []
        self.before: list[Tensor] | None = None

    def run(self, log: Log) -> dict[str, float]:
        """Train by the plan; `log` takes metrics and a step. Returns the final scores."""
        for step in range(self.plan.steps + 1):
            if step in self.plan.probes:
                log(
                    layer_statistics(
                        self.network,
                        *self.watched["probe"],
                        self.before,
                        step in (0, self.plan.steps),
                    ),
                    step,
                )
            if step in self.plan.evaluations:
                log(self._evaluation(), step)
            if step < self.plan.steps:
                self.step(keep_before=step + 1 in self.plan.probes)
        loss, accuracy = evaluate(self.network, *self.watched["test"])
        scores = {"test_loss": loss, "test_accuracy": accuracy}
        log(scores, self.plan.steps)
        return scores

    def step(self, keep_before: bool = False) -> None:
        """One update."""
        images, labels = next(self.batches)
        self.network.train()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.network(images), labels)
        loss.backward()
        self.before = (
            [parameter.detach().clone() for parameter in self.network.parameters()]
            if keep_before
            else None
        )
        self.optimizer.step()
        self.losses.append(loss.detach())

    def _evaluation(self) -> dict[str, float]:
        loss, accuracy = evaluate(self.network, *self.watched["validation"])
        train_loss = float(torch.stack(self.losses).mean()) if self.losses else float("nan")
        self.losses = []
        return {"train_loss": train_loss, "validation_loss": loss, "validation_accuracy": accuracy}

    def _loaded(self, training: tuple[Tensor, Tensor]) -> Batches:
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
        images, labels = (part.to(self.device) for part in training)
        while True:
            order = torch.randperm(len(labels), device=self.device)
            for start in range(
                0,
                self.plan.steps_per_epoch(len(labels)) * self.plan.batch_size,
                self.plan.batch_size,
            ):
                chosen = order[start : start + self.plan.batch_size]
                yield images[chosen], labels[chosen]


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy on a split, in blocks of 2,048 samples."""
    network.eval()
    loss, correct = 0.0, 0
    for x, wanted in zip(images.split(2048), labels.split(2048)):
        logits = network(x)
        loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
        correct += int((logits.argmax(1) == wanted).sum())
    return loss / len(labels), correct / len(labels)


def layer_statistics(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    before: list[Tensor] | None,
    first_or_last: bool,
) -> dict[str, float]:
    """The standard statistics of every hidden layer, by forward hooks: `layer_01/activation_mean` and so on."""
    seen: dict[str, dict[str, Tensor]] = {}

    def watch_weights(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.setdefault(name, {}).update(inputs=inputs[0])

    def watch_activation(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            inputs[0].retain_grad()
            seen[name].update(pre_activation=inputs[0], activation=output)

        return hook

    layers = {
        name: layer for name, layer in network.named_children() if hasattr(layer, "activation")
    }
    handles = [
        layer.weights.register_forward_hook(watch_weights(name)) for name, layer in layers.items()
    ]
    handles += [
        layer.activation.register_forward_hook(watch_activation(name))
        for name, layer in layers.items()
    ]
    network.eval()
    network.zero_grad()
    functional.cross_entropy(network(images), labels, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    earlier = (
        dict(zip((name for name, _ in network.named_parameters()), before))
        if before is not None
        else {}
    )
    readings = [
        _reading(name, layer, seen[name], earlier.get(f"{name}.weights.weight"), len(images))
        for name, layer in layers.items()
    ]
    named = {
        f"{name}/{key}": value
        for name, own in zip(layers, measure(readings, statistics_for("standard", first_or_last)))
        for key, value in own.items()
    }
    return dict(zip(named, torch.cat([value.double() for value in named.values()]).tolist()))


def _reading(
    name: str, layer: nn.Module, seen: dict[str, Tensor], earlier: Tensor | None, samples: int
) -> LayerReading:
    weight = layer.weights.weight.detach()
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
        update=None if earlier is None else (weight - earlier).flatten(1)[None],
        bias=layer.weights.bias.detach()[None],
        weights_module=layer.weights,
        weights_output=None,
    )
