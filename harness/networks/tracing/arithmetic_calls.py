"""Sums of two branches, added biases, and products with a number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from harness.networks.tracing.function_calls import Call
from harness.networks.tracing.origins import Origin
from harness.networks.tracing.structure import Layer, Sum
from harness.networks.tracing.trace import Trace, mean_square


def trace_product(trace: Trace, call: Call) -> Any:
    """Runs a product or quotient.

    Where one factor is a number, the mean square that the other one had before is remembered.
    """
    terms = [value for value in call.args if isinstance(value, Tensor) and value.numel() > 1]
    before = None
    if len(terms) == 1 and _is_followed(trace, terms[0]):
        before = trace.unscaled.get(terms[0], mean_square(terms[0]))
    y = trace.pass_on(call.base, call.run(), call.args)
    if before is not None and isinstance(y, Tensor):
        trace.unscaled[y] = before
    return y


def trace_sum(trace: Trace, call: Call) -> Any:
    """Runs a sum or difference.

    Two terms of one shape that both come from the model's input make a residual sum; a vector of
    one number a unit is a bias.
    """
    a, b = call.args[0], call.args[1]
    origins = [trace.origins.get(a), trace.origins.get(b)]
    tensors = isinstance(a, Tensor) and isinstance(b, Tensor)
    if not tensors or origins == [None, None]:
        return trace.pass_on(call.base, call.run(), call.args)
    if a.shape != b.shape:
        return _trace_bias(trace, call, origins)
    if not _is_followed(trace, a) or not _is_followed(trace, b):
        return trace.pass_on(call.base, call.run(), call.args)
    return _trace_residual(trace, call, origins)


def _is_followed(trace: Trace, tensor: Tensor) -> bool:
    """Returns True for a tensor that comes from the model's input, through layers or not."""
    return tensor in trace.origins.of_input or tensor in trace.origins


def _trace_bias(trace: Trace, call: Call, origins: list[Origin | None]) -> Any:
    """Runs a sum of two shapes, and records the smaller term if it is a layer's bias."""
    first, second = origins
    other = call.args[0] if first is None else call.args[1]
    origin = second if first is None else first
    assert origin is not None  # one of the two comes from weights
    layer = origin.layer
    held = origin.held
    outputs = None if held is None else held.outputs
    waits_for_bias = origin.stage == "weights" and layer.bias is None and layer.direct
    if not waits_for_bias or origin.scaled or held is None or outputs is None:
        return trace.pass_on(call.base, call.run(), call.args)
    if not _is_bias(trace, other, layer, outputs):
        return trace.pass_on(call.base, call.run(), call.args)
    layer.bias = other.detach().flatten()
    y = call.run()
    trace.origins.remember(y, replace(origin, held=replace(held, outputs=y)))
    return y


def _is_bias(trace: Trace, term: Tensor, layer: Layer, outputs: Tensor) -> bool:
    """Returns True for one number a unit that does not depend on the model's input."""
    if _is_followed(trace, term) or term.numel() != layer.units or term.dim() > outputs.dim():
        return False
    shape = (1,) * (outputs.dim() - term.dim()) + tuple(term.shape)
    axis = outputs.dim() - 1 if layer.kind == "linear" else 1
    return shape[axis] == layer.units


def _trace_residual(trace: Trace, call: Call, origins: list[Origin | None]) -> Tensor:
    a, b = call.args[0], call.args[1]
    overwritten = origins[0]
    if call.in_place and overwritten is not None and overwritten.held is not None:
        held = overwritten.held
        if held.outputs is not None and held.outputs is a:
            copied: Tensor = a.detach().clone()
            origins[0] = replace(overwritten, held=replace(held, outputs=copied))
    square_a = trace.unscaled.get(a, mean_square(a))
    square_b = trace.unscaled.get(b, mean_square(b))
    y = call.run()
    carrier = _carrier(trace, origins)
    if carrier is origins[0]:
        branch, skip = square_a, square_b
    else:
        branch, skip = square_b, square_a
    trace.structure.sums.append(Sum(carrier.layer, branch, skip, mean_square(y)))
    carrier.layer.residual = carrier.layer.residual or carrier.stage == "weights"
    trace.origins.remember(y, carrier)
    return y


def _carrier(trace: Trace, origins: list[Origin | None]) -> Origin:
    """Returns the term whose layer the sum belongs to.

    It is the one that came through more layers, because a skip may have weights too; terms before
    an activation come first.
    """
    candidates = [origin for origin in origins if origin is not None]
    candidates.sort(key=lambda origin: (origin.layer.depth, origin.layer.number))
    before_activation = [origin for origin in candidates if origin.stage == "weights"]
    return (before_activation or candidates)[-1]
