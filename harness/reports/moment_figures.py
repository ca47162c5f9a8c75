"""The figure of the layers' mean and variance on g's field."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from harness.reports.drawing import arrange, legend_above, new_figure
from harness.reports.figure_style import GRID, QUIET, THEOREM_COLOURS
from harness.theory.selu.moment_map import map_moments
from harness.theory.selu.theorems import THEOREMS

_COLUMNS = ["step", "layer", "activation_mean", "activation_variance"]
# With more layers than this only the first and the last carry their number.
_MOST_NUMBERED = 12
# Arrows are at most this share of the panel long.
_LONGEST_ARROW = 0.05


class _Window(NamedTuple):
    """The part of the plane that is drawn: (low, high) of mu and nu."""

    mu: tuple[float, float]
    nu: tuple[float, float]


def trajectories(layers: pandas.DataFrame) -> Figure | None:
    """Draws the pooled (mu, nu) of every layer's activations on the vector field of g.

    An arrow leads from (mu, nu) towards g(mu, nu) for omega = 0 and tau = 1 (Klambauer et al. 2017,
    Eq. 3); boxes are the domains of the theorems, the cross is the fixed point (0, 1). With several
    probes a line is a layer's path over training, from circle to square; with a single probe it is
    the path through the layers. x: mean mu. y: variance nu (logarithmic). Colour: layer.
    """
    rows = layers[_COLUMNS].replace([numpy.inf, -numpy.inf], numpy.nan).dropna()
    rows = rows[rows["activation_variance"] > 0]
    if not len(rows):
        return None
    figure, grid = new_figure(1, 1, (7.6, 5.6))
    panel = grid[0, 0]
    window = _window(rows)
    panel.set(
        xlim=window.mu,
        ylim=window.nu,
        yscale="log",
        xlabel="mean mu of activations",
        ylabel="variance nu of activations",
    )
    _draw_field(panel, window)
    _draw_domains(panel)
    _draw_paths(figure, panel, rows)
    panel.plot(
        [0], [1], "k+", markersize=12, markeredgewidth=2, label="fixed point (0, 1)", zorder=6
    )
    panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    narrow = window.nu[1] / window.nu[0] < 12
    panel.yaxis.set_minor_formatter(FormatStrFormatter("%g") if narrow else NullFormatter())
    arrange(figure, 0.34)
    legend_above(figure, [panel], columns=4)
    return figure


def _window(rows: pandas.DataFrame) -> _Window:
    mean, variance = rows["activation_mean"], rows["activation_variance"]
    return _Window(
        mu=(min(-0.25, mean.min() * 1.1), max(0.25, mean.max() * 1.1)),
        nu=(min(0.5, variance.min() / 1.3), max(2.0, variance.max() * 1.3)),
    )


def _draw_field(panel: Axes, window: _Window) -> None:
    """Draws an arrow from each point of a grid towards its image under g."""
    mu_axis = numpy.linspace(*window.mu, 17)[1:-1]
    log_nu_axis = numpy.linspace(*numpy.log(window.nu), 15)[1:-1]
    mu, log_nu = numpy.meshgrid(mu_axis, log_nu_axis)
    to_mu, to_nu = map_moments(mu, numpy.exp(log_nu), 0.0, 1.0)
    # In units of the panel's sides, so that arrows have the length and direction that one sees.
    right = (to_mu - mu) / (window.mu[1] - window.mu[0])
    up = (numpy.log(to_nu) - log_nu) / numpy.log(window.nu[1] / window.nu[0])
    length = numpy.hypot(right, up)
    drawn_length = numpy.tanh(length / _LONGEST_ARROW) * _LONGEST_ARROW
    scale = drawn_length / numpy.maximum(length, 1e-12)
    panel.quiver(
        mu,
        numpy.exp(log_nu),
        right * scale,
        up * scale,
        color=GRID,
        angles="uv",
        scale=1.25,
        width=0.0022,
        zorder=1,
    )


def _draw_domains(panel: Axes) -> None:
    """Draws the theorems' boxes of (mu, nu); only those in sight stand in the legend."""
    bottom, top = panel.get_ylim()
    for theorem in THEOREMS:
        colour = THEOREM_COLOURS[theorem.number]
        for index, box in enumerate(theorem.boxes):
            visible = box.nu[0] < top and box.nu[1] > bottom
            panel.add_patch(
                Rectangle(
                    (box.mu[0], box.nu[0]),
                    box.mu[1] - box.mu[0],
                    box.nu[1] - box.nu[0],
                    facecolor=colour,
                    edgecolor=colour,
                    alpha=0.2,
                    zorder=0,
                    label=f"Theorem {theorem.number}" if index == 0 and visible else None,
                )
            )


def _draw_paths(figure: Figure, panel: Axes, rows: pandas.DataFrame) -> None:
    numbers = sorted(rows["layer"].unique())
    colours = matplotlib.colormaps["viridis"].resampled(max(len(numbers), 2))
    several_probes = rows["step"].nunique() > 1
    if not several_probes:
        in_order = rows.sort_values("layer")
        panel.plot(
            in_order["activation_mean"],
            in_order["activation_variance"],
            color=QUIET,
            linewidth=1,
            zorder=3,
        )
    for index, number in enumerate(numbers):
        path = rows[rows["layer"] == number].sort_values("step")
        mu = path["activation_mean"].to_numpy()
        nu = path["activation_variance"].to_numpy()
        colour = colours(index)
        panel.plot(mu, nu, "-", color=colour, linewidth=1.6, zorder=4)
        panel.plot(mu[:1], nu[:1], "o", color=colour, markersize=5, zorder=5)
        if several_probes:
            panel.plot(mu[-1:], nu[-1:], "s", color=colour, markersize=5, zorder=5)
        if len(numbers) <= _MOST_NUMBERED or index in (0, len(numbers) - 1):
            _annotate(panel, str(number), (mu[-1], nu[-1]))
    _draw_colour_scale(figure, panel, numbers, colours)
    if several_probes:
        title = "circles: initialisation, squares: the last probe"
    else:
        title = "the path through the layers"
    panel.set_title(title, fontsize=10)


def _annotate(panel: Axes, text: str, point: tuple[float, float]) -> None:
    panel.annotate(text, point, textcoords="offset points", xytext=(5, 4), fontsize=8, zorder=6)


def _draw_colour_scale(figure: Figure, panel: Axes, numbers: list[int], colours: Colormap) -> None:
    first = min(numbers)
    last = max(numbers) if len(numbers) > 1 else first + 1
    scale = ScalarMappable(cmap=colours, norm=Normalize(first, last))
    figure.colorbar(scale, ax=panel, label="layer")
