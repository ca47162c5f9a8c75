"""Claims about what the theorem assumes, over all SELU networks of a study and not one recipe."""

from __future__ import annotations

from harness.reports.claims.claim import Decision, claim
from harness.reports.claims.deciding import decide_shares
from harness.reports.claims.selection import Arm, cells_in_words, known, select
from harness.reports.evidence import Evidence

_KLAMBAUER = "Klambauer et al. 2017"
_SELU: Arm = {"activation": "selu", "repair": "none"}
_MATTERS = "nine of ten layers, over all SELU networks that were run, normalized ones included"


def _premise(evidence: Evidence, name: str) -> Decision:
    """Returns whether nine of ten layers meet a premise at initialisation, by initializer."""
    what = "SELU networks"
    column = f"share_{name}_init"
    trials = known(select(evidence, _SELU), column, what)
    keep = f"meet it at initialisation{cells_in_words(evidence, name)}"
    return decide_shares(trials, column, ("initializer", "preprocessing"), what, keep)


@claim(
    "The inputs of a SELU layer have one mean near 0 and one variance near 1, as Theorem 1 assumes "
    "of them.",
    source=f"{_KLAMBAUER}, Theorem 1; the premise called input",
    matters=_MATTERS,
    experiment="reference/initialization",
)
def inputs_have_common_moments(evidence: Evidence) -> Decision:
    """Share of layers that meet the premise on inputs, by initializer and preprocessing."""
    return _premise(evidence, "input")


@claim(
    "Units of a SELU layer are Gaussian at initialisation.",
    source=f"{_KLAMBAUER}, derivation of the map g by the central limit theorem",
    matters=_MATTERS,
    experiment="reference/initialization",
)
def units_are_gaussian(evidence: Evidence) -> Decision:
    """Share of layers that meet the premise of Gaussian units, by initializer and preprocessing."""
    return _premise(evidence, "gaussianity")


@claim(
    "The inputs of a SELU unit are independent, or so weakly dependent that its variance over "
    "samples is nu tau.",
    source=f"{_KLAMBAUER}, derivation of the map g, which needs independent inputs",
    matters=_MATTERS,
    experiment="reference/initialization",
)
def inputs_are_independent(evidence: Evidence) -> Decision:
    """Share of layers that meet the premise of independent inputs."""
    return _premise(evidence, "dependence")
