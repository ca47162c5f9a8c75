"""The chapters on prediction, association and intervention: does it matter?"""

from __future__ import annotations

import pandas

from harness.reports import (
    associations,
    forest_figures,
    interventions,
    matter_figures,
    prediction,
    roc_curves,
)
from harness.reports.chapter import (
    Block,
    Chapter,
    Heading,
    Picture,
    Table,
    Text,
    interval_texts,
    number_text,
)
from harness.reports.evidence import Evidence


def matter(evidence: Evidence) -> Chapter:
    """Returns the chapter on what decides the outcome."""
    title = "Does it matter"
    if not evidence.trained:
        return Chapter("matter", title, (Text("No trial took a step, so nothing was decided."),))
    tables: dict[str, pandas.DataFrame] = {}
    blocks = [
        *_prediction(evidence, tables),
        *_association(evidence, tables),
        *_intervention(evidence, tables),
    ]
    return Chapter("matter", title, tuple(blocks), tables)


def _prediction(evidence: Evidence, tables: dict[str, pandas.DataFrame]) -> list[Block]:
    blocks: list[Block] = [Heading("Prediction: which trials train")]
    areas = prediction.areas(evidence)
    stability = Picture(
        lambda: matter_figures.stability(prediction.asked(evidence)),
        "A point is a trial. The margin is the learning rate times the sharpness at "
        "initialisation over the largest stable value, so that beyond 1 gradient descent on the "
        "quadratic approximation is unstable.",
    )
    if not len(areas):
        text = "All trials train, or none does, or it is not known: nothing can be predicted."
        return [*blocks, Text(text), stability]
    tables["prediction_areas"] = areas
    misses = prediction.worst_misses(evidence)
    blocks += [
        Picture(
            lambda: forest_figures.forest(
                _area_lines(areas), "area under the ROC curve", reference=0.5
            ),
            "Each line is something known before training. The area is the probability that a "
            "trial that trains has the higher score of two; 0.5 is a coin, 1 is certainty. Bars "
            "are 95 % intervals in which cells are the replicates. A predictor that does no better "
            "than the controls says nothing of its own.",
        ),
        Picture(
            lambda: matter_figures.roc_curves(roc_curves.best_curves(evidence, areas)),
            "ROC curves of the best predictors over all trials: the higher above the diagonal, the "
            "better the score tells trials that train from those that do not.",
        ),
        stability,
        Table(
            prediction.rule_calibration(evidence).map(number_text),
            "Calibration of the trainability rule, which has no fitted parameters: by ranges of its "
            "worst criterion in units of the limit, expected and observed share that train.",
        ),
    ]
    tables["prediction_calibration"] = prediction.rule_calibration(evidence)
    if len(misses):
        tables["prediction_misses"] = misses
        blocks.append(Table(misses.map(number_text), "The trials on which the rule is most wrong."))
    return blocks


def _area_lines(areas: pandas.DataFrame) -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "group": areas["scope"],
            "line": areas["predictor"],
            "value": areas["area"],
            "low": areas["low"],
            "high": areas["high"],
        }
    )


def _association(evidence: Evidence, tables: dict[str, pandas.DataFrame]) -> list[Block]:
    heading = Heading("Association with accuracy, among trials that train")
    table = associations.associations(evidence)
    if not len(table):
        text = "Too few cells, or no share of layers that varies: there is no association to tell."
        return [heading, Text(text)]
    tables["associations"] = table
    lines = pandas.DataFrame(
        {
            "group": "at " + table["phase"],
            "line": table["name"],
            "value": table["effect_of_one_sd"],
            "low": table["low"],
            "high": table["high"],
        }
    ).sort_values("group", kind="stable", key=lambda names: names.map(_PLACES))
    label = "change of test accuracy with one standard deviation of the share"
    return [
        heading,
        Picture(
            lambda: forest_figures.forest(lines, label),
            "The change of accuracy that goes with a larger share of layers that hold, with data "
            "set, depth, width, activation, normalization and learning rate as covariates. An "
            "association is no effect; the interventions below are.",
        ),
    ]


_PLACES = {"at init": 0, "at early": 1, "at end": 2}


def _intervention(evidence: Evidence, tables: dict[str, pandas.DataFrame]) -> list[Block]:
    heading = Heading("Intervention: repairs and doses at the same seed")
    repairs = interventions.repairs(evidence)
    doses = interventions.doses(evidence)
    blocks: list[Block] = [heading]
    if len(repairs):
        tables["interventions"] = repairs
        blocks += [
            Picture(
                lambda: forest_figures.forest(_change_lines(repairs, "repair"), _CHANGE),
                "What a repair changes in accuracy at the same seed. A repair that brings layers "
                "back into their domain and leaves the accuracy alone repairs something that does "
                "not matter there.",
            ),
            Table(_changes_shown(repairs, ["repair", "context", "pairs"])),
        ]
    if len(doses):
        tables["doses"] = doses
        blocks.append(
            Table(
                _changes_shown(doses, ["axis", "dose", "against", "context", "pairs"]),
                "What a dose that breaks a premise changes, against the mildest dose.",
            )
        )
    if len(blocks) == 1:
        blocks.append(Text("No repair and no dose was run beside its control."))
    return blocks


_CHANGE = "change of test accuracy, with the repair minus without"


def _change_lines(table: pandas.DataFrame, group: str) -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "group": table[group],
            "line": table["context"],
            "value": table["score"],
            "low": table["score_low"],
            "high": table["score_high"],
        }
    )


def _changes_shown(table: pandas.DataFrame, names: list[str]) -> pandas.DataFrame:
    shown = table[names].map(number_text)
    shown["accuracy without"] = table["score_without"].map(number_text)
    for column in table:
        if f"{column}_low" in table:
            label = "change of accuracy" if column == "score" else f"change of {column}"
            shown[label.replace("share_", "share: ")] = interval_texts(
                table, column, f"{column}_low", f"{column}_high"
            )
    return shown
