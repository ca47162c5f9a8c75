"""Notes on a diagnosis: how it was measured, and what was not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.diagnosis.dropout_pass import DropoutMeasurement
from harness.diagnosis.gradient_pass import GradientMeasurements
from harness.diagnosis.layer_columns import FEW_SAMPLES
from harness.networks.tracing.structure import Structure

_MOST_NAMES = 4


@dataclass(frozen=True)
class SampleCounts:
    """Numbers of samples.

    Attributes:
        requested: by the caller.
        available: in the loader, at most those requested.
        used: those that were measured, which a bound on memory may reduce.
        most_numbers: that bound, in numbers of one tensor.
    """

    requested: int
    available: int
    used: int
    most_numbers: int


def card_notes(
    structure: Structure,
    counts: SampleCounts,
    gradients: GradientMeasurements,
    dropout: Sequence[DropoutMeasurement] | None,
    end_of_prediction: str | None,
    others: Sequence[str] = (),
) -> list[str]:
    """Returns the notes in the order in which a card shows them.

    Args:
        structure: the model's structure.
        counts: numbers of samples.
        gradients: those of the backward pass, or the reason why there are none.
        dropout: measurements with dropout acting, or None.
        end_of_prediction: the reason why theory predicts nothing from some layer on, or None.
        others: further notes, on data and layers of which only a part is read.
    """
    notes = [*_sample_notes(counts), *others, *_gradient_notes(gradients)]
    if dropout is not None:
        notes.append(
            "Dropout is off, except for the columns with dropout in their names: there the "
            f"model's dropout modules act, with fixed masks, on {dropout[0].samples} samples."
        )
    if structure.functional_dropouts:
        notes.append(
            "Dropout called as a function follows a flag that no module's mode shows, and was "
            f"left as it is: {_listed(structure.functional_dropouts)}."
        )
    if end_of_prediction is not None:
        notes.append(
            f"Theory's prediction from layer to layer ends: {end_of_prediction}; what a layer "
            "does to its own measured inputs is judged all the same."
        )
    notes += unread_notes(structure)
    if not any(layer.activation == "selu" for layer in structure.activated):
        notes.append(
            "No SELU in this model: the verdicts say how far its layers keep SELU's premises and "
            "promises, and the rules for SELU layers do not apply."
        )
    if any("batch" in layer.normalizations for layer in structure.activated):
        notes.append(
            "A batch normalization that never saw a batch uses the samples' own statistics, as in "
            "training; others use their running ones."
        )
    return notes


def _sample_notes(counts: SampleCounts) -> list[str]:
    notes: list[str] = []
    if counts.used < counts.requested:
        why = "the loader has no more"
        if counts.used != counts.available:
            why = (
                f"with more of its {counts.available}, one layer's tensor would hold more than "
                f"{counts.most_numbers:,} numbers"
            )
        notes.append(f"{counts.used} of the {counts.requested} samples requested were used: {why}.")
    if counts.used < FEW_SAMPLES:
        notes.append(
            f"{counts.used} samples are few: moments over samples are noisy, and what needs more "
            "is absent."
        )
    return notes


def _gradient_notes(gradients: GradientMeasurements) -> list[str]:
    notes: list[str] = []
    if gradients.reason is not None:
        notes.append(f"No gradients: {gradients.reason}.")
    else:
        notes.append(f"Gradients: {gradients.loss}.")
        if any(math.isnan(square) for square in gradients.square):
            notes.append("Some layers have no gradient, because the loss does not reach them.")
        reached = [square for square in gradients.square if not math.isnan(square)]
        if reached and not any(reached):
            notes.append(
                "Every gradient is 0, so that their ratios are absent: the output does not move "
                "with the layers, as with a last layer of zeros."
            )
    if gradients.weights_reason is not None:
        notes.append(f"No gradients of weights: {gradients.weights_reason}.")
    return notes


def unread_notes(structure: Structure) -> list[str]:
    """Returns notes on all that has no row in the layer table, or less than others."""
    notes: list[str] = []
    bare = [layer.label for layer in structure.layers if layer.activation is None]
    layers = [layer for layer in structure.layers if not layer.repeats]
    if bare:
        notes.append(
            f"{len(bare)} of {len(layers)} weight layers have no activation of their own "
            f"and no row: {_listed(bare)}."
        )
    if structure.stray_activations:
        notes.append(
            "Activations that no single weight layer feeds, and that have no row: "
            f"{_listed(structure.stray_activations)}."
        )
    if structure.unfollowed:
        unfollowed = [f"{name} ({place})" for name, place in structure.unfollowed.items()]
        notes.append(
            "Weights that could not be followed and have no row, because only what comes out of "
            f"the function that uses them is seen: {_listed(unfollowed)}."
        )
    changed_inputs = [
        f"{layer.label} ({layer.input_function})"
        for layer in structure.activated
        if layer.input_function is not None
    ]
    if changed_inputs:
        notes.append(
            "Layers whose inputs are not one layer's activations alone, so that only the measured "
            f"inputs are known: {_listed(changed_inputs)}."
        )
    notes += [f"Left out: {reason}." for reason in structure.left_out]
    return notes


def _listed(names: Sequence[str]) -> str:
    """Returns the first different names, and the number of others."""
    distinct = list(dict.fromkeys(names))
    text = ", ".join(distinct[:_MOST_NAMES])
    others = len(distinct) - _MOST_NAMES
    return f"{text} and {others} more" if others > 0 else text
