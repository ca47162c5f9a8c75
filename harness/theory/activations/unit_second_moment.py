"""Parameters of leaky SELU and scaled SELU, which keep second moments at 1.

For x >= 0 both are lambda x. For x < 0

    leaky SELU is   lambda (alpha (e^x - 1) + beta x),
    scaled SELU is  lambda alpha (e^(beta x) - 1).

These forms are those of Chen, Zhao, Deng, Li and Xie 2021, "Redefining the self-normalization
property", and so are two conditions on z ~ N(0, 1):

    E f(z)^2 = 1   and   E f'(z)^2 = 1 + epsilon,   with epsilon of about one over the depth.

The paper chooses among the functions that satisfy both by a constrained optimization. Its text
could not be compared, so that the choice here is a reading of it: the function whose second-moment
map q -> E f(sqrt(q) z)^2 has the smallest absolute slope at q = 1, among those with lambda >= 1 and
beta >= 0. Without the bound on lambda no slope is the smallest, because it falls until lambda is 0
and nothing positive passes. Within the bounds it is smallest at lambda = 1. With

    t(k) = E[e^(kz); z < 0] = e^(k^2 / 2) Phi(-k)   and   n(b) = E[(e^(bz) - 1)^2; z < 0],

the conditions of leaky SELU are then

    (2 t(1) - 1/2) alpha^2 = epsilon   and   alpha^2 n(1) + 2 t(1) alpha beta + beta^2 / 2 = 1/2,

where the first is the difference of the two and E[z (e^z - 1); z < 0] = t(1) by Stein's lemma.
Those of scaled SELU are

    alpha^2 n(beta) = 1/2   and   beta^2 t(2 beta) = (1 + 2 epsilon) n(beta).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, special

from harness.errors import RequestError

# Below this epsilon both functions are so nearly linear that the conditions lose digits.
_LEAST_EPSILON = 1e-4
_LARGEST_EPSILON_OF_SCALED = 1.0
# They hold the beta of scaled SELU for every epsilon between the two.
_BETAS = (1e-3, 20.0)


@dataclass(frozen=True)
class Constants:
    """The constants lambda, alpha and beta of leaky SELU or scaled SELU."""

    lam: float
    alpha: float
    beta: float


def leaky_constants(epsilon: float) -> Constants:
    """Returns the constants of leaky SELU with E f'^2 = 1 + epsilon.

    Raises:
        RequestError: an epsilon for which no lambda >= 1 and beta >= 0 satisfy the conditions.
    """
    tail = _tail(1.0)
    excess = 2.0 * tail - 0.5
    negative_square = _negative_square(1.0)
    # There beta is 0, which leaves an ELU.
    _require_within(epsilon, "leaky_selu", excess / (2.0 * negative_square))
    alpha = math.sqrt(epsilon / excess)
    root = math.sqrt((2.0 * alpha * tail) ** 2 + 1.0 - 2.0 * alpha**2 * negative_square)
    # Rounding would leave less than 0 at the largest epsilon.
    beta = max(root - 2.0 * alpha * tail, 0.0)
    return Constants(1.0, alpha, beta)


def scaled_constants(epsilon: float) -> Constants:
    """Returns the constants of scaled SELU with E f'^2 = 1 + epsilon.

    Raises:
        RequestError: an epsilon outside [1e-4, 1].
    """
    _require_within(epsilon, "scaled_selu", _LARGEST_EPSILON_OF_SCALED)

    def excess(beta: float) -> float:
        return beta**2 * _tail(2.0 * beta) - (1.0 + 2.0 * epsilon) * _negative_square(beta)

    beta = float(optimize.brentq(excess, *_BETAS, xtol=1e-15))
    return Constants(1.0, math.sqrt(0.5 / _negative_square(beta)), beta)


def _require_within(epsilon: float, name: str, largest: float) -> None:
    if not _LEAST_EPSILON <= epsilon <= largest:
        raise RequestError(
            f"activation.epsilon={epsilon:g}: expected a number from {_LEAST_EPSILON:g} to "
            f"{largest:.4g} for {name}"
        )


def _tail(k: float) -> float:
    """Returns t(k)."""
    return 0.5 * float(special.erfcx(k / math.sqrt(2.0)))


def _negative_square(b: float) -> float:
    """Returns n(b)."""
    return _tail(2.0 * b) - 2.0 * _tail(b) + 0.5
