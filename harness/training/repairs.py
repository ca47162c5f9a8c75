"""Repairs: one counterfactual fix per trial, at the same seed.

A repaired trial shows what comes back when a single broken premise is mended. A repair is one
registered `Repair`. Some change the specification that is trained (its preprocessing or its
dropout); the others change the initial weights or biases of the hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.errors import RequestError
from harness.networks.dropouts import NEUTRAL_RATE
from harness.registry import Registry
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.unit_variance import scale_to_unit_variance

repairs: Registry = Registry("repair")

_LSUV_SAMPLES = 512

Spec = dict[str, Any]


def _unchanged(spec: Spec) -> Spec:
    return spec


def _untouched(pack: Pack, trial: int, samples: Samples) -> None:
    pass


@dataclass(frozen=True)
class Repair:
    """One fix.

    Attributes:
        transform: returns the specification to train instead of a trial's own.
        mend: changes the initial weights of one trial of a pack in place, given the pack, the
            trial's index, and training images.
    """

    transform: Callable[[Spec], Spec] = _unchanged
    mend: Callable[[Pack, int, Samples], None] = _untouched


def transform_spec(spec: Spec) -> Spec:
    """Returns the specification to train for a trial's.

    It differs from the trial's where the repair is a matter of preprocessing or dropout.
    """
    repair: Repair = repairs[spec.get("repair", "none")]
    return repair.transform(spec)


@torch.no_grad()
def apply(pack: Pack, names: Sequence[str], samples: Samples) -> None:
    """Mends the initial weights of a pack in place.

    Args:
        pack: the pack, before its first step.
        names: for every trial, in the pack's order, its repair.
        samples: training images, which `lsuv` runs through the network.

    Raises:
        RequestError: a repair is impossible for these weights.
    """
    for trial, name in enumerate(names):
        repair: Repair = repairs[name]
        repair.mend(pack, trial, samples)


repairs.register("none")(Repair())


def _preprocess_per_sample(spec: Spec) -> Spec:
    """Standardizes each image by itself instead of the preprocessing that the trial names."""
    return spec | {"preprocessing": spec["preprocessing"] | {"name": "per_sample"}}


repairs.register("per_sample")(Repair(transform=_preprocess_per_sample))


def _drop_neutrally(spec: Spec) -> Spec:
    """Uses alpha dropout at the rate at which gradients neither grow nor vanish."""
    dropout = {"name": "alpha", "rate": NEUTRAL_RATE}
    architecture = dict(spec["architecture"])
    if "layers" in architecture:
        architecture["layers"] = [_without_rate(layer) for layer in architecture["layers"]]
    return spec | {"dropout": dropout, "architecture": architecture}


def _without_rate(layer: dict[str, Any]) -> dict[str, Any]:
    """Returns a listed layer without a rate of its own."""
    return {name: value for name, value in layer.items() if name != "dropout"}


repairs.register("neutral_dropout")(Repair(transform=_drop_neutrally))


def _center_rows(pack: Pack, trial: int, samples: Samples) -> None:
    """Makes omega 0: subtracts each unit's mean weight, and keeps the sum of its squares."""
    for rows in _hidden_rows(pack, trial):
        if rows.shape[1] == 1:
            raise RequestError(
                "repair=center_rows: the only weight of a unit with fan-in 1 cannot sum to 0; "
                "use a greater width"
            )
        norms = rows.norm(dim=1, keepdim=True)
        rows -= rows.mean(1, keepdim=True)
        rows *= _factor(norms, rows.norm(dim=1, keepdim=True))


repairs.register("center_rows")(Repair(mend=_center_rows))


def _rescale_tau(pack: Pack, trial: int, samples: Samples) -> None:
    """Makes tau 1: scales each unit's weights to a sum of squares of 1."""
    for rows in _hidden_rows(pack, trial):
        rows *= _factor(1.0, rows.norm(dim=1, keepdim=True))


repairs.register("rescale_tau")(Repair(mend=_rescale_tau))


def _zero_bias(pack: Pack, trial: int, samples: Samples) -> None:
    """Sets the biases of all hidden layers to 0."""
    for weight in pack.hidden_weights:
        bias = pack.state.get(f"{weight.removesuffix('weight')}bias")
        if bias is not None:
            bias.detach()[trial].zero_()


repairs.register("zero_bias")(Repair(mend=_zero_bias))


def _lsuv(pack: Pack, trial: int, samples: Samples) -> None:
    """Scales each layer's weights, one layer after the other, until its outputs have variance 1.

    Layer-sequential unit variance without its orthogonal initialisation: the trial's own weights
    are scaled.
    """
    scale_to_unit_variance(pack, trial, samples.images_of(trial, trial + 1)[:, :_LSUV_SAMPLES])


repairs.register("lsuv")(Repair(mend=_lsuv))


def _hidden_rows(pack: Pack, trial: int) -> Iterator[Tensor]:
    """Yields the weights of each hidden layer of a trial, (units, fan_in), to change in place."""
    for name in pack.hidden_weights:
        yield pack.state[name].detach()[trial].flatten(1)


def _factor(length: Tensor | float, current: Tensor) -> Tensor:
    """Returns the factors that give rows a length; a row without length keeps its zeros."""
    return torch.where(current > 0, length / current, 1.0)
