"""Checkpoints: everything that a pack needs to go on between two steps.

A state holds tensors whose first dimension is the trials, so that it can be cut to some of them: a
pack that is trained on in other company goes on from the same numbers. What a seed and a step say
anyway (the order of samples, the noise of dropout, the learning rate) is not kept.

On a CPU a pack that goes on from a checkpoint ends with the very numbers of one that was never
stopped. On a GPU it agrees as far as two runs of the same pack do, because kernels may add in
another order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.training.events import Evaluated, Event, Probed, ProbedLayer
from harness.training.stepper import Stepper

_BEST = "best/"
_BEFORE = "before/"
_EVALUATED = ("train_loss", "validation_loss", "validation_accuracy")


class Unfit(ValueError):
    """A state that is damaged, or that belongs to another pack; one line says why."""


@dataclass(frozen=True)
class PackState:
    """A pack between two steps.

    Attributes:
        done: the number of steps taken.
        losses: the number of losses in the sum that the next evaluation reads.
        tensors: (trials, ...) by name: parameters, buffers, optimizer state, and what is counted.
        events: the evaluations and probes so far.
    """

    done: int
    losses: int
    tensors: dict[str, Tensor]
    events: list[Event]

    def part(self, trials: Sequence[int]) -> PackState:
        """Returns the state of some trials, in the order in which their positions are given."""

        def cut(tensor: Tensor) -> Tensor:
            return tensor[list(trials)]

        return dataclasses.replace(
            self,
            tensors={name: cut(tensor) for name, tensor in self.tensors.items()},
            events=[_mapped(event, cut) for event in self.events],
        )


def capture(stepper: Stepper, events: Sequence[Event]) -> PackState:
    """Returns the state of a pack after `stepper.done` steps.

    Its tensors are those of the pack where they need no copy, so it is to be written at once.

    Args:
        stepper: takes the pack's steps.
        events: the evaluations and probes so far.
    """
    tensors = dict(_fixed_tensors(stepper))
    if stepper.before is not None:
        for name in stepper.pack.spans:
            tensors[f"{_BEFORE}{name}"] = stepper.pack.parameter_in(stepper.before, name)
    for name, tensor in stepper.optimizer.state().items():
        tensors[f"optimizer/{name}"] = tensor
    return PackState(stepper.done, stepper.losses, tensors, list(events))


@torch.no_grad()
def restore(stepper: Stepper, state: PackState) -> None:
    """Sets a pack that has taken no step yet to a state.

    Raises:
        Unfit: the state is not one of this pack; nothing has changed then.
    """
    _check(stepper, state)
    pack = stepper.pack
    for name, tensor in _fixed_tensors(stepper):
        tensor.copy_(state.tensors[name])
    if _has(state, _BEFORE):
        stepper.before = pack.parameters.clone()
        for name in pack.spans:
            pack.parameter_in(stepper.before, name).copy_(state.tensors[f"{_BEFORE}{name}"])
    stepper.optimizer.load_state(_below("optimizer/", state.tensors))
    stepper.losses = state.losses
    stepper.seek(state.done)


def events_on(device: torch.device, state: PackState) -> list[Event]:
    """Returns the evaluations and probes of a state with their tensors on a device."""
    return [_mapped(event, lambda tensor: tensor.to(device)) for event in state.events]


def to_plain(state: PackState) -> dict[str, Any]:
    """Returns a state as dicts, lists, numbers, texts and tensors in host memory."""
    tensors = {name: _on_host(tensor) for name, tensor in state.tensors.items()}
    events = [_plain_event(_mapped(event, _on_host)) for event in state.events]
    return {"done": state.done, "losses": state.losses, "tensors": tensors, "events": events}


def from_plain(content: Any) -> PackState:
    """Undoes `to_plain`.

    Raises:
        Unfit: the content is something else.
    """
    try:
        events = [_event(plain) for plain in content["events"]]
        state = PackState(
            int(content["done"]), int(content["losses"]), dict(content["tensors"]), events
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Unfit(f"it holds no state of a pack: {error}") from None
    if not all(_holds_numbers(tensor) for tensor in state.tensors.values()):
        raise Unfit("it holds no state of a pack: something else than tensors")
    return state


def _holds_numbers(value: Any) -> bool:
    """Returns whether a value is a tensor that can be copied into another."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _fixed_tensors(stepper: Stepper) -> Iterator[tuple[str, Tensor]]:
    """Gives the tensors of a pack that are there before its first step, by name."""
    pack = stepper.pack
    for name, tensor in pack.state.items():
        yield f"parameter/{name}", tensor.detach()
    for name, tensor in pack.buffers.items():
        # The steps of all dropouts are the pack's own.
        if tensor is not pack.step:
            yield f"buffer/{name}", tensor
    yield "step", pack.step
    yield "diverged_step", stepper.divergence.step
    yield "loss_sum", stepper.loss_sum
    if stepper.best is not None:
        for name, tensor in stepper.best.tensors():
            yield f"{_BEST}{name}", tensor


def _check(stepper: Stepper, state: PackState) -> None:
    """Refuses a state whose tensors or steps do not fit a pack."""
    expected = {name: _kind(tensor) for name, tensor in _fixed_tensors(stepper)}
    # The next probe reads them.
    if _has(state, _BEFORE) or state.done in stepper.plan.probes:
        for name in stepper.pack.spans:
            expected[f"{_BEFORE}{name}"] = expected[f"parameter/{name}"]
    ignored: tuple[str, ...] = ("optimizer/",)
    if stepper.best is None:
        # The pack was to keep its best weights before it was stopped, and is not any more.
        ignored = (*ignored, _BEST)
    elif not _has(state, _BEST):
        raise Unfit("it was written without the best weights, which are to be kept now")
    present = {
        name: _kind(tensor)
        for name, tensor in state.tensors.items()
        if not name.startswith(ignored)
    }
    if present != expected:
        differing = sorted(
            name for name in {*present, *expected} if present.get(name) != expected.get(name)
        )
        raise Unfit(f"{differing[0]} is not that of this pack")
    if not 0 < state.done <= stepper.plan.steps:
        raise Unfit(f"{state.done} steps of {stepper.plan.steps}")
    if not 0 <= state.losses <= state.done:
        raise Unfit(f"{state.losses} losses of {state.done} steps")
    trials = len(stepper.pack.trials)
    for event in state.events:
        _mapped(event, lambda tensor: _with_trials(tensor, trials))
    try:
        stepper.optimizer.check_state(_below("optimizer/", state.tensors))
    except ValueError as error:
        raise Unfit(str(error)) from None


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _has(state: PackState, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state.tensors)


def _with_trials(tensor: Tensor, trials: int) -> Tensor:
    if tensor.dim() == 0 or len(tensor) != trials:
        raise Unfit(f"a measurement is not one of {trials} trials")
    return tensor


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _on_host(tensor: Tensor) -> Tensor:
    # A view would be written with everything that it is a view of.
    return tensor.detach().cpu().contiguous().clone()


def _mapped(event: Event, change: Callable[[Tensor], Tensor]) -> Event:
    """Returns an evaluation or a probe with all its tensors changed."""
    if isinstance(event, Evaluated):
        values = {name: change(getattr(event, name)) for name in _EVALUATED}
        return dataclasses.replace(event, **values)
    if not isinstance(event, Probed):
        raise TypeError(f"{type(event).__name__} is no measurement")
    layers = [_mapped_layer(layer, change) for layer in event.layers]
    sharpness = None if event.sharpness is None else change(event.sharpness)
    return Probed(event.step, layers, sharpness)


def _mapped_layer(layer: ProbedLayer, change: Callable[[Tensor], Tensor]) -> ProbedLayer:
    columns = {name: change(tensor) for name, tensor in layer.columns.items()}
    return dataclasses.replace(layer, columns=columns, histogram=change(layer.histogram))


def _plain_event(event: Event) -> dict[str, Any]:
    if isinstance(event, Evaluated):
        return {"kind": "evaluated", **vars(event)}
    assert isinstance(event, Probed)
    layers = [vars(layer) | {"columns": _stacked(layer.columns)} for layer in event.layers]
    return {"kind": "probed", **vars(event), "layers": layers}


def _event(plain: dict[str, Any]) -> Event:
    values = dict(plain)
    kind = values.pop("kind")
    if kind == "evaluated":
        return Evaluated(**values)
    layers = [
        ProbedLayer(**layer | {"columns": _unstacked(layer["columns"])})
        for layer in values.pop("layers")
    ]
    return Probed(layers=layers, **values)


def _stacked(columns: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Returns columns (trials,) as one tensor (columns, trials) for each type of number.

    Thousands of small tensors take long to write.
    """
    names_of_type: dict[torch.dtype, list[str]] = {}
    for name, tensor in columns.items():
        names_of_type.setdefault(tensor.dtype, []).append(name)
    order = list(columns)
    stacks = []
    for names in names_of_type.values():
        places = [order.index(name) for name in names]
        values = torch.stack([columns[name] for name in names])
        stacks.append({"names": names, "places": places, "values": values})
    return stacks


def _unstacked(stacks: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Undoes `_stacked`; the columns are in their old order, which tables follow."""
    placed = []
    for stack in stacks:
        placed += zip(stack["places"], stack["names"], stack["values"], strict=True)
    return {name: values for _, name, values in sorted(placed, key=lambda entry: entry[0])}
