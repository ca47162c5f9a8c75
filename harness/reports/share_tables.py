"""Shares of layers that hold, by probe, by cell and by arm.

A share belongs to one trial and probe. Layers are no replicates: intervals are over seeds, of means
that were taken within each seed first.
"""

from __future__ import annotations

import numpy
import pandas

from harness.reports import statistics
from harness.reports.arms import arms, rates
from harness.reports.evidence import Evidence
from harness.reports.figure_style import THEOREM_1_DOMAIN
from harness.verdicts.grading import PHASES, shares, word

PREMISES = ("input", "weights", "gaussianity", "dependence")
PROMISES = ("moments", "units", "contraction", "gradients")
NAMES = (*PREMISES, *PROMISES)
# A score that does not hold, for layers outside a domain whose score was not stored.
_OUTSIDE = 3.0


def probe_shares(evidence: Evidence, name: str = "moments") -> pandas.DataFrame:
    """Returns the share of layers that hold at each probe of each finished trial.

    Scores of Theorem 1's domain are made from the moments where the table has none; every other
    name needs its scores.

    Returns:
        trial_id, step and `share`; no rows where nothing is known.
    """
    layers = evidence.layers
    columns = {"trial_id", "step", "layer"}
    if not columns <= set(layers.columns):
        return pandas.DataFrame(columns=["trial_id", "step", "share"])
    scores = _scores(layers, name)
    if scores is None:
        return pandas.DataFrame(columns=["trial_id", "step", "share"])
    columns_of_scores = {
        # Sorting texts takes most of the time of grouping by them.
        "trial_id": pandas.Categorical(layers["trial_id"]),
        "step": layers["step"].to_numpy(),
        "layer": layers["layer"].to_numpy(),
        f"score_{name}": scores,
    }
    table = shares(columns_of_scores, [name])
    table["trial_id"] = table["trial_id"].astype(layers["trial_id"].dtype)
    table = table.rename(columns={f"share_{name}": "share"})[["trial_id", "step", "share"]]
    return table[table["trial_id"].isin(evidence.finished["trial_id"])].dropna()


def trial_shares(evidence: Evidence) -> pandas.DataFrame:
    """Returns `share_<name>_<phase>` of each finished trial, as far as it is known.

    Indexed by trial_id. Taken from the table of trials; the share of layers inside Theorem 1's
    domain at the first and last probe is made from the layers where the table of trials has none.
    """
    trials = evidence.finished.set_index("trial_id")
    known = {}
    for name in NAMES:
        for phase in PHASES:
            column = f"share_{name}_{phase}"
            if column in trials and trials[column].notna().any():
                known[column] = trials[column].astype(float)
    table = pandas.DataFrame(known, index=trials.index)
    if "share_moments_init" in table:
        return table
    probes = probe_shares(evidence).sort_values("step")
    if not len(probes):
        return table
    start = probes[probes["step"] == 0].set_index("trial_id")["share"]
    table["share_moments_init"] = start.reindex(table.index)
    last = probes.groupby("trial_id")[["step", "share"]].last().reindex(table.index)
    reached = last["step"] == trials["steps"].astype(float)
    table["share_moments_end"] = last["share"].where(reached & (last["step"] > 0))
    return table


def cell_shares(evidence: Evidence) -> pandas.DataFrame:
    """Returns the mean share of layers of each cell, by name and phase.

    One row each: cell_id, name, phase, `share` with its 95 % interval over seeds `low`, `high`
    (inside [0, 1]), `seeds`, and `word`, that of the mean share.
    """
    table = trial_shares(evidence)
    if not len(table.columns):
        columns = ["cell_id", "name", "phase", "share", "low", "high", "seeds", "word"]
        return pandas.DataFrame(columns=columns)
    cells = evidence.finished.set_index("trial_id")["cell_id"].rename("cell_id")
    long = table.join(cells).melt(id_vars="cell_id", var_name="column", value_name="share")
    result = with_intervals(long.dropna(subset=["share"]), ["cell_id", "column"])
    parts = result["column"].str.extract(r"share_(?P<name>.+)_(?P<phase>[a-z]+)$")
    result = pandas.concat([result[["cell_id"]], parts, result.drop(columns="cell_id")], axis=1)
    result["word"] = [word(share) for share in result["share"]]
    return result.drop(columns="column")


def duration(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of layers inside Theorem 1's domain by training step.

    One row per dataset, rate, depth, arm and step: `share` with its interval over seeds `low`,
    `high`, and `seeds`. Other axes are averaged within each seed. A trial that diverged counts as
    outside from then on. Rates that a search chose are called `tuned`.
    """
    probes = probe_shares(evidence)
    if not len(probes):
        return pandas.DataFrame()
    table = _with_diverged(evidence, probes)
    trials = evidence.with_data(evidence.finished)
    trials = trials.assign(arm=arms(evidence).names, rate=rates(evidence))
    about = trials.set_index("trial_id")[["dataset", "rate", "depth", "arm", "seed"]]
    table = table.join(about, on="trial_id")
    keys = ["dataset", "rate", "depth", "arm", "step"]
    by_seed = table.groupby([*keys, "seed"], sort=True)["share"].mean().reset_index()
    return with_intervals(by_seed, keys)


def with_intervals(rows: pandas.DataFrame, keys: list[str]) -> pandas.DataFrame:
    """Returns means of the column `share` by `keys`, with t intervals inside [0, 1].

    One row of `rows` is one replicate.
    """
    grouped = rows.groupby(keys, sort=False)["share"]
    table = grouped.agg(["mean", "std", "count"])
    half = statistics.half_width(table["std"], table["count"])
    table["low"] = numpy.clip(table["mean"] - half, 0.0, 1.0)
    table["high"] = numpy.clip(table["mean"] + half, 0.0, 1.0)
    table = table.rename(columns={"mean": "share", "count": "seeds"})
    return table[["share", "low", "high", "seeds"]].reset_index()


def _scores(layers: pandas.DataFrame, name: str) -> numpy.ndarray | None:
    column = f"score_{name}"
    if column in layers and layers[column].notna().any():
        return layers[column].to_numpy(float)
    if name != "moments" or not set(THEOREM_1_DOMAIN) <= set(layers.columns):
        return None
    inside = numpy.ones(len(layers), bool)
    for moment, (low, high) in THEOREM_1_DOMAIN.items():
        values = layers[moment].to_numpy(float)
        inside &= (values >= low) & (values <= high)
    return numpy.where(inside, 0.0, _OUTSIDE)


def _with_diverged(evidence: Evidence, probes: pandas.DataFrame) -> pandas.DataFrame:
    """Adds the probes that diverged trials missed, with no layer inside.

    A trial that diverged is expected at the steps of its cell's other trials.
    """
    trials = evidence.finished
    diverged = trials[trials["status"] == "diverged"][["trial_id", "cell_id"]]
    if not len(diverged):
        return probes
    cells = trials.set_index("trial_id")["cell_id"]
    steps = probes.assign(cell_id=probes["trial_id"].map(cells))[["cell_id", "step"]]
    expected = diverged.merge(steps.drop_duplicates(), on="cell_id")
    last = probes.groupby("trial_id")["step"].max()
    expected = expected[expected["step"] > expected["trial_id"].map(last).fillna(-1)]
    return pandas.concat([probes, expected.assign(share=0.0)[["trial_id", "step", "share"]]])
