"""Yardstick (e): the training steps of many trials in JAX, mapped over trials and scanned.

This is how a user of JAX trains many small networks at once: one step of one network, `vmap` over
the trials, `lax.scan` over the steps, all compiled into one program. It takes training steps alone:
it draws no weights, shuffles nothing, and measures nothing.

JAX is the optional extra `peers`.
"""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.training.packs import Pack

# JAX would look for a TPU first, and log what it does not find.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Steps of one compiled scan.
STEPS_OF_SCAN = 20
_READING_SECONDS = 1.0


def why_absent(device: torch.device) -> str | None:
    """Returns why JAX cannot be compared on a device, or None where it can."""
    if importlib.util.find_spec("jax") is None:
        return "JAX is not installed; it comes with the extra peers"
    if device.type != "cpu":
        return "JAX is compared on a CPU only"
    return None


class JaxTrials:
    """The trials of a pack, trained in JAX from the weights that the pack has now.

    Their networks are plain stacks of dense SELU layers without normalization and dropout, and
    their optimizer is momentum with a constant learning rate.

    Args:
        pack: the trials; it is not changed.
        images: (samples, ...), seen by all trials.
        labels: (samples,).
    """

    def __init__(self, pack: Pack, images: Tensor, labels: Tensor) -> None:
        import jax.numpy as jnp

        self.trials = len(pack.trials)
        self.optimizer = pack.trials[0].spec["optimizer"]
        self.images = jnp.asarray(images.flatten(1).cpu().numpy())
        self.labels = jnp.asarray(labels.cpu().numpy())
        tensors = [tensor.detach().cpu().numpy() for tensor in pack.state.values()]
        # JAX multiplies inputs by (inputs, units), torch keeps (units, inputs).
        self.weights = [
            (jnp.asarray(weight.swapaxes(1, 2).copy()), jnp.asarray(bias))
            for weight, bias in zip(tensors[::2], tensors[1::2], strict=True)
        ]
        self.velocities = [(jnp.zeros_like(w), jnp.zeros_like(b)) for w, b in self.weights]
        self._scan = self._compiled_scan()

    def run(self, orders: np.ndarray) -> np.ndarray:
        """Takes steps, and returns the losses before each update, (steps, trials).

        Args:
            orders: the samples of every batch, (steps, trials, batch).
        """
        state, losses = self._scan((self.weights, self.velocities), orders)
        self.weights, self.velocities = state
        return np.asarray(losses)

    def steps_per_second(self, batch_size: int) -> float:
        """Returns trial-steps per second, after a first scan that compiles."""
        shape = (STEPS_OF_SCAN, self.trials, batch_size)
        orders = np.random.default_rng(0).integers(len(self.labels), size=shape)
        self.run(orders)
        scans = 0
        started = time.perf_counter()
        while (spent := time.perf_counter() - started) < _READING_SECONDS:
            self.run(orders)
            scans += 1
        return scans * STEPS_OF_SCAN * self.trials / spent

    def _compiled_scan(self) -> Any:
        import jax

        rate, momentum = self.optimizer["learning_rate"], self.optimizer["momentum"]

        def loss_of(weights: Any, images: Any, labels: Any) -> Any:
            x = images
            *hidden, readout = weights
            for weight, bias in hidden:
                x = jax.nn.selu(x @ weight + bias)
            logits = x @ readout[0] + readout[1]
            log_shares = jax.nn.log_softmax(logits)
            return -jax.numpy.take_along_axis(log_shares, labels[:, None], 1).mean()

        def step_of_trial(weights: Any, velocities: Any, indices: Any) -> Any:
            batch = self.images[indices], self.labels[indices]
            loss, gradients = jax.value_and_grad(loss_of)(weights, *batch)
            velocities = jax.tree.map(lambda v, g: momentum * v + g, velocities, gradients)
            weights = jax.tree.map(lambda w, v: w - rate * v, weights, velocities)
            return weights, velocities, loss

        def step(state: Any, indices: Any) -> Any:
            weights, velocities, loss = jax.vmap(step_of_trial)(*state, indices)
            return (weights, velocities), loss

        return jax.jit(lambda state, orders: jax.lax.scan(step, state, orders), donate_argnums=0)
