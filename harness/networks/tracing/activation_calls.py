"""Activations in a forward pass: elementwise functions of what leaves a layer's weights.

A function is recorded when something reads its result that is not elementwise, because only then
it is complete: `h * torch.sigmoid(h)` begins as a sigmoid.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from harness.networks.tracing.activation_names import (
    ACTIVATIONS,
    Function,
    describe,
    is_activation,
    module_name,
    only_scales,
)
from harness.networks.tracing.elementwise import (
    IDENTITIES,
    Node,
    is_affine,
    is_arithmetic,
    is_constant,
    is_elementwise,
)
from harness.networks.tracing.function_calls import Call
from harness.networks.tracing.origins import Origin
from harness.networks.tracing.recognition import Recognised, recognise
from harness.networks.tracing.structure import Layer
from harness.networks.tracing.trace import Activated, Trace, mean_square


@dataclass
class _Base:
    """The origin of a pre-activation, and the listener's answer about it."""

    origin: Origin
    moved: bool = False
    moved_by: str | None = None
    watched: bool = False
    token: Any = None


@dataclass
class _Pending:
    """An elementwise function whose result nothing else has read yet."""

    node: Node
    result: Tensor


class ActivationCalls:
    """The elementwise functions of one forward pass."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._nodes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._pending: dict[int, _Pending] = {}
        self._members: dict[int, list[weakref.ref[Tensor]]] = {}
        # Values of activations that are scaled or shifted afterwards.
        self._peeled: dict[int, Tensor] = {}

    def node_of(self, call: Call) -> Node | None:
        """Returns the node of a call that is elementwise in one pre-activation, else None."""
        name = call.base
        identity = name in IDENTITIES
        if not (identity or name in ACTIVATIONS or is_elementwise(name)):
            return None
        if name in ("max", "min", "where") and len(call.tensors) < 2:
            return None
        if identity and (not call.args or not self._is_base_or_node(call.args[0])):
            return None
        args: list[Any] = []
        for value in call.args:
            argument = self._argument(value)
            if argument is None and value is not None:
                return None
            args.append(argument)
        kwargs: dict[str, Any] = {}
        for key, value in call.kwargs.items():
            argument = self._argument(value)
            if argument is None and value is not None:
                return None
            kwargs[key] = argument
        parents = [value for value in (*args, *kwargs.values()) if isinstance(value, Node)]
        if not parents or any(parent.root is not parents[0].root for parent in parents):
            return None
        if identity:
            return parents[0]
        if name == "add" and self._waits_for_bias(call, parents[0]):
            return None
        return Node(
            function=call.function,
            args=tuple(args),
            kwargs=kwargs,
            name=name,
            affine=is_affine(name, parents, tuple(args)),
            modules=tuple(self.trace.modules),
        )

    def run(self, call: Call, node: Node) -> Tensor:
        """Runs a call that `node_of` gave a node."""
        if call.base in IDENTITIES:
            return self._run_identity(call, node)
        for parent in node.parents():
            self._watch(parent.base)
        first = call.args[0] if call.args else None
        before = None
        if call.base in ("mul", "div") and isinstance(first, Tensor) and len(node.parents()) == 1:
            before = self.trace.unscaled.get(first, mean_square(first))
        if not node.affine:
            self._find_peeled(node, call)
        if call.in_place and node.affine:
            self._copy_outputs(node.parents()[0].state)
        elif call.in_place:
            self._copy_base(node.base)
        y = call.run()
        if before is not None:
            self.trace.unscaled[y] = before
        self._adopt(node, y)
        return y

    def moving(self, source: Any) -> Node | None:
        """Returns a new pre-activation with the values of `source`, or None where it is none."""
        if not isinstance(source, Tensor):
            return None
        node = self._nodes.get(source)
        origin = self.trace.origins.get(source)
        if node is not None and node.function is None:
            state, values = node.state, node.tensor
        elif origin is not None and origin.stage == "weights":
            state, values = _Base(origin), source
        else:
            return None
        leaf = Node(None, (), {}, "", True, tensor=values)
        leaf.state = _Base(state.origin, True, state.moved_by)
        return leaf

    def remember_move(self, leaf: Node, moved: Any, by: str | None) -> None:
        """Records a tensor with a pre-activation's values at other places.

        `by` is the function where theory does not follow it.
        """
        if isinstance(moved, Tensor) and moved is not leaf.tensor:
            leaf.state.moved_by = leaf.state.moved_by or by
            self._add(leaf, moved)

    def enter_module(self, z: Any) -> bool:
        """Returns True where a module is given a pre-activation."""
        if not isinstance(z, Tensor):
            return False
        node = self._nodes.get(z)
        if node is not None:
            return node.affine and (node.tensor is None or node.tensor.shape == z.shape)
        origin = self.trace.origins.get(z)
        return origin is not None and origin.stage == "weights"

    def leave_module(self, module: nn.Module, z: Tensor, result: Tensor) -> None:
        """Records a user's own activation, whose functions were not looked at."""
        base = self._argument(z)
        stack = (*self.trace.modules, module)
        node = Node(module.forward, (base,), {}, module_name(module), False, stack)
        self._watch(base.base)
        self._adopt(node, result)

    def settle(self, tensors: Iterable[Tensor]) -> None:
        """Records the activations that something is about to read."""
        # The record's own functions are none of the model's.
        with torch._C.DisableTorchFunction():
            self._settle(tensors)

    def _settle(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            node = self._nodes.get(tensor)
            origin = self.trace.origins.get(tensor)
            if origin is not None and origin.scaled and origin.stage == "weights":
                origin.layer.scaled = True
            if node is None:
                continue
            pending = self._pending.pop(id(node), None)
            if pending is not None:
                self._record(pending)
                self._share_origin(pending)
            self._clean(node.root)

    def settle_all(self) -> None:
        """Records what nothing has read until the end of the pass."""
        for pending in list(self._pending.values()):
            self.settle([pending.result])

    def _share_origin(self, pending: _Pending) -> None:
        """Gives the origin of an activation to its copies."""
        origin = self.trace.origins.get(pending.result)
        for reference in self._members.get(id(pending.node.root), []):
            tensor = reference()
            if tensor is None or tensor is pending.result or origin is None:
                continue
            if self._nodes.get(tensor) is pending.node:
                self.trace.origins.remember(tensor, origin)

    def _argument(self, value: Any) -> Any:
        """Returns the node of a tensor, another value itself, and None for what is not constant."""
        if not isinstance(value, Tensor):
            return value if is_constant(value) else None
        node = self._nodes.get(value)
        if node is not None:
            return node
        origin = self.trace.origins.get(value)
        if origin is not None and origin.stage == "weights":
            leaf = Node(None, (), {}, "", True, tensor=value)
            leaf.state = _Base(origin)
            return leaf if self._add(leaf, value) else None
        followed = origin is not None or value in self.trace.origins.of_input
        return value if is_constant(value) and not followed else None

    def _is_base_or_node(self, value: Any) -> bool:
        if not isinstance(value, Tensor):
            return False
        origin = self.trace.origins.get(value)
        return value in self._nodes or (origin is not None and origin.stage == "weights")

    def _waits_for_bias(self, call: Call, node: Node) -> bool:
        """Returns True for the sum of one unit's W x and its bias."""
        layer = node.root.state.origin.layer
        others = [value for value in call.args if isinstance(value, Tensor)]
        one_bias = len(others) == 2 and layer.units == 1 and layer.bias is None
        return one_bias and node.function is None

    def _run_identity(self, call: Call, node: Node) -> Tensor:
        source = call.args[0]
        y = call.run()
        if y is source or not isinstance(y, Tensor):
            return y
        self.trace.pass_on(call.base, y, call.args)
        self._add(node, y)
        return y

    def _add(self, node: Node, tensor: Tensor) -> bool:
        self._nodes[tensor] = node
        self._members.setdefault(id(node.root), []).append(weakref.ref(tensor))
        return True

    def _watch(self, base: Node) -> None:
        """Tells the listener of a pre-activation before anything can overwrite it."""
        state = base.state
        if state.watched:
            return
        state.watched = True
        listener = self.trace.listeners.before_activation
        if listener is not None and base.tensor is not None:
            state.token = listener(state.origin.layer, base.tensor)

    def _copy_base(self, base: Node) -> None:
        """Keeps the values of a pre-activation that is about to be overwritten."""
        listeners = self.trace.listeners
        if listeners.on_activation is None or base.tensor is None:
            return
        held = base.state.origin.held
        values = base.tensor.detach()
        base.tensor = values.clone() if listeners.keep is None else listeners.keep(values, held)

    def _copy_outputs(self, state: _Base) -> None:
        """Keeps what left the weights where arithmetic is about to overwrite it."""
        held = state.origin.held
        if self.trace.listeners.on_activation is None or held is None or held.outputs is None:
            return
        kept = replace(held, outputs=held.outputs.detach().clone())
        state.origin = replace(state.origin, held=kept)

    def _find_peeled(self, node: Node, call: Call) -> None:
        """Remembers an activation that a call only scales or shifts."""
        parents = node.parents()
        if len(parents) != 1 or not is_arithmetic(node.name) or node.name == "rdiv":
            return
        if node.name == "div" and not isinstance(node.args[0], Node):
            return
        parent = parents[0]
        if parent.peeled is not None:
            node.peeled = parent.peeled
            self._peeled[id(node)] = self._peeled[id(parent)]
            return
        pending = self._pending.get(id(parent))
        if pending is None or not is_activation(parent):
            return
        node.peeled = parent
        values = pending.result
        keeps = self.trace.listeners.on_activation is not None
        self._peeled[id(node)] = values.clone() if call.in_place and keeps else values

    def _adopt(self, node: Node, y: Tensor) -> None:
        """Takes the result of an elementwise function into the record."""
        self.trace.count_numbers(y)
        for parent in node.parents():
            self._pending.pop(id(parent), None)
            self._peeled.pop(id(parent), None)
        if node.affine:
            parent = node.parents()[0]
            origin = parent.state.origin
            node.tensor = y
            if y is parent.tensor:
                # What left the weights is overwritten.
                parent.tensor = node.root.tensor = None
            state = parent.state
            node.state = _Base(replace(origin, scaled=True), state.moved, state.moved_by)
            self.trace.origins.remember(y, node.state.origin)
        else:
            self.trace.origins.forget(y)
            self._pending[id(node)] = _Pending(node, y)
        self._add(node, y)

    def _record(self, pending: _Pending) -> None:
        """Records an activation and calls the listeners; what is none counts as arithmetic."""
        trace = self.trace
        node, y = pending.node, pending.result
        peeled_values = self._peeled.pop(id(node), None)
        if not y.is_floating_point():
            return
        function, recognised, base = self._recognised(node)
        outer = None
        if node.peeled is not None and peeled_values is not None:
            inner = recognise(node.peeled.value_at)
            if only_scales(recognised, inner):
                outer = node.name
                node = node.peeled
                function, recognised, base = self._recognised(node)
        origin = base.state.origin
        layer = origin.layer
        if recognised is None and not is_activation(node):
            trace.origins.remember(y, replace(origin, scaled=True))
            return
        if layer.activation is not None:
            layer = trace.structure.repeated(layer)
        layer.scaled = layer.scaled or origin.scaled or base is not node.root
        describe(layer, node, function, recognised)
        values = y if outer is None or peeled_values is None else peeled_values
        self._tell(layer, base, values)
        changed_by = base.state.moved_by or outer
        trace.origins.remember(y, Origin(layer, "activation", changed_by=changed_by))

    def _recognised(self, node: Node) -> tuple[Function, Recognised | None, Node]:
        """Returns a node's function of a pre-activation, its name, and that pre-activation.

        That is what left the weights where the function has a name as one of that.
        """
        root = node.root
        if node.base is not root and root.tensor is not None:
            function = node.rooted()
            recognised = recognise(function)
            if recognised is not None:
                return function, recognised, root
        return node.value_at, recognise(node.value_at), node.base

    def _tell(self, layer: Layer, base: Node, values: Tensor) -> None:
        trace = self.trace
        trace.structure.activated.append(layer)
        trace.tokens.append(base.state.token)
        listener = trace.listeners.on_activation
        if listener is None:
            return
        held = base.state.origin.held
        z, module = base.tensor, layer.module
        # Both are there as long as an activation is pending.
        assert z is not None
        assert module is not None
        if base.state.moved:
            with torch.no_grad():
                values = module(z.detach())
        overwritten = held.overwritten
        listener(Activated(layer, held.inputs, held.outputs, z, values, module, overwritten))

    def _clean(self, root: Node) -> None:
        """Lets go of the tensors of a pre-activation that no function waits for."""
        if any(pending.node.root is root for pending in self._pending.values()):
            return
        for reference in self._members.pop(id(root), []):
            tensor = reference()
            node = self._nodes.pop(tensor, None) if tensor is not None else None
            if node is not None:
                node.tensor = None
        root.tensor = None
