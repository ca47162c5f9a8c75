"""Colours, labels and scales of all figures and pages, each in one place.

Imports no plotting library, so that pages without figures can use it.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.theory.selu.theorems import THEOREM_1

# Okabe and Ito's palette, which readers with any colour vision can tell apart.
BLUE = "#0072b2"
VERMILION = "#d55e00"
GREEN = "#009e73"
PURPLE = "#cc79a7"
ORANGE = "#e69f00"
SKY = "#56b4e9"
BLACK = "#000000"
OLIVE = "#999933"
WINE = "#882255"
TEAL = "#44aa99"

# Greys of figures, from strong to weak: secondary lines, grids and shaded domains.
QUIET = "#777777"
GRID = "#cccccc"
SHADE = "#e6e6e6"
# Text on dark and on light colours of a heat map, which no theme changes.
ON_DARK = "#fefefe"
ON_LIGHT = "#101010"

# Colours that a page changes with its theme: (variable of the page, on light, on dark). The first
# two are black and white in a figure, which stand for the page's text and background.
THEMED_COLOURS = (
    ("--text", "#1b1b1b", "#dddddd"),
    ("--page", "#ffffff", "#181818"),
    ("--quiet-line", QUIET, "#9a9a9a"),
    ("--grid", GRID, "#4a4a4a"),
    ("--shade", SHADE, "#2e3338"),
    ("--blue", BLUE, "#4ba3e3"),
    ("--vermilion", VERMILION, "#ff8a3d"),
    ("--green", GREEN, "#2ecc9a"),
    ("--purple", PURPLE, "#e29bc4"),
    ("--orange", ORANGE, "#f2b733"),
    ("--sky", SKY, "#9ad6fa"),
    ("--olive", OLIVE, "#c9c95a"),
    ("--wine", WINE, "#d4679b"),
    ("--teal", TEAL, "#6fd3c3"),
)

# Activations in the order of their colours; a user's own follow in alphabetical order.
_ACTIVATIONS = (
    "selu",
    "relu",
    "gelu",
    "elu",
    "tanh",
    "leaky_relu",
    "silu",
    "mish",
    "softplus",
    "identity",
)
_ACTIVATION_COLOURS = (
    BLUE,
    VERMILION,
    GREEN,
    PURPLE,
    ORANGE,
    SKY,
    BLACK,
    OLIVE,
    WINE,
    TEAL,
)

# Colours of arms that are more than an activation, in order.
ARM_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, WINE, OLIVE, TEAL, BLACK)

# Dashes of the initializers, in the order of the axis.
LINE_STYLES = ("-", "--", ":", "-.")

VERDICT_COLOURS = {"holds": SKY, "strained": ORANGE, "fails": VERMILION, "unknown": "#e5e5e5"}
# Signs that tell the verdicts apart without colour.
VERDICT_SIGNS = {"holds": "+", "strained": "~", "fails": "X", "unknown": "?"}

MEASURED = BLUE
MEASURED_LATER = VERMILION
PREDICTED = BLACK
PHASE_COLOURS = {"init": MEASURED, "end": MEASURED_LATER}
PHASE_LABELS = {"init": "initialisation", "end": "end of training"}

THEOREM_COLOURS = {1: BLUE, 2: VERMILION, 3: GREEN}
# Theorem 1's domain of mean and variance, which g does not leave, by column of the layer table.
THEOREM_1_DOMAIN = {
    "activation_mean": THEOREM_1.boxes[0].mu,
    "activation_variance": THEOREM_1.boxes[0].nu,
}


@dataclass(frozen=True)
class Quantity:
    """A column of the layer table as figures show it.

    All are pure numbers.

    Attributes:
        column: its name in the layer table.
        label: the label of its axis.
        logarithmic: whether its axis is logarithmic.
    """

    column: str
    label: str
    logarithmic: bool = False

    @property
    def domain(self) -> tuple[float, float] | None:
        """Theorem 1's interval of this quantity, where the theorem names one."""
        return THEOREM_1_DOMAIN.get(self.column)


QUANTITIES = {
    quantity.column: quantity
    for quantity in (
        Quantity("activation_mean", "mean of activations"),
        Quantity("activation_variance", "variance of activations", logarithmic=True),
        Quantity("between_unit_share", "share of z² between units"),
        Quantity("unit_variance_cv", "CV of the units' variances"),
        Quantity("pooled_excess_kurtosis", "pooled excess kurtosis of z"),
        Quantity("gradient_product", "squared gradient / last layer's", logarithmic=True),
        Quantity("residual_unit", "error of variances by own Gaussian"),
        Quantity("residual_map", "error of variances by g"),
        Quantity("empirical_slope", "slope of the map of variances"),
    )
}


@dataclass(frozen=True)
class Rung:
    """A rung of the attribution ladder: one premise less than above.

    Attributes:
        column: the column of the layer table with the error of the prediction.
        short: its heading in a table of numbers.
        label: its label in a figure.
        colour: the colour of its line.
    """

    column: str
    short: str
    label: str
    colour: str


RUNGS = (
    Rung("ladder_map", "g", "g, all units alike", VERMILION),
    Rung("ladder_weights", "+ weights", "+ each unit's omega and tau", ORANGE),
    Rung("ladder_moments", "+ moments", "+ measured mean and covariance of inputs", BLUE),
    Rung("ladder_empirical", "+ distribution", "+ distribution of z (exact)", GREEN),
)


def activation_colour(activation: str, others: list[str]) -> str:
    """Returns the colour of an activation, the same in every figure.

    Args:
        activation: its name; one without a colour of its own gets one after all those that have.
        others: all activations of the report.
    """
    order = [*_ACTIVATIONS, *sorted(set(others) - set(_ACTIVATIONS))]
    return _ACTIVATION_COLOURS[order.index(activation) % len(_ACTIVATION_COLOURS)]
