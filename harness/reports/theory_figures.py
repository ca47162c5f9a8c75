"""Figures of theory alone: where g goes, where signals and gradients live, and how dropout bounds depth."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from harness.theory import selu
from harness.theory.activations import quadrature
from harness.theory.activations.functions import activation
from harness.theory.mean_field import phases
from harness.theory.networks import dropout, pooling

Array = NDArray[np.float64]

# Okabe and Ito's palette, which the colour-blind can tell apart.
_BOXES = ("#0072b2", "#d55e00", "#009e73")
_MU, _NU = (-1.25, 1.25), (0.01, 30.0)
_DEEPEST = 128


def write(folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG into `folder`; returns the paths. OSError where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in (
        ("phase_portrait", phase_portrait),
        ("phase_diagram", phase_diagram),
        ("depth_dropout", depth_dropout),
    ):
        figure = draw()
        for suffix in ("png", "svg"):
            paths.append(folder / f"{name}.{suffix}")
            figure.savefig(paths[-1], dpi=150)
        pyplot.close(figure)
    return paths


def phase_portrait() -> Figure:
    """The flow of g over (mu, nu) for units of different omega, and of whole layers, with the domains of the three theorems."""
    figure, panels = pyplot.subplots(1, 3, figsize=(14.5, 5.2), sharey=True, layout="constrained")
    phi = activation("selu")
    maps = (
        (
            "a unit with omega = 0, tau = 1:\nthe theorems hold in their boxes",
            lambda mu, nu: selu.map_moments(mu, nu, 0.0, 1.0),
            selu.fixed_points(0.0, 1.0),
            True,
        ),
        (
            "a unit with omega = 1, tau = 1, as LeCun's\nweights make: outside the theorems",
            lambda mu, nu: selu.map_moments(mu, nu, 1.0, 1.0),
            selu.fixed_points(1.0, 1.0),
            False,
        ),
        (
            "all units of a layer together (pooled map):\nLeCun's weights, whose omega varies",
            lambda mu, nu: pooling.pooled_map(phi, mu, nu, 1.0),
            selu.fixed_points(0.0, 1.0),
            False,
        ),
    )
    for panel, (title, step, points, covered) in zip(panels, maps):
        _flow(panel, step)
        _theorem_boxes(panel, covered)
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
        panel.set(title=title, xlabel="mean mu of a layer's inputs", xlim=_MU, ylim=np.log10(_NU))
        panel.title.set_fontsize(10)
    ticks = (0.01, 0.1, 1, 10)
    panels[0].set_yticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    panels[0].set_ylabel("variance nu of a layer's inputs")
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=2) for colour in _BOXES
    ]
    handles += [
        pyplot.Line2D([], [], marker="o", linestyle="", color="black"),
        pyplot.Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor="white"),
    ]
    labels = [
        "Theorem 1: stays and converges",
        "Theorem 2: variance falls",
        "Theorem 3: variance rises",
        "fixed point, stable",
        "fixed point, unstable",
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.suptitle(
        "SELU's map of mean and variance from one layer to the next (dashed boxes: weights outside the theorems' domain)"
    )
    return figure


def _flow(panel: Axes, step: object) -> None:
    mu, log_nu = np.meshgrid(np.linspace(*_MU, 45), np.linspace(*np.log10(_NU), 45))
    mean, variance = step(mu, 10**log_nu)
    u, v = mean - mu, np.log10(variance) - log_nu
    width, height = _MU[1] - _MU[0], np.log10(_NU[1] / _NU[0])
    speed = np.hypot(u / width, v / height)
    panel.streamplot(
        mu,
        log_nu,
        u,
        v,
        color=np.sqrt(speed),
        cmap="Greys",
        norm=pyplot.Normalize(-0.25, 0.6),
        density=1.15,
        linewidth=0.8,
        arrowsize=0.8,
    )


def _theorem_boxes(panel: Axes, covered: bool) -> None:
    for theorem, colour in zip(selu.THEOREMS, _BOXES):
        box = max(theorem.boxes, key=lambda one: one.nu[1])
        low, high = np.log10(box.nu)
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


def phase_diagram() -> Figure:
    """Depth scale xi_c over (sigma_w^2, sigma_b^2) for four activations, with the edge of chaos and where initializers stand."""
    figure, panels = pyplot.subplots(
        2, 2, figsize=(11.5, 8.6), sharex=True, sharey=True, layout="constrained"
    )
    w, b = np.linspace(0.02, 3.0, 150), np.linspace(0.0, 0.6, 120)
    for panel, name in zip(panels.flat, ("selu", "relu", "tanh", "gelu")):
        phi = activation(name)
        diagram = phases.phase_diagram(phi, w, b)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.clip(1.0 / np.abs(np.log(diagram.chi_c)), 0.5, 1000)
        image = panel.pcolormesh(
            w, b, scale, norm=LogNorm(0.5, 300), cmap="viridis", shading="auto", rasterized=True
        )
        # Where lengths diverge or vanish there is no fixed point to speak of.
        panel.contourf(
            w,
            b,
            np.where(np.isnan(diagram.q_star), 1.0, 0.0),
            levels=[0.5, 1.5],
            colors=["#dddddd"],
        )
        if np.nanmax(diagram.chi_1) > 1 > np.nanmin(diagram.chi_1):
            edge = panel.contour(w, b, diagram.chi_1, levels=[1.0], colors="black", linewidths=2)
            panel.clabel(edge, fmt="edge of chaos", fontsize=8)
        for sigma_w2, label in ((1 / 3, "PyTorch's default"), (1.0, "LeCun"), (2.0, "He")):
            panel.plot(sigma_w2, 0.0, "o", color="#d55e00", clip_on=False, zorder=5)
            panel.annotate(
                label,
                (sigma_w2, 0.0),
                xytext=(4, 7),
                textcoords="offset points",
                fontsize=8,
                color="#d55e00",
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
            )
        panel.set_title(
            {"selu": "SELU", "relu": "ReLU", "tanh": "tanh", "gelu": "GELU"}[name], fontsize=10
        )
    for row in panels:
        row[0].set_ylabel("variance of a bias sigma_b^2")
    for panel in panels[-1]:
        panel.set_xlabel("fan_in x variance of a weight, sigma_w^2")
    figure.colorbar(
        image,
        ax=panels,
        label="xi_c: layers over which two inputs' correlation is remembered",
        shrink=0.8,
    )
    figure.suptitle(
        "Order and chaos: how deep correlations are remembered (grey: lengths vanish or diverge)"
    )
    return figure


def depth_dropout() -> Figure:
    """log10 of the squared gradient's growth over depth and dropout rate, for SELU with LeCun's weights."""
    figure, panels = pyplot.subplots(1, 2, figsize=(12.5, 5.2), sharey=True, layout="constrained")
    rates, depths = np.linspace(0.0, 0.2, 161), np.arange(1, _DEEPEST + 1)
    for panel, kind in zip(panels, ("alpha", "standard")):
        growth = _gradient_growth(kind, rates, _DEEPEST)
        limit = 12.0
        image = panel.pcolormesh(
            rates,
            depths,
            np.clip(growth, -limit, limit),
            norm=TwoSlopeNorm(0, -limit, limit),
            cmap="RdBu_r",
            shading="auto",
            rasterized=True,
        )
        lines = panel.contour(
            rates, depths, growth, levels=[-6, -3, -1, 1, 3, 6], colors="black", linewidths=0.8
        )
        panel.clabel(lines, fmt=lambda level: f"10^{level:g}", fontsize=8)
        panel.set(title=f"{kind} dropout", xlabel="dropout rate")
    neutral = dropout.neutral_rate()
    panels[0].axvline(neutral, color="black", linewidth=2)
    panels[0].annotate(
        f"neutral rate {100 * neutral:.2f} %",
        (neutral, 0.93 * _DEEPEST),
        xytext=(6, 0),
        textcoords="offset points",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1},
    )
    for rate in (0.05, 0.1):
        panels[0].axvline(rate, color="black", linewidth=1, linestyle=":")
        panels[0].annotate(
            f"published {rate:g}", (rate, 4), xytext=(3, 0), textcoords="offset points", fontsize=8
        )
    panels[0].set_ylabel("layers")
    figure.colorbar(
        image,
        ax=panels,
        label="log10 of the squared gradient at the first layer, relative to the last",
    )
    figure.suptitle(
        "SELU with LeCun's weights: the dropout rate decides whether squared gradients grow (red) or vanish (blue)"
    )
    return figure


def _gradient_growth(kind: str, rates: Array, depth: int) -> Array:
    """(depth, rates): the summed log10 gain behind 1, 2, ... layers, along the lengths that start at q = 1."""
    phi = activation("selu")
    second, total, rows = np.ones_like(rates), np.zeros_like(rates), []
    constants = [dropout.alpha_dropout(float(rate)) for rate in rates]
    a, b = (np.array([getattr(one, name) for one in constants]) for name in "ab")
    for _ in range(depth):
        q = second
        mean, variance = quadrature.moments(phi, 0.0, q)
        gain = quadrature.slope_square(phi, 0.0, q)
        value = variance + mean**2
        if kind == "alpha":
            kept = (1 - rates) * mean + rates * selu.FLOOR
            second = a**2 * ((1 - rates) * value + rates * selu.FLOOR**2) + 2 * a * b * kept + b**2
            gain = gain * a**2 * (1 - rates)
        else:
            second, gain = value / (1 - rates), gain / (1 - rates)
        total = total + np.log10(gain)
        rows.append(total)
    return np.array(rows)
