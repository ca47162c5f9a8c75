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
    trainability,
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
from harness.reports.rules import SIGNIFICANT

_SCOPE = "within data set and depth"


def matter(evidence: Evidence) -> Chapter:
    """Returns the chapter on what decides the outcome."""
    title = "Does it matter"
    if not evidence.trained:
        return Chapter("matter", title, (Text("No trial took a step, so nothing was decided."),))
    evidence = evidence.of_trained
    tables: dict[str, pandas.DataFrame] = {}
    blocks = [
        *_prediction(evidence, tables),
        *_association(evidence, tables),
        *_intervention(evidence, tables),
    ]
    return Chapter("matter", title, tuple(blocks), tables)


def _prediction(evidence: Evidence, tables: dict[str, pandas.DataFrame]) -> list[Block]:
    areas = prediction.areas(evidence)
    blocks: list[Block] = [
        Heading("Prediction: which trials train"),
        Text(
            f"{_prediction_sentence(evidence, areas)} A trial trains if its training accuracy is "
            "at least half way from guessing to 1 and it did not diverge. Draws of searches are "
            "asked as well."
        ),
    ]
    stability = Picture(
        lambda: matter_figures.stability(prediction.asked(evidence)),
        f"A point is a trial; at most {matter_figures.MOST_POINTS} are drawn, evenly chosen. The "
        "margin is the learning rate times the sharpness at "
        "initialisation over the largest stable value, so that beyond 1 gradient descent on the "
        "quadratic approximation is unstable.",
    )
    if not len(areas):
        return [*blocks, stability]
    tables["prediction_areas"] = areas
    tables["prediction_sensitivity"] = prediction.sensitivity(evidence)
    misses = prediction.worst_misses(evidence)
    blocks += [
        Picture(
            lambda: forest_figures.forest(
                _area_lines(areas), "area under the ROC curve", reference=0.5
            ),
            "Each line is something known before training. The area is the probability that a "
            "trial that trains has the higher score of two; 0.5 is a coin, 1 is certainty. Bars "
            "are 95 % intervals in which cells are the replicates. Each line is asked of the "
            "trials that have it, which are not the same for all. A predictor that does no "
            "better than the controls says nothing of its own.",
        ),
        Picture(
            lambda: matter_figures.roc_curves(roc_curves.best_curves(evidence, areas)),
            "ROC curves of the best predictors over all trials: the higher above the diagonal, the "
            "better the score tells trials that train from those that do not.",
        ),
        stability,
        _calibration(evidence, tables),
    ]
    if len(misses):
        tables["trainability_misses"] = misses
        blocks.append(Table(misses.map(number_text), "The trials on which the rule is most wrong."))
    return blocks


def _calibration(evidence: Evidence, tables: dict[str, pandas.DataFrame]) -> Block:
    """Returns how often trials train by what the rule expects of them."""
    calibration = prediction.rule_calibration(evidence)
    if not len(calibration):
        return Text("No trial has any of the four numbers of trainability.")
    tables["trainability_calibration"] = calibration
    return Table(
        calibration.map(number_text),
        f"Calibration of trainability, version {trainability.VERSION}, which has no fitted "
        "parameters: the largest of signal range, gradient range, correlation at the readout "
        "and stability margin, in units of their limits; a number that is missing does not "
        "restrict. Below 1 a trial is expected to train.",
    )


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
    sentence = Text(_association_sentence(table))
    if not len(table):
        return [heading, sentence]
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
        sentence,
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
    blocks: list[Block] = [heading, Text(_intervention_sentence(repairs, "repair"))]
    if len(repairs):
        tables["repair_effects"] = repairs
        blocks += [
            Picture(
                lambda: forest_figures.forest(_change_lines(repairs, "repair"), _CHANGE),
                "What a repair changes in accuracy at the same seed. A repair that brings layers "
                "back into their domain and leaves the accuracy alone repairs something that does "
                "not matter there.",
            ),
            Table(_changes_shown(repairs, ["repair", "context", "pairs"])),
        ]
    blocks.append(Text(_intervention_sentence(doses, "dose")))
    if len(doses):
        tables["dose_effects"] = doses
        blocks.append(
            Table(
                _changes_shown(doses, ["axis", "dose", "against", "context", "pairs"]),
                "What a dose that breaks a premise changes, against the mildest dose.",
            )
        )
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


def _prediction_sentence(evidence: Evidence, areas: pandas.DataFrame) -> str:
    trials = prediction.asked(evidence)
    if not len(areas):
        trained = int(trials["trains"].sum())
        return f"{trained} of {len(trials)} trials train, so there is no difference to predict."
    inside = areas[areas["scope"] == _SCOPE]
    best = (inside if len(inside) else areas).iloc[0]
    place = "Within a data set and a depth," if len(inside) else "Over all trials,"
    return (
        f"{int(trials['trains'].sum())} of {len(trials)} trials train. {place} "
        f"{best['predictor']} orders those that do and those that do not best: area "
        f"{best['area']:.3f} [{best['low']:.3f}, {best['high']:.3f}]; 0.5 is guessing."
    )


def _association_sentence(table: pandas.DataFrame) -> str:
    if not len(table):
        return (
            "No share of layers varies beyond the settings in at least "
            f"{associations.FEWEST_CELLS} cells that train, so no association can be told."
        )
    decided = table[table["p_holm"] < SIGNIFICANT]
    if not len(decided):
        return (
            f"Of {len(table)} shares of layers none is decided to go with accuracy beyond the "
            f"settings (Holm-adjusted p below {SIGNIFICANT})."
        )
    largest = decided.iloc[int(decided["variance_added"].argmax())]
    return (
        f"{len(decided)} of {len(table)} shares of layers go with accuracy beyond the settings; "
        f"the largest adds {largest['variance_added']:.1%} of the variance: {largest['name']} "
        f"({largest['phase']}), {largest['effect_of_one_sd']:+.4f} "
        f"[{largest['low']:+.4f}, {largest['high']:+.4f}] of accuracy for one standard deviation."
    )


def _intervention_sentence(table: pandas.DataFrame, name: str) -> str:
    if not len(table):
        return f"No {name} was run together with its unchanged twin."
    up = int((table["score_low"] > 0).sum())
    down = int((table["score_high"] < 0).sum())
    return (
        f"Of {len(table)} {name}s and contexts, accuracy rises in {up}, falls in {down}, and is "
        f"undecided in {len(table) - up - down} (95 % intervals, each by itself)."
    )


def _changes_shown(table: pandas.DataFrame, names: list[str]) -> pandas.DataFrame:
    shown = table[names].map(number_text)
    shown["accuracy without"] = table["score_without"].map(number_text)
    for column in map(str, table):
        if f"{column}_low" in table:
            label = "change of accuracy" if column == "score" else f"change of {column}"
            shown[label.replace("share_", "share: ")] = interval_texts(
                table, column, f"{column}_low", f"{column}_high"
            )
    return shown
