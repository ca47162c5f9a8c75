"""The answer to three questions, made from decided claims.

When do SELU's assumptions hold, how long do they last, and does it matter? Each answer begins with
the verdict of a claim in words, and every number in it is a claim's own, with its interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reports.claims.claim import (
    CONDITIONAL,
    NOT_ENOUGH_DATA,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    DecidedClaim,
    Decision,
)

_POOLED = "pooled_moments_hold_at_initialisation"
_LASTS = "self_normalisation_lasts"
_COSTS = "losing_it_costs_accuracy"
_LIMIT = "the_stability_limit_decides"
_REPAIRS = "repairs_bring_accuracy"
_WHEN_WORDS = {
    SUPPORTED: "Before training they hold, as averages over the units of a layer.",
    CONDITIONAL: (
        "Before training they hold, as averages over the units of a layer, though not in every "
        "network."
    ),
    REFUTED: "Even before training they hold in fewer than nine of ten layers.",
    UNDECIDED: "It is undecided whether they hold before training.",
}
_LASTS_WORDS = {
    SUPPORTED: "They last through training.",
    CONDITIONAL: "They last through training at some learning rates or on some data.",
    REFUTED: "They do not last through training.",
    UNDECIDED: "It is undecided whether they last through training.",
}
_REPAIR_WORDS = {
    SUPPORTED: "It matters whether they hold before training.",
    CONDITIONAL: "It can matter whether they hold before training.",
    REFUTED: "Whether they hold before training matters less than 0.01 of accuracy.",
    UNDECIDED: "It is undecided whether it matters that they hold before training.",
}
_COST_WORDS = {
    SUPPORTED: "Losing them in training goes with a loss of more than 0.01 of accuracy.",
    REFUTED: "Losing them in training goes with a loss of less than 0.01 of accuracy, if any.",
    UNDECIDED: "Whether losing them in training goes with a loss of accuracy is undecided.",
}
# Labels of rows that are told with their names.
_NUMBERED = ("depth", "width", "rate")


@dataclass(frozen=True)
class Answer:
    """The answers to the three questions, in sentences; `""` for what is not decided at all."""

    when: str
    how_long: str
    matters: str

    @property
    def by_question(self) -> dict[str, str]:
        """The answers that there are, by their questions."""
        answers = {
            "When do they hold?": self.when,
            "How long?": self.how_long,
            "Does it matter?": self.matters,
        }
        return {question: text for question, text in answers.items() if text}


def answer(decided: Sequence[DecidedClaim]) -> Answer:
    """Returns the answer that decided claims give.

    A claim without enough data adds nothing; a question none of whose claims has data has no
    answer.
    """
    decisions = {
        entry.claim.name: entry.decision
        for entry in decided
        if entry.decision.word != NOT_ENOUGH_DATA
    }
    return Answer(_when(decisions), _how_long(decisions), _matters(decisions))


def _when(decisions: Mapping[str, Decision]) -> str:
    if _POOLED not in decisions:
        return ""
    pooled = decisions[_POOLED]
    sentences = [
        _WHEN_WORDS[pooled.word],
        "With LeCun's weights and inputs standardised as a whole, the layers whose mean and "
        f"variance are inside the domain of Theorem 1 are {_percent(pooled, 'share')}"
        f"{_range(pooled, 'share')}.",
    ]
    units = {
        "lecun_weights_meet_the_premise": "meet the theorem's premise on weights",
        "single_units_are_normalised": "have their own mean and variance inside the domain",
    }
    told = [
        f"{_percent(decisions[name], 'share')} {words}"
        for name, words in units.items()
        if name in decisions
    ]
    if told:
        sentences.append(f"Of the units of these networks, {' and '.join(told)}.")
    shares = {
        "pixels_standardised_alone_keep_the_promise": "With every pixel standardised",
        "unstandardised_inputs_negate_it": "With pixels in [0, 1]",
        "he_weights_break_the_promise": "With He's weights",
    }
    for name, words in shares.items():
        if name in decisions:
            sentences.append(f"{words} the layers inside are {_percent(decisions[name], 'share')}.")
    return " ".join(sentences)


def _how_long(decisions: Mapping[str, Decision]) -> str:
    if _LASTS not in decisions:
        return ""
    lasts = decisions[_LASTS]
    sentences = [
        _LASTS_WORDS[lasts.word],
        f"Of the layers of networks that learned, {_percent(lasts, 'share')} are inside at the end"
        f"{_range(lasts, 'share')}.",
    ]
    numbers = lasts.numbers
    if numbers.get("started"):
        sentences.append(
            f"Of {numbers['started']:.0f} networks that were inside at first, "
            f"{numbers['stayed']:.0f} were so throughout."
        )
    if "median_left_step" in numbers:
        step = numbers["median_left_step"]
        sentences.append(f"Half of the others were outside at the probe of step {step:.0f}.")
    return " ".join(sentences)


def _matters(decisions: Mapping[str, Decision]) -> str:
    sentences = []
    if _REPAIRS in decisions:
        repairs = decisions[_REPAIRS].numbers
        sentences.append(
            f"Of {repairs['repairs']:.0f} repairs in a setting that put layers back, "
            f"{repairs['helped']:.0f} brought accuracy, {repairs['did_not_help']:.0f} did not and "
            f"{repairs['undecided']:.0f} stayed undecided; the largest gain is "
            f"{_signed(decisions[_REPAIRS], 'most', 'most_low', 'most_high')}."
        )
    if _COSTS in decisions:
        effect = _signed(decisions[_COSTS], "effect_of_all_layers", "all_low", "all_high")
        sentences.append(
            "Among networks that learned, all layers inside at the end instead of none goes with "
            f"{effect} in accuracy, the settings being equal."
        )
    if _LIMIT in decisions and not math.isnan(decisions[_LIMIT].numbers["margin_area"]):
        limit = decisions[_LIMIT]
        told = (
            "The stability margin tells SELU networks that train at all from those that do not "
            f"with an area under the ROC curve of {_area(limit, 'margin')}"
        )
        if "promise_area" in limit.numbers:
            told += f", the share of layers inside at first with {_area(limit, 'promise')}"
        sentences.append(f"{told}.")
    arms = {
        "tuned_selu_beats_tuned_relu": "ReLU",
        "tuned_selu_replaces_batch_norm": "ReLU with batch normalization",
    }
    for name, other in arms.items():
        if name in decisions:
            tuned = decisions[name]
            sentences.append(
                f"SELU minus {other}, each tuned, is {_difference(tuned)} in test accuracy, the "
                f"mean of {_tasks(tuned)}{_range(tuned, 'difference')}."
            )
    return " ".join([*_matter_words(decisions), *sentences]) if sentences else ""


def _matter_words(decisions: Mapping[str, Decision]) -> list[str]:
    """Returns the verdicts on repairs before training, and on what is lost in training."""
    words = []
    if _REPAIRS in decisions:
        words.append(_REPAIR_WORDS[decisions[_REPAIRS].word])
    if _COSTS in decisions:
        words.append(_COST_WORDS[decisions[_COSTS].word])
    return words or ["It is undecided."]


def _range(decision: Decision, name: str) -> str:
    """Returns the least and the largest row of a decision with their places, in brackets."""
    rows = [row for row in decision.rows if isinstance(row.get(name), float)]
    rows = [row for row in rows if not math.isnan(_number(row, name))]
    if len(rows) < 2:
        return ""
    least = min(rows, key=lambda row: _number(row, name))
    most = max(rows, key=lambda row: _number(row, name))
    ends = []
    for row in (least, most):
        value = _number(row, name)
        text = f"{value:+.3f}" if name == "difference" else f"{100 * value:.0f} %"
        labels = [label for label in row if not label.startswith(name)]
        words = [f"{label} {row[label]}" if label in _NUMBERED else row[label] for label in labels]
        ends.append(f"{text} at {', '.join(map(str, words))}")
    return f" (from {ends[0]}, to {ends[1]})"


def _number(row: Mapping[str, object], name: str) -> float:
    value = row[name]
    assert isinstance(value, (int, float))
    return float(value)


def _percent(decision: Decision, name: str) -> str:
    value, low, high = (100 * decision.numbers[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _difference(decision: Decision) -> str:
    return _signed(decision, "difference", "difference_low", "difference_high")


def _signed(decision: Decision, value: str, low: str, high: str) -> str:
    estimate, least, most = (decision.numbers[name] for name in (value, low, high))
    return f"{estimate:+.3f} [{least:+.3f}, {most:+.3f}]"


def _tasks(decision: Decision) -> str:
    """Returns how many tasks the mean of a difference is over."""
    counted, rows = decision.numbers["tasks"], len(decision.rows)
    if counted == rows:
        return f"all {rows} tasks"
    return f"the {counted:.0f} of {rows} tasks that all counted seeds have"


def _area(decision: Decision, name: str) -> str:
    ends = ("", "_low", "_high")
    value, low, high = (decision.numbers[f"{name}_area{end}"] for end in ends)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
