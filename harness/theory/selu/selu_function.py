"""The activation SELU: its constants, its value and its slope (Klambauer et al. 2017, Eq. 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Eq. 14: the parameters for which (0, 1) is the fixed point at omega = 0 and tau = 1.
ALPHA: float = 1.6732632423543772848
LAMBDA: float = 1.0507009873554804934
# The value to which SELU saturates, -lambda * alpha. Alpha dropout sets dropped entries to it.
FLOOR: float = -1.7580993408473768599


def selu(x: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA) -> Array:
    """Returns lam * (x if x > 0 else alpha * (e^x - 1)), elementwise (Eq. 2)."""
    x = np.asarray(x, dtype=float)
    below = np.multiply(alpha, np.expm1(np.minimum(x, 0.0)))
    return np.multiply(lam, np.where(x > 0, x, below))


def selu_slope(x: ArrayLike, alpha: ArrayLike = ALPHA, lam: ArrayLike = LAMBDA) -> Array:
    """Returns the derivative of `selu`, elementwise.

    At 0 it is the derivative from the left, lam * alpha, as in PyTorch.
    """
    x = np.asarray(x, dtype=float)
    below = np.multiply(alpha, np.exp(np.minimum(x, 0.0)))
    return np.multiply(lam, np.where(x > 0, 1.0, below))
