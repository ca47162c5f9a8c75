"""Tables that are cut down for handing on keep what claims and reports need."""

from __future__ import annotations

import dataclasses

import numpy
import pandas
import pyarrow
import pytest

from harness.probes.histogram_bins import COUNT_COLUMNS
from harness.store.reduction import reduced
from harness.store.tables import Tables


@pytest.fixture
def tables() -> Tables:
    """Three trials of two seeds, one of them a tuning trial, with two layers at two probes."""
    trials = pandas.DataFrame(
        {
            "trial_id": ["a", "b", "c"],
            "seed": [0, 1, 0],
            "status": "done",
            "ended": "2026-01-01",
            "search_role": ["", "confirmation", "tuning"],
        }
    )
    rows = []
    for trial_id in "abc":
        for step, phase in ((0, "init"), (9, "end")):
            for layer in (1, 2):
                rows.append(
                    {
                        "trial_id": trial_id,
                        "step": step,
                        "phase": phase,
                        "layer": layer,
                        "activation_variance": 0.123456,
                        "tau_mean": 12345.6,
                        "unit_wasserstein_q90": 0.5,
                        "score_moments": numpy.inf,
                        "score_units": 1.0,
                    }
                )
    layers = pandas.DataFrame(rows)
    keys = layers[["trial_id", "step", "phase", "layer"]]
    counts = keys.assign(**dict.fromkeys(COUNT_COLUMNS, 1))
    curves = pandas.DataFrame({"trial_id": list("abc"), "train_loss": [0.1234567, 1.0, 2.0]})
    return Tables(trials, curves, layers, pyarrow.Table.from_pandas(counts, preserve_index=False))


def test_layers_of_tuning_and_columns_without_use_are_left_out(tables):
    found = reduced(tables)
    assert set(found.layers["trial_id"]) == {"a", "b"}
    assert list(found.layers) == [
        "trial_id",
        "step",
        "phase",
        "layer",
        "score_moments",
        "activation_variance",
        "tau_mean",
    ]
    pandas.testing.assert_frame_equal(found.trials, tables.trials)
    assert found.curves.to_dict("list") == {"trial_id": ["a", "b"], "train_loss": [0.1235, 1.0]}


def test_numbers_have_four_digits_and_stand_where_they_are_needed(tables):
    layers = reduced(tables).layers
    start = layers[layers["phase"] == "init"]
    end = layers[layers["phase"] == "end"]
    assert (layers["activation_variance"] == 0.1235).all()
    assert (start["tau_mean"] == 12350.0).all()
    assert end["tau_mean"].isna().all()
    further = tables.trials.assign(seed=tables.trials["seed"] + 5)
    of_further_seeds = reduced(dataclasses.replace(tables, trials=further)).layers
    at_end = of_further_seeds["phase"] == "end"
    assert of_further_seeds["activation_variance"][at_end].isna().all()
    assert (of_further_seeds["activation_variance"][~at_end] == 0.1235).all()


@pytest.mark.parametrize(
    "score, kept", [(0.0, 0.5), (1.0, 0.5), (1.01, 1.5), (2.0, 1.5), (2.1, 3.0), (numpy.inf, 3.0)]
)
def test_a_score_keeps_its_word(tables, score, kept):
    layers = tables.layers.assign(score_moments=score)
    assert (
        reduced(dataclasses.replace(tables, layers=layers)).layers["score_moments"] == kept
    ).all()
    unknown = dataclasses.replace(tables, layers=tables.layers.assign(score_moments=numpy.nan))
    assert reduced(unknown).layers["score_moments"].isna().all()


def test_histograms_are_those_of_one_seed(tables):
    found = reduced(tables).histograms
    assert set(found["trial_id"].to_pylist()) == {"a"}
    assert found.num_rows == 4
