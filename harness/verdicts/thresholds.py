"""Thresholds that several criteria share, taken from the theorems or derived from them.

Theorem 1 of Klambauer et al. 2017 (arXiv:1706.02515) says in which domain of mean and variance
SELU's map g contracts; Theorems 2 and 3 say from where the variance still returns. A threshold that
is not one of theirs is an effect whose consequence for these domains can be said.
"""

from __future__ import annotations

import math

from harness.theory.selu import ALPHA, LAMBDA, THEOREM_1_BOX, THEOREM_2, THEOREM_3

THEOREM = "theorem"
CONSEQUENCE = "consequence"
BASES = (THEOREM, CONSEQUENCE)

MEAN_HOLDS = THEOREM_1_BOX.mu
VARIANCE_HOLDS = THEOREM_1_BOX.nu
TAU_HOLDS = THEOREM_1_BOX.tau
# Theorem 2 lets the variance return from means up to 1, and from above 3; Theorem 3 from below
# 0.16. Both allow tau in [0.8, 1.25].
MEAN_STRAINED = THEOREM_2.boxes[0].mu
VARIANCE_STRAINED = (THEOREM_3.boxes[0].nu[1], THEOREM_2.boxes[0].nu[0])
TAU_STRAINED = THEOREM_2.boxes[0].tau

# Shares of units: nine of ten, and half of them.
SHARE_HOLDS = (0.9, 1.0)
SHARE_STRAINED = (0.5, 1.0)

# Units whose means spread by s of their deviation have 1 / (1 + s^2) of the pooled variance over
# samples: Theorem 1's lowest variance at s = 0.5, half of it at s = 1.
SHIFT_HOLDS = (0.0, math.sqrt(1 / VARIANCE_HOLDS[0] - 1))
SHIFT_STRAINED = (0.0, 1.0)
SHIFT_CONSEQUENCE = (
    "a unit has 1 / (1 + s^2) of the pooled variance: 0.8, the lowest in Theorem 1's domain, at "
    "s = 0.5, and half of it at 1"
)

# Relative spread over units of the variance that enters SELU at which nine of ten units, and half
# of them, keep a variance in Theorem 1's domain: g(0, 1, 0, tau) is 0.8 at tau = 0.753 and 1.5 at
# tau = 1.683, and tau is Gaussian around 1. A test solves for both numbers.
SPREAD_HOLDS = (0.0, 0.19)
SPREAD_STRAINED = (0.0, 0.65)
SPREAD_CONSEQUENCE = (
    "the variance of the activations stays inside Theorem 1's domain in nine units of ten at a "
    "relative spread of 0.19, and in half of them at 0.65"
)

# A distribution at a Wasserstein-1 distance of w deviations from the Gaussian of its own mean moves
# the mean of SELU by at most w times half of its largest slope lambda alpha (Kantorovich and
# Rubinstein, with a line of half that slope taken off): 0.1, the end of Theorem 1's domain, at
# 0.114, and three times that at 0.341.
_MOST_MOVED = LAMBDA * ALPHA / 2
DISTANCE_HOLDS = (0.0, MEAN_HOLDS[1] / _MOST_MOVED)
DISTANCE_STRAINED = (0.0, 3 * MEAN_HOLDS[1] / _MOST_MOVED)
DISTANCE_CONSEQUENCE = (
    "the mean of the activations moves by at most 0.1, the end of Theorem 1's domain, at a "
    "distance of 0.114, and by at most 0.3 at 0.341"
)

# Relative errors of a predicted variance: from 1 to the ends of Theorem 1's domain.
ERROR_HOLDS = (0.0, 1 - VARIANCE_HOLDS[0])
ERROR_STRAINED = (0.0, VARIANCE_HOLDS[1] - 1)
ERROR_CONSEQUENCE = (
    "a unit whose predicted variance is 1 leaves Theorem 1's domain below at an error of 0.2 and "
    "above at 0.5"
)

# Units of mean absolute correlation r beyond independence have E rho^2 = pi r^2 / 2, so that the
# variances of the next layer's units spread by sqrt(2 E rho^2) = sqrt(pi) r.
CORRELATION_HOLDS = (0.0, SPREAD_HOLDS[1] / math.sqrt(math.pi))
CORRELATION_STRAINED = (0.0, SPREAD_STRAINED[1] / math.sqrt(math.pi))
