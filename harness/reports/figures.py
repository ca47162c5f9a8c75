"""The figures of a report: each a function from the evidence to one matplotlib figure, or None where there is nothing to draw."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy
import pandas
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.reports.evidence import Evidence, value_label

# Okabe and Ito's palette, which the colour-blind can tell apart; SELU is always the first.
_PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#999933",
    "#882255",
    "#44aa99",
)
_FIRST = (
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
# Theorem 1 of Klambauer et al. 2017: mean and variance that the map does not leave.
_BOXES = {"activation_mean": (-0.1, 0.1), "activation_variance": (0.8, 1.5)}
_STYLES = ("-", "--", ":", "-.")
_MOST_PANELS = 12
_MOST_LINES = 16


def colour(activation: str, others: list[str]) -> str:
    """The colour of an activation, the same in every figure."""
    order = list(_FIRST) + sorted(set(others) - set(_FIRST))
    return _PALETTE[order.index(activation) % len(_PALETTE)]


def accuracy(evidence: Evidence) -> Figure | None:
    """Test accuracy against the axis with most numbers (depth, usually), a line for each arm, a panel for each other setting."""
    if not evidence.trained:
        return None
    cells = evidence.cells[evidence.cells["finished"] > 0]
    across = _numeric_axis(evidence)
    lines = [
        axis for axis in ("activation", "initializer") if axis in evidence.varied and axis != across
    ]
    panels = [axis for axis in evidence.varied if axis not in (*lines, across)]
    groups = list(cells.groupby(panels, sort=False, dropna=False)) if panels else [((), cells)]
    shown = groups[:_MOST_PANELS]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(4.6 * columns, 3.5 * rows), sharey=True, squeeze=False
    )
    for panel, (key, group) in zip(grid.flat, shown):
        _accuracy_panel(panel, evidence, group, across, lines)
        panel.set_title(
            ", ".join(value_label(axis, value) for axis, value in zip(panels, key)) or "all trials",
            fontsize=10,
        )
        panel.set_xlabel(across or "arm")
    for panel in grid.flat[len(shown) :]:
        panel.axis("off")
    for row in grid:
        row[0].set_ylabel("test accuracy")
    _legend(figure, grid.flat[0])
    return figure


def _accuracy_panel(
    panel: pyplot.Axes,
    evidence: Evidence,
    cells: pandas.DataFrame,
    across: str | None,
    lines: list[str],
) -> None:
    activations = [str(level) for level in evidence.levels("activation")]
    arms = list(cells.groupby(lines, sort=False)) if lines else [((), cells)]
    places = sorted(cells[across].unique()) if across else [0]
    for index, (key, arm) in enumerate(arms[:_MOST_LINES]):
        arm = arm.sort_values(across) if across else arm
        # Side by side, so that intervals do not cover each other.
        offset = (index - (len(arms) - 1) / 2) * 0.04
        x = (
            numpy.array([places.index(value) for value in arm[across]]) + offset
            if across
            else numpy.full(len(arm), index)
        )
        style = _style(evidence, arm)
        tone = colour(str(arm["activation"].iloc[0]), activations)
        label = ", ".join(str(value) for value in key) or "all"
        half = arm["score_high"] - arm["score"]
        panel.errorbar(
            x,
            arm["score"],
            yerr=half.fillna(0.0),
            fmt="o",
            markersize=4,
            linestyle=style if across else "none",
            color=tone,
            label=label,
            capsize=2,
            linewidth=1.4,
        )
    chance = cells["chance"].dropna()
    if len(chance):
        panel.axhline(chance.iloc[0], color="0.6", linewidth=1, linestyle=":", label="chance")
    if across:
        panel.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    else:
        panel.set_xticks([])
    panel.set_ylim(0, 1.02)
    panel.grid(alpha=0.25)


def profiles(evidence: Evidence, phase: str) -> Figure | None:
    """Pooled mean and variance of activations over the layers, each line the mean over seeds of one cell; Theorem 1's box in grey."""
    return _over_layers(
        evidence,
        phase,
        ("activation_mean", "activation_variance"),
        ("mean of activations", "variance of activations"),
        ("symlog", "log"),
    )


def gradients(evidence: Evidence, phase: str = "init") -> Figure | None:
    """Squared gradient at each layer relative to the last one's."""
    return _over_layers(
        evidence,
        phase,
        ("gradient_product",),
        ("squared gradient / last layer's",),
        ("log",),
        across=True,
    )


def _over_layers(
    evidence: Evidence,
    phase: str,
    columns: tuple[str, ...],
    titles: tuple[str, ...],
    scales: tuple[str, ...],
    across: bool = False,
) -> Figure | None:
    """A panel for each column and normalization; `across` sets the normalizations side by side instead of below each other."""
    layers = (
        evidence.of_cells(evidence.layers, ["activation", "initializer", "normalization"])
        if len(evidence.layers)
        else evidence.layers
    )
    layers = layers[layers["phase"] == phase] if len(layers) else layers
    if not len(layers):
        return None
    depth = layers.groupby("cell_id")["layer"].max()
    # The deepest cells show most; shallower ones with the same weights are their beginnings.
    deepest = depth[depth == depth.max()].index
    chosen = layers[layers["cell_id"].isin(deepest)]
    groups = list(chosen.groupby("normalization", sort=False))[:4]
    shape = (1, len(groups)) if across else (len(groups), len(columns))
    figure, grid = pyplot.subplots(
        *shape, figsize=(max(5.0 * shape[1], 7.0), 3.0 * shape[0] + 0.6), squeeze=False, sharex=True
    )
    activations = [str(level) for level in evidence.levels("activation")]
    panels = iter(grid.flat)
    for normalization, group in groups:
        for column, title, scale in zip(columns, titles, scales):
            panel = next(panels)
            _profile_panel(panel, evidence, group, column, scale, activations)
            panel.set_ylabel(title)
            panel.set_title(
                f"{value_label('normalization', normalization)}, depth {int(depth.max())}",
                fontsize=10,
            )
    for panel in grid[-1]:
        panel.set_xlabel("layer")
    _legend(figure, grid[0][0])
    return figure


def _profile_panel(
    panel: pyplot.Axes,
    evidence: Evidence,
    layers: pandas.DataFrame,
    column: str,
    scale: str,
    activations: list[str],
) -> None:
    box = _BOXES.get(column)
    last = layers["layer"].max()
    if box:
        panel.add_patch(
            Rectangle(
                (0.5, box[0]), last, box[1] - box[0], color="0.88", zorder=0, label="Theorem 1"
            )
        )
    for cell_id, cell in list(layers.groupby("cell_id", sort=False))[:_MOST_LINES]:
        over = cell.groupby("layer")[column].mean()
        over = over[over > 0] if scale == "log" else over
        if not len(over):
            continue
        panel.plot(
            over.index,
            over,
            _style(evidence, cell),
            color=colour(cell["activation"].iloc[0], activations),
            linewidth=1.5,
            label=evidence.label(
                cell_id,
                [axis for axis in evidence.varied if axis not in ("depth", "normalization")],
            ),
        )
    if scale == "symlog":
        low, high = min(panel.get_ylim()[0], -0.15), max(panel.get_ylim()[1], 0.15)
        if high - low > 2.0:
            panel.set_yscale("symlog", linthresh=0.3)
        panel.set_ylim(low, high)
    else:
        panel.set_yscale(scale)
    panel.set_xlim(0.5, last + 0.5)
    panel.grid(alpha=0.25)


def curves(evidence: Evidence) -> Figure | None:
    """Training loss over epochs, a panel for each depth (the four deepest), the mean over the seeds that did not diverge."""
    if not evidence.trained or not len(evidence.curves):
        return None
    rows = evidence.of_cells(evidence.curves, ["activation", "initializer", "depth", "status"])
    rows = rows[(rows["status"] == "done") & (rows["train_loss"] > 0)]
    if not len(rows):
        return None
    depths = sorted(rows["depth"].unique())[-4:]
    figure, grid = pyplot.subplots(
        1, len(depths), figsize=(max(3.6 * len(depths), 7.0), 3.9), squeeze=False, sharey=True
    )
    activations = [str(level) for level in evidence.levels("activation")]
    named = [axis for axis in evidence.varied if axis != "depth"]
    for panel, depth in zip(grid[0], depths):
        for cell_id, cell in list(rows[rows["depth"] == depth].groupby("cell_id", sort=False))[
            :_MOST_LINES
        ]:
            over = cell.groupby("epoch")["train_loss"].mean()
            plain = (
                "normalization" not in named
                or evidence.cells.loc[cell_id, "normalization"] == "none"
            )
            panel.plot(
                over.index,
                over,
                _style(evidence, cell),
                color=colour(cell["activation"].iloc[0], activations),
                linewidth=1.6 if plain else 0.8,
                alpha=1.0 if plain else 0.55,
                label=evidence.label(cell_id, named),
            )
        panel.set_yscale("log")
        panel.set_title(f"depth {depth}", fontsize=10)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.25)
    grid[0][0].set_ylabel("training loss")
    _legend(figure, *grid[0])
    return figure


def _style(evidence: Evidence, cell: pandas.DataFrame) -> str:
    """The dashes of a cell's initializer, the same in every figure."""
    return _STYLES[_position(evidence, "initializer", cell["initializer"].iloc[0]) % len(_STYLES)]


def _numeric_axis(evidence: Evidence) -> str | None:
    """The varied axis to put on the x axis: depth where it varies, else the number with most levels."""
    numbers = [
        axis
        for axis in evidence.varied
        if all(isinstance(level, (int, float)) for level in evidence.levels(axis))
    ]
    if "depth" in numbers:
        return "depth"
    return max(numbers, key=lambda axis: len(evidence.levels(axis)), default=None)


def _position(evidence: Evidence, axis: str, value: object) -> int:
    return [str(level) for level in evidence.levels(axis)].index(str(value))


def _legend(figure: Figure, *panels: pyplot.Axes) -> None:
    """One legend above all panels; a label that several panels share stands once."""
    named: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            named.setdefault(label, handle)
    handles, labels = list(named.values()), list(named)
    # About fourteen characters an inch at this size.
    longest = max((len(label) for label in labels), default=1) + 6
    columns = max(1, min(4, len(labels), int(figure.get_figwidth() * 14 / longest)))
    rows = -(-len(labels) // columns)
    figure.tight_layout()
    # Room for the legend in inches, whatever the figure's height.
    share = (0.25 * rows + 0.1) / figure.get_figheight()
    figure.subplots_adjust(top=max(0.5, 1 - share - 0.3 / figure.get_figheight()))
    figure.legend(handles, labels, loc="upper center", ncols=columns, fontsize=8, frameon=False)
