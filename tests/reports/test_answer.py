"""The answer to three questions, from decided claims."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import RequestError
from harness.reports import answer_chapters
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
        (SUPPORTED, "Before training they hold, as averages over the units of a layer. With"),
        (CONDITIONAL, "Before training they hold, as averages over the units of a layer, though"),
        (REFUTED, "Even before training they hold in fewer than nine of ten layers. With"),
        (UNDECIDED, "It is undecided whether they hold before training. With"),
    ],
)
def test_the_first_answer_begins_with_the_verdict(word, start):
    rows = (
        {"depth": 8, "width": 32, "share": 0.6, "share_low": 0.5, "share_high": 0.7},
        {"depth": 8, "width": 512, "share": 1.0, "share_low": 0.9, "share_high": 1.0},
    )
    pooled = dataclasses.replace(share(word), rows=rows)
    found = answer(decided(pooled_moments_hold_at_initialisation=pooled))
    assert found.when.startswith(start)
    assert (
        "90.0 % [85.0, 95.0] (from 60 % at depth 8, width 32, to 100 % at depth 8, width 512)"
        in (found.when)
    )
    assert found.how_long == found.matters == ""


@pytest.mark.parametrize(
    "repairs, costs, start",
    [
        (SUPPORTED, SUPPORTED, "It matters whether they hold before training. Losing them in "),
        (CONDITIONAL, REFUTED, "It can matter whether they hold before training. Losing them in "),
        (REFUTED, UNDECIDED, "Whether they hold before training matters less than 0.01 of accu"),
        (UNDECIDED, REFUTED, "It is undecided whether it matters that they hold before training"),
    ],
)
def test_what_matters_follows_from_two_claims(repairs, costs, start):
    effect = {"effect_of_all_layers": 0.002, "all_low": -0.001, "all_high": 0.005}
    area = {"margin_area": 0.95, "margin_area_low": 0.93, "margin_area_high": 0.97}
    promise = {"promise_area": 0.6, "promise_area_low": 0.5, "promise_area_high": 0.7}
    mended = {"repairs": 4, "helped": 2, "did_not_help": 1, "undecided": 1}
    mended |= {"most": 0.8, "most_low": 0.7, "most_high": 0.9}
    found = answer(
        decided(
            repairs_bring_accuracy=Decision(repairs, "a sentence", mended),
            losing_it_costs_accuracy=Decision(costs, "a sentence", effect),
            the_stability_limit_decides=Decision(SUPPORTED, "a sentence", area | promise),
        )
    )
    assert found.matters.startswith(start)
    assert (
        "Of 4 repairs in a setting that put layers back, 2 brought accuracy, 1 did not and 1 "
        "stayed undecided; the largest gain is +0.800 [+0.700, +0.900]."
    ) in found.matters
    assert "+0.002 [-0.001, +0.005] in accuracy" in found.matters
    assert "0.95 [0.93, 0.97], the share of layers inside at first with 0.60 [0.50, 0.70]" in (
        found.matters
    )


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
    assert found.when.startswith(
        "Before training they hold, as averages over the units of a layer. "
    )
    assert found.how_long.startswith("They do not last through training. ")
    assert "Of 10 networks that were inside at first, 0 were so throughout." in found.how_long
    assert "Half of the others were outside at the probe of step 25" in found.how_long


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


def test_networks_that_keep_their_normalization_are_not_said_to_be_missing_without_a_reason(sweep):
    def first_text(evidence):
        return answer_chapters.answer(evidence, decide_all(evidence)).blocks[0].text

    missing = "SELU with LeCun's weights and normalization=none is not among these trials."
    stack = sweep.add(range(3), normalization="batch").evidence()
    assert first_text(stack) == missing
    named = sweep.add(range(3), normalization="own", architecture="my_nets:ConvNet").evidence()
    assert first_text(named).startswith(f"{missing} Networks by name keep a normalization")
