"""Programs: ways to run one network with the parameters of many trials at once.

`harness.training.batched` has the fast one, for plain stacks of layers; `harness.training.stacked`
and `harness.training.looped` run any module. They take parameters and buffers by name, each
(trials, ...), and images (trials, samples, channels, height, width), and return logits (trials,
samples, classes). This module says what a program is and what it does in each mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from harness.networks.dropouts import StandardDropout

# Tensors of a pack by parameter or buffer name, each (trials, ...).
State = dict[str, Tensor]


@dataclass(frozen=True)
class Mode:
    """Settings of normalizations and dropouts during one forward pass.

    Attributes:
        batch_statistics: batch normalization uses the batch's own mean and variance, not the
            running ones.
        update_running: batch normalization updates its running mean and variance.
        dropout: dropout acts.
    """

    batch_statistics: bool
    update_running: bool
    dropout: bool


TRAIN = Mode(batch_statistics=True, update_running=True, dropout=True)
EVALUATE = Mode(batch_statistics=False, update_running=False, dropout=False)
# A probe uses the batch's own statistics, because at initialisation the running ones mean nothing.
PROBE = Mode(batch_statistics=True, update_running=False, dropout=False)

# Function that is called for every tapped module, in order, as (name, module, input, output,
# entry). Input and output are (trials, samples, ...). `entry` is a tensor of the autograd graph:
# the gradient with respect to it is the gradient with respect to the input.
Record = Callable[[str, nn.Module, Tensor, Tensor, Tensor], None]


def is_tapped(name: str) -> bool:
    """Returns whether a module of this name is shown to `Record`: weights and activations are."""
    return name.rpartition(".")[2] in ("weights", "activation")


def set_mode(network: nn.Module, mode: Mode) -> None:
    """Sets the mode of a network's normalizations and dropouts."""
    network.train(mode.batch_statistics)
    for module in network.modules():
        if isinstance(module, StandardDropout):
            module.train(mode.dropout)


class Program(Protocol):
    """Runs a pack forward."""

    def part(self, start: int, stop: int) -> Program:
        """Returns the program for trials `start:stop` alone.

        It takes the parameters, buffers and images of these trials.
        """

    def __call__(
        self,
        parameters: State,
        buffers: State,
        images: Tensor,
        mode: Mode,
        record: Record | None = None,
    ) -> Tensor:
        """Returns logits (trials, samples, classes).

        Args:
            parameters: (trials, ...) by parameter name.
            buffers: (trials, ...) by buffer name; in training mode running statistics are
                updated in place.
            images: (trials, samples, channels, height, width).
            mode: one of `TRAIN`, `EVALUATE` and `PROBE`.
            record: is called for every tapped module.
        """
