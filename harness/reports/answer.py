"""The answer in three sentences, made from decided claims.

When do SELU's assumptions hold, how long do they last, and does it matter? Each sentence begins
with the verdict of a claim in words, and every number in it is a claim's own, with its interval.
"""

from __future__ import annotations

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
_WHEN_WORDS = {
    SUPPORTED: "At initialisation, as averages over the units of a layer",
    CONDITIONAL: "At initialisation, as averages over the units of a layer, in some networks",
    REFUTED: "Not in every network even at initialisation",
    UNDECIDED: "At initialisation it is undecided",
}
_LASTS_WORDS = {
    SUPPORTED: "Through training",
    CONDITIONAL: "Through training in some networks",
    REFUTED: "Not through training",
    UNDECIDED: "Undecided",
}


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
        f"with LeCun's weights and inputs standardised as a whole {_percent(pooled, 'share')} of "
        "the layers keep their mean and variance in the domain of Theorem 1"
    ]
    if "pixels_standardised_alone_keep_the_promise" in decisions:
        alone = decisions["pixels_standardised_alone_keep_the_promise"]
        parts.append(f"with every pixel standardised {_percent(alone, 'share')}")
    if "lecun_weights_meet_the_premise" in decisions:
        weights = decisions["lecun_weights_meet_the_premise"]
        parts.append(f"{_percent(weights, 'share')} of the units meet its premise on weights")
    if "single_units_are_normalised" in decisions:
        units = decisions["single_units_are_normalised"]
        parts.append(f"{_percent(units, 'share')} of the units keep their own moments there")
    if "he_weights_break_the_promise" in decisions:
        he_weights = decisions["he_weights_break_the_promise"]
        parts.append(f"with He's weights {_percent(he_weights, 'share')} of the layers do")
    if "unstandardised_inputs_negate_it" in decisions:
        pixels = decisions["unstandardised_inputs_negate_it"]
        parts.append(f"with pixels in [0, 1] {_percent(pixels, 'all')}")
    return _sentence(_WHEN_WORDS[pooled.word], parts)


def _how_long(decisions: Mapping[str, Decision]) -> str:
    if _LASTS not in decisions:
        return ""
    lasts = decisions[_LASTS]
    parts = [
        f"of the layers of networks that learned, {_percent(lasts, 'share')} are inside at the end"
    ]
    if "stayed" in lasts.numbers:
        parts.append(
            f"{_percent(lasts, 'stayed')} of the networks that were inside at first were so at "
            "every probe"
        )
    if "median_left_share_of_steps" in lasts.numbers:
        share = lasts.numbers["median_left_share_of_steps"]
        parts.append(f"half of the others were outside by {100 * share:.1f} % of their steps")
    return _sentence(_LASTS_WORDS[lasts.word], parts)


def _matters(decisions: Mapping[str, Decision]) -> str:
    parts = []
    if _COSTS in decisions:
        costs = decisions[_COSTS]
        effect = _signed(costs, "effect_of_all_layers", "all_low", "all_high")
        parts.append(
            "among networks that learned, all layers inside at the end instead of none goes with "
            f"{effect} in accuracy, settings held"
        )
    if _LIMIT in decisions:
        limit = decisions[_LIMIT]
        told = (
            f"the stability margin tells which deep networks train (area {_area(limit, 'margin')}"
        )
        if "promise" in limit.numbers:
            told += f", the share of layers inside {_area(limit, 'promise')}"
        parts.append(f"{told})")
    arms = {
        "tuned_selu_beats_tuned_relu": "ReLU",
        "tuned_selu_replaces_batch_norm": "ReLU with batch normalization",
    }
    differences = []
    for name, other in arms.items():
        if name in decisions:
            differences.append(f"{_difference(decisions[name])} over {other}")
    if differences:
        parts.append(
            f"with a learning rate tuned for each, SELU gains {' and '.join(differences)} in test "
            "accuracy"
        )
    return _sentence(_matter_words(decisions), parts) if parts else ""


def _matter_words(decisions: Mapping[str, Decision]) -> str:
    """Returns the verdict on whether losing the promise decides the outcome.

    Networks that learned and did not stay inside show that learning does not need the promise; the
    regression among them says whether accuracy does.
    """
    costs = decisions[_COSTS].word if _COSTS in decisions else UNDECIDED
    lasts = decisions[_LASTS].word if _LASTS in decisions else UNDECIDED
    if costs == SUPPORTED:
        return "For accuracy it does" if lasts == REFUTED else "Yes"
    if lasts == REFUTED:
        if costs == REFUTED:
            return "Little, as networks learn without them and lose no accuracy by it"
        return "Not for learning, and for accuracy it is undecided"
    return "Not for accuracy" if costs == REFUTED else "Undecided"


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
