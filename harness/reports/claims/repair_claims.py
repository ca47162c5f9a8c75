"""Claims about repairs: whether accuracy follows a premise that is mended at the same seed."""

from __future__ import annotations

from harness.reports import interventions
from harness.reports.claims.claim import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    NotEnoughData,
    claim,
)
from harness.reports.claims.deciding import MARGIN, Row, judge
from harness.reports.claims.selection import FEWEST_SEEDS
from harness.reports.evidence import Evidence
from harness.reports.statistics import LEVEL, Interval

# A repair has repaired something where more than this share of the layers came back.
_CAME_BACK = 0.1


@claim(
    "Repairing a broken premise at the same seed brings accuracy back.",
    source="implied by calling the premises conditions",
    matters=f"{MARGIN} of accuracy, where more than {_CAME_BACK} of the layers came back",
    experiment="reference/repairs",
)
def repairs_bring_accuracy(evidence: Evidence) -> Decision:
    """Paired differences of repaired and unrepaired trials, by repair and context.

    Only repairs that brought layers back into some domain are asked: another has mended nothing,
    and its accuracy says nothing about the premise. All rows share one level (Bonferroni).
    """
    contexts = len(interventions.repairs(evidence))
    if not contexts:
        raise NotEnoughData("no repaired trials with unrepaired ones of the same seeds")
    table = interventions.repairs(evidence, 1 - (1 - LEVEL) / contexts)
    rows = []
    for row in table.to_dict("records"):
        ends = [row.get(f"share_{name}_low", float("nan")) for name in interventions.SHARES]
        if row["pairs"] >= FEWEST_SEEDS and any(end > _CAME_BACK for end in ends):
            label = {"repair": row["repair"], "context": row["context"]}
            back = Interval(row["score"], row["score_low"], row["score_high"], row["pairs"])
            rows.append(Row(label, back))
    if not rows:
        raise NotEnoughData(
            f"no repair that brought more than {_CAME_BACK} of the layers back, with "
            f"{FEWEST_SEEDS} seeds"
        )
    words = [judge(row.interval, MARGIN) for row in rows]
    helps = [row for row, word in zip(rows, words, strict=True) if word == SUPPORTED]
    idle = [row for row, word in zip(rows, words, strict=True) if word == REFUTED]
    best = max(rows, key=lambda row: row.interval.value)
    sentence = (
        f"of {len(rows)} pairs of repair and setting that brought layers back, {len(helps)} "
        f"brought more than {MARGIN} of accuracy, {len(idle)} did not, "
        f"{len(rows) - len(helps) - len(idle)} are undecided; "
        f"most came back with {best.words}: {best.interval.value:+.3f} "
        f"[{best.interval.low:+.3f}, {best.interval.high:+.3f}]"
    )
    numbers = {
        "repairs": len(rows),
        "helped": len(helps),
        "did_not_help": len(idle),
        "undecided": len(rows) - len(helps) - len(idle),
        "most": best.interval.value,
        "most_low": best.interval.low,
        "most_high": best.interval.high,
    }
    return Decision(_word(len(helps), len(idle), len(rows)), sentence, numbers, _records(rows))


def _word(helps: int, idle: int, rows: int) -> str:
    if helps and idle:
        return CONDITIONAL
    if helps == rows:
        return SUPPORTED
    return REFUTED if idle == rows else UNDECIDED


def _records(rows: list[Row]) -> tuple[dict[str, object], ...]:
    return tuple(row.record("accuracy") for row in rows)
