"""The answer in three sentences, made from decided claims.

When do SELU's assumptions hold, how long do they last, and does it matter? Each sentence begins
with the verdict of a claim in words, and every number in it is a claim's own, with its interval.
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
    SUPPORTED: "Before training, as averages over the units of a layer",
    CONDITIONAL: "Before training, as averages over the units of a layer, and not in every network",
    REFUTED: "Not in every network even before training",
    UNDECIDED: "Before training it is undecided",
}
_LASTS_WORDS = {
    SUPPORTED: "Through training",
    CONDITIONAL: "Through training at some learning rates",
    REFUTED: "Not through training",
    UNDECIDED: "Undecided",
}
_REPAIR_WORDS = {
    SUPPORTED: "before training they do",
    CONDITIONAL: "before training they can",
    REFUTED: "before training they do not",
    UNDECIDED: "before training it is undecided",
}
_COST_WORDS = {
    SUPPORTED: "losing them in training costs accuracy",
    REFUTED: "losing them in training costs no accuracy",
    UNDECIDED: "whether losing them in training costs accuracy is undecided",
}
# Labels of rows that are told with their names.
_NUMBERED = ("depth", "width", "rate")


@dataclass(frozen=True)
class Answer:
    """The answer to the three questions, a sentence each; `""` for what is not decided at all."""

    when: str
    how_long: str
    matters: str

    @property
    def by_question(self) -> dict[str, str]:
        """The sentences that there are, by their questions."""
        sentences = {
            "When do they hold?": self.when,
            "How long?": self.how_long,
            "Does it matter?": self.matters,
        }
        return {question: sentence for question, sentence in sentences.items() if sentence}


def answer(decided: Sequence[DecidedClaim]) -> Answer:
    """Returns the answer that decided claims give.

    A claim without enough data adds nothing; a question none of whose claims has data has no
    sentence.
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
    parts = [
        "with LeCun's weights and inputs standardised as a whole, the layers whose mean and "
        f"variance are inside the domain of Theorem 1 are {_percent(pooled, 'share')}"
        f"{_range(pooled, 'share')}"
    ]
    shares = {
        "pixels_standardised_alone_keep_the_promise": "with every pixel standardised",
        "unstandardised_inputs_negate_it": "with pixels in [0, 1]",
        "he_weights_break_the_promise": "with He's weights",
    }
    for name, words in shares.items():
        if name in decisions:
            parts.append(f"{words} they are {_percent(decisions[name], 'share')}")
    units = {
        "lecun_weights_meet_the_premise": "of the units meet the theorem's premise on weights",
        "single_units_are_normalised": "of the units are inside the domain by themselves",
    }
    for name, words in units.items():
        if name in decisions:
            parts.append(f"{_percent(decisions[name], 'share')} {words}")
    return _sentence(_WHEN_WORDS[pooled.word], parts)


def _how_long(decisions: Mapping[str, Decision]) -> str:
    if _LASTS not in decisions:
        return ""
    lasts = decisions[_LASTS]
    parts = [
        f"of the layers of networks that learned, {_percent(lasts, 'share')} are inside at the end"
        f"{_range(lasts, 'share')}"
    ]
    numbers = lasts.numbers
    if numbers.get("started"):
        parts.append(
            f"of {numbers['started']:.0f} networks that were inside at first "
            f"{numbers['stayed']:.0f} were so throughout"
        )
    if "median_left_step" in numbers:
        step = numbers["median_left_step"]
        parts.append(f"half of the others were outside at the probe of step {step:.0f}")
    return _sentence(_LASTS_WORDS[lasts.word], parts)


def _matters(decisions: Mapping[str, Decision]) -> str:
    parts = []
    if _REPAIRS in decisions:
        repairs = decisions[_REPAIRS].numbers
        parts.append(
            f"{repairs['helped']:.0f} of {repairs['repairs']:.0f} repairs that put layers back "
            f"brought accuracy and {repairs['did_not_help']:.0f} did not, the largest change being "
            f"{_signed(decisions[_REPAIRS], 'most', 'most_low', 'most_high')}"
        )
    if _COSTS in decisions:
        effect = _signed(decisions[_COSTS], "effect_of_all_layers", "all_low", "all_high")
        parts.append(
            "among networks that learned, all layers inside at the end instead of none goes with "
            f"{effect} in accuracy, settings held"
        )
    if _LIMIT in decisions and not math.isnan(decisions[_LIMIT].numbers["margin_area"]):
        limit = decisions[_LIMIT]
        told = (
            "the stability margin orders SELU networks that learn and do not "
            f"{_area(limit, 'margin')}"
        )
        if "promise_area" in limit.numbers:
            told += f", the share of layers inside at first {_area(limit, 'promise')}"
        parts.append(f"{told} (area under the ROC curve)")
    arms = {
        "tuned_selu_beats_tuned_relu": "ReLU",
        "tuned_selu_replaces_batch_norm": "ReLU with batch normalization",
    }
    for name, other in arms.items():
        if name in decisions:
            tuned = decisions[name]
            parts.append(
                f"SELU minus {other}, each tuned, is {_difference(tuned)} in test accuracy"
                f"{_range(tuned, 'difference')}"
            )
    return _sentence(_matter_words(decisions), parts) if parts else ""


def _matter_words(decisions: Mapping[str, Decision]) -> str:
    """Returns the verdicts on repairs before training, and on what is lost in training."""
    words = []
    if _REPAIRS in decisions:
        words.append(_REPAIR_WORDS[decisions[_REPAIRS].word])
    if _COSTS in decisions:
        words.append(_COST_WORDS[decisions[_COSTS].word])
    text = "; ".join(words) or "undecided"
    return text[:1].upper() + text[1:]


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
        ends.append(f"{text} at {' '.join(map(str, words))}")
    return f" (from {ends[0]} to {ends[1]})"


def _number(row: Mapping[str, object], name: str) -> float:
    value = row[name]
    assert isinstance(value, (int, float))
    return float(value)


def _sentence(words: str, parts: Sequence[str]) -> str:
    return f"{words}: {'; '.join(parts)}."


def _percent(decision: Decision, name: str) -> str:
    value, low, high = (100 * decision.numbers[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _difference(decision: Decision) -> str:
    return _signed(decision, "difference", "difference_low", "difference_high")


def _signed(decision: Decision, value: str, low: str, high: str) -> str:
    estimate, least, most = (decision.numbers[name] for name in (value, low, high))
    return f"{estimate:+.3f} [{least:+.3f}, {most:+.3f}]"


def _area(decision: Decision, name: str) -> str:
    ends = ("", "_low", "_high")
    value, low, high = (decision.numbers[f"{name}_area{end}"] for end in ends)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
