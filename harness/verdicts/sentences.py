"""Verdicts on a network in words: one sentence on its premises and one on its promises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.verdicts.criteria import load

_LEADS = {"init": "at initialisation", "end": "at the end"}
# Counts are exact where every layer is judged; rounding of a share is all that may differ.
_ROUNDING = 1e-6


def sentence(grades: Mapping[str, Any], layers: int) -> str:
    """Returns one sentence on the premises of a trial and one on its promises.

    Args:
        grades: `share_<name>_<phase>` of one trial; a missing one is unknown.
        layers: the number of its layers.
    """
    sentences = []
    for title, names in _titles():
        clauses = []
        for phase, lead in _LEADS.items():
            shares = {name: grades.get(f"share_{name}_{phase}", math.nan) for name in names}
            clauses.append((lead, clause(shares, layers)))
        sentences.append(_joined(title, clauses))
    return " ".join(sentences)


def sentence_of_one_probe(shares: Mapping[str, float], layers: int) -> str:
    """Returns both sentences on a network that was probed once, from its shares by name."""
    sentences = []
    for title, names in _titles():
        text = clause({name: shares[name] for name in names}, layers)
        sentences.append(_joined(title, [("", text)]))
    return " ".join(sentences)


def clause(shares: Mapping[str, float], layers: int) -> str:
    """Returns text such as `moments hold in all 8 layers, units in none`.

    Args:
        shares: the share of layers that hold, by name of the premise or promise.
        layers: the number of layers.

    Returns:
        Names of the same share together, the highest share first; "" where all are unknown.
    """
    by_share: dict[float, list[str]] = {}
    for name, share in shares.items():
        if not math.isnan(share):
            by_share.setdefault(share, []).append(name)
    parts: list[str] = []
    for share in sorted(by_share, reverse=True):
        names = by_share[share]
        if parts:
            parts.append(f"{listed(names)} in {_layers(share, layers, with_noun=False)}")
        else:
            verb = "hold" if _is_plural(names) else "holds"
            parts.append(f"{listed(names)} {verb} in {_layers(share, layers, with_noun=True)}")
    unknown = [name for name, share in shares.items() if math.isnan(share)]
    if parts and unknown:
        parts.append(f"{listed(unknown)} unknown")
    return ", ".join(parts)


def listed(names: Sequence[str]) -> str:
    """Returns `a`, `a and b`, or `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _joined(title: str, clauses: list[tuple[str, str]]) -> str:
    """Returns the sentence on all premises or promises, from (lead, clause) of each phase."""
    seen = [(lead, text) for lead, text in clauses if text]
    if not seen:
        return f"The {title} are unknown: nothing was probed."
    (lead, first), *others = seen
    parts = [f"Of the {title}, {lead} {first}" if lead else f"Of the {title}, {first}"]
    for lead, text in others:
        parts.append(f"{lead} the same" if text == first else f"{lead} {text}")
    return "; ".join(parts) + "."


def _titles() -> list[tuple[str, tuple[str, ...]]]:
    criteria = load()
    return [("premises", criteria.premises), ("promises", criteria.promises)]


def _layers(share: float, layers: int, *, with_noun: bool) -> str:
    """Returns `all 8 layers`, `3 of 8`, `none`, or a percentage where some are unknown."""
    count = share * layers
    if share == 0:
        return "no layer" if with_noun else "none"
    if abs(count - round(count)) > _ROUNDING:
        return f"{share:.0%} of the layers known" if with_noun else f"{share:.0%}"
    noun = " layers" if with_noun else ""
    if round(count) == layers:
        every = {1: "its only layer", 2: f"both{noun}"}
        return every.get(layers, f"all {layers}{noun}")
    return f"{round(count)} of {layers}{noun}"


def _is_plural(names: Sequence[str]) -> bool:
    return len(names) > 1 or names[0].endswith("s")
