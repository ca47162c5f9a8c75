"""Activations that belong to no single layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.networks.tracing.function_calls import Call
from harness.networks.tracing.origins import Origin
from harness.networks.tracing.trace import Trace


def trace_stray(trace: Trace, call: Call) -> Any:
    """Runs an activation that belongs to no single layer."""
    origin = trace.origins.get(call.input)
    if call.base == "prelu" and origin is not None and origin.stage == "weights":
        trace.structure.left_out.append(
            f"{origin.layer.label}: a PReLU with a slope for each unit is not one function of z"
        )
    elif isinstance(call.input, Tensor):
        trace.structure.stray_activations.append(_stray(trace, call.base, origin))
    return trace.pass_on(call.base, call.run(), call.args)


def _stray(trace: Trace, name: str, origin: Origin | None) -> str:
    if origin is None or origin.changed_by is None:
        return f"{name} in {trace.place}"
    return f"{name} in {trace.place} (after {origin.changed_by})"
