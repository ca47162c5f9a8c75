"""Chapters on layers: theory against measurement, profiles, and example networks."""

from __future__ import annotations

import pandas
from matplotlib.figure import Figure

from harness.reports import (
    assumptions,
    duration_figures,
    layer_figures,
    matter_figures,
    moment_figures,
    signal_tables,
    verdict_figures,
)
from harness.reports.arms import arms
from harness.reports.chapter import Block, Chapter, Heading, Picture, Table, Text, number_text
from harness.reports.evidence import Evidence
from harness.reports.figure_style import QUANTITIES
from harness.reports.share_tables import NAMES, cell_shares
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import verdicts

_NO_MEAN = ["seed", "step", "layer", "epoch"]


def theory(evidence: Evidence) -> Chapter:
    """Returns the chapter on theory's predictions against what was measured."""
    title = "Theory against measurement"
    agreement = signal_tables.theory(evidence)
    misses = assumptions.theory_misses(evidence)
    if not len(agreement) and not len(misses):
        text = "No trial was probed at initialisation beside a prediction."
        return Chapter("theory", title, (Text(text),))
    blocks: list[Block] = [
        Picture(
            lambda: matter_figures.theory(agreement),
            "A point is a cell at initialisation: the last layer that theory follows (the first "
            "one for gradients), mean over seeds. On the diagonal theory and measurement agree; "
            "the grey band is a factor of two. Points off it are networks that theory does not "
            "describe.",
        )
    ]
    tables = {"theory": agreement} if len(agreement) else {}
    if len(misses):
        tables["theory_misses"] = misses
        blocks.append(
            Table(
                misses.map(number_text),
                "Readings at initialisation whose 99 % band and that of theory have nothing in "
                "common; about 0.01 is chance, and less where the measurement has a band of its "
                "own.",
            )
        )
    return Chapter("theory", title, tuple(blocks), tables)


def layers(evidence: Evidence) -> Chapter:
    """Returns the chapter on profiles over the layers, grades of cells, and two examples."""
    columns = ("activation_mean", "activation_variance")
    blocks: list[Block] = [
        Picture(
            lambda: _profiles(evidence, columns),
            "Pooled mean and variance of the activations of the deepest networks. Grey: Theorem "
            "1's domain (Klambauer et al. 2017), which speaks of SELU only. A line that leaves the "
            "grey leaves the domain at that layer.",
        ),
        Picture(
            lambda: _profiles(evidence, ("gradient_product",)),
            "Mean squared gradient at each layer relative to the last one. Flat is neither "
            "exploding nor vanishing; a line that rises to the left explodes backwards.",
        ),
    ]
    grades = _grades(evidence)
    if len(grades):
        blocks += [
            Heading("Grades of cells"),
            Table(
                grades,
                f"The share of layers that hold, initialisation to end, by criteria version "
                f"{load().version}. A cell holds from 0.9, fails up to 0.1, and is mixed between.",
            ),
        ]
    for title, table in assumptions.examples(evidence):
        blocks += [Heading(title), *_pictures(table)]
    means = _layer_means(evidence)
    tables = {"layers": means} if len(means) else {}
    return Chapter("layers", "Layer by layer", tuple(blocks), tables)


def _profiles(evidence: Evidence, columns: tuple[str, ...]) -> Figure | None:
    quantities = [QUANTITIES[column] for column in columns]
    table = signal_tables.by_layer(evidence, columns)
    return duration_figures.by_layer(table, quantities, arms(evidence))


def _pictures(table: pandas.DataFrame) -> list[Picture]:
    """Returns the figures of one trial's layer table."""
    return [
        Picture(
            lambda: verdict_figures.verdict_map(verdicts(table)),
            "Verdicts by layer and step; a dot says that theory missed: its 99 % band and that of "
            "the measurement have nothing in common.",
        ),
        Picture(
            lambda: moment_figures.trajectories(table),
            "Pooled mean and variance of each layer's activations on the vector field of SELU's "
            "map g, with the theorems' boxes. Arrows say where g would lead the next layer.",
        ),
        Picture(
            lambda: layer_figures.profiles(table),
            "Layer profiles against theory's prediction at initialisation and its 99 % band; where "
            "a trial had probe=full, with the 99 % intervals of what was measured.",
        ),
        Picture(
            lambda: layer_figures.ladder(table),
            "Attribution: each unit's mean and variance predicted with one premise less a line; "
            "the drop from one line to the next is the price of a premise.",
        ),
    ]


def _layer_means(evidence: Evidence) -> pandas.DataFrame:
    """Returns one row per cell, phase and layer: every number's mean over seeds."""
    layers = evidence.layers
    if "phase" not in layers:
        return layers.head(0)
    table = evidence.of_cells(layers[layers["phase"].isin(("init", "end"))])
    if not len(table):
        return table
    numbers = table.select_dtypes("number").columns.difference(_NO_MEAN)
    # Grouping by a category is several times as fast as by texts.
    keys = {"cell_id": pandas.Categorical(table["cell_id"], table["cell_id"].unique())}
    groups = table.assign(**keys).groupby(["cell_id", "phase", "layer"], sort=False, observed=True)
    return groups[list(numbers)].mean().reset_index()


def _grades(evidence: Evidence) -> pandas.DataFrame:
    """Returns one row per cell: its axes, then its grade of each premise and promise."""
    shares = cell_shares(evidence)
    shares = shares[shares["phase"] != "early"]
    if not len(shares):
        return shares
    texts = shares["word"] + " " + shares["share"].map("{:.2f}".format)
    wide = shares.assign(text=texts).pivot(
        index="cell_id", columns=["name", "phase"], values="text"
    )
    axes = evidence.cells.loc[evidence.cells.index.isin(wide.index), list(evidence.varied)]
    table = axes.copy()
    for name in NAMES:
        start = wide.get((name, "init"))
        end = wide.get((name, "end"))
        if start is None and end is None:
            continue
        parts = [part.reindex(axes.index) for part in (start, end) if part is not None]
        table[name] = parts[0] if len(parts) == 1 else parts[0].str.cat(parts[1], " to ", "unknown")
    return table.reset_index(drop=True)
