"""Equivalence of LeCun weights of different distributions with normal ones."""

from __future__ import annotations

from harness.reports.claims.claim import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    NotEnoughData,
)
from harness.reports.claims.deciding import decide_equivalence, opposite
from harness.reports.claims.selection import RECIPE, by_seed, paired
from harness.reports.evidence import Evidence

SHAPES = ("lecun_uniform", "lecun_truncated", "lecun_exact")


def shapes_are_equivalent(
    evidence: Evidence, *, value: str, margin: float, claim_is_equal: bool
) -> Decision:
    """Returns whether every shape is equivalent to normal weights in a value, paired by seed.

    Args:
        evidence: the trials.
        value: the column that is compared.
        margin: the largest difference that does not matter.
        claim_is_equal: the claim says that they are the same; otherwise that they differ.

    Raises:
        NotEnoughData: no other shape was run, or one with too few seeds.
    """
    trials = evidence.finished
    shapes = [shape for shape in SHAPES if (trials["initializer"] == shape).any()]
    decisions = {}
    for shape in shapes:
        pairs = paired(evidence, {**RECIPE, "initializer": shape}, RECIPE, value=value)
        label = f"{shape} minus lecun_normal"
        if not len(pairs):
            continue
        means = by_seed(pairs, "difference", label)
        decisions[shape] = decide_equivalence(means, margin, label, len(shapes))
    if not decisions:
        raise NotEnoughData(f"no pairs of LeCun weights of two distributions with {value}")
    rows = []
    for shape, decision in decisions.items():
        rows.append({"initializer": shape, "equivalent": decision.word, **decision.numbers})
    words = [decision.word for decision in decisions.values()]
    word = _combined(words)
    largest = max(decisions.values(), key=lambda decision: abs(decision.numbers["difference"]))
    sentence = f"largest difference: {largest.sentence}"
    if word == CONDITIONAL:
        equal = [shape for shape, found in decisions.items() if found.word == SUPPORTED]
        apart = [shape for shape, found in decisions.items() if found.word == REFUTED]
        sentence += f"; the same: {', '.join(equal)}; not the same: {', '.join(apart)}"
    combined = Decision(word, sentence, largest.numbers, tuple(rows))
    return combined if claim_is_equal else opposite(combined)


def _combined(words: list[str]) -> str:
    """Returns the word for all shapes: the same only if each is, undecided if any may be."""
    if all(word == SUPPORTED for word in words):
        return SUPPORTED
    if REFUTED in words:
        return CONDITIONAL if SUPPORTED in words else REFUTED
    return UNDECIDED
