"""Figures on SELU's assumptions: each a function from the layer table or the verdicts of one network to one matplotlib figure."""

from __future__ import annotations

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")

import numpy
import pandas
from matplotlib import pyplot
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from harness.theory.selu.moment_map import map_moments
from harness.theory.selu.theorems import THEOREMS
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import VERDICTS

# Okabe and Ito's colours: blue, orange, vermilion can be told apart by all.
VERDICT_COLOURS = {
    "holds": "#56b4e9",
    "strained": "#e69f00",
    "fails": "#d55e00",
    "unknown": "#e5e5e5",
}
_MEASURED, _PREDICTED = "#0072b2", "#000000"
_PROFILES = (
    ("activation_mean", "mean of activations", (-0.1, 0.1), False),
    ("activation_variance", "variance of activations", (0.8, 1.5), True),
    ("between_unit_share", "share of z² between units", None, False),
    ("unit_variance_cv", "CV of the units' variances", None, False),
    ("pooled_excess_kurtosis", "pooled excess kurtosis of z", None, False),
    ("gradient_product", "squared gradient / last layer", None, True),
    ("residual_unit", "error of variances by own Gaussian", None, False),
    ("residual_map", "error of variances by g", None, False),
    ("empirical_slope", "slope of the map of variances", None, False),
)
_RUNGS = (
    ("ladder_map", "g, all units alike"),
    ("ladder_weights", "+ each unit's omega and tau"),
    ("ladder_moments", "+ measured mean and covariance of inputs"),
    ("ladder_empirical", "+ distribution of z (exact)"),
)
_RUNG_COLOURS = ("#d55e00", "#e69f00", "#0072b2", "#009e73")
_THEOREM_COLOURS = {1: "#009e73", 2: "#cc79a7", 3: "#56b4e9"}
# What rounding leaves of a rung that is exact is no error to draw.
_SMALLEST_ERROR = 1e-4


def _arrange(figure: Figure, above: float) -> None:
    """Fit the panels to their labels and leave so many inches above them for a legend; as `rect` it would take all measures twice."""
    figure.tight_layout()
    figure.subplots_adjust(top=figure.subplotpars.top - above / figure.get_figheight())


def profiles(layers: pandas.DataFrame) -> Figure | None:
    """Measured statistics over the layers at the first and the last probe, with their 99 % intervals over samples and units where the table
    has them, and what theory predicts at initialisation with its 99 % band; Theorem 1's box in grey.
    """
    known = [
        (column, *rest)
        for column, *rest in _PROFILES
        if column in layers and layers[column].notna().any()
    ]
    if not known:
        return None
    steps = sorted(layers["step"].unique())
    columns = min(3, len(known))
    figure, grid = pyplot.subplots(
        -(-len(known) // columns),
        columns,
        figsize=(4.4 * columns, 3.1 * -(-len(known) // columns)),
        squeeze=False,
    )
    for panel, (column, title, box, logarithmic) in zip(grid.flat, known):
        _profile(panel, layers, steps, column, box, logarithmic)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("layer")
    for panel in grid.flat[len(known) :]:
        panel.axis("off")
    handles = {
        label: handle
        for panel in grid.flat
        for handle, label in zip(*panel.get_legend_handles_labels())
    }
    _arrange(figure, 0.32)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="upper center",
        ncols=len(handles),
        fontsize=9,
        frameon=False,
    )
    return figure


def _profile(
    panel: pyplot.Axes,
    layers: pandas.DataFrame,
    steps: list[int],
    column: str,
    box: tuple[float, float] | None,
    logarithmic: bool,
) -> None:
    last = int(layers["layer"].max())
    if box:
        panel.add_patch(
            Rectangle(
                (0.5, box[0]), last, box[1] - box[0], color="0.9", zorder=0, label="Theorem 1"
            )
        )
    first = layers[layers["step"] == steps[0]].sort_values("layer")
    if f"predicted_{column}" in first:
        low, high = (first.get(f"predicted_{column}_{end}") for end in ("low", "high"))
        if low is not None:
            panel.fill_between(
                first["layer"],
                low,
                high,
                color=_PREDICTED,
                alpha=0.18,
                linewidth=0,
                label="theory, 99 % band",
            )
        panel.plot(
            first["layer"],
            first[f"predicted_{column}"],
            color=_PREDICTED,
            linestyle="--",
            linewidth=1.3,
            label="theory",
        )
    for step, colour, label in _shown_steps(steps):
        rows = layers[layers["step"] == step].sort_values("layer")
        panel.plot(
            rows["layer"],
            rows[column],
            "o-",
            markersize=3.5,
            color=colour,
            linewidth=1.5,
            label=label,
        )
        if f"{column}_low" in rows and rows[f"{column}_low"].notna().any():
            panel.fill_between(
                rows["layer"],
                rows[f"{column}_low"],
                rows[f"{column}_high"],
                color=colour,
                alpha=0.22,
                linewidth=0,
                label=f"{label}, 99 % interval",
            )
    values = layers[column]
    if logarithmic and (values.dropna() > 0).all():
        panel.set_yscale("log")
        if values.max() < 4 * values.min():
            panel.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.3g"))
            panel.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            panel.set_yticks(
                numpy.unique(
                    numpy.round(
                        numpy.geomspace(
                            max(min(values.min(), 0.8), 1e-12), max(values.max(), 1.5), 4
                        ),
                        2,
                    )
                )
            )
    if last <= 20:
        panel.set_xticks(range(1, last + 1, max(1, last // 10)))
    panel.set_xlim(0.5, last + 0.5)
    panel.grid(alpha=0.25)


def _shown_steps(steps: list[int]) -> list[tuple[int, str, str]]:
    if len(steps) == 1:
        return [(steps[0], _MEASURED, "measured")]
    return [
        (steps[0], _MEASURED, "initialisation" if steps[0] == 0 else f"step {steps[0]}"),
        (steps[-1], "#d55e00", f"step {steps[-1]}"),
    ]


def trajectories(layers: pandas.DataFrame) -> Figure | None:
    """Pooled (mu, nu) of every layer's activations, over training where there are several probes, on the vector field of g with the theorems' boxes.

    An arrow leads from (mu, nu) towards g(mu, nu) for omega = 0 and tau = 1 (Klambauer et al. 2017, Eq. 3); SELU's fixed point is (0, 1).
    """
    rows = (
        layers[["step", "layer", "activation_mean", "activation_variance"]]
        .replace([numpy.inf, -numpy.inf], numpy.nan)
        .dropna()
    )
    rows = rows[rows["activation_variance"] > 0]
    if not len(rows):
        return None
    figure, panel = pyplot.subplots(figsize=(7.6, 5.6))
    mean = (
        min(-0.25, rows["activation_mean"].min() * 1.1),
        max(0.25, rows["activation_mean"].max() * 1.1),
    )
    variance = (
        min(0.5, rows["activation_variance"].min() / 1.3),
        max(2.0, rows["activation_variance"].max() * 1.3),
    )
    panel.set(
        xlim=mean,
        ylim=variance,
        yscale="log",
        xlabel="mean mu of activations",
        ylabel="variance nu of activations",
    )
    _field(panel, mean, variance)
    _boxes(panel)
    several = rows["step"].nunique() > 1
    numbers = sorted(rows["layer"].unique())
    tone = pyplot.get_cmap("viridis", max(len(numbers), 2))
    if not several:
        ordered = rows.sort_values("layer")
        panel.plot(
            ordered["activation_mean"],
            ordered["activation_variance"],
            color="0.35",
            linewidth=1,
            zorder=3,
        )
    for index, number in enumerate(numbers):
        path = rows[rows["layer"] == number].sort_values("step")
        x, y = path["activation_mean"].to_numpy(), path["activation_variance"].to_numpy()
        panel.plot(x, y, "-", color=tone(index), linewidth=1.6, zorder=4)
        panel.plot(x[:1], y[:1], "o", color=tone(index), markersize=5, zorder=5)
        if several:
            panel.plot(x[-1:], y[-1:], "s", color=tone(index), markersize=5, zorder=5)
        if len(numbers) <= 12 or index in (0, len(numbers) - 1):
            panel.annotate(
                str(number),
                (x[-1], y[-1]),
                textcoords="offset points",
                xytext=(5, 4),
                fontsize=8,
                zorder=6,
            )
    colours = pyplot.cm.ScalarMappable(
        cmap=tone,
        norm=pyplot.Normalize(min(numbers), max(numbers) if len(numbers) > 1 else min(numbers) + 1),
    )
    figure.colorbar(colours, ax=panel, label="layer")
    panel.plot(
        [0], [1], "k+", markersize=12, markeredgewidth=2, label="fixed point (0, 1)", zorder=6
    )
    panel.set_title(
        "circles: initialisation, squares: the last probe"
        if several
        else "the path through the layers",
        fontsize=10,
    )
    panel.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    panel.yaxis.set_minor_formatter(
        matplotlib.ticker.FormatStrFormatter("%g")
        if variance[1] / variance[0] < 12
        else matplotlib.ticker.NullFormatter()
    )
    _arrange(figure, 0.34)
    figure.legend(
        *panel.get_legend_handles_labels(), loc="upper center", ncols=4, fontsize=9, frameon=False
    )
    return figure


def _field(panel: pyplot.Axes, mean: tuple[float, float], variance: tuple[float, float]) -> None:
    mu, log_nu = numpy.meshgrid(
        numpy.linspace(*mean, 17)[1:-1], numpy.linspace(*numpy.log(variance), 15)[1:-1]
    )
    to_mu, to_nu = map_moments(mu, numpy.exp(log_nu), 0.0, 1.0)
    # In units of the panel's sides, so that arrows have the length and direction that the eye sees.
    right, up = (
        (to_mu - mu) / (mean[1] - mean[0]),
        (numpy.log(to_nu) - log_nu) / numpy.log(variance[1] / variance[0]),
    )
    length = numpy.hypot(right, up)
    shown = numpy.tanh(length / 0.05) * 0.05 / numpy.maximum(length, 1e-12)
    panel.quiver(
        mu,
        numpy.exp(log_nu),
        right * shown,
        up * shown,
        color="0.72",
        angles="uv",
        scale=1.25,
        width=0.0022,
        zorder=1,
    )


def _boxes(panel: pyplot.Axes) -> None:
    for one in THEOREMS:
        for index, box in enumerate(one.boxes):
            corner, sides = (box.mu[0], box.nu[0]), (box.mu[1] - box.mu[0], box.nu[1] - box.nu[0])
            label = f"Theorem {one.number}" if index == 0 and _visible(panel, box.nu) else None
            panel.add_patch(
                Rectangle(
                    corner,
                    *sides,
                    facecolor=_THEOREM_COLOURS[one.number],
                    edgecolor=_THEOREM_COLOURS[one.number],
                    alpha=0.2,
                    zorder=0,
                    label=label,
                )
            )


def _visible(panel: pyplot.Axes, nu: tuple[float, float]) -> bool:
    low, high = panel.get_ylim()
    return nu[0] < high and nu[1] > low


def ladder(layers: pandas.DataFrame) -> Figure | None:
    """The attribution ladder at the last probe that has it: error of each unit's predicted mean and variance, one assumption less a rung."""
    present = [
        (column, label)
        for column, label in _RUNGS
        if column in layers and layers[column].notna().any()
    ]
    if not present:
        return None
    rows = layers[layers[[column for column, _ in present]].notna().any(axis=1)]
    rows = rows[rows["step"] == rows["step"].max()].sort_values("layer")
    figure, panel = pyplot.subplots(figsize=(7.6, 4.2))
    for (column, label), colour in zip(_RUNGS, _RUNG_COLOURS):
        if (column, label) in present:
            panel.plot(
                rows["layer"],
                rows[column].clip(lower=_SMALLEST_ERROR),
                "o-",
                markersize=4,
                color=colour,
                label=label,
            )
    panel.set(yscale="log", xlabel="layer", ylabel="error of a unit's (mean, variance)")
    panel.set_ylim(bottom=_SMALLEST_ERROR * 0.8)
    panel.set_title(
        "the drop from one line to the next is the price of one assumption"
        + (f", step {int(rows['step'].iloc[0])}" if layers["step"].nunique() > 1 else ""),
        fontsize=10,
    )
    panel.grid(alpha=0.25, which="both")
    panel.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    _arrange(figure, 0.5)
    figure.legend(
        *panel.get_legend_handles_labels(), loc="upper center", ncols=2, fontsize=9, frameon=False
    )
    return figure


def verdict_map(judged: pandas.DataFrame) -> Figure | None:
    """The verdicts of one network: layer by step, one panel an assumption; with a single probe one panel, layer by assumption.

    A dot marks where theory missed: its band and the measurement's have nothing in common.
    """
    if not len(judged):
        return None
    names = load().assumptions
    steps = sorted(judged["step"].unique())
    layers = sorted(judged["layer"].unique())
    if len(steps) == 1:
        figure, panel = pyplot.subplots(figsize=(max(5.5, 2.2 + 0.32 * len(layers)), 3.0))
        _heat(panel, judged, "assumption", list(names), layers)
        panel.set_yticks([index + 0.5 for index in range(len(names))], names)
        panels = [panel]
    else:
        figure, grid = pyplot.subplots(
            1,
            len(names),
            figsize=(2.1 * len(names) + 0.8, max(2.6, 1.4 + 0.16 * len(layers))),
            sharey=True,
            squeeze=False,
        )
        panels = list(grid[0])
        for panel, name in zip(panels, names):
            _heat(panel, judged[judged["assumption"] == name], "step", steps, layers, upright=True)
            panel.set_title(name, fontsize=10)
            panel.set_xticks(
                [index + 0.5 for index in range(len(steps))],
                [str(int(step)) for step in steps],
                rotation=60,
                fontsize=8,
            )
            panel.set_xlabel("step")
        panels[0].set_ylabel("layer")
    _arrange(figure, 0.34)
    keys = [Patch(color=colour, label=word) for word, colour in VERDICT_COLOURS.items()]
    keys.append(
        pyplot.Line2D([], [], color="k", marker=".", linestyle="none", label="theory missed")
    )
    figure.legend(
        handles=keys,
        loc="upper center",
        ncols=len(keys),
        fontsize=8.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
    )
    return figure


def _heat(
    panel: pyplot.Axes,
    judged: pandas.DataFrame,
    across: str,
    levels: list,
    layers: list[int],
    upright: bool = False,
) -> None:
    order = [*VERDICTS, "unknown"]
    values = (
        judged.assign(code=judged["verdict"].map(order.index))
        .pivot(index=across, columns="layer", values="code")
        .reindex(index=levels, columns=layers)
        .fillna(3)
    )
    missed = (
        judged.assign(miss=judged["theory_missed"].astype(float))
        .pivot(index=across, columns="layer", values="miss")
        .reindex(index=levels, columns=layers)
        .fillna(0)
    )
    codes, dots = (
        table.to_numpy().T if upright else table.to_numpy() for table in (values, missed)
    )
    colours = ListedColormap([VERDICT_COLOURS[word] for word in order])
    panel.pcolormesh(
        codes,
        cmap=colours,
        norm=BoundaryNorm(numpy.arange(-0.5, 4), 4),
        edgecolors="white",
        linewidth=0.6,
    )
    panel.set_xlim(0, codes.shape[1])
    y, x = numpy.nonzero(dots)
    panel.plot(x + 0.5, y + 0.5, "k.", markersize=3)
    every = max(1, len(layers) // 16)
    places = [
        (index + 0.5, str(int(layer))) for index, layer in enumerate(layers) if index % every == 0
    ]
    ticks = panel.set_yticks if upright else panel.set_xticks
    ticks([place for place, _ in places], [text for _, text in places], fontsize=8)
    if upright:
        panel.invert_yaxis()
    else:
        panel.set_xlabel("layer")
        panel.invert_yaxis()
