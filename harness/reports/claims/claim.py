"""Declaration of claims, and their decision by the evidence of a sweep.

A claim is one decorated function from the evidence of a sweep to a decision. The decorator holds
what a reader needs to judge it: the question, who says so and where, the effect that would matter,
and the command that fills the cells it needs. Adding a claim is adding one function to one of the
files beside this one.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.reports.evidence import Evidence

SUPPORTED = "supported"
REFUTED = "refuted"
CONDITIONAL = "conditional"
UNDECIDED = "undecided"
NOT_ENOUGH_DATA = "not enough data"
WORDS = (SUPPORTED, CONDITIONAL, REFUTED, UNDECIDED, NOT_ENOUGH_DATA)


@dataclass(frozen=True)
class Decision:
    """The answer of the evidence to a claim.

    Attributes:
        word: one of `WORDS`. `conditional` is true under the condition that the sentence names and
            false without it; `undecided` has data whose interval allows both answers.
        sentence: one sentence with the deciding number and its interval.
        numbers: the deciding numbers by name, for JSON.
        rows: a table of what the sentence summarises, one dict a row; may be empty.
    """

    word: str
    sentence: str
    numbers: dict[str, float] = field(default_factory=dict)
    rows: tuple[dict[str, object], ...] = ()


class NotEnoughData(Exception):
    """Raised by a claim whose cells are missing; the message says which."""


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes:
        name: unique, in snake_case.
        text: the claim as it is made.
        source: who makes it.
        matters: the effect that would matter, in words with its number.
        experiment: the preset under `conf/experiment` whose cells decide it.
        overrides: what the command says besides the preset.
        decide: the test; raises `NotEnoughData` where cells are missing.
    """

    name: str
    text: str
    source: str
    matters: str
    experiment: str
    overrides: str
    decide: Callable[[Evidence], Decision]

    @property
    def command(self) -> str:
        """The command that fills the cells."""
        preset = f"python -m harness.train --multirun experiment={self.experiment}"
        return f"{preset} {self.overrides}".rstrip()


@dataclass(frozen=True)
class DecidedClaim:
    """A claim with the decision of one evidence."""

    claim: Claim
    decision: Decision


_CLAIMS: dict[str, Claim] = {}


def claim(
    text: str, *, source: str, matters: str, experiment: str, overrides: str = ""
) -> Callable[[Callable[[Evidence], Decision]], Callable[[Evidence], Decision]]:
    """Returns a decorator that declares its function as the test of a claim."""

    def declare(decide: Callable[[Evidence], Decision]) -> Callable[[Evidence], Decision]:
        name = decide.__name__
        if name in _CLAIMS:
            raise ValueError(f"claim {name!r} is declared twice")
        _CLAIMS[name] = Claim(name, text, source, matters, experiment, overrides, decide)
        return decide

    return declare


def claims() -> list[Claim]:
    """Returns all declared claims in the order of their files and of their lines."""
    package = importlib.import_module("harness.reports.claims")
    for module in sorted(entry.name for entry in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return list(_CLAIMS.values())


# A page, its report and a README are made from one evidence, and deciding takes most of their time.
@functools.lru_cache(maxsize=1)
def decide_all(evidence: Evidence) -> tuple[DecidedClaim, ...]:
    """Returns every claim with its decision; missing cells are a decision too."""
    return tuple(DecidedClaim(claim, decided(claim, evidence)) for claim in claims())


def decided(claim: Claim, evidence: Evidence) -> Decision:
    """Returns the decision of one claim; missing cells name the command that fills them."""
    try:
        return claim.decide(evidence)
    except NotEnoughData as missing:
        return Decision(NOT_ENOUGH_DATA, f"{missing}; run: {claim.command}")
