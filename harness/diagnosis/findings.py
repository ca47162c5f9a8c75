"""Findings of the lint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.networks.tracing.structure import Layer


@dataclass(frozen=True)
class Finding:
    """A violated rule.

    Attributes:
        rule: the name of the rule.
        layers: labels of the layers that violate it.
        found: what was seen there.
        consequence: what follows, in numbers computed from theory for these layers.
        fix: what to do, as a line of code where there is one.
        wrong: the line of code that it replaces, "" where that is clear.
    """

    rule: str
    layers: tuple[str, ...]
    found: str
    consequence: str
    fix: str
    wrong: str = ""


def layer_labels(layers: Iterable[Layer]) -> tuple[str, ...]:
    """Returns the different labels of layers in their order."""
    return tuple(dict.fromkeys(layer.label for layer in layers))
