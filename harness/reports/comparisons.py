"""Which arm is better, by how much, and which factor matters: paired by seed, with everything else equal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy
import pandas
from scipy import special

from harness.reports import statistics
from harness.reports.evidence import Evidence, ordered, plain_value, value_label
from harness.reports.rules import ARM_AXES, BASELINES, RECOMMENDED_INITIALIZERS, SIGNIFICANT

PRACTICE = "recommended pairs"
# Beyond these the least squares system costs more than it tells.
_MOST_TERMS = 400


@dataclass(frozen=True)
class Effects:
    """Least squares on per-trial scores: `shares` per term, `levels` per level of each factor, and what was left out, in words."""

    shares: pandas.DataFrame
    levels: pandas.DataFrame
    note: str


def families(evidence: Evidence) -> list[str]:
    """The axes along which arms are compared, the activation first."""
    return [
        axis
        for axis in ARM_AXES
        if any(other == axis or other.startswith(f"{axis}.") for other in evidence.varied)
    ]


def paired(evidence: Evidence) -> pandas.DataFrame:
    """One row per comparison in one context: family, arm, baseline, context, n, the difference (arm - baseline), Holm-adjusted p.

    Scores are shares; differences are in the same unit. A context is everything but the compared axis and the seed.
    """
    frames = [_family(evidence, axis, _scores(evidence, axis)) for axis in families(evidence)]
    if {"activation", "initializer"} <= set(evidence.varied):
        frames.append(_family(evidence, PRACTICE, _practice(evidence)))
    rows = [frame for frame in frames if len(frame)]
    return pandas.concat(rows, ignore_index=True) if rows else pandas.DataFrame(columns=_COLUMNS)


def summaries(comparisons: pandas.DataFrame, evidence: Evidence) -> pandas.DataFrame:
    """One row per (family, arm): mean difference over complete contexts with a t interval over seeds, and better/worse/undecided counts."""
    rows = []
    for (family, arm, baseline), group in comparisons.groupby(
        ["family", "arm", "baseline"], sort=False
    ):
        complete = group[group["complete"]]
        by_seed = [pandas.Series(differences) for differences in complete["by_seed"]]
        # A seed stands for an average only where it has every task, so that all replicates average the same.
        average = (
            pandas.concat(by_seed, axis=1).dropna().mean(axis=1)
            if by_seed
            else pandas.Series(dtype=float)
        )
        interval = statistics.mean_interval(average)
        decided = group["p_holm"] < SIGNIFICANT
        row = {
            "family": family,
            "arm": arm,
            "baseline": baseline,
            "tasks": len(complete),
            "tasks_incomplete": len(group) - len(complete),
        }
        row |= {
            "seeds": interval.n,
            "difference": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
        row |= {
            "better": int((decided & (group["difference"] > 0)).sum()),
            "worse": int((decided & (group["difference"] < 0)).sum()),
        }
        row["undecided"] = len(group) - row["better"] - row["worse"]
        row |= _improvement(complete)
        rows.append(row)
    return pandas.DataFrame(rows)


def effects(evidence: Evidence) -> Effects | None:
    """Which factor matters: shares of the score's variance, and each level's effect against the mean; None with fewer than two factors.

    Sum-to-zero coding, so that a main effect is a deviation from the grand mean. Share of variance of a term: the drop in
    residual sum of squares when it joins all terms that do not contain it (type II).
    """
    trials = evidence.finished[evidence.finished["score"].notna()]
    factors = [axis for axis in evidence.varied if 2 <= len(evidence.levels(axis)) <= 20]
    if len(factors) < 2 or len(trials) < 4 or trials["score"].std() == 0:
        return None
    coded = {axis: _sum_coded(trials[axis].map(plain_value)) for axis in factors}
    terms: dict[tuple[str, ...], numpy.ndarray] = {(axis,): coded[axis] for axis in factors}
    interactions = {
        pair: _product(coded[pair[0]], coded[pair[1]])
        for pair in itertools.combinations(factors, 2)
    }
    scores = trials["score"].to_numpy(float)
    note = ""
    full = terms | interactions
    if not _estimable(full, len(scores)):
        note = "Only main effects: the trials are not a full grid, so interactions cannot be separated."
        full = terms
    if not _estimable(full, len(scores)):
        return Effects(
            pandas.DataFrame(),
            pandas.DataFrame(),
            f"The effects of {', '.join(factors)} cannot be separated: they vary together in these trials.",
        )
    return Effects(
        _shares(full, scores), _level_effects(evidence, trials, factors, full, scores), note
    )


_COLUMNS = (
    "family",
    "arm",
    "baseline",
    "context",
    "n",
    "complete",
    "difference",
    "low",
    "high",
    "effect_size",
    "p_value",
    "p_sign_flip",
    "by_seed",
    "p_holm",
)


def _scores(evidence: Evidence, axis: str) -> pandas.DataFrame:
    """Finished trials as context, level, seed, score along one axis; an option of the axis is a part of its level."""
    trials = evidence.finished
    options = [other for other in evidence.varied if other.startswith(f"{axis}.")]
    level = trials[axis].map(plain_value).astype(str)
    for option in options:
        level = level + trials[option].map(
            lambda value, option=option: (
                "" if pandas.isna(value) else f" {value_label(option, value)}"
            )
        )
    brought = {
        other
        for other in evidence.axes
        if other == axis
        or other.startswith(f"{axis}.")
        or (other == "learning_rate" and axis == "optimizer" and evidence.follows(other))
    }
    context = _contexts(evidence, [other for other in evidence.axes if other not in brought])
    return pandas.DataFrame(
        {
            "context": context,
            "level": level,
            "seed": trials["seed"],
            "score": trials["score"],
            "cell_id": trials["cell_id"],
        }
    )


def _contexts(evidence: Evidence, axes: list[str]) -> pandas.Series:
    """The values of the axes that vary, in words; axes that are the same everywhere say nothing."""
    trials = evidence.finished
    several = [axis for axis in axes if trials[axis].map(plain_value).nunique() > 1]
    text = pandas.Series("", index=trials.index)
    for axis in several:
        label = trials[axis].map(lambda value, axis=axis: value_label(axis, value))
        # An absent option of some other setting is no part of the context's name.
        label = label.where(~(trials[axis].isna() & ("." in axis)), "")
        joint = numpy.where((text != "") & (label != ""), ", ", "")
        text = text + joint + label
    return text.replace("", "all trials")


def _practice(evidence: Evidence) -> pandas.DataFrame:
    """Each activation with its recommended initializer, the first of the list that was run."""
    initializers = set(evidence.levels("initializer"))
    chosen = {
        activation: next((name for name in names if name in initializers), None)
        for activation, names in RECOMMENDED_INITIALIZERS.items()
    }
    frame = _scores(evidence, "activation").assign(initializer=evidence.finished["initializer"])
    frame = frame[frame["initializer"] == frame["level"].map(chosen)]
    others = [
        axis
        for axis in evidence.axes
        if axis.partition(".")[0] not in ("activation", "initializer")
    ]
    context = _contexts(evidence, others).loc[frame.index]
    return frame.assign(context=context, level=frame["level"] + " + " + frame["initializer"])


def _family(evidence: Evidence, family: str, scores: pandas.DataFrame) -> pandas.DataFrame:
    rows = list(_compared(evidence, family, scores))
    frame = pandas.DataFrame(rows, columns=[name for name in _COLUMNS if name != "p_holm"])
    return frame.assign(p_holm=statistics.holm(frame["p_value"].to_numpy(float)))


def _compared(
    evidence: Evidence, family: str, scores: pandas.DataFrame
) -> Iterator[dict[str, object]]:
    levels = ordered(scores["level"].unique())
    if len(levels) < 2:
        return
    wanted = BASELINES.get("activation" if family == PRACTICE else family)
    baseline = next((level for level in levels if level.partition(" ")[0] == wanted), levels[0])
    complete = evidence.cells["complete"]
    for context, group in scores.groupby("context", sort=False):
        table = group.pivot_table(index="seed", columns="level", values="score", aggfunc="first")
        whole = group.groupby("level")["cell_id"].first().map(complete)
        for arm in levels:
            if arm == baseline or arm not in table or baseline not in table:
                continue
            differences = (table[arm] - table[baseline]).dropna()
            if not len(differences):
                continue
            result = statistics.paired_difference(differences)
            yield {
                "family": family,
                "arm": str(arm),
                "baseline": str(baseline),
                "context": context,
                "n": result.interval.n,
                "complete": bool(whole[arm] and whole[baseline]),
                "difference": result.interval.value,
                "low": result.interval.low,
                "high": result.interval.high,
                "effect_size": result.effect_size,
                "p_value": result.p_value,
                "p_sign_flip": result.p_sign_flip,
                "by_seed": differences.to_dict(),
            }


def _improvement(group: pandas.DataFrame) -> dict[str, float]:
    """Share of (task, seed) pairs in which the arm wins, ties half, with a bootstrap stratified by task."""
    tasks = [(numpy.sign(list(differences.values())) + 1) / 2 for differences in group["by_seed"]]
    if not tasks:
        return {"wins": numpy.nan, "wins_low": numpy.nan, "wins_high": numpy.nan}
    interval = statistics.aggregate(tasks)
    return {"wins": interval.value, "wins_low": interval.low, "wins_high": interval.high}


def _sum_coded(values: pandas.Series) -> numpy.ndarray:
    """(trials, levels - 1): +1 for the own level, -1 everywhere for the last."""
    levels = ordered(values.unique())
    code = numpy.vstack([numpy.eye(len(levels) - 1), -numpy.ones(len(levels) - 1)])
    return code[values.map({level: index for index, level in enumerate(levels)}).to_numpy()]


def _product(left: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _estimable(terms: dict[tuple[str, ...], numpy.ndarray], trials: int) -> bool:
    design = _design(terms.values(), trials)
    return (
        design.shape[1] <= _MOST_TERMS
        and design.shape[1] < trials
        and numpy.linalg.matrix_rank(design) == design.shape[1]
    )


def _design(blocks, trials: int) -> numpy.ndarray:  # noqa: ANN001
    return numpy.hstack([numpy.ones((trials, 1)), *blocks])


def _residual(blocks, scores: numpy.ndarray) -> float:  # noqa: ANN001
    design = _design(blocks, len(scores))
    solution = numpy.linalg.lstsq(design, scores, rcond=None)[0]
    return float(numpy.sum((scores - design @ solution) ** 2))


def _shares(terms: dict[tuple[str, ...], numpy.ndarray], scores: numpy.ndarray) -> pandas.DataFrame:
    total = float(numpy.sum((scores - scores.mean()) ** 2))
    full = _residual(terms.values(), scores)
    freedom = len(scores) - 1 - sum(block.shape[1] for block in terms.values())
    rows = []
    for term, block in terms.items():
        without = [other for name, other in terms.items() if not set(term) <= set(name)]
        gained = _residual(without, scores) - _residual([*without, block], scores)
        f = (gained / block.shape[1]) / (full / freedom) if full > 0 else numpy.inf
        p_value = float(special.fdtrc(block.shape[1], freedom, f)) if numpy.isfinite(f) else 0.0
        rows.append(
            {
                "term": " x ".join(term),
                "share": gained / total,
                "degrees": block.shape[1],
                "f": f,
                "p_value": p_value,
            }
        )
    rows.append(
        {
            "term": "unexplained (seeds and higher interactions)",
            "share": full / total,
            "degrees": freedom,
            "f": numpy.nan,
            "p_value": numpy.nan,
        }
    )
    return pandas.DataFrame(rows).sort_values("share", ascending=False, ignore_index=True)


def _level_effects(
    evidence: Evidence,
    trials: pandas.DataFrame,
    factors: list[str],
    terms: dict[tuple[str, ...], numpy.ndarray],
    scores: numpy.ndarray,
) -> pandas.DataFrame:
    design = _design(terms.values(), len(scores))
    solution = numpy.linalg.lstsq(design, scores, rcond=None)[0]
    freedom = len(scores) - design.shape[1]
    variance = numpy.sum((scores - design @ solution) ** 2) / freedom
    covariance = numpy.linalg.inv(design.T @ design) * variance
    rows, start = [], 1
    for axis in factors:  # main effects stand first
        levels = ordered(trials[axis].map(plain_value).unique())
        columns = slice(start, start + len(levels) - 1)
        contrast = numpy.vstack([numpy.eye(len(levels) - 1), -numpy.ones(len(levels) - 1)])
        values = contrast @ solution[columns]
        errors = numpy.sqrt(
            numpy.einsum("ij,jk,ik->i", contrast, covariance[columns, columns], contrast)
        )
        half = special.stdtrit(freedom, 0.5 + statistics.LEVEL / 2) * errors
        rows += [
            {
                "factor": axis,
                "level": str(level),
                "effect": value,
                "low": value - h,
                "high": value + h,
            }
            for level, value, h in zip(levels, values, half, strict=True)
        ]
        start += len(levels) - 1
    return pandas.DataFrame(rows)
