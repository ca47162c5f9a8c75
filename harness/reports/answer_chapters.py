"""Chapters that answer: claims, whether the assumptions matter, and how arms were tuned."""

from __future__ import annotations

import pandas

from harness.reports import associations, interventions, prediction, trainability
from harness.reports import tuning as tuning_tables
from harness.reports.chapter import Chapter, first_rows, interval_texts, note, number_text
from harness.reports.claim_texts import as_table, counts, rows_table
from harness.reports.claims.declaration import decide_all
from harness.reports.evidence import Evidence

_SCOPE = "within data set and depth"


def claims(evidence: Evidence) -> Chapter:
    """Returns the chapter on claims, each with its verdict, its number and its table."""
    decided = decide_all(evidence)
    entries = []
    for entry in decided:
        table = rows_table(entry)
        entries.append(
            {
                "claim": entry.claim,
                "decision": entry.decision,
                "table": first_rows(table),
            }
        )
    values = {"counts": counts(decided), "entries": entries}
    tables = {"claims": as_table(decided)}
    return Chapter(
        "Claims and what the trials say of them", "chapter_claims.html.j2", values, tables
    )


def matters(evidence: Evidence) -> Chapter:
    """Returns the chapter on prediction, association and intervention."""
    title = "Does it matter: prediction, association, intervention"
    if not evidence.trained:
        return note(title, "No trial took a step, so nothing is known about training.")
    areas = prediction.areas(evidence)
    found = associations.associations(evidence)
    repairs = interventions.repairs(evidence)
    doses = interventions.doses(evidence)
    tables = {
        "prediction_areas": areas,
        "prediction_sensitivity": prediction.sensitivity(evidence),
        "trainability_calibration": prediction.rule_calibration(evidence),
        "trainability_misses": prediction.worst_misses(evidence),
        "associations": found,
        "repair_effects": repairs,
        "dose_effects": doses,
    }
    values = {
        "version": trainability.VERSION,
        "prediction": _prediction_sentence(evidence, areas),
        "areas": first_rows(_shown(areas, "area", ["predictor", "scope"])),
        "calibration": first_rows(tables["trainability_calibration"].map(number_text)),
        "misses": first_rows(tables["trainability_misses"].map(number_text)),
        "association": _association_sentence(found),
        "associations": first_rows(_shown(found, "effect_of_one_sd", ["name", "phase"])),
        "repair": _intervention_sentence(repairs, "repair"),
        "repairs": first_rows(_effects(repairs, ["repair", "context", "pairs"])),
        "dose": _intervention_sentence(doses, "dose"),
        "doses": first_rows(_effects(doses, ["axis", "dose", "against", "context", "pairs"])),
    }
    kept = {name: table for name, table in tables.items() if len(table)}
    return Chapter(title, "chapter_matters.html.j2", values, kept)


def tuning(evidence: Evidence) -> Chapter:
    """Returns the chapter on what searches tried and chose."""
    title = "How arms were tuned"
    curves = tuning_tables.tuning_curves(evidence)
    if not len(curves):
        return note(title, "No search: every arm was trained at fixed learning rates.")
    values = {
        "arms": len(curves[["task", "arm"]].drop_duplicates()),
        "at_an_end": _chosen_at_an_end(curves),
        "curves": first_rows(curves.map(number_text)),
    }
    tables = {"tuning_curves": curves, "tuning_budgets": tuning_tables.expected_best(evidence)}
    return Chapter(title, "chapter_tuning.html.j2", values, tables)


def _chosen_at_an_end(curves: pandas.DataFrame) -> list[str]:
    """Returns the tasks and arms whose chosen rate is the smallest or the largest that was tried."""
    names = []
    for (task, arm), curve in curves.groupby(["task", "arm"], sort=False):
        chosen = curve["learning_rate"][curve["chosen"]]
        ends = (curve["learning_rate"].min(), curve["learning_rate"].max())
        if chosen.isin(ends).any():
            names.append(f"{arm}, {task}")
    return names


def _prediction_sentence(evidence: Evidence, areas: pandas.DataFrame) -> str:
    trials = prediction.asked(evidence)
    if not len(areas):
        trained = int(trials["trains"].sum())
        return f"{trained} of {len(trials)} trials train, so there is no difference to predict."
    inside = areas[areas["scope"] == _SCOPE]
    best = (inside if len(inside) else areas).iloc[0]
    return (
        f"{int(trials['trains'].sum())} of {len(trials)} trials train. Within a data set and a "
        f"depth, {best['predictor']} orders those that do and those that do not best: area "
        f"{best['area']:.3f} [{best['low']:.3f}, {best['high']:.3f}]; 0.5 is guessing."
    )


def _association_sentence(table: pandas.DataFrame) -> str:
    if not len(table):
        return (
            "No share of layers varies beyond the settings in at least "
            f"{associations.FEWEST_CELLS} cells that train, so no association can be told."
        )
    decided = table[table["p_holm"] < 0.05]
    if not len(decided):
        return f"None of {len(table)} shares of layers goes with accuracy beyond the settings."
    largest = decided.loc[decided["variance_added"].idxmax()]
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


def _shown(table: pandas.DataFrame, value: str, names: list[str]) -> pandas.DataFrame:
    """Returns names, the value with its interval, and the other columns that are no ends."""
    if not len(table):
        return table
    low, high = "low", "high"
    shown = table[names].copy()
    shown[value.replace("_", " ")] = interval_texts(table, value, low, high)
    hidden = {*names, value, low, high, "all_low", "all_high"}
    for column in table:
        if column not in hidden:
            shown[column.replace("_", " ")] = table[column].map(number_text)
    return shown


def _effects(table: pandas.DataFrame, names: list[str]) -> pandas.DataFrame:
    if not len(table):
        return table
    shown = table[names].copy()
    shown["accuracy without"] = table["score_without"].map(number_text)
    for column in table:
        if f"{column}_low" in table:
            label = "accuracy" if column == "score" else column.replace("_", " ")
            shown[f"{label} gained"] = interval_texts(
                table, column, f"{column}_low", f"{column}_high"
            )
    return shown
