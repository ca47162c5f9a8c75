"""Elementwise activations: torch's functions, and a user's own modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.diagnosis.function_calls import Call
from harness.diagnosis.origins import Origin
from harness.diagnosis.trace import Activated, Trace
from harness.networks.dropouts import StandardDropout

# Elementwise activations by torch's names, with the names of their options, in the order in which
# they follow the input.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "selu": (),
    "relu": (),
    "relu6": (),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "leaky_relu": ("negative_slope",),
    "gelu": ("approximate",),
    "silu": (),
    "mish": (),
    "tanh": (),
    "sigmoid": (),
    "softplus": ("beta", "threshold"),
    "softsign": (),
    "hardswish": (),
    "hardsigmoid": (),
    "hardtanh": ("min_val", "max_val"),
    "logsigmoid": (),
    "prelu": ("weight",),
    "rrelu": ("lower", "upper"),
    "threshold": ("threshold", "value"),
    "erf": (),
    "sin": (),
    "cos": (),
    "tanhshrink": (),
    "softshrink": ("lambd",),
    "hardshrink": ("lambd",),
}
CLAMPS = ("clamp", "clamp_min")


class Elementwise(nn.Module):
    """A torch function with its options as a module of one argument."""

    def __init__(self, function: Callable[..., Tensor], options: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function."""
        return self.function(x, **self.options)


def is_rectifier(call: Call) -> bool:
    """Returns True for a clamp that is a ReLU."""
    low = call.argument(1, "min")
    high = call.argument(2, "max")
    at_zero = isinstance(low, (int, float)) and low == 0
    return call.base in CLAMPS and at_zero and high is None


def trace_activation(trace: Trace, call: Call) -> Tensor:
    """Runs an activation, and records the layer that it belongs to."""
    z = call.input
    origin = trace.origins.get(z)
    name = call.base
    if origin is None or origin.stage != "weights":
        trace.structure.stray_activations.append(_stray(trace, name, origin))
        return trace.pass_on(name, call.run(), call.args)
    options = _options(call)
    if name == "prelu" and options["weight"].numel() > 1:
        trace.structure.left_out.append(
            f"{origin.layer.label}: a PReLU with a slope for each unit is not one function of z"
        )
        return trace.pass_on(name, call.run(), call.args)
    if name == "prelu":
        # With one slope it is a leaky ReLU, in any precision.
        name = "leaky_relu"
        options = {"negative_slope": float(options["weight"].detach())}
    origin.layer.activation = name
    origin.layer.module = _module(name, options)
    origin.layer.options = _numbers(options)
    in_place = call.in_place or bool(call.kwargs.get("inplace", False))
    return record_activation(trace, origin, z, call.run, in_place)


def record_activation(
    trace: Trace, origin: Origin, z: Tensor, run: Callable[[], Tensor], in_place: bool
) -> Tensor:
    """Runs the activation of a layer, calls the listeners and returns the result.

    Args:
        trace: the record of the pass.
        origin: that of `z`, at the stage "weights", with a layer whose activation is described.
        z: the pre-activation.
        run: computes the activation.
        in_place: True where that overwrites `z`.
    """
    layer = origin.layer
    listeners = trace.listeners
    if listeners.before_activation is not None:
        listeners.before_activation(layer, z)
    kept = z
    if in_place and listeners.on_activation is not None:
        copied = z.detach()
        kept = copied.clone() if listeners.keep is None else listeners.keep(copied)
    y = run()
    trace.count_numbers(y)
    trace.structure.activated.append(layer)
    trace.origins.remember(y, Origin(layer, "activation"))
    if listeners.on_activation is not None:
        held, module = origin.held, layer.module
        assert held is not None  # as at every pre-activation
        assert held.outputs is not None
        assert module is not None
        listeners.on_activation(Activated(layer, held.inputs, held.outputs, kept, y, module))
    return y


def is_own_activation(module: nn.Module) -> bool:
    """Returns True for a user's module without parts that acts on every entry alone."""
    if type(module).__module__.startswith("torch.") or isinstance(module, StandardDropout):
        return False
    parts = (module.children(), module.parameters(), module.buffers())
    if any(next(part, None) is not None for part in parts):
        return False
    x = torch.linspace(-2.0, 2.0, 24).view(2, 12)
    moved = x.clone()
    moved[0, 5] += 1.0
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            change = module.forward(moved) - module.forward(x)
    except Exception:
        # A user's code may raise anything on a tensor of another shape; it is no activation then.
        return False
    others = torch.ones_like(x, dtype=torch.bool)
    others[0, 5] = False
    if change.shape != x.shape or bool((change[others] != 0).any()):
        return False
    return bool(change[0, 5] != 0)


def _stray(trace: Trace, name: str, origin: Origin | None) -> str:
    if origin is None or origin.changed_by is None:
        return f"{name} in {trace.place}"
    return f"{name} in {trace.place} (after {origin.changed_by})"


def _options(call: Call) -> dict[str, Any]:
    """Returns the arguments of an activation by name, apart from its input."""
    names = ACTIVATIONS.get(call.base, ())
    options = dict(zip(names, call.args[1:], strict=False))
    for name, value in call.kwargs.items():
        if name not in ("input", "inplace"):
            options[name] = value
    return options


def _numbers(options: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value) for name, value in options.items() if isinstance(value, (int, float))
    }


def _module(name: str, options: dict[str, Any]) -> nn.Module:
    """Returns an activation as a module of one argument."""
    if name == "selu":
        return nn.SELU()
    if name in (*CLAMPS, "relu"):
        return nn.ReLU()
    function = getattr(functional, name, None) or getattr(torch, name)
    detached = {
        option: value.detach() if isinstance(value, Tensor) else value
        for option, value in options.items()
    }
    return Elementwise(function, detached)
