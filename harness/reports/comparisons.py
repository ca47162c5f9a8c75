"""Comparisons of arms, paired by seed with everything else equal.

A family is the set of comparisons along one axis, or of recommended pairs of activation and
initializer. A context is everything but the compared axis and the seed. Trials that a search tuned
with are no part of it. Confirmed trials have a learning rate of their own, which is no context;
trials at a fixed rate are compared at equal rates, and each row says which of the two it is.
"""

from __future__ import annotations

from typing import Any

import numpy
import pandas

from harness.reports import statistics
from harness.reports.axis_values import ordered, plain_value, value_label
from harness.reports.evidence import Evidence
from harness.reports.rules import ARM_AXES, BASELINES, SIGNIFICANT, recommended_initializers
from harness.store.searches import CONFIRMATION

PRACTICE = "recommended pairs"

_COLUMNS = (
    "family",
    "arm",
    "baseline",
    "context",
    "learning_rates",
    "n",
    "complete",
    "difference",
    "low",
    "high",
    "effect_size",
    "p_value",
    "p_sign_flip",
    "chance",
    "by_seed",
)


def families(evidence: Evidence) -> list[str]:
    """Returns the axes along which arms are compared, the activation first."""
    return [axis for axis in ARM_AXES if _varies(evidence, axis)]


def paired(evidence: Evidence) -> pandas.DataFrame:
    """Returns one row per arm and context, compared with the baseline.

    Columns: `family`, `arm`, `baseline`, `context`; `learning_rates`, `fixed` (equal for both) or
    `tuned` (each arm's own); `n` pairs; `complete`, true when both cells
    have all their seeds; `difference` (arm - baseline, in units of accuracy) with its 95 % interval
    `low`, `high`; `effect_size`; `p_value`, `p_sign_flip`; `chance`, the level of
    chance; `by_seed`, the differences by seed; `p_holm`, adjusted within the family.
    """
    frames = [_family(evidence, axis, _scores(evidence, axis)) for axis in families(evidence)]
    if {"activation", "initializer"} <= set(evidence.varied):
        frames.append(_family(evidence, PRACTICE, _practice(evidence)))
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pandas.DataFrame(columns=[*_COLUMNS, "p_holm"])
    return pandas.concat(frames, ignore_index=True)


def summaries(comparisons: pandas.DataFrame) -> pandas.DataFrame:
    """Returns one row per family and arm, from the rows of `paired`.

    Fixed and tuned learning rates have rows of their own. `difference` is the mean over complete
    contexts, with a t interval over seeds; `normalised` is the same of normalised scores, in which
    chance is 0 and a perfect score 1; `better`, `worse` and `undecided` count contexts; `wins` is
    the share of pairs in which the arm is better.
    """
    keys = ["family", "arm", "baseline", "learning_rates"]
    rows = []
    for values, group in comparisons.groupby(keys, sort=False):
        rows.append(dict(zip(keys, values, strict=True)) | _summary(group))
    return pandas.DataFrame(rows)


def _summary(group: pandas.DataFrame) -> dict[str, Any]:
    complete = group[group["complete"]]
    interval = statistics.mean_interval(_averages_by_seed(complete))
    normalised = statistics.mean_interval(_averages_by_seed(complete, normalised=True))
    decided = group["p_holm"] < SIGNIFICANT
    better = int((decided & (group["difference"] > 0)).sum())
    worse = int((decided & (group["difference"] < 0)).sum())
    wins = _win_share(complete)
    return {
        "tasks": len(complete),
        "tasks_incomplete": len(group) - len(complete),
        "seeds": interval.n,
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "normalised": normalised.value,
        "normalised_low": normalised.low,
        "normalised_high": normalised.high,
        "better": better,
        "worse": worse,
        "undecided": len(group) - better - worse,
        "wins": wins.value,
        "wins_low": wins.low,
        "wins_high": wins.high,
    }


def _averages_by_seed(complete: pandas.DataFrame, normalised: bool = False) -> pandas.Series:
    """Returns each seed's difference, averaged over contexts.

    A seed counts only when it has every context, so that all replicates average the same contexts.
    """
    ranges = 1.0 - complete["chance"] if normalised else numpy.ones(len(complete))
    by_seed = pandas.DataFrame(list(complete["by_seed"]), dtype=float)
    if not len(by_seed):
        return pandas.Series(dtype=float)
    return by_seed.div(numpy.asarray(ranges), axis="index").dropna(axis="columns").mean()


def _win_share(complete: pandas.DataFrame) -> statistics.Interval:
    """Returns the share of pairs that the arm wins, ties half."""
    wins = []
    for differences in complete["by_seed"]:
        wins.append((numpy.sign(list(differences.values())) + 1) / 2)
    if not wins:
        return statistics.Interval(numpy.nan, numpy.nan, numpy.nan, 0)
    return statistics.aggregate(wins)


def _varies(evidence: Evidence, axis: str) -> bool:
    return any(other == axis or _is_option_of(other, axis) for other in evidence.varied)


def _is_option_of(name: str, axis: str) -> bool:
    return name.startswith(f"{axis}.")


def _scores(evidence: Evidence, axis: str) -> pandas.DataFrame:
    """Returns finished trials as context, level, seed, score and cell_id along one axis.

    Varied options of the axis are a part of the level, as in `elu alpha 0.5`.
    """
    trials = _comparable(evidence)
    level = trials[axis].map(plain_value).astype(str)
    for option in evidence.varied:
        if _is_option_of(option, axis):
            level = level + _option_suffix(option, trials[option])
    context_axes = [other for other in evidence.axes if not _moves_with(evidence, other, axis)]
    return pandas.DataFrame(
        {
            "context": _contexts(evidence, context_axes),
            "learning_rates": numpy.where(_confirmed(evidence), "tuned", "fixed"),
            "level": level,
            "seed": trials["seed"],
            "score": trials["score"],
            "chance": trials["chance"],
            "cell_id": trials["cell_id"],
        }
    )


def _comparable(evidence: Evidence) -> pandas.DataFrame:
    """Returns the finished results without the cells of which a diverged seed has no score."""
    trials = evidence.finished
    return trials[~trials["cell_id"].isin(evidence.unscored["cell_id"])]


def _confirmed(evidence: Evidence) -> pandas.Series:
    return evidence.role[_comparable(evidence).index] == CONFIRMATION


def _option_suffix(option: str, values: pandas.Series) -> pandas.Series:
    labels = values.map(lambda value: f" {value_label(option, value)}")
    return labels.where(values.notna(), "")


def _moves_with(evidence: Evidence, other: str, axis: str) -> bool:
    """Returns True for an axis that changes with the compared one and so is no context of it."""
    if other == axis or _is_option_of(other, axis):
        return True
    return other == "learning_rate" and axis == "optimizer" and evidence.follows(other)


def _contexts(evidence: Evidence, axes: list[str]) -> pandas.Series:
    """Returns the context of each comparable trial in words."""
    trials = _comparable(evidence)
    text = pandas.Series("", index=trials.index)
    for axis in axes:
        if trials[axis].map(plain_value).nunique() < 2:
            continue
        label = _labels(axis, trials[axis])
        if axis == "learning_rate":
            label = label.where(~_confirmed(evidence), "tuned learning rate")
        separator = numpy.where((text != "") & (label != ""), ", ", "")
        text = text + separator + label
    return text.replace("", "all trials")


def _labels(axis: str, values: pandas.Series) -> pandas.Series:
    labels = values.map(lambda value: value_label(axis, value))
    if "." in axis:
        # An option that a trial does not have is no part of the name of its context.
        return labels.where(values.notna(), "")
    return labels


def _practice(evidence: Evidence) -> pandas.DataFrame:
    """Returns the trials of each activation with its recommended initializer.

    The first recommended initializer that was run counts.
    """
    initializers = set(evidence.levels("initializer"))
    recommended: dict[str, str] = {}
    for activation in evidence.levels("activation"):
        run = [name for name in recommended_initializers(activation) if name in initializers]
        if run:
            recommended[activation] = run[0]
    frame = _scores(evidence, "activation").assign(initializer=_comparable(evidence)["initializer"])
    frame = frame[frame["initializer"] == frame["level"].map(recommended)]
    pair = ("activation", "initializer")
    others = [axis for axis in evidence.axes if axis.partition(".")[0] not in pair]
    return frame.assign(
        context=_contexts(evidence, others).loc[frame.index],
        level=frame["level"] + " + " + frame["initializer"],
    )


def _family(evidence: Evidence, family: str, scores: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the comparisons of a family, the arms of one context below each other."""
    levels = ordered(scores["level"].unique())
    if len(levels) < 2:
        return pandas.DataFrame(columns=[*_COLUMNS, "p_holm"])
    baseline = _baseline(family, levels)
    contexts = ["context", "learning_rates"]
    scored = scores.pivot_table(
        index=[*contexts, "seed"], columns="level", values="score", aggfunc="first", sort=False
    ).reindex(columns=levels)
    complete = scores["cell_id"].map(evidence.cells["complete"])
    whole = (
        scores.assign(complete=complete)
        .pivot_table(
            index=contexts, columns="level", values="complete", aggfunc="first", sort=False
        )
        .reindex(columns=levels)
    )
    chance = scores.groupby(contexts, sort=False)["chance"].first()
    parts = []
    for place, arm in enumerate(level for level in levels if level != baseline):
        differences = (scored[arm] - scored[baseline]).dropna().unstack("seed").sort_index(axis=1)
        if len(differences):
            both = whole.loc[differences.index, [arm, baseline]].astype(bool).all(axis=1)
            part = _differences(differences).assign(arm=str(arm), complete=both, place=place)
            parts.append(part)
    if not parts:
        return pandas.DataFrame(columns=[*_COLUMNS, "p_holm"])
    table = pandas.concat(parts)
    order = {key: place for place, key in enumerate(chance.index)}
    table["order"] = [order[key] for key in table.index]
    table = table.sort_values(["order", "place"])
    table["chance"] = chance.reindex(table.index).to_numpy()
    table = table.reset_index().assign(family=family, baseline=str(baseline))
    table = table[list(_COLUMNS)]
    return table.assign(p_holm=statistics.holm(table["p_value"].to_numpy(float)))


def _differences(table: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the statistics of differences (contexts, seeds), with the index of the table."""
    results = pandas.DataFrame(statistics.paired_differences(table), index=table.index)
    by_seed = []
    for row in table.to_numpy(float):
        pairs = zip(table.columns, row, strict=True)
        by_seed.append({seed: float(value) for seed, value in pairs if not numpy.isnan(value)})
    return results.assign(by_seed=pandas.Series(by_seed, index=table.index, dtype=object))


def _baseline(family: str, levels: list[str]) -> str:
    """Returns the level that the others are compared with: that of the rules, or the first."""
    axis = "activation" if family == PRACTICE else family
    name = BASELINES.get(axis)
    candidates = [level for level in levels if level.partition(" ")[0] == name]
    return candidates[0] if candidates else levels[0]
