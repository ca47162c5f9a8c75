"""From a layer table to verdicts: for each row and assumption `holds`, `strained`, `fails`, or `unknown` with the reason.

With ten thousand samples every test rejects, so the effect size decides, and the band says whether theory is at fault:
an assumption can fail just as theory says it must, and theory can miss where the assumption does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas
from numpy.typing import NDArray

from harness.verdicts.criteria import Criteria, Criterion, load
from harness.verdicts.formulas import Formula

Array = NDArray[numpy.float64]

VERDICTS = ("holds", "strained", "fails")
_MISSING = "not measured: "
KEYS = ("trial_id", "step", "epoch", "phase", "layer", "name")
# What a sentence is made of.
_SAID = (
    "verdict",
    "step",
    "layer",
    "column",
    "measured",
    "predicted",
    "by_theory",
    "score",
    "reason",
)

# A table as columns of equal length: a DataFrame, or what takes a tenth of its time, a dict of arrays or lists.
Columns = Mapping[str, Any]


def evaluate(layers: Columns, criteria: Criteria | None = None) -> pandas.DataFrame:
    """Every criterion at every row of a layer table: one row per (row, criterion).

    Args:
        layers: columns of the layer table; those that are missing make criteria unknown. A text column `absent` says why
            a row lacks some of its numbers.

    Returns:
        The keys of the row (trial_id, step, epoch, phase, layer, name, as far as present), and assumption, criterion, column,
        decides, verdict, measured, measured_low, measured_high, predicted, low, high, effect, score, outside_band, by_theory, theory_missed, reason.
        `score` is the effect in units of the thresholds: up to 1 holds, up to 2 strained, above fails. `low` and `high` are the 99 % band of
        the prediction, `measured_low` and `measured_high` that of what was measured. `outside_band`: the two have nothing in common, where
        one without a band is a point; two points are not compared. `theory_missed`: and the prediction is theory's.
    """
    return pandas.DataFrame(
        _below(layers, [part for _, part in _evaluated_all(layers, criteria or load())])
    )


def verdicts(layers: Columns, criteria: Criteria | None = None) -> pandas.DataFrame:
    """One row per (row of the layer table, assumption): that of its worst deciding criterion, row after row.

    Columns as in `evaluate`, and `fault`: "", "assumption", "theory" or "both". Where some criteria could not be evaluated
    and others could, the latter decide and `reason` names the former.
    """
    return pandas.DataFrame(verdict_columns(layers, criteria))


def verdict_columns(layers: Columns, criteria: Criteria | None = None) -> dict[str, NDArray]:
    """`verdicts` as a dict of arrays."""
    criteria = criteria or load()
    evaluated = _evaluated_all(layers, criteria)
    parts = []
    for assumption in criteria.assumptions:
        candidates = [
            part
            for criterion, part in evaluated
            if criterion.assumption == assumption and criterion.decides
        ]
        scores = numpy.stack([part["score"] for part in candidates])
        chosen = numpy.where(numpy.isnan(scores), -1.0, scores).argmax(0)
        worst = {
            key: numpy.choose(chosen, [part[key] for part in candidates])
            for key in candidates[0]
            if key not in ("reason", "decides")
        }
        broken = (worst["verdict"] == "strained") | (worst["verdict"] == "fails")
        worst["fault"] = numpy.select(
            [broken & worst["theory_missed"], broken, worst["theory_missed"]],
            ["both", "assumption", "theory"],
            "",
        ).astype(object)
        parts.append(worst | {"reason": _joined([part["reason"] for part in candidates])})
    below = _below(layers, parts)
    by_row = numpy.argsort(below["row"], kind="stable")
    return {name: values[by_row] for name, values in below.items()}


def summarize(judged: Columns, criteria: Criteria | None = None) -> dict[str, str]:
    """What `verdicts` found for one trial: `verdict_<assumption>`, the worst word at any layer and step, and `verdict_sentence`.

    The sentence says for each assumption from which layer and which step on the worst word applies, and the worst number.
    """
    criteria = criteria or load()
    columns = {name: numpy.asarray(judged[name]) for name in ("assumption", *_SAID)}
    summary, said = {}, []
    for assumption in criteria.assumptions:
        chosen = columns["assumption"] == assumption
        rows = {name: columns[name][chosen] for name in _SAID}
        word = _worst(rows["verdict"])
        summary[f"verdict_{assumption}"] = word
        said.append(
            _clause(
                assumption,
                word,
                rows if word == "unknown" else _where(rows, rows["verdict"] != "unknown"),
            )
        )
    sentence = "; ".join(said)
    return summary | {"verdict_sentence": sentence[:1].upper() + sentence[1:] + "."}


def ranges(numbers: Sequence[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted({int(value) for value in numbers}):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _below(layers: Columns, parts: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    """Parts with one value for each row of `layers`, below each other, behind the keys of the row."""
    keys = {
        name: numpy.tile(numpy.asarray(layers[name]), len(parts)) for name in KEYS if name in layers
    }
    rows = numpy.tile(numpy.arange(len(parts[0]["score"])), len(parts))
    return (
        keys
        | {"row": rows}
        | {key: numpy.concatenate([part[key] for part in parts]) for key in parts[0]}
    )


def _evaluated_all(
    layers: Columns, criteria: Criteria
) -> list[tuple[Criterion, dict[str, NDArray]]]:
    values = {
        name: numpy.asarray(layers[name], float) for name in criteria.columns if name in layers
    }
    rows = len(layers["layer"])
    absent = (
        numpy.array(["" if pandas.isna(text) else str(text) for text in layers["absent"]], object)
        if "absent" in layers
        else numpy.full(rows, "", object)
    )
    return [(criterion, _evaluated(criterion, values, absent)) for criterion in criteria.criteria]


def _evaluated(
    criterion: Criterion, values: dict[str, Array], absent: NDArray[numpy.object_]
) -> dict[str, NDArray]:
    rows = len(absent)
    blank = numpy.full(rows, numpy.nan)
    measured = values.get(criterion.column, blank)
    predicted = _first(criterion.prediction, values, rows)
    known = values | {"prediction": predicted}
    low, high = _first(criterion.low, known, rows), _first(criterion.high, known, rows)
    effect = _first(criterion.effect, values, rows)
    score = _score(effect, criterion)
    measured_low, measured_high = (
        _first(criterion.measured_low, values, rows),
        _first(criterion.measured_high, values, rows),
    )
    outside = _apart((measured, measured_low, measured_high), (predicted, low, high))
    reason = numpy.where(numpy.isnan(score), _reason(criterion, values, absent), "")
    verdict = numpy.array([*VERDICTS, "unknown"], object)[
        numpy.select([numpy.isnan(score), score <= 1, score <= 2], [3, 0, 1], 2)
    ]
    same = {
        "assumption": criterion.assumption,
        "criterion": criterion.name,
        "column": criterion.column,
    }
    return {name: numpy.full(rows, text, object) for name, text in same.items()} | {
        "decides": numpy.full(rows, criterion.decides),
        "verdict": verdict,
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
        "reason": reason,
    }


def _apart(
    measured: tuple[Array, Array, Array], predicted: tuple[Array, Array, Array]
) -> NDArray[numpy.bool_]:
    """Where two (value, low, high) have nothing in common; a value stands in for its interval where only the other has one."""
    known = [~numpy.isnan(low) & ~numpy.isnan(high) for _, low, high in (measured, predicted)]
    (low, high), (lower, higher) = (
        [numpy.where(one, end, value) for end in ends]
        for one, (value, *ends) in zip(known, (measured, predicted))
    )
    return (known[0] | known[1]) & ((high < lower) | (low > higher))


def _first(alternatives: tuple[Formula, ...], values: dict[str, Array], rows: int) -> Array:
    """Row by row the first alternative that gives a number; NaN where none does."""
    result = numpy.full(rows, numpy.nan)
    for formula in alternatives:
        if all(name in values for name in formula.columns):
            result = numpy.where(numpy.isnan(result), formula(values), result)
    return result


def _score(effect: Array, criterion: Criterion) -> Array:
    """0 at the target, 1 at the end of `holds`, 2 at the end of `strained`, linear between and beyond; NaN for NaN.

    Where the two intervals end together (a share cannot exceed 1), what lies beyond counts as far outside.
    """
    (low, high), (lower, higher) = criterion.holds, criterion.strained
    return numpy.where(
        effect >= criterion.target,
        _beyond(effect - criterion.target, high - criterion.target, higher - criterion.target),
        _beyond(criterion.target - effect, criterion.target - low, criterion.target - lower),
    )


def _beyond(distance: Array, holds: float, strained: float) -> Array:
    inner = (
        distance / holds
        if holds > 0
        else numpy.where(
            distance > 0, numpy.inf, numpy.where(numpy.isnan(distance), numpy.nan, 0.0)
        )
    )
    outer = (
        1.0 + (distance - holds) / (strained - holds)
        if strained > holds
        else numpy.where(distance > holds, numpy.inf, inner)
    )
    return numpy.where(
        distance <= holds, inner, numpy.where(numpy.isnan(distance), numpy.nan, outer)
    )


def _reason(
    criterion: Criterion, values: dict[str, Array], absent: NDArray[numpy.object_]
) -> NDArray[numpy.object_]:
    formula = next(
        (one for one in criterion.effect if all(name in values for name in one.columns)),
        criterion.effect[0],
    )
    needed = formula.columns
    missing = [name for name in needed if name not in values]
    if missing:
        return numpy.full(len(absent), _MISSING + ", ".join(missing), object)
    reasons = numpy.full(len(absent), "", object)
    for name in reversed(needed):
        bad = numpy.isnan(values[name])
        reasons[bad] = [
            f"{name} is no number here" + (f": {why}" if why else "") for why in absent[bad]
        ]
    return numpy.where(reasons == "", f"{formula.text} is no number here", reasons)


def _joined(reasons: list[NDArray[numpy.object_]]) -> NDArray[numpy.object_]:
    """Row by row the different reasons, joined; few combinations occur, however many rows there are."""
    codes, words = zip(*(pandas.factorize(column) for column in reasons))
    if not len(codes[0]):
        return numpy.array([], object)
    combinations, inverse = numpy.unique(numpy.stack(codes), axis=1, return_inverse=True)
    texts = [
        _together([known[code] for known, code in zip(words, combination)])
        for combination in combinations.T
    ]
    return numpy.array(texts, object)[inverse.reshape(-1)]


def _together(reasons: list[str]) -> str:
    """Reasons in one line; missing columns are named once."""
    missing = sorted(
        {
            name
            for reason in reasons
            if reason.startswith(_MISSING)
            for name in reason.removeprefix(_MISSING).split(", ")
        }
    )
    others = [
        reason for reason in dict.fromkeys(reasons) if reason and not reason.startswith(_MISSING)
    ]
    return "; ".join([_MISSING + ", ".join(missing)] * bool(missing) + others)


def _worst(words: NDArray[numpy.object_]) -> str:
    present = set(words)
    return next((word for word in reversed(VERDICTS) if word in present), "unknown")


def _where(rows: dict[str, NDArray], chosen: NDArray[numpy.bool_]) -> dict[str, NDArray]:
    return {name: values[chosen] for name, values in rows.items()}


def _clause(assumption: str, word: str, rows: dict[str, NDArray]) -> str:
    one = assumption != "weights"
    if word == "unknown":
        reasons = [reason for reason in rows["reason"] if reason]
        return f"{assumption} {'is' if one else 'are'} unknown ({reasons[0] if reasons else 'nothing was probed'})"
    if word == "holds":
        return f"{assumption} {'holds' if one else 'hold'} at every layer" + (
            " and probe" if len(set(rows["step"])) > 1 else ""
        )
    bad = _where(rows, rows["verdict"] == word)
    verb = {
        "strained": "is strained" if one else "are strained",
        "fails": "fails" if one else "fail",
    }[word]
    return f"{assumption} {verb} {_which_layers(bad['layer'], rows['layer'])}{_when(bad['step'], rows['step'])} ({_brief(bad, int(bad['score'].argmax()))})"


def _which_layers(bad: NDArray, layers: NDArray) -> str:
    numbers, last = sorted({int(layer) for layer in bad}), int(layers.max())
    if len(numbers) == len(set(layers)):
        return "at every layer"
    if numbers == list(range(numbers[0], last + 1)):
        return f"from layer {numbers[0]} on" if numbers[0] < last else f"at layer {last}"
    return f"at layer{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def _when(bad: NDArray, all_steps: NDArray) -> str:
    steps, seen = sorted(set(all_steps)), sorted(set(bad))
    if len(steps) == 1:
        return ""
    first = "initialisation" if seen[0] == 0 else f"step {int(seen[0])}"
    if len(seen) == len(steps):
        return ", from initialisation to the end"
    if seen == [step for step in steps if step >= seen[0]]:
        return f", from {first} on"
    return f", at {first} only" if len(seen) == 1 else f", between {first} and step {int(seen[-1])}"


def _brief(rows: dict[str, NDArray], row: int) -> str:
    said = {name: values[row] for name, values in rows.items()}
    predicted = (
        ""
        if numpy.isnan(said["predicted"])
        else f", {'theory says' if said['by_theory'] else 'assumed'} {said['predicted']:.3g}"
    )
    return f"{said['column']} {said['measured']:.3g} at layer {int(said['layer'])}{predicted}"
