"""Diagnosis of any model: layer statistics, verdicts on premises and promises, and the lint.

Works by hooks and intercepted functions only. The model keeps its mode, parameters, buffers,
gradients and hooks, and the random generators keep their state. Memory is bounded: statistics are
taken layer by layer while the forward pass runs, the effect of dropout in a second pass where
there is any, and gradients in a last pass over small batches, of which only sums are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnosis.card import Card
from harness.diagnosis.card_notes import SampleCounts, card_notes
from harness.diagnosis.dropout_pass import DropoutMeasurement, measure_dropout
from harness.diagnosis.first_samples import Samples, first_samples, placed
from harness.diagnosis.gradient_pass import measure_gradients
from harness.diagnosis.layer_columns import LayerMeasurements
from harness.diagnosis.layer_table import add_gradients, add_ratios, layer_table
from harness.diagnosis.lint import lint
from harness.diagnosis.model_checks import check_model, check_samples, check_structure
from harness.diagnosis.predicted_columns import predicted_columns
from harness.diagnosis.undisturbed import undisturbed
from harness.networks.tracing.input_statistics import InputStatistics
from harness.networks.tracing.structure import Structure
from harness.networks.tracing.trace import Listeners
from harness.networks.tracing.tracer import run_traced
from harness.probes.traced_readings import read_samples
from harness.verdicts.evaluation import evaluate, verdicts
from harness.verdicts.judging import judge_network

DEFAULT_SAMPLES = 512
# Numbers that one tensor of the forward pass may hold. It bounds the number of samples, but there
# are never fewer than `_FEWEST_SAMPLES`.
_MOST_NUMBERS = 2**25
_FEWEST_SAMPLES = 32
# Layers that a note names.
_MOST_NAMES = 3
# Samples of a first pass that shows the sizes of tensors.
_PILOT_SAMPLES = 2


def diagnose(model: nn.Module, loader: Any, *, samples: int = DEFAULT_SAMPLES) -> Card:
    """Measures every activated layer of a model and judges SELU's premises and promises.

    Args:
        model: any module. A layer is a linear or convolutional weight followed by an elementwise
            activation, as modules or as functions, with or without normalizations or sums between
            the two.
        loader: an iterable of batches, each of them inputs or (inputs, labels, ...) or a mapping;
            or a tensor, or (inputs, labels). The labels give the loss of the gradients; without
            them a fixed random projection of the output stands in for it.
        samples: number of samples to use, the first ones; fewer where a tensor would exceed the
            bound on memory, which the card notes.

    Returns:
        The layer table, verdicts, findings of the lint, and notes. Prints as text, writes HTML.

    Raises:
        RequestError: the model or the loader cannot be diagnosed; one line says why.
    """
    check_model(model)
    check_samples(samples)
    data = first_samples(loader, samples)
    labels = data.labels
    inputs = placed(data.inputs, model)
    available = len(inputs)
    with undisturbed(model):
        with torch.no_grad():
            pilot = run_traced(model, inputs[:_PILOT_SAMPLES].clone())
        check_structure(pilot.structure)
        count = max(_FEWEST_SAMPLES, _MOST_NUMBERS // max(1, pilot.largest // _PILOT_SAMPLES))
        inputs = inputs[:count]
        labels = None if labels is None else labels[:count]
        measurements = LayerMeasurements()
        with torch.no_grad():
            listeners = Listeners(on_activation=measurements, keep=read_samples)
            structure = run_traced(model, inputs.clone(), listeners).structure
        dropout = measure_dropout(model, inputs, structure)
        numbers_per_sample = pilot.numbers // _PILOT_SAMPLES
        gradients = measure_gradients(model, inputs, labels, numbers_per_sample, structure)
    predicted, end_of_prediction = predicted_columns(structure, inputs)
    add_gradients(measurements, gradients, structure)
    _add_dropout(measurements, dropout)
    add_ratios(measurements)
    layers = layer_table(structure, measurements, predicted)
    judged = verdicts(layers)
    others = _reading_notes(data, measurements)
    counts = SampleCounts(samples, available, len(inputs), _MOST_NUMBERS)
    return Card(
        model=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        shape=tuple(inputs.shape[1:]),
        samples=len(inputs),
        device=str(inputs.device),
        layers=layers,
        verdicts=judged,
        criteria=evaluate(layers),
        findings=lint(structure, InputStatistics.measured(inputs), dropout),
        summary=judge_network(layers),
        notes=card_notes(structure, counts, gradients, dropout, end_of_prediction, others),
    )


def _reading_notes(data: Samples, measurements: LayerMeasurements) -> list[str]:
    """Returns notes on labels that are not used and layers of which only a part is read."""
    notes: list[str] = []
    if data.labels_reason is not None:
        notes.append(f"The labels are not used: {data.labels_reason}.")
    if measurements.partly:
        names = "; ".join(measurements.partly[:_MOST_NAMES])
        others = len(measurements.partly) - _MOST_NAMES
        more = f"; and {others} more layers" if others > 0 else ""
        notes.append(f"Large layers are read in part, evenly spread: {names}{more}.")
    return notes


def structure_of(model: nn.Module, inputs: Tensor) -> Structure:
    """Returns a model's structure from one forward pass without statistics.

    It is all that the lint needs.

    Args:
        model: any module.
        inputs: (samples, ...).

    Raises:
        RequestError: as in `diagnose`.
    """
    check_model(model)
    check_samples(len(inputs))
    inputs = placed(inputs, model)
    with undisturbed(model), torch.no_grad():
        structure = run_traced(model, inputs.clone()).structure
    check_structure(structure)
    return structure


def _add_dropout(measurements: LayerMeasurements, dropout: list[DropoutMeasurement] | None) -> None:
    """Adds the columns of the pass with dropout acting, if there was one."""
    if dropout is not None:
        for columns, measurement in zip(measurements.columns, dropout, strict=True):
            columns.update(measurement.columns())
