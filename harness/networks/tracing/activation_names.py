"""Names of elementwise functions, and the modules of a user that are such functions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.networks.dropouts import StandardDropout
from harness.networks.tracing.elementwise import Elementwise, Node, is_linear_in
from harness.networks.tracing.recognition import Recognised, is_meant_as_selu, recognise
from harness.networks.tracing.structure import Layer

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
# Functions that bend a line, so that what they are part of is meant as an activation.
_BENDING = frozenset(
    {"where", "maximum", "minimum", "max", "min", "masked_fill", "clamp", "clamp_min", "clip"}
)
_STANDARD_MODULES = {"selu": nn.SELU, "relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}

Function = Callable[[Tensor], Tensor]


def is_activation(node: Node) -> bool:
    """Returns True for a function that is an activation, not arithmetic or a mask."""
    if recognise(node.value_at) is not None:
        return True
    if is_linear_in(node):
        return False
    names = node.names()
    own = any(
        isinstance(getattr(part.function, "__self__", None), nn.Module) for part in node.chain()
    )
    return own or any(name in ACTIVATIONS or name in _BENDING for name in names)


def only_scales(whole: Recognised | None, inner: Recognised | None) -> bool:
    """Returns True where arithmetic follows the activation `inner` and makes no other of it.

    An ELU times a number is a SELU if the number is, or is meant to be, SELU's.
    """
    if whole is None:
        return True
    if whole.name != "scaled_elu":
        return False
    return (inner is not None and inner.name == "selu") or not is_meant_as_selu(whole)


def describe(layer: Layer, node: Node, function: Function, recognised: Recognised | None) -> None:
    """Writes the name, the options and the function of an activation into its layer."""
    chain = node.chain()
    layer.module = Elementwise(lambda x: function(x))
    if recognised is not None:
        layer.activation = recognised.name
        layer.options = dict(recognised.options)
        if recognised.name in _STANDARD_MODULES:
            layer.module = _STANDARD_MODULES[recognised.name]()
    elif len(chain) == 1 and node.name in ACTIVATIONS:
        layer.activation = node.name
        layer.options = _options(node)
    else:
        layer.activation = _custom_name(node)
        layer.options = {}


def _custom_name(node: Node) -> str:
    chain = node.chain()
    owner = getattr(node.function, "__self__", None)
    if len(chain) == 1 and isinstance(owner, nn.Module):
        return node.name
    module = node.module()
    stacks = [part.modules for part in chain]
    if module is not None and any(stack[0] is not module for stack in stacks):
        has_parts = next(module.children(), None) is not None
        if not has_parts and not _of_torch(module):
            return module_name(module)
    return f"custom ({', '.join(dict.fromkeys(node.names()))})"


def module_name(module: nn.Module) -> str:
    """Returns a module's own name for itself, or that of its class."""
    return str(getattr(module, "name", type(module).__name__))


def _options(node: Node) -> dict[str, float]:
    """Returns the numbers among the arguments of an activation, apart from its input."""
    named = dict(zip(ACTIVATIONS[node.name], node.args[1:], strict=False)) | node.kwargs
    numbers: dict[str, float] = {}
    for name, value in named.items():
        if name != "inplace" and isinstance(value, (int, float)):
            numbers[name] = float(value)
    return numbers


def own_activation(module: nn.Module) -> nn.Module | None:
    """Returns a copy of a user's module that acts on every entry alone, None for any other.

    The copy is what is called, so that whatever the module keeps for itself stays as it is.
    """
    if _of_torch(module) or isinstance(module, StandardDropout):
        return None
    parts = (module.children(), module.parameters(), module.buffers())
    if any(next(part, None) is not None for part in parts):
        return None
    x = torch.linspace(-2.0, 2.0, 24).view(2, 12)
    moved = x.clone()
    moved[0, 5] += 1.0
    try:
        copied = copy.deepcopy(module)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            change = copied.forward(moved) - copied.forward(x)
    except Exception:
        # A user's code may raise anything on a tensor of another shape; it is no activation then.
        return None
    others = torch.ones_like(x, dtype=torch.bool)
    others[0, 5] = False
    if change.shape != x.shape or bool((change[others] != 0).any()):
        return None
    return copied if bool(change[0, 5] != 0) else None


def _of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")
