"""The three theorems of Klambauer et al. (2017): domains of (mu, nu, omega, tau), and claims.

They are statements about g for one unit whose inputs share one mean and variance; they say nothing
about gradients. No theorem covers nu in (0.24, 0.8) or (1.5, 3), or above 16. With LeCun-normal
weights omega ~ N(0, 1) whatever the fan_in, so |omega| <= 0.1 holds for 8 % of the units:
"omega = 0" is true in expectation only, as the paper's section "Initialization" says.

Errors in the published texts:

- Theorem 3's lower bound on nu is 0.02 in the main text and the authors' notebook, but 0.05 in
  appendix A2.3. 0.02 is used here; it holds numerically. The theorem does not extend to nu -> 0: at
  |mu omega| = 0.01 and tau = 0.9, variances below 1.6e-5 shrink.
- Appendix A6, Eq. 336 repeats the bound of a row above (|dJ22/dnu| < 0.562302); Eq. 335 gives
  [-0.276862, -0.084813].
- "All fixed points have nu < 3" holds only for tau <= 1.25 and |omega| <= 0.1: at tau = 2, the
  value of He's weights, the fixed point has nu = 18.46.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Box:
    """Closed intervals (low, high) of the four arguments of g."""

    mu: tuple[float, float]
    nu: tuple[float, float]
    omega: tuple[float, float]
    tau: tuple[float, float]

    def contains(
        self, mu: ArrayLike, nu: ArrayLike, omega: ArrayLike, tau: ArrayLike
    ) -> NDArray[np.bool_]:
        """Returns True for each point in the box; shapes broadcast."""
        intervals = ((mu, self.mu), (nu, self.nu), (omega, self.omega), (tau, self.tau))
        inside = np.asarray(True)
        for value, (low, high) in intervals:
            inside = inside & (np.asarray(value) >= low) & (np.asarray(value) <= high)
        return inside


@dataclass(frozen=True)
class Theorem:
    """A theorem: `claim` holds at every point of any of `boxes`."""

    number: int
    claim: str
    source: str
    boxes: tuple[Box, ...]

    def contains(
        self, mu: ArrayLike, nu: ArrayLike, omega: ArrayLike, tau: ArrayLike
    ) -> NDArray[np.bool_]:
        """Returns True for each point in the theorem's domain; shapes broadcast."""
        return np.logical_or.reduce([box.contains(mu, nu, omega, tau) for box in self.boxes])


# Mean and variance stay in this box, and weights in it make g contract.
THEOREM_1_BOX = Box(mu=(-0.1, 0.1), nu=(0.8, 1.5), omega=(-0.1, 0.1), tau=(0.95, 1.1))

THEOREM_1 = Theorem(
    number=1,
    claim=(
        "g has a stable attracting fixed point with mean in [-0.03106, 0.06773] and variance in "
        "[0.80009, 1.48617], (0, 1) for omega = 0 and tau = 1, and every point of the domain "
        "converges to it"
    ),
    source="Klambauer et al. 2017, Theorem 1 and appendix A3.1",
    boxes=(THEOREM_1_BOX,),
)
THEOREM_2 = Theorem(
    number=2,
    claim="the variance decreases: nu~ < nu, by at least 0.1197",
    source="Klambauer et al. 2017, Theorem 2 and appendix A3.2",
    boxes=(Box(mu=(-1.0, 1.0), nu=(3.0, 16.0), omega=(-0.1, 0.1), tau=(0.8, 1.25)),),
)
THEOREM_3 = Theorem(
    number=3,
    claim="the variance increases: nu~ > nu",
    source="Klambauer et al. 2017, Theorem 3 and appendix A3.3",
    boxes=(
        Box(mu=(-0.1, 0.1), nu=(0.02, 0.16), omega=(-0.1, 0.1), tau=(0.8, 1.25)),
        Box(mu=(-0.1, 0.1), nu=(0.02, 0.24), omega=(-0.1, 0.1), tau=(0.9, 1.25)),
    ),
)
THEOREMS = (THEOREM_1, THEOREM_2, THEOREM_3)

# Rigorous outer bounds of the fixed points of g for weights in Theorem 1's box: reports quote them.
THEOREM_1_FIXED_POINT_MEAN = (-0.03106, 0.06773)
THEOREM_1_FIXED_POINT_VARIANCE = (0.80009, 1.48617)
# The image of Theorem 1's box under g, which the authors' notebook computed: tests compare with it.
THEOREM_1_IMAGE_MEAN = (-0.0310605, 0.0677251)
THEOREM_1_IMAGE_VARIANCE = (0.803712, 1.48157)


def theorem(mu: float, nu: float, omega: float, tau: float) -> int | None:
    """Returns the number of the theorem whose domain holds the point, or None.

    The domains do not overlap.
    """
    for candidate in THEOREMS:
        if candidate.contains(mu, nu, omega, tau):
            return candidate.number
    return None
