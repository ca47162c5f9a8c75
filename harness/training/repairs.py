"""One counterfactual fix at the same seed: what returns when a single broken assumption is mended.

`per_sample` and `neutral_dropout` change the specification that is trained; the others change the initial weights of the
hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import RequestError
from harness.networks.dropouts import NEUTRAL_RATE
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE

_LSUV_SAMPLES = 512
_LSUV_STEPS, _LSUV_TOLERANCE = 20, 0.002


def transform_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification to train for a trial's: its repair applied where that is a matter of preprocessing or dropout."""
    repair = spec.get("repair", "none")
    if repair == "per_sample":
        return spec | {"preprocessing": spec["preprocessing"] | {"name": "per_sample"}}
    if repair == "neutral_dropout":
        return spec | {"dropout": {"name": "alpha", "rate": NEUTRAL_RATE}}
    return spec


@torch.no_grad()
def apply(pack: Pack, repairs: Sequence[str], samples: Samples) -> None:
    """Mend the initial weights of each trial of a pack as `repairs[trial]` says; `samples` are training images for `lsuv`."""
    for repair, mend in _ON_WEIGHTS.items():
        for trial in (index for index, name in enumerate(repairs) if name == repair):
            for name, tensor in pack.state.items():
                if name.rpartition(".")[0].endswith("weights"):
                    mend(name.rpartition(".")[2], tensor.detach()[trial])
    for trial in (index for index, name in enumerate(repairs) if name == "lsuv"):
        _lsuv(pack, trial, samples)


def _center_rows(kind: str, tensor: Tensor) -> None:
    """Omega = 0: subtract each unit's mean weight, and keep the sum of its squares."""
    if kind == "weight":
        rows = tensor.flatten(1)
        if rows.shape[1] == 1:
            raise RequestError(
                "repair=center_rows: the only weight of a unit with fan-in 1 cannot sum to 0; use a greater width"
            )
        norms = rows.norm(dim=1, keepdim=True)
        rows -= rows.mean(1, keepdim=True)
        rows *= _over(norms, rows.norm(dim=1, keepdim=True))


def _rescale_tau(kind: str, tensor: Tensor) -> None:
    """Tau = 1: scale each unit's weights to a sum of squares of 1."""
    if kind == "weight":
        rows = tensor.flatten(1)
        rows *= _over(1.0, rows.norm(dim=1, keepdim=True))


def _over(wanted: Tensor | float, length: Tensor) -> Tensor:
    """The factor that gives rows of a length the wanted one; a row without length keeps its zeros."""
    return torch.where(length > 0, wanted / length, 1.0)


def _zero_bias(kind: str, tensor: Tensor) -> None:
    if kind == "bias":
        tensor.zero_()


_ON_WEIGHTS: dict[str, Callable[[str, Tensor], None]] = {
    "center_rows": _center_rows,
    "rescale_tau": _rescale_tau,
    "zero_bias": _zero_bias,
}


def _lsuv(pack: Pack, trial: int, samples: Samples) -> None:
    """Layer-sequential unit variance (Mishkin and Matas 2016, Algorithm 1): scale each layer until what its weights put out has variance 1."""
    program, parameters, buffers = pack.part(trial, trial + 1)
    images = samples.of(trial, trial + 1)[:, :_LSUV_SAMPLES]
    for name in [name for name in pack.state if name.endswith("weights.weight")]:
        for _ in range(_LSUV_STEPS):
            seen: dict[str, Tensor] = {}

            def record(tap: str, module: nn.Module, x: Tensor, y: Tensor, entry: Tensor) -> None:
                seen[tap] = y

            program(parameters, buffers, images, PROBE, record)
            deviation = seen[name.removesuffix(".weight")].std()
            # Without biases the first step is exact; with them the weights' own part is a share of the deviation.
            if not 0 < deviation < torch.inf or abs(deviation - 1) < _LSUV_TOLERANCE:
                break
            parameters[name] /= deviation
