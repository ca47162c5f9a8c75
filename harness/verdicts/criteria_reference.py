"""Reference of the criteria: a table of all thresholds, and the README of this folder."""

from __future__ import annotations

import textwrap

import pandas

from harness.verdicts.criteria import load
from harness.verdicts.criterion import Criterion
from harness.verdicts.grading import EARLY_SHARE, HIGH, LOW

_TITLE = """\
# Premises and promises

<!-- Generated from the declarations by `python scripts/document.py`; edit those instead. -->
"""

_NOTES = (
    "**Premises** are what the theory of SELU assumes of a layer, **promises** what it concludes; "
    "they are judged apart, because a promise can be kept where a premise fails. Criteria version "
    "{version}.",
    "**A layer** has a score for each: the effect of its worst criterion in units of the "
    "thresholds. It holds up to 1, is strained up to 2, and fails above. Ten thousand samples "
    "would reject anything, so an effect decides and no test.",
    "**A threshold** is a theorem's own (`theorem`), or an effect whose consequence for the "
    "theorems' domains is said (`consequence`); Theorem 1 speaks of SELU's map g with omega in "
    "[-0.1, 0.1], tau in [0.95, 1.1], mu in [-0.1, 0.1] and nu in [0.8, 1.5] (Klambauer et al. "
    "2017).",
    "**A trial** is graded in three phases: at initialisation, at the first probe from "
    "{early:.0%} of its steps on, and at the end. `share_<name>_<phase>` is the share of its "
    "layers that hold, `first_layer_<name>_<phase>` the lowest one that does not, and "
    "`left_step_<name>` the first probed step at which fewer than {high:.0%} hold. Its word "
    "`verdict_<name>_<phase>` is `holds` from a share of {high:g} on, `fails` up to {low:g}, else "
    "`mixed`. Layers and phases without a measurement are unknown; with `probe=standard` "
    "gaussianity, dependence and contraction are measured at the first and last probe only.",
    "**Two criteria fail nearly everywhere, as they should.** With independent weights only a few "
    "units in a hundred lie in Theorem 1's box of omega and tau at any usual fan-in, and only "
    "exact or standardized weights bring the others in. Images of digits are so dependent that "
    "the units of a layer differ in variance at any width; the control with independent inputs "
    "(`dataset=gaussian`) keeps that premise in most layers.",
)

_SECTIONS = {"Premises": "what the theory assumes", "Promises": "what the theory concludes"}


def criteria_table() -> pandas.DataFrame:
    """Returns one row per criterion with its thresholds, their basis and its source."""
    rows = []
    for criterion in load().criteria:
        rows.append({"condition": criterion.condition, **_row(criterion)})
    return pandas.DataFrame(rows)


def markdown() -> str:
    """Returns the README of this folder as Markdown."""
    criteria = load()
    values = {"version": criteria.version, "early": EARLY_SHARE, "high": HIGH, "low": LOW}
    parts = [_TITLE, *(_wrapped(note.format(**values)) for note in _NOTES)]
    for title, names in (("Premises", criteria.premises), ("Promises", criteria.promises)):
        parts.append(f"## {title}: {_SECTIONS[title]}\n")
        for name in names:
            claim = criteria.claims[name]
            text = _wrapped(f"{claim[:1].upper()}{claim[1:]}.")
            parts.append(f"### {name.capitalize()}\n\n{text}")
            judged = [item for item in criteria.criteria if item.condition == name]
            parts.append(_table(pandas.DataFrame([_row(criterion) for criterion in judged])))
    return "\n".join(parts)


def _row(criterion: Criterion) -> dict[str, str]:
    return {
        "criterion": criterion.name,
        "column": criterion.column,
        "effect": criterion.effect[0].description,
        "holds": _range(criterion.holds),
        "strained": _range(criterion.strained),
        "decides": "yes" if criterion.decides else "reported only",
        "basis": criterion.basis,
        "at the thresholds": criterion.consequence,
        "source": criterion.source,
    }


def _range(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:.3g}, {bounds[1]:.3g}]"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def _table(table: pandas.DataFrame) -> str:
    lines = [list(table), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    rows = []
    for cells in lines:
        # A bar inside a cell is escaped in Markdown.
        escaped = [cell.replace("|", "\\|") for cell in cells]
        rows.append(f"| {' | '.join(escaped)} |")
    return "\n".join(rows) + "\n"
