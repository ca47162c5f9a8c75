"""Words from intervals: how a claim is decided overall, by task, and as an equivalence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
import pandas

from harness.reports.accuracies import accuracy_interval, equivalence
from harness.reports.claims.claim import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    NotEnoughData,
)
from harness.reports.claims.selection import (
    FEWEST_SEEDS,
    Arm,
    balanced,
    by_seed,
    distinct,
    fairest,
    labels_of,
    scored,
)
from harness.reports.evidence import Evidence
from harness.reports.statistics import LEVEL, Interval, mean_interval, wilson

# Differences of accuracy below this do not matter.
MARGIN = 0.01
# A network keeps a promise where at least this share of its layers does.
MOST = 0.9
FEWEST_EQUAL = 5
# Labels that are told with their names.
_NUMBERED = ("depth", "width", "rate")
# A sentence names so many places of each kind; the claim's table has them all.
_MOST_PLACES = 6


@dataclass(frozen=True)
class Row:
    """One line of a claim's table: its labels and its interval at the level of all lines."""

    labels: dict[str, object]
    interval: Interval

    def record(self, name: str) -> dict[str, object]:
        """The line with the ends of its interval by name."""
        return {**self.labels, **numbers_of(self.interval, name)}

    @property
    def words(self) -> str:
        """The labels as text."""
        words = []
        for name, value in self.labels.items():
            words.append(f"{name} {value}" if name in _NUMBERED else str(value))
        return " ".join(words)


def percent(interval: Interval) -> str:
    """Returns a share with its 95 % interval in per cent."""
    return f"{100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def number(interval: Interval) -> str:
    """Returns a number with its 95 % interval."""
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def signed(interval: Interval) -> str:
    """Returns a difference with its 95 % interval."""
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def numbers_of(interval: Interval, name: str = "value") -> dict[str, float]:
    """Returns an interval as numbers for JSON."""
    return {
        name: interval.value,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
        f"{name}_n": interval.n,
    }


def judge(interval: Interval, threshold: float) -> str:
    """Returns the word of the claim that a number is at least `threshold`."""
    if interval.low >= threshold:
        return SUPPORTED
    return REFUTED if interval.high < threshold else UNDECIDED


def row_level(rows: int) -> float:
    """Returns the level of each of some intervals that all hold at 95 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, rows)


def judge_rows(overall: Interval, rows: Sequence[Row], threshold: float) -> tuple[str, str]:
    """Returns the word of all tasks together, and the condition where tasks disagree.

    Each row must be decided by itself, at the level that all rows together need.
    """
    places: dict[str, list[str]] = {SUPPORTED: [], REFUTED: [], UNDECIDED: []}
    for row in rows:
        places[judge(row.interval, threshold)].append(row.words)
    if not places[SUPPORTED] or not places[REFUTED]:
        return judge(overall, threshold), ""
    told = [f"true at {_listed(places[SUPPORTED])}", f"false at {_listed(places[REFUTED])}"]
    if places[UNDECIDED]:
        told.append(f"undecided at {_listed(places[UNDECIDED])}")
    return CONDITIONAL, "; ".join(told)


def _listed(places: Sequence[str]) -> str:
    """Returns places in words, and a count in place of all but six of them."""
    more = len(places) - _MOST_PLACES
    shown = "; ".join(places[:_MOST_PLACES])
    return f"{shown}; {more} more" if more > 0 else shown


def range_words(rows: Sequence[Row], text: Callable[[Interval], str]) -> str:
    """Returns the least and the largest row with their places; no text where they are equal."""
    known = [row for row in rows if not math.isnan(row.interval.value)]
    if not known:
        return ""
    least = min(known, key=lambda row: row.interval.value)
    most = max(known, key=lambda row: row.interval.value)
    if least.interval.value == most.interval.value:
        return ""
    return f"from {text(least.interval)} at {least.words} to {text(most.interval)} at {most.words}"


def share_interval(shares: pandas.Series, trials: int) -> Interval:
    """Returns the mean of per-seed shares with an interval inside [0, 1].

    Equal shares of all seeds have no spread to judge by; they get Wilson's interval of as many
    draws as there are trials.
    """
    interval = accuracy_interval(shares, numpy.inf)
    if len(shares) < 2 or not numpy.isnan(interval.low):
        return interval
    equal = wilson(round(interval.value * trials), trials)
    low, high = min(equal.low, interval.value), max(equal.high, interval.value)
    return Interval(interval.value, low, high, interval.n)


def shares_by(
    trials: pandas.DataFrame, column: str, axes: Sequence[str], what: str
) -> tuple[Interval, list[Row]]:
    """Returns the mean share over tasks with its interval, and one row per value of some axes.

    Raises:
        NotEnoughData: fewer than three seeds.
    """
    overall = share_interval(by_seed(trials, column, what), distinct(trials))
    groups = list(trials.groupby([axis for axis in axes if axis in trials]))
    rows = []
    for values, group in groups:
        shares = group.groupby("seed")[column].mean()
        interval = _share_at(shares, distinct(group), row_level(len(groups)))
        rows.append(Row(dict(zip(axes, values, strict=True)), interval))
    return overall, rows


def decide_shares(
    trials: pandas.DataFrame, column: str, axes: Sequence[str], what: str, keep: str
) -> Decision:
    """Returns whether nine of ten layers hold, overall and for each value of some axes.

    Args:
        trials: with a share of layers in each.
        column: that share.
        axes: what tells the rows of the claim's table apart.
        what: whose layers they are, in words.
        keep: what they do, as the end of a sentence.

    Raises:
        NotEnoughData: fewer than three seeds.
    """
    overall, rows = shares_by(trials, column, axes, what)
    word, condition = judge_rows(overall, rows, MOST)
    told = f"{percent(overall)} of the layers of {what} {keep}"
    sentence = "; ".join(text for text in (told, range_words(rows, percent), condition) if text)
    records = tuple(row.record("share") for row in rows)
    return Decision(word, sentence, numbers_of(overall, "share"), records)


def _share_at(shares: pandas.Series, trials: int, level: float) -> Interval:
    if len(shares) < FEWEST_SEEDS:
        return Interval(float(shares.mean()), numpy.nan, numpy.nan, len(shares))
    interval = accuracy_interval(shares, numpy.inf, level)
    if not numpy.isnan(interval.low):
        return interval
    equal = wilson(round(interval.value * trials), trials, level)
    return Interval(interval.value, equal.low, equal.high, interval.n)


def difference_interval(differences: pandas.Series, level: float = LEVEL) -> Interval:
    """Returns the mean of per-seed differences with its t interval.

    Fewer than five equal differences have no interval: accuracies are counts, so a few of them
    coincide by chance.
    """
    interval = mean_interval(differences, level)
    if interval.high - interval.low <= 1e-12 and interval.n < FEWEST_EQUAL:
        return Interval(interval.value, numpy.nan, numpy.nan, interval.n)
    return interval


def difference_rows(pairs: pandas.DataFrame, column: str = "difference") -> list[Row]:
    """Returns the mean of a column of pairs for each task, at the level of all tasks together."""
    axes = labels_of(pairs)
    groups = list(pairs.groupby(axes))
    level = row_level(len(groups))
    rows = []
    for values, group in groups:
        means = group.groupby("seed")[column].mean()
        if len(means) >= FEWEST_SEEDS:
            interval = difference_interval(means, level)
        else:
            interval = Interval(float(means.mean()), numpy.nan, numpy.nan, len(means))
        rows.append(Row(dict(zip(axes, values, strict=True)), interval))
    return rows


def decide_pairs(
    pairs: pandas.DataFrame, names: tuple[str, str], threshold: float, rates: str
) -> Decision:
    """Returns whether the first arm is ahead by at least `threshold`, with a row for each task.

    A negative threshold asks whether it is behind by no more than that. Diverged trials count with
    the score of chance, and the sentence says how many there are.

    Raises:
        NotEnoughData: fewer than three seeds have both arms.
    """
    ours, theirs = names
    if pairs["seed"].nunique() < FEWEST_SEEDS:
        raise NotEnoughData(
            f"{pairs['seed'].nunique()} of {FEWEST_SEEDS} seeds of {ours} and {theirs}, {rates}"
        )
    means = balanced(pairs, "difference", labels_of(pairs), f"{ours} and {theirs}")
    interval = difference_interval(means.mean(axis=1))
    rows = difference_rows(pairs)
    word, condition = judge_rows(interval, rows, threshold)
    sentence = (
        f"{ours} minus {theirs}, {rates}: {signed(interval)} in accuracy over "
        f"{means.shape[1]} of {len(rows)} tasks and {interval.n} seeds against {threshold:+.3g}"
        f"{diverged_words(pairs, names)}"
    )
    told = [range_words(rows, signed), condition]
    sentence = "; ".join([sentence, *(text for text in told if text)])
    records = tuple(row.record("difference") for row in rows)
    numbers = numbers_of(interval, "difference") | {"tasks": means.shape[1]}
    return Decision(word, sentence, numbers, records)


def diverged_words(pairs: pandas.DataFrame, names: tuple[str, str]) -> str:
    """Returns how many trials of two arms diverged, or no text."""
    counts = [int(pairs[f"diverged_{side}"].sum()) for side in ("arm", "baseline")]
    if not any(counts):
        return ""
    told = [f"{count} of {name}" for count, name in zip(counts, names, strict=True)]
    return f"; diverged and counted as chance: {', '.join(told)}"


def ahead(
    evidence: Evidence,
    arm: Arm,
    baseline: Arm,
    names: tuple[str, str],
    threshold: float = MARGIN,
) -> Decision:
    """Returns whether an arm is ahead of a baseline, at the fairest learning rates that there are.

    Raises:
        NotEnoughData: too few pairs, or a diverged trial without a score.
    """
    scored(evidence, arm, baseline)
    pairs, rates = fairest(evidence, arm, baseline)
    return decide_pairs(pairs, names, threshold, rates)


def decide_equivalence(
    differences: pandas.Series, margin: float, label: str, comparisons: int = 1
) -> Decision:
    """Returns whether per-seed differences are inside a margin, by two one-sided tests.

    Refuted where the 95 % interval lies outside the margin, so that neither answer is given by
    default. `comparisons` is the number of such questions that are asked together; the interval is
    adjusted for it (Bonferroni).
    """
    if len(differences) < FEWEST_SEEDS:
        raise NotEnoughData(f"{len(differences)} of {FEWEST_SEEDS} seeds of {label}")
    test = equivalence(differences, margin)
    wide = difference_interval(differences, row_level(comparisons))
    outside = wide.low > margin or wide.high < -margin
    word = SUPPORTED if test.equivalent else REFUTED if outside else UNDECIDED
    sentence = (
        f"{label}: {test.difference:+.4f}, 90 % interval [{test.low:+.4f}, {test.high:+.4f}] "
        f"against a margin of {margin} ({test.n} seeds)"
    )
    numbers = {"difference": test.difference, "low": test.low, "high": test.high, "n": test.n}
    return Decision(word, sentence, numbers)


def opposite(decision: Decision) -> Decision:
    """Returns the decision of the contrary claim."""
    words = {SUPPORTED: REFUTED, REFUTED: SUPPORTED}
    word = words.get(decision.word, decision.word)
    return Decision(word, decision.sentence, decision.numbers, decision.rows)
