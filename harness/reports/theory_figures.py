"""Figures of theory: the flow of g, chaos, depth against dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from harness.reports.drawing import new_figure
from harness.reports.figure_style import THEOREM_COLOURS, VERMILION
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.mean_field import phases
from harness.theory.networks import dropout, pooling
from harness.theory.selu import moment_map
from harness.theory.selu.theorems import THEOREMS

Array = NDArray[np.float64]

# The part of the plane of (mu, nu) that the phase portrait shows.
_MU = (-1.25, 1.25)
_NU = (0.01, 30.0)
_DEEPEST = 128
# Powers of ten beyond which the colours of gradient growth stay the same.
_COLOUR_LIMIT = 12.0
_DIAGRAM_ACTIVATIONS = {"selu": "SELU", "relu": "ReLU", "tanh": "tanh", "gelu": "GELU"}
# fan_in times the variance of a weight, of common initializers.
_INITIALIZER_SCALES = {"PyTorch's default": 1 / 3, "LeCun": 1.0, "He": 2.0}
_PUBLISHED_RATES = (0.05, 0.1)


class _Portrait(NamedTuple):
    """A panel of the phase portrait.

    `step` maps (mu, nu) to the next layer's; `covered` is true when the theorems cover its weights.
    """

    title: str
    step: Callable[[Array, Array], tuple[Array, Array]]
    points: Sequence[moment_map.FixedPoint]
    covered: bool


def write(folder: Path) -> list[Path]:
    """Writes every figure as PNG and SVG into `folder` and returns the paths.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for draw in (phase_portrait, phase_diagram, depth_dropout):
        figure = draw()
        for suffix in ("png", "svg"):
            path = folder / f"{draw.__name__}.{suffix}"
            figure.savefig(path, dpi=150)
            paths.append(path)
    return paths


def phase_portrait() -> Figure:
    """Draws the flow of g over (mu, nu), with the domains of the three theorems.

    Panels: a unit inside the theorems, a unit as LeCun's weights make it, and all units of a layer
    together. x: mean mu of a layer's inputs. y: their variance nu (logarithmic). A line follows g
    from layer to layer, darker where the step is longer; circles are fixed points.
    """
    figure, grid = new_figure(1, 3, (14.5, 5.2), layout="constrained", sharey=True)
    panels = grid[0]
    for panel, portrait in zip(panels, _portraits(), strict=True):
        _draw_flow(panel, portrait.step)
        _draw_domains(panel, portrait.covered)
        _draw_fixed_points(panel, portrait.points)
        panel.set(xlabel="mean mu of a layer's inputs", xlim=_MU, ylim=np.log10(_NU))
        panel.set_title(portrait.title, fontsize=10)
    ticks = (0.01, 0.1, 1, 10)
    panels[0].set_yticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    panels[0].set_ylabel("variance nu of a layer's inputs")
    _draw_portrait_legend(figure)
    figure.suptitle(
        "SELU's map of mean and variance from one layer to the next"
        " (dashed boxes: weights outside the theorems' domain)"
    )
    return figure


def phase_diagram() -> Figure:
    """Draws the depth scale xi_c of correlations over the variances of weights and biases.

    Panels: four activations. x: fan_in times the variance of a weight, sigma_w^2. y: variance of a
    bias, sigma_b^2. Colour: xi_c in layers (logarithmic). Black: the edge of chaos, chi_1 = 1.
    Grey: lengths vanish or diverge. Points: common initializers.
    """
    figure, grid = new_figure(2, 2, (11.5, 8.6), layout="constrained", sharex=True, sharey=True)
    for panel, (name, title) in zip(grid.flat, _DIAGRAM_ACTIVATIONS.items(), strict=True):
        image = _draw_diagram(panel, name)
        _mark_initializers(panel)
        panel.set_title(title, fontsize=10)
    for row in grid:
        row[0].set_ylabel("variance of a bias sigma_b^2")
    for panel in grid[-1]:
        panel.set_xlabel("fan_in x variance of a weight, sigma_w^2")
    figure.colorbar(
        image,
        ax=grid,
        label="xi_c: layers over which two inputs' correlation is remembered",
        shrink=0.8,
    )
    figure.suptitle(
        "Order and chaos: how deep correlations are remembered (grey: lengths vanish or diverge)"
    )
    return figure


def depth_dropout() -> Figure:
    """Draws the growth of squared gradients over depth and dropout rate, for LeCun's weights.

    Panels: alpha dropout and standard dropout. x: dropout rate, the probability of dropping a unit.
    y: number of layers. Colour and contours: log10 of the squared gradient at the first layer
    relative to the last. Vertical lines: the neutral rate and published rates.
    """
    figure, grid = new_figure(1, 2, (12.5, 5.2), layout="constrained", sharey=True)
    panels = grid[0]
    for panel, kind in zip(panels, ("alpha", "standard"), strict=True):
        image = _draw_growth(panel, kind)
    _mark_rates(panels[0])
    panels[0].set_ylabel("layers")
    figure.colorbar(
        image,
        ax=panels,
        label="log10 of the squared gradient at the first layer, relative to the last",
    )
    figure.suptitle(
        "SELU with LeCun's weights: the dropout rate decides whether squared gradients grow (red)"
        " or vanish (blue)"
    )
    return figure


def _portraits() -> tuple[_Portrait, ...]:
    phi = activation("selu")
    return (
        _Portrait(
            "a unit with omega = 0, tau = 1:\nthe theorems hold in their boxes",
            lambda mu, nu: moment_map.map_moments(mu, nu, 0.0, 1.0),
            moment_map.fixed_points(0.0, 1.0),
            covered=True,
        ),
        _Portrait(
            "a unit with omega = 1, tau = 1, as LeCun's\nweights make: outside the theorems",
            lambda mu, nu: moment_map.map_moments(mu, nu, 1.0, 1.0),
            moment_map.fixed_points(1.0, 1.0),
            covered=False,
        ),
        _Portrait(
            "all units of a layer together (pooled map):\nLeCun's weights, whose omega varies",
            lambda mu, nu: pooling.pooled_map(phi, mu, nu, 1.0),
            moment_map.fixed_points(0.0, 1.0),
            covered=False,
        ),
    )


def _draw_flow(panel: Axes, step: Callable[[Array, Array], tuple[Array, Array]]) -> None:
    mu, log_nu = np.meshgrid(np.linspace(*_MU, 45), np.linspace(*np.log10(_NU), 45))
    next_mu, next_nu = step(mu, 10**log_nu)
    right = next_mu - mu
    up = np.log10(next_nu) - log_nu
    width = _MU[1] - _MU[0]
    height = np.log10(_NU[1] / _NU[0])
    speed = np.hypot(right / width, up / height)
    panel.streamplot(
        mu,
        log_nu,
        right,
        up,
        color=np.sqrt(speed),
        cmap="Greys",
        norm=Normalize(-0.25, 0.6),
        density=1.15,
        linewidth=0.8,
        arrowsize=0.8,
    )


def _draw_domains(panel: Axes, covered: bool) -> None:
    """Draws each theorem's box of (mu, nu), the one that reaches highest; dashed if not covered."""
    for theorem in THEOREMS:
        box = max(theorem.boxes, key=lambda box: box.nu[1])
        low, high = np.log10(box.nu)
        colour = THEOREM_COLOURS[theorem.number]
        panel.add_patch(
            Rectangle(
                (box.mu[0], low),
                box.mu[1] - box.mu[0],
                high - low,
                fill=covered,
                facecolor=(colour, 0.15),
                edgecolor=colour,
                linewidth=2,
                linestyle="-" if covered else "--",
                zorder=4,
            )
        )


def _draw_fixed_points(panel: Axes, points: Sequence[moment_map.FixedPoint]) -> None:
    for point in points:
        if _MU[0] <= point.mean <= _MU[1] and _NU[0] <= point.variance <= _NU[1]:
            panel.plot(
                point.mean,
                np.log10(point.variance),
                "o",
                color="black",
                markerfacecolor="black" if point.stable else "white",
                zorder=5,
            )


def _draw_portrait_legend(figure: Figure) -> None:
    claims = {1: "stays and converges", 2: "variance falls", 3: "variance rises"}
    handles = [
        Rectangle(
            (0, 0),
            1,
            1,
            fill=False,
            edgecolor=THEOREM_COLOURS[number],
            linewidth=2,
            label=f"Theorem {number}: {claim}",
        )
        for number, claim in claims.items()
    ]
    circle = {"marker": "o", "linestyle": "", "color": "black"}
    handles.append(Line2D([], [], **circle, label="fixed point, stable"))
    handles.append(Line2D([], [], **circle, markerfacecolor="white", label="fixed point, unstable"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def _draw_diagram(panel: Axes, name: str) -> QuadMesh:
    sigma_w2 = np.linspace(0.02, 3.0, 150)
    sigma_b2 = np.linspace(0.0, 0.6, 120)
    diagram = phases.phase_diagram(activation(name), sigma_w2, sigma_b2)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth_scale = np.clip(1.0 / np.abs(np.log(diagram.chi_c)), 0.5, 1000)
    image = panel.pcolormesh(
        sigma_w2,
        sigma_b2,
        depth_scale,
        norm=LogNorm(0.5, 300),
        cmap="viridis",
        shading="auto",
        rasterized=True,
    )
    # Where lengths diverge or vanish there is no fixed point to measure from.
    panel.contourf(
        sigma_w2,
        sigma_b2,
        np.where(np.isnan(diagram.q_star), 1.0, 0.0),
        levels=[0.5, 1.5],
        colors=["#dddddd"],
    )
    if np.nanmax(diagram.chi_1) > 1 > np.nanmin(diagram.chi_1):
        edge = panel.contour(
            sigma_w2, sigma_b2, diagram.chi_1, levels=[1.0], colors="black", linewidths=2
        )
        panel.clabel(edge, fmt="edge of chaos", fontsize=8)
    return image


def _mark_initializers(panel: Axes) -> None:
    for label, sigma_w2 in _INITIALIZER_SCALES.items():
        panel.plot(sigma_w2, 0.0, "o", color=VERMILION, clip_on=False, zorder=5)
        panel.annotate(
            label,
            (sigma_w2, 0.0),
            xytext=(4, 7),
            textcoords="offset points",
            fontsize=8,
            color=VERMILION,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
        )


def _draw_growth(panel: Axes, kind: str) -> QuadMesh:
    rates = np.linspace(0.0, 0.2, 161)
    depths = np.arange(1, _DEEPEST + 1)
    growth = _gradient_growth(kind, rates, _DEEPEST)
    image = panel.pcolormesh(
        rates,
        depths,
        np.clip(growth, -_COLOUR_LIMIT, _COLOUR_LIMIT),
        norm=TwoSlopeNorm(0, -_COLOUR_LIMIT, _COLOUR_LIMIT),
        cmap="RdBu_r",
        shading="auto",
        rasterized=True,
    )
    lines = panel.contour(
        rates, depths, growth, levels=[-6, -3, -1, 1, 3, 6], colors="black", linewidths=0.8
    )
    panel.clabel(lines, fmt=lambda level: f"10^{level:g}", fontsize=8)
    panel.set(title=f"{kind} dropout", xlabel="dropout rate")
    return image


def _mark_rates(panel: Axes) -> None:
    neutral = dropout.neutral_rate()
    panel.axvline(neutral, color="black", linewidth=2)
    panel.annotate(
        f"neutral rate {100 * neutral:.2f} %",
        (neutral, 0.93 * _DEEPEST),
        xytext=(6, 0),
        textcoords="offset points",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1},
    )
    for rate in _PUBLISHED_RATES:
        panel.axvline(rate, color="black", linewidth=1, linestyle=":")
        panel.annotate(
            f"published {rate:g}", (rate, 4), xytext=(3, 0), textcoords="offset points", fontsize=8
        )


def _gradient_growth(kind: str, rates: Array, depth: int) -> Array:
    """Returns the summed log10 gradient gain over the first 1, 2, ... layers (depth, rates).

    Lengths start at a second moment of 1 and follow the mean-field recursion with dropout.

    Args:
        kind: `alpha` or `standard` dropout.
        rates: dropout rates (rates,).
        depth: number of layers.
    """
    phi = activation("selu")
    floor = moment_map.FLOOR
    constants = [dropout.alpha_dropout(float(rate)) for rate in rates]
    a = np.array([constant.a for constant in constants])
    b = np.array([constant.b for constant in constants])
    second = np.ones_like(rates)
    total = np.zeros_like(rates)
    rows = []
    for _ in range(depth):
        q = second
        mean, variance = quadrature.moments(phi, 0.0, q)
        gain = quadrature.slope_square(phi, 0.0, q)
        square = variance + mean**2
        if kind == "alpha":
            kept = (1 - rates) * mean + rates * floor
            dropped_square = (1 - rates) * square + rates * floor**2
            second = a**2 * dropped_square + 2 * a * b * kept + b**2
            gain = gain * a**2 * (1 - rates)
        else:
            second = square / (1 - rates)
            gain = gain / (1 - rates)
        total = total + np.log10(gain)
        rows.append(total)
    return np.array(rows)
