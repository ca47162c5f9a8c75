"""Weights scaled on data, layer after layer, until every layer's outputs have variance 1.

Layer-sequential unit variance (Mishkin and Matas 2016, Algorithm 1), for the hidden layers. Each
trial is scaled alone, on its own images, so that its weights are the same in any pack.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.data.batches import Source
from harness.networks.initializers import is_scaled_on_data
from harness.training.feeds import feed
from harness.training.packs import Pack
from harness.training.programs import PROBE
from harness.training.schedules import Plan

_MOST_ITERATIONS = 20
_TOLERANCE = 0.002


@torch.no_grad()
def initialize_on_first_batch(pack: Pack, source: Source, plan: Plan) -> None:
    """Scales the weights of the trials whose initializer asks for it, on their first batches.

    Args:
        pack: the pack, before its first step.
        source: the training images.
        plan: the pack's plan.
    """
    scaled = [
        trial for trial, own in enumerate(pack.trials) if is_scaled_on_data(own.spec["initializer"])
    ]
    if not scaled:
        return
    batches = feed(source, [trial.seed for trial in pack.trials], plan)
    batches.prepare(0)
    images, _ = batches.take()
    for trial in scaled:
        scale_to_unit_variance(pack, trial, images[trial : trial + 1])


@torch.no_grad()
def scale_to_unit_variance(pack: Pack, trial: int, images: Tensor) -> None:
    """Scales each hidden layer of one trial, one after the other, in place.

    Args:
        pack: the pack.
        trial: the trial's index.
        images: (1, samples, channels, height, width).
    """
    program, parameters, buffers = pack.part(trial, trial + 1)
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, x: Tensor, y: Tensor, entry: Tensor) -> None:
        outputs[name] = y

    for name in pack.hidden_weights:
        for _ in range(_MOST_ITERATIONS):
            program(parameters, buffers, images, PROBE, record)
            deviation = outputs[name.removesuffix(".weight")].std()
            # Without biases the first iteration is exact. With them it is not, because the
            # weights' own part is a share of the deviation.
            if not 0 < deviation < torch.inf or abs(deviation - 1) < _TOLERANCE:
                break
            parameters[name] /= deviation
