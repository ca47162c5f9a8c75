"""Published numbers beside those of the trials that repeat them."""

from __future__ import annotations

import dataclasses
import re

import pandas
import pytest

from harness.configuration.schema import CONF_DIR
from harness.reports.claims.claim import decide_all
from harness.reports.evidence import gather
from harness.reports.publications import PUBLISHED, comparison
from harness.reports.published_chapters import published

TUTORIAL = next(entry for entry in PUBLISHED if "tutorial" in entry.name)
GAIN = next(entry for entry in PUBLISHED if entry.position == "layer")


def axes_of(publication) -> dict:
    return {name: value for name, value in publication.arm.items() if not isinstance(value, tuple)}


def test_training_losses_stand_beside_those_of_the_tutorial(sweep):
    sweep.add(range(3), **axes_of(TUTORIAL))
    rows = []
    for trial in sweep.trials:
        rows.append({"trial_id": trial["trial_id"], "epoch": 0.0, "train_loss": float("nan")})
        for epoch, loss in TUTORIAL.values.items():
            factor = 1.0 + 0.02 * (trial["seed"] - 1)
            rows.append(
                {"trial_id": trial["trial_id"], "epoch": float(epoch), "train_loss": loss * factor}
            )
    evidence = dataclasses.replace(sweep.evidence(), curves=pandas.DataFrame(rows))
    table = comparison(evidence, TUTORIAL)
    assert list(table["epoch"]) == list(range(1, 16))
    assert table["ratio"].to_numpy() == pytest.approx(1.0)
    assert (table["low"] < table["ours"]).all()
    assert (table["seeds"] == 3).all()
    chapter = published(evidence)
    assert "differs by at most 0.0 % over 15 numbers, mean of 3 seeds" in chapter.blocks[1].text


@pytest.mark.parametrize("dose", [{"dataset.label_noise": 0.2}, {"dataset.pixel_shuffle": 0}])
def test_changed_data_are_not_compared_with_published_numbers(sweep, dose):
    sweep.add(range(3), **axes_of(TUTORIAL)).add(range(3), **axes_of(TUTORIAL), **dose)
    rows = []
    for trial in sweep.trials:
        loss = 0.3 if set(dose) <= set(trial) else 0.1
        rows += [{"trial_id": trial["trial_id"], "epoch": 1.0, "train_loss": loss}]
    evidence = dataclasses.replace(sweep.evidence(), curves=pandas.DataFrame(rows))
    assert comparison(evidence, TUTORIAL)["ours"].tolist() == [pytest.approx(0.1)]


@pytest.mark.parametrize("name", ["SELU", "RELU"])
def test_accuracies_stand_beside_those_of_the_authors_in_percent(sweep, name):
    entry = next(entry for entry in PUBLISHED if entry.name.upper().startswith(f"{name} IN"))
    sweep.add(range(3), **axes_of(entry))
    rows = [
        {"trial_id": trial["trial_id"], "epoch": float(epoch), "validation_accuracy": 0.9}
        for trial in sweep.trials
        for epoch in entry.values
    ]
    evidence = dataclasses.replace(sweep.evidence(), curves=pandas.DataFrame(rows))
    table = comparison(evidence, entry).set_index("epoch")
    assert len(table) == 20
    assert table.loc[20, "ratio"] == pytest.approx(90 / entry.values[20])


def test_deviations_stand_beside_those_of_a_hundred_layers(sweep):
    deviation = GAIN.values[91]
    sweep.add(
        range(3), steps=0.0, layer={"activation_variance": (2 * deviation) ** 2}, **axes_of(GAIN)
    )
    table = comparison(sweep.evidence(), GAIN).set_index("layer")
    assert list(table.index) == list(range(1, 100, 10))
    assert table.loc[91, "ratio"] == pytest.approx(2.0)


def test_other_trials_repeat_nothing(sweep):
    sweep.add()
    assert not len(comparison(sweep.evidence(), TUTORIAL))
    assert (
        "None of these trials repeats a publication" in published(sweep.evidence()).blocks[0].text
    )


@pytest.mark.parametrize("name", [entry.experiment for entry in PUBLISHED])
def test_numbers_stand_in_the_experiment_that_repeats_them(name):
    text = (CONF_DIR / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    (entry,) = [entry for entry in PUBLISHED if entry.experiment == name]
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line[:1] == "#")
    written = [float(number) for number in re.findall(r"\d*\.\d+", comment)]
    values = list(entry.values.values())
    starts = range(len(written) - len(values) + 1)
    assert any(written[start : start + len(values)] == values for start in starts)


def test_axes_that_are_numbers_stay_numbers_beside_a_list_of_widths(sweep):
    sweep.add(range(3), width=[64, 256], share_moments_init=sweep.near(0.97))
    sweep.add(range(3), width="512-256", dropout="alpha_0.05")
    evidence = sweep.evidence()
    tables = sweep.tables()
    assert evidence.levels("width") == [64, 256, "512-256"]
    # A store's table has such a column as text.
    as_text = dataclasses.replace(
        tables, trials=tables.trials.assign(width=tables.trials["width"].astype(str))
    )
    assert gather(as_text).levels("width") == [64, 256, "512-256"]
    decided_by_numbers = {entry.claim.name: entry.decision for entry in decide_all(evidence)}
    decided_by_text = {entry.claim.name: entry.decision for entry in decide_all(gather(as_text))}
    name = "pooled_moments_hold_at_initialisation"
    assert decided_by_text[name] == decided_by_numbers[name]
    assert [row["width"] for row in decided_by_text[name].rows] == [64, 256]
