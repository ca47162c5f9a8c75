"""All claims together: declarations, missing data, formats, and rates of false answers."""

from __future__ import annotations

import json
import math

import numpy
import pandas
import pytest

from harness.configuration.schema import CONF_DIR
from harness.reports import claim_texts
from harness.reports.claims import deciding
from harness.reports.claims.claim import (
    CONDITIONAL,
    NOT_ENOUGH_DATA,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    WORDS,
    Decision,
    NotEnoughData,
    claim,
    claims,
    decide_all,
)
from harness.reports.claims.selection import RECIPE, balanced, paired, select
from harness.reports.statistics import Interval

NEEDS_NO_TRIAL = {"the_formula_is_selu"}


def test_claims_are_declared_once_with_all_that_a_reader_needs():
    declared = claims()
    assert len(declared) >= 20
    assert [entry.name for entry in claims()] == [entry.name for entry in declared]
    for entry in declared:
        assert entry.text.endswith(".")
        assert entry.source
        assert entry.matters
    with pytest.raises(ValueError, match="declared twice"):
        claim("Again.", source="", matters="", experiment="")(named(declared[0].name))


def test_every_claim_has_a_preset_that_fills_its_cells():
    for entry in claims():
        assert (CONF_DIR / "experiment" / f"{entry.experiment}.yaml").is_file(), entry.name


def named(name: str):
    def decide(evidence):
        pytest.fail("a declaration decided something")

    decide.__name__ = name
    return decide


def test_missing_cells_name_the_command_that_fills_them(sweep):
    evidence = sweep.add([0], activation="tanh", initializer="orthogonal").evidence()
    for entry in decide_all(evidence):
        if entry.claim.name in NEEDS_NO_TRIAL:
            continue
        assert entry.decision.word == NOT_ENOUGH_DATA, entry.claim.name
        assert entry.claim.command in entry.decision.sentence
        assert not entry.decision.numbers


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_decide_nothing(sweep, seeds):
    """Every cell that claims ask for, with too few seeds."""
    for initializer in ("lecun_normal", "he_normal", "lecun_exact", "xavier_normal"):
        sweep.add(range(seeds), initializer=initializer, depth=[8, 16])
    sweep.add(range(seeds), activation="relu", initializer="he_normal", depth=[8, 16])
    sweep.add(range(seeds), dropout=["alpha_0.05", "standard_0.05"])
    sweep.add(range(seeds), preprocessing=["none", "raw"], depth=16)
    sweep.add(range(seeds), initializer="he_normal", repair="lsuv")
    for trial in sweep.trials:
        trial["search_role"] = "confirmation"
        trial["share_moments_init"] = 0.5
    words = {entry.decision.word for entry in decide_all(sweep.evidence())[1:]}
    assert words <= {NOT_ENOUGH_DATA, UNDECIDED}


def test_formats_agree(sweep):
    sweep.add(depth=[4, 8], share_moments_init=sweep.near(0.97))
    decided = decide_all(sweep.evidence())
    records = json.loads(claim_texts.as_json(decided))
    text = claim_texts.as_text(decided)
    markdown = claim_texts.as_markdown(decided)
    table = claim_texts.as_table(decided)
    assert [record["name"] for record in records] == table["name"].tolist()
    for record in records:
        assert record["verdict"] in WORDS
        assert record["name"] in text
        assert record["verdict"] in markdown
    by_name = {record["name"]: record for record in records}
    held = by_name["pooled_moments_hold_at_initialisation"]
    assert held["verdict"] == SUPPORTED
    assert len(held["rows"]) == 2
    assert "### pooled_moments_hold_at_initialisation" in markdown


def test_json_has_no_nan():
    entry = claim_texts.DecidedClaim(claims()[0], Decision(UNDECIDED, "so", {"x": math.nan}))
    assert json.loads(claim_texts.as_json([entry]))[0]["numbers"] == {"x": None}
    assert "NaN" not in claim_texts.as_json([entry])


def test_markdown_keeps_names_out_of_its_own_signs():
    row = {"name": "a|b", "value": 0.123456}
    entry = claim_texts.DecidedClaim(claims()[0], Decision(UNDECIDED, "<b>", {}, (row,)))
    text = claim_texts.as_markdown([entry])
    assert "a\\|b" in text
    assert "<b>" not in text


def test_selection_takes_values_lists_and_roles(sweep):
    sweep.add(depth=[4, 8]).add(initializer="he_normal")
    sweep.add([1000000], search_role="tuning")
    evidence = sweep.evidence()
    assert len(select(evidence, RECIPE)) == 10
    assert len(select(evidence, {**RECIPE, "initializer": ("lecun_normal", "he_normal")})) == 15
    assert len(select(evidence, RECIPE, tuning=True)) == 11
    assert len(select(evidence, {"an_axis_of_another_version": 1})) == 15


def test_pairs_have_everything_equal_but_the_arm(sweep):
    sweep.add(depth=[4, 8], learning_rate=[0.01, 0.1])
    sweep.add(initializer="he_normal", depth=[4, 8], learning_rate=[0.01, 0.3], test_accuracy=0.9)
    pairs = paired(sweep.evidence(), RECIPE, {**RECIPE, "initializer": "he_normal"})
    assert set(pairs["learning_rate"]) == {0.01}
    assert len(pairs) == 10
    assert pairs["difference"].tolist() == pytest.approx([0.05] * 10)


def test_tuned_arms_are_paired_across_their_rates(sweep):
    sweep.add(learning_rate=0.01, search_role="confirmation")
    sweep.add(initializer="he_normal", learning_rate=0.1, search_role="confirmation")
    he_weights = {**RECIPE, "initializer": "he_normal"}
    assert len(paired(sweep.evidence(), RECIPE, he_weights, role="confirmation")) == 5
    assert not len(paired(sweep.evidence(), RECIPE, he_weights))


def test_means_over_tasks_have_every_task_in_every_seed():
    table = pandas.DataFrame({"seed": [0, 1, 2, 3, 0, 1, 2], "depth": [4] * 4 + [8] * 3, "x": 1.0})
    assert balanced(table, "x", ["depth"], "it").shape == (3, 2)
    lonely = table[(table["depth"] == 4) | (table["seed"] == 0)]
    assert balanced(lonely, "x", ["depth"], "it").shape == (4, 1)
    with pytest.raises(NotEnoughData, match="fewer than 3 seeds of it"):
        balanced(table[table["seed"] < 2], "x", ["depth"], "it")


def words_of_simulations(truth: float, draws: int = 200) -> list[str]:
    """The words of one truth in eight tasks of five seeds, with a margin of 0.01."""
    generator = numpy.random.default_rng(5)
    level = deciding.row_level(8)
    words = []
    for _ in range(draws):
        differences = generator.normal(truth, 0.01, (8, 5))
        rows = []
        for task in differences:
            rows.append(deciding.Row({}, deciding.difference_interval(task, level)))
        overall = deciding.difference_interval(differences.mean(axis=0))
        words.append(deciding.judge_rows(overall, rows, 0.01)[0])
    return words


def test_a_difference_at_the_margin_is_rarely_decided():
    words = words_of_simulations(0.01)
    assert words.count(SUPPORTED) / len(words) <= 0.06
    assert words.count(REFUTED) / len(words) <= 0.06
    assert words.count(CONDITIONAL) / len(words) <= 0.03


@pytest.mark.parametrize("truth, wrong", [(0.02, REFUTED), (0.0, SUPPORTED)])
def test_equal_tasks_are_rarely_called_different(truth, wrong):
    words = words_of_simulations(truth)
    assert words.count(CONDITIONAL) <= 2
    assert words.count(wrong) == 0


def test_few_equal_differences_are_undecided():
    pairs = pandas.DataFrame({"dataset": "d", "depth": 8, "width": 1, "seed": range(3)})
    pairs = pairs.assign(difference=0.02, diverged_arm=False, diverged_baseline=False)
    found = deciding.decide_pairs(pairs, ("a", "b"), 0.01, "tuned")
    assert found.word == UNDECIDED
    assert math.isnan(found.numbers["difference_low"])


def test_a_range_is_told_only_between_different_numbers():
    rows = [
        deciding.Row({"initializer": name}, Interval(value, 0.4, 0.9, 3))
        for name, value in (("he_normal", 0.5), ("lecun_normal", 0.5))
    ]
    assert deciding.range_words(rows, deciding.percent) == ""
    rows.append(deciding.Row({"initializer": "orthogonal"}, Interval(0.75, 0.4, 0.9, 3)))
    told = deciding.range_words(rows, deciding.percent)
    assert told.startswith("from 50.0 % [40.0, 90.0] at he_normal to 75.0 %")


def test_the_interval_of_a_share_stays_inside_0_and_1():
    mixed = deciding.share_interval(pandas.Series([1.0, 1.0, 0.9, 1.0]), 4)
    assert 0 <= mixed.low < mixed.high <= 1
    equal = deciding.share_interval(pandas.Series([1.0] * 10), 10)
    assert equal.low == pytest.approx(0.722, abs=0.001)  # Wilson's of 10 of 10
    assert equal.high == 1.0


def test_an_interval_without_ends_decides_nothing():
    assert deciding.judge(Interval(1.0, math.nan, math.nan, 1), 0.9) == UNDECIDED
