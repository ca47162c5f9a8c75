"""Optimizers on a pack's parameter matrix, with a learning rate and a weight decay for every trial.

Each follows torch.optim's update of the same name; a test holds one against the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.registry import Registry
from harness.training.packs import Pack

optimizers: Registry = Registry("optimizer")


class Optimizer:
    """Takes one step on `pack.parameters` (trials, numbers) from `pack.gradients`."""

    def __init__(self, pack: Pack) -> None:
        self.parameters, self.gradients = pack.parameters, pack.gradients
        specs = [trial.spec["optimizer"] for trial in pack.trials]
        self.spec = specs[0]
        column = lambda key: torch.tensor([spec[key] for spec in specs], device=pack.device).unsqueeze(1)
        self.learning_rate, self.weight_decay = column("learning_rate"), column("weight_decay")
        self.decays = bool((self.weight_decay > 0).any())
        self.moments = [torch.zeros_like(self.parameters) for _ in range(self.moment_count)]
        self.steps = 0

    moment_count = 0

    def step(self, multiplier: float) -> None:
        """Update the parameters; the learning rate is the trial's own times the schedule's `multiplier`."""
        self.steps += 1
        if self.decays and not self.decoupled_decay:
            self.gradients.addcmul_(self.parameters, self.weight_decay)
        self.update(multiplier)

    decoupled_decay = False

    def update(self, multiplier: float) -> None:
        """Stochastic gradient descent."""
        self.parameters.addcmul_(self.gradients, self.learning_rate, value=-multiplier)


optimizers.register("sgd")(Optimizer)


@optimizers.register("momentum")
class Momentum(Optimizer):
    """Heavy-ball momentum in torch's form: velocity = momentum * velocity + gradient."""

    moment_count = 1

    def update(self, multiplier: float) -> None:
        velocity = self.moments[0].mul_(self.spec["momentum"]).add_(self.gradients)
        self.parameters.addcmul_(velocity, self.learning_rate, value=-multiplier)


@optimizers.register("adam")
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, Algorithm 1)."""

    moment_count = 2

    def update(self, multiplier: float) -> None:
        beta1, beta2 = self.spec["beta1"], self.spec["beta2"]
        first = self.moments[0].lerp_(self.gradients, 1.0 - beta1)
        second = self.moments[1].mul_(beta2).addcmul_(self.gradients, self.gradients, value=1.0 - beta2)
        denominator = (second / (1.0 - beta2**self.steps)).sqrt_().add_(self.spec["epsilon"])
        self.parameters.addcmul_(first.div(denominator), self.learning_rate, value=-multiplier / (1.0 - beta1**self.steps))


@optimizers.register("adamw")
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    decoupled_decay = True

    def update(self, multiplier: float) -> None:
        if self.decays:
            self.parameters.mul_(1.0 - multiplier * self.learning_rate * self.weight_decay)
        super().update(multiplier)
