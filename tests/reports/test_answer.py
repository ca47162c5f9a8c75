"""The answer in three sentences, from decided claims."""

from __future__ import annotations

import pytest

from harness.errors import RequestError
from harness.reports.answer import Answer, answer
from harness.reports.answer_page import answer_text, with_answer
from harness.reports.claims.claim import (
    CONDITIONAL,
    NOT_ENOUGH_DATA,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    DecidedClaim,
    Decision,
    claims,
    decide_all,
)

CLAIMS = {claim.name: claim for claim in claims()}


def decided(**decisions: Decision) -> list[DecidedClaim]:
    return [DecidedClaim(CLAIMS[name], decision) for name, decision in decisions.items()]


def share(word: str, name: str = "share", value: float = 0.9) -> Decision:
    numbers = {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}
    return Decision(word, "a sentence", numbers)


@pytest.mark.parametrize(
    "word, start",
    [
        (SUPPORTED, "At initialisation, as averages over the units of a layer: "),
        (CONDITIONAL, "At initialisation, as averages over the units of a layer, in some networks"),
        (REFUTED, "Not in every network even at initialisation: "),
        (UNDECIDED, "At initialisation it is undecided: "),
    ],
)
def test_the_first_sentence_begins_with_the_verdict(word, start):
    found = answer(decided(pooled_moments_hold_at_initialisation=share(word)))
    assert found.when.startswith(start)
    assert "90.0 % [85.0, 95.0] of the layers" in found.when
    assert found.how_long == found.matters == ""


@pytest.mark.parametrize(
    "costs, lasts, start",
    [
        (SUPPORTED, SUPPORTED, "Yes: "),
        (SUPPORTED, REFUTED, "For accuracy it does: "),
        (REFUTED, REFUTED, "Little, as networks learn without them and lose no accuracy by it: "),
        (UNDECIDED, REFUTED, "Not for learning, and for accuracy it is undecided: "),
        (REFUTED, CONDITIONAL, "Not for accuracy: "),
        (UNDECIDED, SUPPORTED, "Undecided: "),
    ],
)
def test_what_matters_follows_from_two_claims(costs, lasts, start):
    effect = {"effect_of_all_layers": 0.002, "all_low": -0.001, "all_high": 0.005}
    area = {"margin_area": 0.95, "margin_area_low": 0.93, "margin_area_high": 0.97}
    found = answer(
        decided(
            losing_it_costs_accuracy=Decision(costs, "a sentence", effect),
            self_normalisation_lasts=share(lasts),
            the_stability_limit_decides=Decision(SUPPORTED, "a sentence", area),
        )
    )
    assert found.matters.startswith(start)
    assert "+0.002 [-0.001, +0.005] in accuracy" in found.matters
    assert "(area 0.95 [0.93, 0.97])" in found.matters


def test_claims_without_data_say_nothing():
    missing = Decision(NOT_ENOUGH_DATA, "no trials")
    assert answer(decided(self_normalisation_lasts=missing)) == Answer("", "", "")
    assert answer_text(Answer("", "", "")) == "These trials decide none of the three questions."


def test_sentences_carry_the_numbers_of_a_sweep(sweep):
    sweep.add(
        depth=[4, 32],
        share_moments_init=sweep.near(0.97, 0.005),
        share_moments_end=sweep.near(0.2, 0.01),
        left_step_moments=25.0,
    )
    found = answer(decide_all(sweep.evidence()))
    assert found.when.startswith("At initialisation, as averages over the units of a layer: ")
    assert found.how_long.startswith("Not through training: ")
    assert "half of the others were outside by 5.0 % of their steps" in found.how_long


def test_the_answer_stands_between_the_marks_of_a_page():
    page = "# Title\n<!-- answer:begin -->\nold\n<!-- answer:end -->\n\nrest\n"
    found = Answer("Yes: 1 < 2.", "No.", "")
    new = with_answer(page, found)
    assert new == (
        "# Title\n<!-- answer:begin -->\n**When do they hold?** Yes: 1 &lt; 2.\n\n"
        "**How long?** No.\n<!-- answer:end -->\n\nrest\n"
    )
    assert with_answer(new, found) == new
    with pytest.raises(RequestError, match="answer:begin"):
        with_answer("# Title\n", found)
