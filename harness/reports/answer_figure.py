"""The answer in one figure: when the promise holds, how long, and what decides training."""

from __future__ import annotations

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from harness.reports.axis_values import ordered
from harness.reports.claims.claim import NotEnoughData
from harness.reports.claims.deciding import share_interval
from harness.reports.claims.selection import LIMIT_ARM, RECIPE, Arm, by_seed, distinct, select
from harness.reports.drawing import log_axis, new_figure, plain, step_axis
from harness.reports.evidence import Evidence
from harness.reports.figure_style import ARM_COLOURS, BLUE, LINE_STYLES, QUIET, VERMILION
from harness.reports.prediction import trains
from harness.reports.share_tables import probe_shares, with_intervals
from harness.verdicts.grading import HIGH

_SIZE = (12.6, 4.1)
_INPUTS = {"global": "standardised inputs", "none": "pixels in [0, 1]"}
_SHARE = "share_moments_init"
# Initializers whose variance is an option say nothing by their name.
WITHOUT_ONE_VARIANCE = ("gaussian",)
_MOST_POINTS = 800


def answer_figure(evidence: Evidence) -> Figure:
    """Draws the three questions as three panels; a panel without data says so.

    Left: share of layers inside Theorem 1's domain at initialisation by initializer (y), with 95 %
    intervals over seeds. Middle: the same share (y) over training steps (x) of SELU networks with
    LeCun's weights that learned, by depth. Right: training accuracy (y) of SELU networks with
    LeCun's or He's weights, at all learning rates that were tried, against the stability margin at
    initialisation (x, logarithmic); a point is a trial, coloured by the share of layers inside at
    the end.
    """
    figure, grid = new_figure(1, 3, _SIZE, layout="constrained")
    when, how_long, matters = grid[0]
    when.set_title("When? At initialisation", fontsize=10)
    how_long.set_title("How long? Networks that learned", fontsize=10)
    matters.set_title("Does it matter? What trains", fontsize=10)
    for panel, draw in ((when, _when), (how_long, _how_long), (matters, _matters)):
        if not draw(panel, evidence):
            panel.text(0.5, 0.5, "not run", ha="center", transform=panel.transAxes, color=QUIET)
            panel.set_axis_off()
    return figure


def start_shares(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of layers inside at initialisation by initializer and preprocessing.

    One row each: initializer, preprocessing, `share` with its 95 % interval over seeds `low`,
    `high`, and `seeds`. Depths and widths are averaged within each seed; fewer than three seeds
    make no row.
    """
    rows = []
    trials = select(evidence, {**RECIPE, "initializer": tuple(evidence.levels("initializer"))})
    run = [name for name in trials["initializer"].unique() if name not in WITHOUT_ONE_VARIANCE]
    for initializer in ordered(run):
        for preprocessing in _INPUTS:
            arm: Arm = {**RECIPE, "initializer": initializer, "preprocessing": preprocessing}
            cells = select(evidence, arm)
            if _SHARE not in cells or cells[_SHARE].notna().sum() < 2:
                continue
            cells = cells[cells[_SHARE].notna()]
            try:
                shares = by_seed(cells, _SHARE, initializer)
            except NotEnoughData:
                continue
            interval = share_interval(shares, distinct(cells))
            numbers = {"share": interval.value, "low": interval.low, "high": interval.high}
            names = {"initializer": initializer, "preprocessing": preprocessing}
            rows.append({**names, **numbers, "seeds": interval.n})
    return pandas.DataFrame(rows)


def lasting_shares(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of layers inside by training step, of the recipe's trials that learned.

    One row per depth and step: `share` with its 95 % interval over seeds `low`, `high`, and
    `seeds`. Only the data set with most trials is asked, whose networks take equal steps, and only
    steps that nine of ten of these trials have; widths and learning rates are averaged within each
    seed.
    """
    trials = select(evidence, RECIPE)
    trials = trials[(trials["steps"].fillna(0) > 0)]
    trials = trials[trains(trials) == 1.0]
    trials = trials[trials["dataset"] == trials["dataset"].mode().get(0)]
    probes = probe_shares(evidence)
    about = trials.set_index("trial_id")[["depth", "seed"]]
    table = probes.join(about, on="trial_id", how="inner")
    if not len(table):
        return pandas.DataFrame()
    counts = table.groupby(["depth", "step"])["trial_id"].transform("nunique")
    table = table[counts >= 0.9 * table.groupby("depth")["trial_id"].transform("nunique")]
    keys = ["depth", "step"]
    seeds = table.groupby([*keys, "seed"], sort=True)["share"].mean().reset_index()
    return with_intervals(seeds, keys)


def _when(panel: Axes, evidence: Evidence) -> bool:
    if not evidence.finished.get(_SHARE, pandas.Series(dtype=float)).notna().any():
        return False
    table = start_shares(evidence)
    if not len(table):
        return False
    names = list(dict.fromkeys(table["initializer"]))
    shifts = {"global": -0.16, "none": 0.16}
    colours = {"global": BLUE, "none": VERMILION}
    for preprocessing in _INPUTS:
        part = table[table["preprocessing"] == preprocessing]
        places = [names.index(name) + shifts[preprocessing] for name in part["initializer"]]
        panel.hlines(places, part["low"], part["high"], colours[preprocessing], linewidth=2)
        panel.plot(
            part["share"],
            places,
            "o",
            color=colours[preprocessing],
            markersize=5,
            label=_INPUTS[preprocessing],
        )
    panel.axvline(HIGH, color=QUIET, linewidth=0.8, linestyle=":")
    panel.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=8)
    # The last row is left to the legend.
    panel.set_ylim(len(names) + 0.3, -0.6)
    panel.set_xlim(-0.03, 1.03)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    panel.set_xlabel("layers inside Theorem 1's domain")
    panel.legend(fontsize=8, frameon=False, loc="lower center", ncols=2)
    panel.grid(axis="x", alpha=0.25)
    return True


def _how_long(panel: Axes, evidence: Evidence) -> bool:
    table = lasting_shares(evidence)
    if not len(table) or table["step"].nunique() < 2:
        return False
    for number, (depth, line) in enumerate(table.groupby("depth")):
        colour = ARM_COLOURS[number % len(ARM_COLOURS)]
        dashes = LINE_STYLES[number % len(LINE_STYLES)]
        panel.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.15)
        panel.plot(line["step"], line["share"], dashes, color=colour, label=f"depth {depth}")
    panel.axhline(HIGH, color=QUIET, linewidth=0.8, linestyle=":")
    step_axis(panel)
    panel.set_ylim(-0.03, 1.03)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    panel.set_xlabel("training step")
    panel.set_ylabel("layers inside Theorem 1's domain")
    panel.legend(fontsize=8, frameon=False)
    panel.grid(alpha=0.25)
    return True


def _matters(panel: Axes, evidence: Evidence) -> bool:
    trials = select(evidence, LIMIT_ARM, tuning=True)
    needed = {"stability_margin_init", "train_accuracy", "share_moments_end"}
    if not needed <= set(trials):
        return False
    trials = trials[(trials["steps"].fillna(0) > 0) & (trials["stability_margin_init"] > 0)]
    if len(trials) < 2:
        return False
    every = numpy.linspace(0, len(trials) - 1, min(len(trials), _MOST_POINTS)).round().astype(int)
    trials = trials.sort_values("stability_margin_init", kind="stable").iloc[every]
    diverged = trials["status"] == "diverged"
    lost = trials[diverged]
    panel.plot(
        lost["stability_margin_init"],
        lost["chance"],
        "x",
        color=VERMILION,
        markersize=4,
        label="diverged",
    )
    rest = trials[~diverged & trials["train_accuracy"].notna()]
    points = panel.scatter(
        rest["stability_margin_init"],
        rest["train_accuracy"],
        c=rest["share_moments_end"],
        s=13,
        cmap="cividis",
        vmin=0.0,
        vmax=1.0,
        linewidths=0,
        alpha=0.9,
    )
    panel.axvline(1.0, color=QUIET, linewidth=1.0)
    log_axis(panel, "x")
    panel.set_ylim(0, 1.03)
    panel.set_xlabel("learning rate x sharpness / stable limit, before training")
    panel.set_ylabel("training accuracy")
    bar = panel.figure.colorbar(points, ax=panel, pad=0.02)
    bar.set_label("layers inside at the end", fontsize=8)
    panel.legend(fontsize=8, frameon=False, loc="center left")
    panel.grid(alpha=0.25)
    return True
