"""Elementwise functions of one tensor, followed through all torch functions that make them up.

An activation is what its values are: `h * torch.sigmoid(h)` is SiLU however it is written. Each
tensor that is computed entry by entry from one pre-activation has a node, and the node at the end
of the chain is the activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# Functions that leave every value as it is.
IDENTITIES = frozenset(
    {"clone", "contiguous", "to", "float", "double", "detach", "type", "requires_grad", "identity"}
)
# Functions that act on every entry alone. With two tensors both come from one pre-activation.
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "true_divide", "neg", "rsub", "rdiv"})
_OTHERS = frozenset(
    {
        "pow",
        "rpow",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log1p",
        "log2",
        "sqrt",
        "rsqrt",
        "square",
        "reciprocal",
        "abs",
        "sign",
        "sgn",
        "maximum",
        "minimum",
        "where",
        "gt",
        "ge",
        "lt",
        "le",
        "eq",
        "ne",
        "logical_not",
        "logical_and",
        "logical_or",
        "masked_fill",
        "heaviside",
        "atan",
        "arctan",
        "asinh",
        "arcsinh",
        "sinh",
        "cosh",
        "addcmul",
        "nan_to_num",
        "special_expit",
        "special_erf",
        "lerp",
        "clip",
        "clamp",
        "clamp_min",
        "clamp_max",
        "max",
        "min",
        "zeros_like",
        "ones_like",
        "full_like",
    }
)


@dataclass(eq=False)
class Node:
    """An elementwise function of one pre-activation, as the last call of a chain.

    Attributes:
        function: the torch function, None for the pre-activation itself.
        args: its arguments; tensors computed from the pre-activation are nodes.
        kwargs: arguments by name, likewise.
        name: torch's name of the function.
        base: the node that counts as the pre-activation: `root`, or a scaled or shifted version of
            it through which everything else passes.
        root: the pre-activation as it left the weights, normalizations or sums.
        affine: True for `root` and versions of it that are scaled and shifted by numbers.
        tensor: the values, kept for bases only.
        modules: the modules that were running, the outermost first.
        peeled: an activation with values of its own that this node only scales or shifts.
        state: whatever the owner of the nodes keeps with a base.
    """

    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    affine: bool
    modules: tuple[nn.Module, ...] = ()
    base: Node = field(init=False)
    root: Node = field(init=False)
    tensor: Tensor | None = None
    peeled: Node | None = None
    state: Any = None

    def __post_init__(self) -> None:
        parents = self.parents()
        if not parents:
            self.base = self.root = self
            return
        self.root = parents[0].root
        bases = {id(parent.base) for parent in parents}
        common = parents[0].base if len(bases) == 1 else self.root
        self.base = self if self.affine else common

    def parents(self) -> list[Node]:
        """Returns the nodes among the arguments."""
        return list(_nodes_in((*self.args, *self.kwargs.values())))

    def rooted(self) -> Callable[[Tensor], Tensor]:
        """Returns this function of values of the root."""
        return lambda x: self.value_at(x, self.root)

    def chain(self, base: Node | None = None) -> list[Node]:
        """Returns all nodes from the base to this one, without the base, in order of the calls."""
        order: list[Node] = []
        seen = {id(base or self.base)}
        stack: list[tuple[Node, bool]] = [(self, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack += [(parent, False) for parent in node.parents()]
        return order

    def value_at(self, x: Tensor, base: Node | None = None) -> Tensor:
        """Returns this function of other values of its base, or of another base."""
        values = {id(base or self.base): x}
        for node in self.chain(base):
            args = tuple(_replaced(value, values, x) for value in node.args)
            kwargs = {name: _replaced(value, values, x) for name, value in node.kwargs.items()}
            assert node.function is not None
            result = node.function(*args, **kwargs)
            # What works in place must not change what others still read.
            values[id(node)] = result
        return values[id(self)]

    def names(self) -> list[str]:
        """Returns torch's names of the functions in order."""
        return [node.name for node in self.chain()]

    def module(self) -> nn.Module | None:
        """Returns the innermost module that all functions of the chain ran in, or None."""
        stacks = [node.modules for node in self.chain()]
        shortest = min(len(stack) for stack in stacks)
        common = None
        for depth in range(shortest):
            if any(stack[depth] is not stacks[0][depth] for stack in stacks):
                break
            common = stacks[0][depth]
        return common


def is_linear_in(node: Node) -> bool:
    """Returns True for a function whose values lie on one line."""
    x = grid()
    try:
        with torch.no_grad():
            y = node.value_at(x)
    except Exception:
        # A user's function may accept its own shapes or precisions only.
        return False
    if y.shape != x.shape or not y.is_floating_point():
        return y.shape == x.shape
    y = y.double()
    line = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return bool(torch.allclose(y, line, atol=1e-6, rtol=1e-6))


class Elementwise(nn.Module):
    """A function of values as a module of one argument."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function."""
        return self.function(x)


def is_elementwise(name: str) -> bool:
    """Returns True for a function that acts on every entry alone."""
    return name in _ARITHMETIC or name in _OTHERS


def is_affine(name: str, parents: list[Node], args: tuple[Any, ...]) -> bool:
    """Returns True for a call that scales or shifts one affine function by a number."""
    if name not in _ARITHMETIC or len(parents) != 1 or not parents[0].affine:
        return False
    divides_by_input = name == "rdiv" or (
        name in ("div", "true_divide") and not isinstance(args[0], Node)
    )
    return not divides_by_input


def is_arithmetic(name: str) -> bool:
    """Returns True for a sum, difference, product or quotient."""
    return name in _ARITHMETIC


def is_constant(value: Any) -> bool:
    """Returns True for what is one number for all entries, or no tensor at all."""
    if isinstance(value, Tensor):
        return value.numel() == 1
    if isinstance(value, (tuple, list)):
        return not any(isinstance(member, Tensor) for member in value)
    return True


def _nodes_in(values: tuple[Any, ...]) -> Iterator[Node]:
    for value in values:
        if isinstance(value, Node):
            yield value


def _replaced(value: Any, values: dict[int, Tensor], like: Tensor) -> Any:
    """Returns an argument for other values of the base, in their precision and on their device."""
    if isinstance(value, Node):
        return values[id(value)].clone()
    if isinstance(value, Tensor):
        held = value.detach().to(like.device)
        return held.to(like.dtype).reshape(()) if held.is_floating_point() else held.reshape(())
    return value


def grid() -> Tensor:
    """Returns the values at which activations are compared, (points,)."""
    return torch.linspace(-8.0, 8.0, 129, dtype=torch.float64)
