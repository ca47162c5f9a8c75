"""From a layer table to a verdict for each row and premise or promise.

A verdict is `holds`, `strained`, `fails`, or `unknown` with the reason. With ten thousand samples
every test rejects, so the effect size decides, and the band says if theory is at fault: a condition
can fail just as theory predicts, and theory can miss where the condition holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import pandas
from numpy.typing import NDArray

from harness.verdicts.criteria import Criteria, load
from harness.verdicts.criterion import Array, Criterion, Formula, Interval

VERDICTS = ("holds", "strained", "fails")
# The columns that identify a row of a layer table, as far as they are present.
KEYS = ("trial_id", "step", "epoch", "phase", "layer", "name")
_MISSING = "not measured: "
# Rows whose scores are taken at once, so that what stands between stays in the cache.
_BLOCK = 2**15

# A table as columns of equal length: a DataFrame, or a dict of arrays or lists, which is ten
# times as fast.
Columns = Mapping[str, Any] | pandas.DataFrame


def evaluate(layers: Columns, criteria: Criteria | None = None) -> pandas.DataFrame:
    """Evaluates every criterion at every row of a layer table.

    Args:
        layers: columns of the layer table; a missing column makes criteria unknown. A text column
            `absent` says why a row lacks some of its numbers.
        criteria: those that ship with the package by default.

    Returns:
        One row per (row, criterion), with these columns. The keys of the row (trial_id, step,
        epoch, phase, layer, name, as far as present) and its number `row`; condition, criterion,
        column, decides, by_theory: those of the criterion. `verdict`, and `reason` where it is
        unknown. `measured` with its 99 % interval `measured_low`, `measured_high`; `predicted`
        with its 99 % band `low`, `high`. `effect`; `score`: the effect in units of the thresholds,
        up to 1 holds, up to 2 strained, above fails. `outside_band`: the two intervals do not
        overlap; a number without an interval is a point, and two points are not compared.
        `theory_missed`: that, where the prediction is theory's.
    """
    parts = [part for _, part in _evaluated_criteria(layers, criteria or load())]
    return pandas.DataFrame(_stacked(layers, parts))


def verdicts(layers: Columns, criteria: Criteria | None = None) -> pandas.DataFrame:
    """Returns one row per (row of the layer table, premise or promise), row after row.

    It is the row of the worst criterion that decides, with columns as in `evaluate`, and `fault`:
    "", "condition", "theory" or "both". Where some criteria could not be evaluated and others
    could, the latter decide and `reason` names the former.
    """
    return pandas.DataFrame(verdict_columns(layers, criteria))


def verdict_columns(layers: Columns, criteria: Criteria | None = None) -> dict[str, NDArray]:
    """Returns `verdicts` as a dict of arrays."""
    criteria = criteria or load()
    evaluated = _evaluated_criteria(layers, criteria)
    parts = []
    for name in criteria.names:
        candidates = [
            part
            for criterion, part in evaluated
            if criterion.condition == name and criterion.decides
        ]
        parts.append(_worst_candidate(candidates))
    columns = _stacked(layers, parts)
    by_row = numpy.argsort(columns["row"], kind="stable")
    return {name: values[by_row] for name, values in columns.items()}


def scores(layers: Columns, criteria: Criteria | None = None) -> dict[str, Array]:
    """Returns the scores of all premises and promises, quickly.

    Args:
        layers: columns of the layer table; a missing column makes criteria unknown.
        criteria: those that ship with the package by default.

    Returns:
        By name of the premise or promise (rows,): the highest score of its criteria that decide,
        up to 1 where it holds, up to 2 where it is strained, above where it fails; NaN where no
        criterion gives a number. They are the scores of `verdicts`.
    """
    criteria = criteria or load()
    values = _numbers(layers, criteria)
    rows = len(layers["layer"])
    result = {name: numpy.full(rows, numpy.nan) for name in criteria.names}
    for start in range(0, rows, _BLOCK):
        block = {name: column[start : start + _BLOCK] for name, column in values.items()}
        for name, column in result.items():
            worst = column[start : start + _BLOCK]
            for criterion in criteria.deciding(name):
                effect = _first_number(criterion.effect, block, len(worst))
                # `fmax` takes the number where the other is NaN.
                numpy.fmax(worst, _score(effect, criterion), out=worst)
    return result


def _worst_candidate(candidates: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    """Returns row by row the evaluated criterion of the highest score, with `fault`."""
    scores = numpy.stack([candidate["score"] for candidate in candidates])
    index = numpy.where(numpy.isnan(scores), -1.0, scores).argmax(0)
    worst = {}
    for name in candidates[0]:
        if name not in ("reason", "decides"):
            worst[name] = numpy.choose(index, [candidate[name] for candidate in candidates])
    broken = (worst["verdict"] == "strained") | (worst["verdict"] == "fails")
    missed = worst["theory_missed"]
    worst["fault"] = numpy.select(
        [broken & missed, broken, missed], ["both", "condition", "theory"], ""
    ).astype(object)
    worst["reason"] = _joined_reasons([candidate["reason"] for candidate in candidates])
    return worst


def _stacked(layers: Columns, parts: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    """Returns parts of (rows,) below each other, with the keys of their rows in front."""
    columns = {}
    for name in KEYS:
        if name in layers:
            columns[name] = numpy.tile(numpy.asarray(layers[name]), len(parts))
    rows = len(parts[0]["score"])
    columns["row"] = numpy.tile(numpy.arange(rows), len(parts))
    for name in parts[0]:
        columns[name] = numpy.concatenate([part[name] for part in parts])
    return columns


def _evaluated_criteria(
    layers: Columns, criteria: Criteria
) -> list[tuple[Criterion, dict[str, NDArray]]]:
    values = _numbers(layers, criteria)
    absent = _absent(layers)
    return [(criterion, _evaluated(criterion, values, absent)) for criterion in criteria.criteria]


def _numbers(layers: Columns, criteria: Criteria) -> dict[str, Array]:
    """Returns the columns that the criteria read, as far as the table has them."""
    present = [name for name in criteria.columns if name in layers]
    return {name: numpy.asarray(layers[name], float) for name in present}


def _absent(layers: Columns) -> NDArray[numpy.object_]:
    """Returns the text of each row that says which numbers it lacks, "" where it has none."""
    if "absent" not in layers:
        return numpy.full(len(layers["layer"]), "", object)
    texts = ["" if pandas.isna(text) else str(text) for text in layers["absent"]]
    return numpy.array(texts, object)


def _evaluated(
    criterion: Criterion, values: dict[str, Array], absent: NDArray[numpy.object_]
) -> dict[str, NDArray]:
    rows = len(absent)
    measured = values.get(criterion.column, numpy.full(rows, numpy.nan))
    measured_low, measured_high = _ends(criterion.measured_interval, values, rows)
    predicted = _first_number(criterion.prediction, values, rows)
    low, high = _ends(criterion.band, values | {"prediction": predicted}, rows)
    effect = _first_number(criterion.effect, values, rows)
    score = _score(effect, criterion)
    outside = _apart((measured, measured_low, measured_high), (predicted, low, high))
    return {
        "condition": numpy.full(rows, criterion.condition, object),
        "criterion": numpy.full(rows, criterion.name, object),
        "column": numpy.full(rows, criterion.column, object),
        "decides": numpy.full(rows, criterion.decides),
        "verdict": _verdict(score),
        "measured": measured,
        "measured_low": measured_low,
        "measured_high": measured_high,
        "predicted": predicted,
        "low": low,
        "high": high,
        "effect": effect,
        "score": score,
        "outside_band": outside,
        "by_theory": numpy.full(rows, criterion.by_theory),
        "theory_missed": outside & criterion.by_theory,
        "reason": numpy.where(numpy.isnan(score), _reasons(criterion, values, absent), ""),
    }


def _first_number(alternatives: tuple[Formula, ...], values: dict[str, Array], rows: int) -> Array:
    """Returns row by row the first alternative that gives a number; NaN where none does."""
    result = numpy.full(rows, numpy.nan)
    for formula in alternatives:
        if all(name in values for name in formula.columns):
            result = numpy.where(numpy.isnan(result), formula(values), result)
    return result


def _ends(interval: Interval | None, values: dict[str, Array], rows: int) -> tuple[Array, Array]:
    if interval is None:
        return numpy.full(rows, numpy.nan), numpy.full(rows, numpy.nan)
    low = _first_number((interval.low,), values, rows)
    return low, _first_number((interval.high,), values, rows)


def _apart(
    measured: tuple[Array, Array, Array], predicted: tuple[Array, Array, Array]
) -> NDArray[numpy.bool_]:
    """Returns where two (value, low, high) do not overlap and at least one is an interval.

    A value stands in for its interval where only the other has one.
    """
    has_interval, low, high = _interval_or_point(*measured)
    other_has_interval, other_low, other_high = _interval_or_point(*predicted)
    return (has_interval | other_has_interval) & ((high < other_low) | (low > other_high))


def _interval_or_point(
    value: Array, low: Array, high: Array
) -> tuple[NDArray[numpy.bool_], Array, Array]:
    """Returns where there is an interval, and its ends, both of them the value elsewhere."""
    present = ~numpy.isnan(low) & ~numpy.isnan(high)
    return present, numpy.where(present, low, value), numpy.where(present, high, value)


def _score(effect: Array, criterion: Criterion) -> Array:
    """Returns the effect in units of the thresholds; NaN for NaN.

    0 at the target, 1 at the end of `holds`, 2 at the end of `strained`, linear between and
    beyond. Where the two intervals end together (a share cannot exceed 1), what lies beyond
    counts as infinitely far outside.
    """
    target = criterion.target
    low, high = criterion.holds
    strained_low, strained_high = criterion.strained
    above = _one_sided_score(effect - target, high - target, strained_high - target)
    below = _one_sided_score(target - effect, target - low, target - strained_low)
    return numpy.where(effect >= target, above, below)


def _one_sided_score(distance: Array, holds: float, strained: float) -> Array:
    """Returns the score of distances from the target, given those at which the intervals end."""
    if holds > 0:
        inner = distance / holds
    else:
        exactly_at_target = numpy.where(numpy.isnan(distance), numpy.nan, 0.0)
        inner = numpy.where(distance > 0, numpy.inf, exactly_at_target)
    if strained > holds:
        outer = 1.0 + (distance - holds) / (strained - holds)
    else:
        outer = numpy.where(distance > holds, numpy.inf, inner)
    beyond = numpy.where(numpy.isnan(distance), numpy.nan, outer)
    return numpy.where(distance <= holds, inner, beyond)


def _verdict(score: Array) -> NDArray[numpy.object_]:
    words = numpy.array([*VERDICTS, "unknown"], object)
    index = numpy.select([numpy.isnan(score), score <= 1, score <= 2], [3, 0, 1], 2)
    return words[index]


def _reasons(
    criterion: Criterion, values: dict[str, Array], absent: NDArray[numpy.object_]
) -> NDArray[numpy.object_]:
    """Returns for each row the reason why the effect is no number, if it is none."""
    formula = _preferred(criterion.effect, values)
    missing = [name for name in formula.columns if name not in values]
    if missing:
        return numpy.full(len(absent), _MISSING + ", ".join(missing), object)
    reasons = numpy.full(len(absent), "", object)
    # Backwards, so that the first column without a number is the one that is named.
    for name in reversed(formula.columns):
        bad = numpy.isnan(values[name])
        reasons[bad] = [_no_number(name, text) for text in absent[bad]]
    return numpy.where(reasons == "", _no_number(formula.description, ""), reasons)


def _preferred(alternatives: tuple[Formula, ...], values: dict[str, Array]) -> Formula:
    """Returns the first formula whose columns are all present, else the first of all."""
    for formula in alternatives:
        if all(name in values for name in formula.columns):
            return formula
    return alternatives[0]


def _no_number(name: str, reason: str) -> str:
    return f"{name} is no number here: {reason}" if reason else f"{name} is no number here"


def _joined_reasons(reasons: list[NDArray[numpy.object_]]) -> NDArray[numpy.object_]:
    """Returns row by row the different reasons, joined; each combination is joined once."""
    codes = []
    words = []
    for column in reasons:
        column_codes, column_words = pandas.factorize(column)
        codes.append(column_codes)
        words.append(column_words)
    if not len(codes[0]):
        return numpy.array([], object)
    combinations, inverse = numpy.unique(numpy.stack(codes), axis=1, return_inverse=True)
    texts = []
    for combination in combinations.T:
        pairs = zip(words, combination, strict=True)
        texts.append(_one_line([column_words[code] for column_words, code in pairs]))
    return numpy.array(texts, object)[inverse.reshape(-1)]


def _one_line(reasons: list[str]) -> str:
    """Returns reasons in one line; missing columns are named once."""
    missing: set[str] = set()
    for reason in reasons:
        if reason.startswith(_MISSING):
            missing.update(reason.removeprefix(_MISSING).split(", "))
    parts = [_MISSING + ", ".join(sorted(missing))] if missing else []
    for reason in dict.fromkeys(reasons):
        if reason and not reason.startswith(_MISSING):
            parts.append(reason)
    return "; ".join(parts)
