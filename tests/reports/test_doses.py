"""Trials with changed data are told apart from others of their data set."""

from __future__ import annotations

import dataclasses

import pandas
import pytest

from harness.reports import answer_page, comparisons, share_tables, signal_tables
from harness.reports.claims.claim import CONDITIONAL, REFUTED, SUPPORTED
from harness.reports.claims.selection import RECIPE, paired, select
from harness.reports.prediction import asked, tasks

RELU = {"activation": "relu", "initializer": "he_normal"}
# What the second half of each study has; the first half has its data as they are.
DOSES = {
    "dataset.label_noise": (0.5, "digits, label_noise 0.5"),
    "dataset.pixel_shuffle": (0, "digits, pixel_shuffle 0"),
    "dataset.training_samples": (200, "digits, training_samples 200"),
}


@pytest.fixture(params=DOSES)
def dose(request, sweep):
    """A study in which SELU is ahead on the data as they are, and ReLU on the changed ones."""
    value, name = DOSES[request.param]
    for changes, selu, relu in (({}, 0.95, 0.90), ({request.param: value}, 0.55, 0.70)):
        for arm, accuracy in (({}, selu), (RELU, relu)):
            sweep.add(range(5), **arm, **changes, test_accuracy=sweep.near(accuracy))
    return name


def test_cells_and_comparisons_keep_them_apart(sweep, dose):
    evidence = sweep.evidence()
    assert len(evidence.cells) == 4
    rows = comparisons.paired(evidence).query(f"family == {comparisons.PRACTICE!r}")
    assert rows["context"].nunique() == 2
    assert sorted(rows["difference"]) == pytest.approx([-0.05, 0.15], abs=0.01)


def test_data_are_named_by_the_options_that_differ(sweep, dose):
    evidence = sweep.add(range(5), dataset="mnist").evidence()
    assert sorted(evidence.data.unique()) == sorted(["digits", dose, "mnist"])
    assert set(select(evidence, RECIPE)["dataset"]) == {"digits", dose, "mnist"}
    assert tasks(asked(evidence)).nunique() == 3


def test_pairs_are_of_one_dose(sweep, dose):
    pairs = paired(sweep.evidence(), RECIPE, {**RECIPE, **RELU})
    assert len(pairs) == 10
    means = pairs.groupby("dataset")["difference"].mean()
    assert means["digits"] == pytest.approx(0.05, abs=0.01)
    assert means[dose] == pytest.approx(-0.15, abs=0.01)


def test_a_claim_about_accuracy_names_the_data_where_it_is_true(sweep, dose, decide):
    for trial in sweep.trials:
        trial["search_role"] = "confirmation"
    decision = decide("tuned_selu_beats_tuned_relu")
    assert decision.word == CONDITIONAL
    assert {row["dataset"] for row in decision.rows} == {"digits", dose}
    assert "true at digits depth 8" in decision.sentence
    assert f"false at {dose} depth 8" in decision.sentence


def test_a_claim_about_what_lasts_names_the_data_where_it_is_true(sweep, dose, decide):
    for trial in sweep.trials:
        changed = any(option in trial for option in DOSES)
        trial["share_moments_end"] = sweep.near(0.2 if changed else 0.97)(trial)
    decision = decide("self_normalisation_lasts")
    assert decision.word == CONDITIONAL
    shares = {row["dataset"]: row["share"] for row in decision.rows}
    assert shares == pytest.approx({"digits": 0.97, dose: 0.2}, abs=0.01)


@pytest.mark.parametrize("scaled_gain, word", [(0.0, REFUTED), (0.3, SUPPORTED)])
def test_scaled_weights_are_compared_with_plain_ones_of_their_own_data(
    sweep, decide, scaled_gain, word
):
    noisy = {"dataset.label_noise": 0.5}
    sweep.add(share_moments_init=sweep.near(0.9))
    sweep.add(share_moments_init=sweep.near(0.1), **noisy)
    sweep.add(
        initializer="gaussian",
        share_moments_init=sweep.near(0.1 + scaled_gain),
        **{"initializer.sigma_w2": 1.6732632423543772**2},
        **noisy,
    )
    decision = decide("lecun_needs_an_alpha")
    assert decision.word == word
    assert decision.numbers["gain"] == pytest.approx(scaled_gain, abs=0.01)


def test_figures_have_a_line_for_each(sweep, dose):
    evidence = sweep.evidence()
    curves = pandas.DataFrame(
        {"trial_id": evidence.trials["trial_id"], "epoch": 1.0, "train_loss": 0.1}
    )
    evidence = dataclasses.replace(evidence, curves=curves)
    assert set(signal_tables.training_curves(evidence)["dataset"]) == {"digits", dose}


def test_the_table_of_what_lasts_has_a_row_for_each(sweep, dose):
    table = answer_page._end_table(sweep.evidence())
    assert sorted(table["dataset"]) == sorted(["digits", dose])


def test_shares_over_steps_have_a_line_for_each(sweep):
    layer = {"activation_mean": 0.0, "activation_variance": 1.0}
    sweep.add(range(3), layer=layer).add(range(3), layer=layer, **{"dataset.label_noise": 0.5})
    table = share_tables.duration(sweep.evidence())
    assert set(table["dataset"]) == {"digits", "digits, label_noise 0.5"}
