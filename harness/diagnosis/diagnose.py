"""Diagnose any model: its layers' statistics on a few hundred samples, the verdicts on SELU's assumptions, and the lint.

Hooks and intercepted functions only. The model keeps its mode, parameters, buffers, gradients and hooks, and the random
generators their state. Memory is bounded: statistics are taken while the forward pass runs, layer by layer, what dropout does in
another one where there is any, and gradients in a last pass over small batches, of which only sums are kept.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from harness.diagnosis.card import Card
from harness.diagnosis.dropping import Dropped, Dropping, acting, acting_dropouts
from harness.diagnosis.grouped import grouped_variance_law
from harness.diagnosis.lint import InputFacts, lint
from harness.diagnosis.predicted import predicted_columns
from harness.diagnosis.structure import Layer, Structure
from harness.diagnosis.tracing import Activated, Tracer, fresh_batch_norms, parameter_names, watch
from harness.errors import RequestError
from harness.probes.gradients import finish
from harness.probes.measurement import FULL, measure
from harness.probes.readings import LayerReading, too_few_for_intervals
from harness.verdicts.evaluation import evaluate, verdicts
from harness.verdicts.sentences import summarize

# Numbers one tensor of the forward pass may hold; so many samples are used at most, but never fewer than `_FEWEST`.
_MOST_NUMBERS = 2**25
_FEWEST = 32
# Numbers of one layer's pre-activations that statistics read: of larger layers, evenly spread samples.
_MOST_READ = 2**23
# Numbers of one layer's weights that statistics read: of larger layers, evenly spread units.
_MOST_WEIGHTS = 2**23
# Numbers that the autograd graph of one batch of the backward pass may hold.
_MOST_GRAPH = 2**26
# Samples of the backward pass; a mean over so many is as good.
_MOST_GRADIENT_SAMPLES = 256
# Samples of the pass with dropout acting: so many as draw this many entries of the narrowest dropout's mask, within these bounds.
_MASKED = 2**18
_DROPOUT_SAMPLES = (64, 256)
# Weights whose gradients are measured, all layers together.
_MOST_WEIGHT_GRADIENTS = 2**24
# With fewer samples a variance over samples is mostly noise.
FEW_SAMPLES = 64

DEFAULT_SAMPLES = 512


def diagnose(model: nn.Module, loader: Any, *, samples: int = DEFAULT_SAMPLES) -> Card:
    """Measure every activated layer of a model and judge SELU's assumptions there.

    Args:
        model: any module; a layer is a linear or convolutional weight followed by an elementwise activation, as modules or as
            functions, with normalizations or sums between the two seen.
        loader: an iterable of batches, each inputs or (inputs, labels, ...) or a mapping; or a tensor, or (inputs, labels). Labels
            give the loss of the gradients; without them a fixed random projection of the output stands in for it.
        samples: how many of the first samples to use; fewer where a tensor would exceed the bound on memory (the card says so).

    Returns:
        A `Card`: layer table, verdicts, ladder, lint, notes; it prints as text and writes HTML.

    Raises:
        RequestError: a model or loader that cannot be diagnosed, in one line that says why.
    """
    _check(model, samples)
    inputs, labels = _collected(loader, samples)
    inputs = _placed(inputs, model)
    with _undisturbed(model):
        pilot = _run(
            model, inputs[:2], Tracer(inputs[:2], parameter_names(model), fresh_batch_norms(model))
        )
        _check_structure(pilot.structure)
        available = len(inputs)
        count = min(available, max(_FEWEST, _MOST_NUMBERS // (pilot.largest // len(inputs[:2]))))
        inputs, labels = inputs[:count], None if labels is None else labels[:count]
        reader = _Reader()
        with torch.no_grad():
            structure = _run(
                model,
                inputs,
                Tracer(
                    inputs,
                    parameter_names(model),
                    fresh_batch_norms(model),
                    on_activation=reader,
                    keep=_read_samples,
                ),
            ).structure
        dropped = _dropped(model, inputs, structure)
        batch = max(2, min(count, _MOST_GRAPH // (pilot.numbers // len(inputs[:2]))))
        slopes = _gradients(
            model,
            inputs[:_MOST_GRADIENT_SAMPLES],
            None if labels is None else labels[:_MOST_GRADIENT_SAMPLES],
            batch,
            structure,
        )
    return _card(model, inputs, structure, reader, slopes, dropped, samples, available)


def structure_of(model: nn.Module, inputs: Tensor) -> Structure:
    """What a model is made of, from one forward pass over `inputs` (samples, ...) without statistics: all that the lint needs.

    Raises:
        RequestError: as in `diagnose`.
    """
    _check(model, len(inputs))
    inputs = _placed(inputs, model)
    with _undisturbed(model), torch.no_grad():
        structure = _run(
            model, inputs, Tracer(inputs, parameter_names(model), fresh_batch_norms(model))
        ).structure
    _check_structure(structure)
    return structure


def _check(model: nn.Module, samples: int) -> None:
    if not isinstance(model, nn.Module):
        raise RequestError(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise RequestError(
            "the model is a TorchScript module, which hides its functions; give the module that it was made from"
        )
    if samples < 2:
        raise RequestError(f"samples={samples}: at least 2 samples are needed for a variance")
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise RequestError(
            f"the model has parameters without values yet ({', '.join(lazy[:3])}): run it once on a batch first, which fixes the shapes of its lazy modules"
        )
    tensors = list(model.named_parameters()) + list(model.named_buffers())
    meta = [name for name, tensor in tensors if tensor.device.type == "meta"]
    if meta:
        raise RequestError(
            f"the model has tensors on the meta device, which hold no numbers ({', '.join(meta[:3])}); give it values first"
        )
    devices = sorted({str(tensor.device) for _, tensor in tensors})
    if len(devices) > 1:
        raise RequestError(
            f"the model lies on several devices ({', '.join(devices)}); move it to one, for example model.to({devices[0]!r})"
        )


def _collected(loader: Any, samples: int) -> tuple[Tensor, Tensor | None]:
    """The first samples of a loader: inputs, and labels where every batch has them."""
    batches = [loader] if isinstance(loader, Tensor) or _is_pair(loader) else loader
    if not isinstance(batches, Iterable):
        raise RequestError(
            f"the loader is a {type(loader).__name__}; expected an iterable of batches, a tensor, or (inputs, labels)"
        )
    parts: list[tuple[Tensor, Tensor | None]] = []
    with _same_random_numbers():
        for batch in batches:
            parts.append(_parted(batch))
            if sum(len(part) for part, _ in parts) >= samples:
                break
    if not parts or sum(len(part) for part, _ in parts) == 0:
        raise RequestError("the loader gave no sample")
    shapes = {tuple(part.shape[1:]) for part, _ in parts}
    if len(shapes) > 1:
        raise RequestError(
            f"the loader gives inputs of different shapes ({', '.join(map(str, sorted(shapes)[:3]))}); resize them to one"
        )
    inputs = torch.cat([part for part, _ in parts])[:samples]
    if len(inputs) < 2:
        raise RequestError("the loader gave one sample; at least 2 are needed for a variance")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise RequestError(
            "the inputs hold a value that is not a finite number (NaN or infinite); mend the data"
        )
    labelled = all(
        labels is not None
        and labels.dim() == 1
        and not labels.is_floating_point()
        and len(labels) == len(part)
        for part, labels in parts
    )
    return inputs, torch.cat([labels for _, labels in parts])[:samples].long() if labelled else None


def _is_pair(loader: Any) -> bool:
    """Whether this is (inputs, labels) itself, not two batches."""
    two = (
        isinstance(loader, (tuple, list))
        and len(loader) == 2
        and all(isinstance(part, Tensor) for part in loader)
    )
    return two and loader[1].dim() == 1 and loader[0].dim() > 1 and len(loader[0]) == len(loader[1])


_INPUT_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x", "data")
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


def _parted(batch: Any) -> tuple[Tensor, Tensor | None]:
    labels = None
    if isinstance(batch, dict):
        labels = next(
            (batch[key] for key in _LABEL_KEYS if isinstance(batch.get(key), Tensor)), None
        )
        batch = next((batch[key] for key in _INPUT_KEYS if key in batch), None)
    elif isinstance(batch, (tuple, list)) and batch:
        labels = batch[1] if len(batch) > 1 and isinstance(batch[1], Tensor) else None
        batch = batch[0]
    if not isinstance(batch, Tensor) or batch.dim() < 2:
        shape = f" of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else ""
        raise RequestError(
            f"a batch of the loader holds a {type(batch).__name__}{shape} where a tensor (samples, ...) is expected; give batches of inputs, (inputs, labels), or a mapping with 'image' or 'inputs'"
        )
    return batch.detach(), labels


def _placed(inputs: Tensor, model: nn.Module) -> Tensor:
    """Inputs on the model's device and, numbers with a fraction, in its precision."""
    like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    inputs = inputs.to(like.device if like is not None else inputs.device)
    whole_words = inputs.dtype in (torch.int64, torch.int32)
    return inputs if whole_words else inputs.to(like.dtype if like is not None else torch.float32)


def _check_structure(structure: Structure) -> None:
    if structure.activated:
        return
    if not structure.layers:
        raise RequestError(
            "the model called no linear or convolutional layer that torch's functions would show; nothing to diagnose"
        )
    seen = sorted(structure.functions)[:8]
    raise RequestError(
        f"no layer of the model is followed by a supported activation: {len(structure.layers)} linear or convolutional layers, and behind them {', '.join(seen) or 'nothing'}; "
        "supported are torch's elementwise activations, as modules or functions, and a module of your own that acts on every entry alone"
    )


def _run(model: nn.Module, inputs: Tensor, tracer: Tracer) -> Tracer:
    try:
        with watch(model, tracer):
            tracer.output = model(inputs)
    except RequestError:
        raise
    except Exception as error:  # a user's code may raise anything; the message says where
        place = f" in {tracer.stack[-1]}" if tracer.stack and tracer.stack[-1] else ""
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise RequestError(
            f"the model failed{place} on inputs of shape {tuple(inputs.shape)}: {type(error).__name__}: {line}"
        ) from error
    return tracer


class _Reader:
    """Measures every activated layer while the forward pass runs; keeps columns and reasons, no tensors."""

    def __init__(self) -> None:
        self.columns: list[dict[str, float]] = []
        self.absent: list[list[str]] = []

    def __call__(self, seen: Activated) -> None:
        columns, absent = measured(seen)
        self.columns.append(columns)
        self.absent.append(absent)


def measured(seen: Activated) -> tuple[dict[str, float], list[str]]:
    """The columns of one activated layer, and why some are absent."""
    if not bool(torch.isfinite(seen.pre_activation).all()):
        bad = int((~torch.isfinite(seen.pre_activation)).sum())
        return {}, [f"{bad} of {seen.pre_activation.numel()} pre-activations are not finite"]
    reading, samples = reading_of(seen)
    columns = {name: float(values[0]) for name, values in measure([reading], FULL)[0].items()}
    reasons = []
    if seen.layer.groups > 1:
        columns |= (
            grouped_variance_law(reading, seen.layer.groups) if reading.geometry is not None else {}
        )
        reasons.append("units of a grouped convolution see different inputs")
    if not seen.layer.direct:
        reasons.append(
            f"{_between(seen.layer)} stands between the weights and the activation, so that the map g says nothing of it"
        )
    reasons += too_few_for_intervals(reading)
    if samples < FEW_SAMPLES:
        reasons.append(f"only {samples} samples")
    return columns | {"samples": samples}, reasons


def reading_of(seen: Activated) -> tuple[LayerReading, int]:
    """The reading of one layer for one trial, cut to the bounds of this module, and how many samples it holds."""
    layer, z = seen.layer, seen.pre_activation
    chosen = _chosen(seen.activation)
    units = (
        _spread(layer.units, max(1, _MOST_WEIGHTS // layer.fan_in), z.device)
        if layer.groups == 1
        else _spread(layer.units, layer.units, z.device)
    )
    axis = z.dim() - 1 if layer.kind == "linear" else 1

    def shaped(tensor: Tensor, cut: bool) -> Tensor:
        tensor = tensor.detach()
        tensor = tensor if len(tensor) == len(chosen) else tensor[chosen]
        tensor = (
            tensor if not cut or len(units) == layer.units else tensor.index_select(axis, units)
        )
        if layer.kind == "linear":
            tensor = tensor.flatten(0, -2)
        elif layer.kind == "conv1d":
            tensor = tensor.unsqueeze(2)
        elif layer.kind == "conv3d":
            tensor = tensor.flatten(3)
        return tensor.float().unsqueeze(0)

    walks = layer.convolution is not None and seen.outputs.shape[1:] == z.shape[1:]
    weight = layer.weight if len(units) == layer.units else layer.weight[units]
    reading = LayerReading(
        name=layer.label,
        kind="linear" if layer.kind == "linear" else "conv2d",
        activation_module=seen.module,
        inputs=shaped(seen.inputs, cut=False),
        pre_activation=shaped(z, cut=True),
        activation=shaped(seen.activation, cut=True),
        gradient=None,
        weight=weight.flatten(1).float().unsqueeze(0),
        weight_gradient=None,
        update=None,
        bias=None if layer.bias is None else layer.bias[units].float().unsqueeze(0),
        weights_module=layer.convolution if walks else None,
        weights_output=None if layer.direct else shaped(seen.outputs, cut=True),
    )
    return reading, len(chosen)


def _chosen(z: Tensor) -> Tensor:
    """The samples of a layer that are read."""
    return _spread(len(z), max(2, _MOST_READ // max(1, z[0].numel())), z.device)


def _read_samples(z: Tensor) -> Tensor:
    return z[_chosen(z)]


def _spread(count: int, most: int, device: torch.device) -> Tensor:
    return torch.linspace(0, count - 1, min(count, most), device=device).round().long()


def _between(layer: Layer) -> str:
    names = (
        [f"a {kind} normalization" for kind in layer.normalizations]
        + ["a residual sum"] * layer.residual
        + ["pooling"] * any(pool.before for pool in layer.pools)
    )
    return " and ".join(dict.fromkeys(names)) or "arithmetic"


def _dropped(model: nn.Module, inputs: Tensor, structure: Structure) -> list[Dropped] | None:
    """Each activated layer with the model's dropout modules acting, on the first samples; None where it has none, or goes another way with them."""
    modules = acting_dropouts(model)
    if not modules:
        return None
    fewest, most = _DROPOUT_SAMPLES
    narrowest = min((layer.units for layer in structure.activated if layer.dropouts), default=1)
    inputs = inputs[: min(most, max(fewest, _MASKED // narrowest))]
    found = Dropping(len(inputs))
    with torch.no_grad(), acting(modules, inputs.device):
        tracer = Tracer(
            inputs,
            parameter_names(model),
            fresh_batch_norms(model),
            found.on_activation,
            keep=lambda z: z[:0],
            on_dropout=found.on_dropout,
        )
        seen = _run(model, inputs, tracer).structure.activated
    if [layer.label for layer in seen] != [layer.label for layer in structure.activated]:
        structure.left_out.append(
            "the measurements with dropout acting: the model takes another way through its layers then"
        )
        return None
    return [found.found[layer] for layer in seen]


class _Gradients:
    """Sums over samples of |dL/dz|^2 and gradients of weights, by the order of the activations."""

    def __init__(self) -> None:
        self.square: list[float] = []
        self.weights: dict[int, Tensor] = {}
        self.reason: str | None = None
        self.weights_reason: str | None = None
        self.note = ""


def _gradients(
    model: nn.Module, inputs: Tensor, labels: Tensor | None, batch: int, structure: Structure
) -> _Gradients:
    """The backward pass over small batches; what cannot be had leaves a reason."""
    found = _Gradients()
    if not inputs.is_floating_point():
        found.reason = "the inputs are whole numbers, through which no gradient passes"
        return found
    found.square = [0.0] * len(structure.activated)
    weights = {
        id(parameter): parameter
        for parameter in model.parameters()
        if parameter.requires_grad and parameter.dim() > 1
    }
    if sum(parameter.numel() for parameter in weights.values()) > _MOST_WEIGHT_GRADIENTS:
        found.weights_reason, weights = (
            f"the model has more than {_MOST_WEIGHT_GRADIENTS} weights, whose gradients would fill the memory",
            {},
        )
    for start in range(0, len(inputs), batch):
        part = slice(start, start + batch)
        if len(inputs[part]) < 2 and start:
            continue  # a batch's own statistics need two samples
        _backward(
            model,
            inputs[part].clone().requires_grad_(),
            None if labels is None else labels[part],
            structure,
            found,
            weights,
        )
        if found.reason is not None:
            return found
    used = len(inputs) - (1 if len(inputs) % batch == 1 and len(inputs) > batch else 0)
    found.square = [square / used for square in found.square]
    found.weights = {key: gradient / used for key, gradient in found.weights.items()}
    return found


def _backward(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    structure: Structure,
    found: _Gradients,
    weights: dict[int, Tensor],
) -> None:
    seen: list[Layer] = []

    def catch(layer: Layer, z: Tensor) -> None:
        index = len(seen)
        seen.append(layer)
        if z.requires_grad and index < len(found.square):
            z.register_hook(
                lambda gradient: found.square.__setitem__(
                    index,
                    found.square[index]
                    + float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2,
                )
            )

    with torch.enable_grad():
        tracer = _run(
            model,
            inputs,
            Tracer(
                inputs, parameter_names(model), fresh_batch_norms(model), before_activation=catch
            ),
        )
        if [layer.label for layer in seen] != [layer.label for layer in structure.activated]:
            found.reason = "the model takes another way through its layers for other samples"
            return
        output = _first_tensor(tracer.output)
        if output is None or not output.requires_grad:
            found.reason = (
                "the model gives no tensor that depends on its inputs through torch's functions"
            )
            return
        loss, found.note = _loss(output, labels, len(inputs))
        if not bool(torch.isfinite(loss)):
            found.reason = "the loss is not a finite number"
            return
        parameters = list(weights.values())
        _, *gradients = torch.autograd.grad(loss, [inputs, *parameters], allow_unused=True)
    for key, gradient in zip(weights, gradients):
        if gradient is not None:
            found.weights[key] = found.weights[key] + gradient if key in found.weights else gradient


def _loss(output: Tensor, labels: Tensor | None, samples: int) -> tuple[Tensor, str]:
    """The sum over samples of each one's loss, and what it is."""
    if (
        labels is not None
        and output.dim() == 2
        and len(output) == samples
        and int(labels.min()) >= 0
        and int(labels.max()) < output.shape[1]
    ):
        return functional.cross_entropy(
            output.float(), labels.to(output.device), reduction="sum"
        ), "cross-entropy with the labels of the data"
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(output.shape[1:], generator=generator).to(output)
    return (
        output * direction
    ).sum(), "a fixed random projection of the output stands in for a loss" + (
        "" if labels is None else ", because the labels do not fit the output"
    )


def _first_tensor(output: Any) -> Tensor | None:
    """The first tensor with a fraction in whatever a model returns: a tensor, a tuple, a mapping."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    values = (
        output.values()
        if isinstance(output, dict)
        else output
        if isinstance(output, (tuple, list))
        else ()
    )
    return next((found for found in map(_first_tensor, values) if found is not None), None)


def _card(
    model: nn.Module,
    inputs: Tensor,
    structure: Structure,
    reader: _Reader,
    gradients: _Gradients,
    dropped: list[Dropped] | None,
    asked: int,
    available: int,
) -> Card:
    columns, absent = reader.columns, reader.absent
    for index, (layer, values) in enumerate(zip(structure.activated, columns)):
        values["gradient_square"] = (
            gradients.square[index] if gradients.reason is None else numpy.nan
        )
        gradient = gradients.weights.get(_parameter_id(model, layer))
        values["weight_gradient_norm"] = (
            float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
            if gradient is not None
            else numpy.nan
        )
        if dropped is not None:
            values |= dropped[index].columns()
        if gradients.reason is not None:
            absent[index].append(f"no gradient: {gradients.reason}")
    as_tensors = [
        {"gradient_square": torch.tensor([values["gradient_square"]], dtype=torch.float64)}
        for values in columns
    ]
    finish(as_tensors)
    for values, tensors in zip(columns, as_tensors):
        values |= {name: float(tensor[0]) for name, tensor in tensors.items()}
    keys = [
        {
            "step": 0,
            "phase": "diagnosis",
            "layer": number,
            "name": layer.label,
            "kind": layer.kind,
            "units": layer.units,
            "fan_in": layer.fan_in,
            "activation": layer.activation,
            "normalization": ", ".join(layer.normalizations) or "none",
            "absent": "; ".join(reasons),
        }
        for number, (layer, reasons) in enumerate(zip(structure.activated, absent), 1)
    ]
    predicted, unknown = predicted_columns(structure, inputs)
    layers = pandas.DataFrame(
        [key | expected | values for key, expected, values in zip(keys, predicted, columns)]
    )
    judged = verdicts(layers)
    facts = InputFacts.of(inputs)
    return Card(
        model=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        shape=tuple(inputs.shape[1:]),
        samples=len(inputs),
        device=str(inputs.device),
        layers=layers,
        verdicts=judged,
        criteria=evaluate(layers),
        findings=lint(structure, facts, dropped),
        summary=summarize(judged),
        notes=_notes(inputs, structure, gradients, dropped, asked, available, unknown),
    )


def _parameter_id(model: nn.Module, layer: Layer) -> int:
    return next(
        (
            id(parameter)
            for name, parameter in model.named_parameters()
            if name in (layer.name, f"{layer.name}.weight")
        ),
        0,
    )


def _notes(
    inputs: Tensor,
    structure: Structure,
    gradients: _Gradients,
    dropped: list[Dropped] | None,
    asked: int,
    available: int,
    unknown: str | None,
) -> list[str]:
    notes = []
    if len(inputs) < asked:
        why = (
            "the loader has no more"
            if len(inputs) == available
            else f"with more of its {available}, one layer's tensor would hold more than {_MOST_NUMBERS:,} numbers"
        )
        notes.append(f"{len(inputs)} samples were used of {asked} asked for: {why}.")
    if len(inputs) < FEW_SAMPLES:
        notes.append(
            f"{len(inputs)} samples are few: moments over samples are noisy, and what needs more is absent."
        )
    notes.append(
        f"Gradients: {gradients.note}."
        if gradients.reason is None
        else f"No gradients: {gradients.reason}."
    )
    if gradients.reason is None and not any(gradients.square):
        notes.append(
            "Every gradient is 0, so that their ratios are absent: the output does not move with the layers, as with a last layer of zeros."
        )
    if gradients.weights_reason is not None:
        notes.append(f"No gradients of weights: {gradients.weights_reason}.")
    if dropped is not None:
        notes.append(
            f"Dropout is off, except for the columns with dropout in their names: there the model's dropout modules act, with fixed masks, on {dropped[0].samples} samples."
        )
    if structure.functional_dropouts:
        notes.append(
            f"Dropout called as a function follows a flag that no module's mode shows, and was left as it is: {_listed(structure.functional_dropouts)}."
        )
    if unknown is not None:
        notes.append(
            f"Theory's prediction from layer to layer ends: {unknown}; what a layer does to its own measured inputs is judged all the same."
        )
    bare = [layer.label for layer in structure.layers if layer.activation is None]
    if bare:
        notes.append(
            f"{len(bare)} of {len(structure.layers)} weight layers have no activation of their own and no row: {_listed(bare)}."
        )
    if structure.stray_activations:
        notes.append(
            f"Activations that no single weight layer feeds, and that have no row: {_listed(structure.stray_activations)}."
        )
    if structure.unfollowed:
        notes.append(
            f"Weights that could not be followed and have no row, because only what comes out of the function that uses them is seen: {_listed([f'{name} ({where})' for name, where in structure.unfollowed.items()])}."
        )
    behind = [
        f"{layer.label} ({layer.behind})"
        for layer in structure.activated
        if layer.behind is not None
    ]
    if behind:
        notes.append(
            f"Layers that something else than one layer's activations enters, so that only their measured inputs are known: {_listed(behind)}."
        )
    notes += [f"Left out: {reason}." for reason in structure.left_out]
    if not any(layer.activation == "selu" for layer in structure.activated):
        notes.append(
            "No SELU in this model: the verdicts say how far its layers meet SELU's assumptions, and the rules for SELU layers do not apply."
        )
    if any(layer.normalizations for layer in structure.activated):
        notes.append(
            "A batch normalization that never saw a batch uses the samples' own statistics, as in training; others use their running ones."
        )
    return notes


def _listed(names: list[str], most: int = 4) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:most]) + (
        f" and {len(distinct) - most} more" if len(distinct) > most else ""
    )


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode flag by flag; afterwards flags, buffers and random generators are what they were."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        for module, _ in flags:
            module.training = False
        # Compiling takes seconds to import, and without it nothing is compiled.
        eager = (
            torch.compiler.set_stance("force_eager")
            if "torch._dynamo" in sys.modules
            else nullcontext()
        )
        with _same_random_numbers(), eager:
            yield
    finally:
        for module, training in flags:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(torch.nan_to_num(buffer), torch.nan_to_num(before)):
                    buffer.copy_(before)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """The global generators of Python, NumPy and torch are as before, whatever a loader or a model draws."""
    state, numpy_state = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(
            devices=list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        ):
            yield
    finally:
        random.setstate(state)
        numpy.random.set_state(numpy_state)
