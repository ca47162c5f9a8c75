"""Signals by layer and arm: channel moments, histograms, and theory against measurement.

Figures of a sweep draw these tables, which are small whatever the number of trials.
"""

from __future__ import annotations

import numpy
import pandas
import pyarrow
from pyarrow import compute

from harness.probes.histogram_bins import COUNT_COLUMNS
from harness.reports import statistics
from harness.reports.arms import arms, rates
from harness.reports.evidence import Evidence
from harness.reports.figure_style import QUANTITIES, Quantity

_PHASES = ("init", "end")
# Trials of an arm whose histograms are added up: more would draw the same figure.
_MOST_HISTOGRAMMED = 50
_CHANNEL_COLUMNS = ("pre_activation_mean", "pre_activation_variance", "between_unit_share")
CHANNEL_QUANTITIES = [
    Quantity("squared_channel_mean", "squared channel mean", logarithmic=True),
    Quantity("channel_variance", "channel variance", logarithmic=True),
]
# Compared with theory's prediction: one number of the last layer each.
PREDICTED_COLUMNS = (
    "activation_variance",
    "pooled_excess_kurtosis",
    "cosine",
    "gradient_product",
)


def propagation(evidence: Evidence) -> pandas.DataFrame:
    """Returns channel moments of the pre-activations of the deepest networks, by arm and layer.

    Brock et al. 2021 define them: with the moments of each channel over samples (and positions),
    the mean over channels of the squared mean, and that of the variance. With the share s of the
    mean square of z that lies between units they are s E[z^2] and (1 - s) E[z^2].

    Returns:
        As `by_layer`, with the quantities `squared_channel_mean` and `channel_variance`.
    """
    rows = _layer_rows(evidence, _CHANNEL_COLUMNS)
    if not len(rows):
        return rows
    square = rows["pre_activation_mean"] ** 2 + rows["pre_activation_variance"]
    share = rows["between_unit_share"]
    signals = {"squared_channel_mean": share * square, "channel_variance": (1 - share) * square}
    return _by_arm(rows, signals, CHANNEL_QUANTITIES)


def by_layer(evidence: Evidence, columns: tuple[str, ...]) -> pandas.DataFrame:
    """Returns columns of the layer table of the deepest networks, by arm and layer.

    One row per arm, phase, layer and quantity: `value`, the mean over seeds with its interval
    `low`, `high`, and `seeds`; geometric for quantities with a logarithmic axis. Other axes are
    averaged within each seed.
    """
    rows = _layer_rows(evidence, columns)
    if not len(rows):
        return rows
    quantities = [QUANTITIES[column] for column in columns]
    return _by_arm(rows, {column: rows[column] for column in columns}, quantities)


def training_curves(evidence: Evidence) -> pandas.DataFrame:
    """Returns training losses of the trials that did not diverge.

    One row per dataset, rate, depth, arm and epoch: `value`, the geometric mean over seeds with its
    interval `low`, `high`, and `seeds`. Other axes are averaged within each seed.
    """
    curves = evidence.curves
    if not {"trial_id", "epoch", "train_loss"} <= set(curves.columns):
        return pandas.DataFrame()
    trials = evidence.with_data(evidence.finished)
    trials = trials[trials["status"] == "done"].assign(
        arm=arms(evidence).names, rate=rates(evidence)
    )
    about = trials.set_index("trial_id")[["dataset", "rate", "depth", "arm", "seed"]]
    rows = curves[["trial_id", "epoch", "train_loss"]].join(about, on="trial_id", how="inner")
    rows = rows[rows["train_loss"] > 0]
    keys = ["dataset", "rate", "depth", "arm", "epoch"]
    rows = rows.assign(number=numpy.log(rows["train_loss"]))
    by_seed = rows.groupby([*keys, "seed"], sort=True)["number"].mean().reset_index()
    return _with_intervals(by_seed, keys, geometric=True)


def histograms(evidence: Evidence, table: pyarrow.Table, most_arms: int) -> pandas.DataFrame:
    """Returns counts of pre-activations of the deepest networks, by arm, step and layer.

    Args:
        evidence: the trials.
        table: trial_id, step, phase, layer, and the counts `count_00` to `count_63`.
        most_arms: so many arms are read, the first ones in the order of legends.

    Returns:
        One row per arm, step and layer with the sums of the counts over at most 50 trials of the
        arm, and `phase`.
    """
    report_arms = arms(evidence)
    trials = _deepest(evidence).assign(arm=report_arms.names)
    names = report_arms.first(most_arms, trials["arm"])
    trials = trials[trials["arm"].isin(names)].sort_values("seed", kind="stable")
    trials = trials.groupby("arm").head(_MOST_HISTOGRAMMED)
    wanted = pyarrow.array(trials["trial_id"].to_list(), table.schema.field("trial_id").type)
    rows = table.filter(compute.is_in(table["trial_id"], wanted)).to_pandas()
    rows = rows.join(trials.set_index("trial_id")["arm"], on="trial_id")
    rows = rows.dropna(subset=[COUNT_COLUMNS[0]])
    grouped = rows.groupby(["arm", "step", "layer"], sort=True)
    sums = grouped[list(COUNT_COLUMNS)].sum()
    return sums.join(grouped["phase"].first()).reset_index()


def theory(evidence: Evidence) -> pandas.DataFrame:
    """Returns predictions and measurements at the last layer of each cell at initialisation.

    It is the last layer that theory follows, the same of both. One row per cell and quantity:
    cell_id, activation, quantity, `predicted` and `measured`, means over seeds. Repaired trials are
    left out, because theory is about independent weights.
    """
    layers = evidence.layers
    names = [name for name in PREDICTED_COLUMNS if {name, f"predicted_{name}"} <= set(layers)]
    trials = evidence.finished
    if "repair" in trials:
        trials = trials[trials["repair"] == "none"]
    if not names or not len(trials):
        return pandas.DataFrame()
    start = layers[layers["phase"] == "init"]
    about = trials.set_index("trial_id")[["cell_id", "activation", "depth"]]
    rows = start.join(about, on="trial_id", how="inner")
    # Gradients are told relative to the last layer, so that the first one has the whole product.
    edge = {name: "first" if name == "gradient_product" else "last" for name in names}
    ordered = rows.sort_values("layer", kind="stable")
    parts = []
    for name, end in edge.items():
        columns = ["cell_id", "activation", name, f"predicted_{name}"]
        known = ordered.dropna(subset=columns[2:])
        ends = known.groupby("trial_id", sort=False)[columns].agg(end)
        means = ends.groupby("cell_id", sort=False).agg(
            {"activation": "first", name: "mean", f"predicted_{name}": "mean"}
        )
        means = means.rename(columns={name: "measured", f"predicted_{name}": "predicted"})
        parts.append(means.assign(quantity=name).reset_index())
    table = pandas.concat(parts, ignore_index=True)
    return table.replace([numpy.inf, -numpy.inf], numpy.nan).dropna()


def quantity_label(column: str) -> str:
    """Returns the label of a column of the layer table."""
    known = QUANTITIES.get(column)
    return known.label if known else column.replace("_", " ")


def _deepest(evidence: Evidence) -> pandas.DataFrame:
    """Returns the finished trials of the largest depth.

    Shallower networks with the same weights are the beginnings of deeper ones.
    """
    trials = evidence.finished
    return trials[trials["depth"] == trials["depth"].max()]


def _layer_rows(evidence: Evidence, columns: tuple[str, ...]) -> pandas.DataFrame:
    """Returns rows of the deepest networks' layers at initialisation and end, with arm and seed."""
    layers = evidence.layers
    if not {"phase", "layer", *columns} <= set(layers.columns):
        return pandas.DataFrame()
    trials = _deepest(evidence).assign(arm=arms(evidence).names)
    rows = layers.loc[layers["phase"].isin(_PHASES), ["trial_id", "phase", "layer", *columns]]
    return rows.join(trials.set_index("trial_id")[["arm", "seed"]], on="trial_id", how="inner")


def _by_arm(
    rows: pandas.DataFrame, values: dict[str, pandas.Series], quantities: list[Quantity]
) -> pandas.DataFrame:
    """Returns means of quantities by arm, phase and layer, with intervals over seeds."""
    keys = ["arm", "phase", "layer"]
    parts = []
    for quantity in quantities:
        numbers = values[quantity.column]
        if quantity.logarithmic:
            numbers = numpy.log(numbers.where(numbers > 0))
        known = rows[[*keys, "seed"]].assign(number=numbers)
        known = known[numpy.isfinite(known["number"])]
        by_seed = known.groupby([*keys, "seed"], sort=False)["number"].mean().reset_index()
        table = _with_intervals(by_seed, keys, geometric=quantity.logarithmic)
        parts.append(table.assign(quantity=quantity.column))
    return pandas.concat(parts, ignore_index=True)


def _with_intervals(
    by_seed: pandas.DataFrame, keys: list[str], *, geometric: bool
) -> pandas.DataFrame:
    """Returns means of `number` by `keys`, with t intervals; exponentials where geometric."""
    table = by_seed.groupby(keys, sort=False)["number"].agg(["mean", "std", "count"])
    half = statistics.half_width(table["std"], table["count"])
    means = table["mean"]
    columns = {"value": means, "low": means - half, "high": means + half}
    if geometric:
        # Intervals of two seeds can be wider than the range of floating point.
        with numpy.errstate(over="ignore"):
            columns = {name: numpy.exp(numbers) for name, numbers in columns.items()}
    return pandas.DataFrame({**columns, "seeds": table["count"]}).reset_index()
