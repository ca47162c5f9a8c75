"""Names of activations by their values on a grid."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from harness.networks.tracing.elementwise import grid
from harness.theory.selu.moment_map import ALPHA, LAMBDA

# Two functions are one where they differ by less than this, relative to 1 and to the value.
# Constants are often written with four digits.
_TOLERANCE = 2e-4
# An ELU times a number is meant as a SELU where the number is that near to SELU's.
_NEAR_LAMBDA = 0.1

_FIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "selu": functional.selu,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "mish": functional.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "hardtanh": functional.hardtanh,
    "logsigmoid": functional.logsigmoid,
    "tanhshrink": functional.tanhshrink,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
}


@dataclass(frozen=True)
class Recognised:
    """An activation that torch or theory has a name for.

    Attributes:
        name: that name; "scaled_elu" for an ELU times a number that is no SELU.
        options: its numbers: `alpha`, `scale`, `negative_slope`.
    """

    name: str
    options: dict[str, float] = field(default_factory=dict)


_NAMES = [*(Recognised(name) for name in _FIXED), Recognised("gelu", {"tanh": 1.0})]


def recognise(function: Callable[[Tensor], Tensor]) -> Recognised | None:
    """Returns the built-in activation that has the values of `function`, or None.

    Args:
        function: of a tensor of any shape, entry by entry.
    """
    x = grid()
    try:
        with torch.no_grad():
            y = function(x.clone())
    except Exception:
        # A user's function may accept its own shapes or precisions only.
        return None
    if not isinstance(y, Tensor) or y.shape != x.shape or not y.is_floating_point():
        return None
    y = y.detach().double().cpu()
    if not bool(torch.isfinite(y).all()):
        return None
    references = _references()
    allowed = _TOLERANCE * (1 + references.abs())
    matches = ((y - references).abs() <= allowed).all(1).nonzero()
    if len(matches):
        return _NAMES[int(matches[0])]
    return _piecewise(x, y)


@functools.cache
def _references() -> Tensor:
    """Returns the values of `_NAMES` on the grid, (activations, points)."""
    x = grid()
    rows = [function(x) for function in _FIXED.values()]
    return torch.stack([*rows, functional.gelu(x, approximate="tanh")])


def _piecewise(x: Tensor, y: Tensor) -> Recognised | None:
    """Returns a leaky ReLU, or an ELU with constants of its own, or None."""
    right = x > 0
    scale = float(y[-1] / x[-1])
    if scale <= 0 or not _same(y[right], scale * x[right]):
        return None
    slope = float(y[0] / x[0])
    is_leak = 0 <= slope < 1 - _TOLERANCE and abs(scale - 1) < _TOLERANCE
    if is_leak and _same(y, torch.where(right, x, slope * x)):
        return Recognised("leaky_relu", {"negative_slope": slope})
    alpha = float(y[0] / math.expm1(float(x[0]))) / scale
    if alpha > 0 and _same(y, scale * torch.where(right, x, alpha * torch.expm1(x))):
        if abs(scale - 1) < _TOLERANCE:
            return Recognised("elu", {"alpha": alpha})
        return Recognised("scaled_elu", {"alpha": alpha, "scale": scale})
    return None


def is_meant_as_selu(recognised: Recognised) -> bool:
    """Returns True for an ELU whose constants are nearly SELU's, or those in the wrong order."""
    alpha = recognised.options.get("alpha", 1.0)
    scale = recognised.options.get("scale", 1.0)
    if recognised.name == "elu":
        return abs(alpha - ALPHA) < 0.02
    if recognised.name != "scaled_elu":
        return False
    near_lambda = abs(scale - LAMBDA) < _NEAR_LAMBDA
    swapped = abs(scale - ALPHA) < 0.02
    return near_lambda or swapped or abs(alpha - ALPHA) < 0.02


def _same(y: Tensor, reference: Tensor) -> bool:
    return bool(torch.allclose(y, reference, atol=_TOLERANCE, rtol=_TOLERANCE))
