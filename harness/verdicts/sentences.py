"""Verdicts in words: one word for each assumption, and one sentence for a whole trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from harness.verdicts.criteria import Criteria, load
from harness.verdicts.evaluation import VERDICTS, Columns

# The columns of verdicts that a sentence is made of.
_COLUMNS = (
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
_PLURAL = ("weights",)


def summarize(judged: Columns, criteria: Criteria | None = None) -> dict[str, str]:
    """Returns the verdicts on one trial in words.

    Args:
        judged: columns of `verdicts` for one trial.
        criteria: those that ship with the package by default.

    Returns:
        `verdict_<assumption>`: the worst word at any layer and step. `verdict_sentence`: for each
        assumption the layers and steps at which the worst word applies, and the worst number.
    """
    criteria = criteria or load()
    assumptions = numpy.asarray(judged["assumption"])
    columns = {name: numpy.asarray(judged[name]) for name in _COLUMNS}
    summary: dict[str, str] = {}
    clauses: list[str] = []
    for assumption in criteria.assumptions:
        rows = _selected(columns, assumptions == assumption)
        word = _worst_word(rows["verdict"])
        summary[f"verdict_{assumption}"] = word
        clauses.append(_clause(assumption, word, rows))
    sentence = "; ".join(clauses)
    summary["verdict_sentence"] = sentence[:1].upper() + sentence[1:] + "."
    return summary


def ranges(numbers: Sequence[int]) -> str:
    """Returns `1-3, 7` for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted({int(value) for value in numbers}):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _worst_word(words: NDArray[numpy.object_]) -> str:
    present = set(words)
    return next((word for word in reversed(VERDICTS) if word in present), "unknown")


def _selected(rows: dict[str, NDArray], mask: NDArray[numpy.bool_]) -> dict[str, NDArray]:
    return {name: values[mask] for name, values in rows.items()}


def _clause(assumption: str, word: str, rows: dict[str, NDArray]) -> str:
    """Returns the part of the sentence on one assumption; `word` is its worst verdict."""
    plural = assumption in _PLURAL
    if word == "unknown":
        reasons = [reason for reason in rows["reason"] if reason]
        reason = reasons[0] if reasons else "nothing was probed"
        return f"{assumption} {'are' if plural else 'is'} unknown ({reason})"
    rows = _selected(rows, rows["verdict"] != "unknown")
    if word == "holds":
        probes = " and probe" if len(set(rows["step"])) > 1 else ""
        return f"{assumption} {'hold' if plural else 'holds'} at every layer{probes}"
    bad = _selected(rows, rows["verdict"] == word)
    layers = _which_layers(bad["layer"], rows["layer"])
    steps = _which_steps(bad["step"], rows["step"])
    number = _worst_number(bad)
    return f"{assumption} {_verb(word, plural)} {layers}{steps} ({number})"


def _verb(word: str, plural: bool) -> str:
    if word == "strained":
        return "are strained" if plural else "is strained"
    return "fail" if plural else "fails"


def _which_layers(bad: NDArray, layers: NDArray) -> str:
    numbers = sorted({int(layer) for layer in bad})
    last = int(layers.max())
    if len(numbers) == len(set(layers)):
        return "at every layer"
    if numbers == list(range(numbers[0], last + 1)):
        return f"from layer {numbers[0]} on" if numbers[0] < last else f"at layer {last}"
    noun = "layers" if len(numbers) > 1 else "layer"
    return f"at {noun} {ranges(numbers)}"


def _which_steps(bad: NDArray, all_steps: NDArray) -> str:
    """Returns ", from step 100 on" or the like; "" where there was one probe only."""
    steps = sorted(set(all_steps))
    bad_steps = sorted(set(bad))
    if len(steps) == 1:
        return ""
    first = "initialisation" if bad_steps[0] == 0 else f"step {int(bad_steps[0])}"
    if len(bad_steps) == len(steps):
        return ", from initialisation to the end"
    if bad_steps == [step for step in steps if step >= bad_steps[0]]:
        return f", from {first} on"
    if len(bad_steps) == 1:
        return f", at {first} only"
    return f", between {first} and step {int(bad_steps[-1])}"


def _worst_number(bad: dict[str, NDArray]) -> str:
    """Returns the measurement of the highest score, with its layer and the prediction."""
    worst = int(bad["score"].argmax())
    row = {name: values[worst] for name, values in bad.items()}
    text = f"{row['column']} {row['measured']:.3g} at layer {int(row['layer'])}"
    if numpy.isnan(row["predicted"]):
        return text
    source = "theory says" if row["by_theory"] else "assumed"
    return f"{text}, {source} {row['predicted']:.3g}"
