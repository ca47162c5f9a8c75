"""One watched forward pass of any model: which weights feed which activation, and the tensors.

Torch's functions are intercepted (`TorchFunctionMode`), so that `nn.SELU`, `functional.selu` and
`torch.selu_` look the same, a module used twice is seen twice, and the order is that of the calls.
Each tensor remembers the layer it comes from; an activation belongs to the last weights that its
input comes from, through normalizations and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.errors import RequestError
from harness.networks.dropouts import AlphaDropout, StandardDropout
from harness.networks.tracing.activation_calls import ActivationCalls
from harness.networks.tracing.activation_names import ACTIVATIONS, own_activation
from harness.networks.tracing.arithmetic_calls import trace_product, trace_sum
from harness.networks.tracing.elementwise import Node
from harness.networks.tracing.function_calls import Call
from harness.networks.tracing.stray_activations import trace_stray
from harness.networks.tracing.structure import Dropout
from harness.networks.tracing.surrounding_calls import (
    DROPOUTS,
    NORMALIZATIONS,
    POOLS,
    trace_dropout,
    trace_normalization,
    trace_padding,
    trace_pool,
)
from harness.networks.tracing.trace import MOVES, REARRANGED, WORDS, Listeners, Trace
from harness.networks.tracing.weight_calls import (
    TRANSPOSING,
    find_weights,
    remember_transpose,
    trace_weights,
)

_NO_LISTENERS = Listeners()
# Functions of a tensor that read none of its values.
_METADATA = frozenset(
    {
        "dim",
        "size",
        "numel",
        "nelement",
        "ndimension",
        "stride",
        "is_contiguous",
        "is_floating_point",
        "is_complex",
        "is_inference",
        "storage_offset",
        "element_size",
        "data_ptr",
        "get_device",
        "len",
        "hash",
        "is_same_size",
        "register_hook",
        "retain_grad",
    }
)


def run_traced(model: nn.Module, inputs: Tensor, listeners: Listeners = _NO_LISTENERS) -> Trace:
    """Runs a forward pass of a model and returns its record.

    Args:
        model: any module.
        inputs: (samples, ...), on the model's device.
        listeners: called while the pass runs.

    Raises:
        RequestError: the model raises an exception; the message says where.
    """
    trace = Trace(model, inputs, listeners)
    activations = ActivationCalls(trace)
    try:
        with _hooked(model, trace, activations), _Interception(trace, activations):
            trace.output = model(inputs)
        activations.settle_all()
    except RequestError:
        raise
    except Exception as error:
        # A user's code may raise anything; the message says where.
        place = f" in {trace.module_name}" if trace.module_name else ""
        lines = [line.strip() for line in str(error).splitlines()]
        first_line = next((line for line in lines if line), "")
        raise RequestError(
            f"the model failed{place} on inputs of shape {tuple(inputs.shape)}: "
            f"{type(error).__name__}: {first_line}"
        ) from error
    return trace


class _Interception(TorchFunctionMode):
    """Passes every torch function to the part of the record that it concerns."""

    def __init__(self, trace: Trace, activations: ActivationCalls) -> None:
        super().__init__()
        self.trace = trace
        self.activations = activations

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        trace, activations = self.trace, self.activations
        call = Call(func, args, kwargs or {})
        if trace.opaque is not None or _reads_no_values(call):
            return call.run()
        node = activations.node_of(call)
        if node is not None:
            return activations.run(call, node)
        moving = activations.moving(call.args[0]) if call.args else None
        activations.settle(call.tensors)
        weights = find_weights(trace, call)
        if weights is not None:
            # Activations of branches stand in the order in which they ran.
            activations.settle_all()
            return trace_weights(trace, call, weights)
        if _is_whole_selection(call):
            return trace.pass_on("identity", call.run(), call.args)
        result = _HANDLERS.get(call.base, _trace_other)(trace, call)
        if moving is not None:
            self._follow_move(call, moving, result)
        return result

    def _follow_move(self, call: Call, moving: Node, result: Any) -> None:
        """Records a result that holds the values of a pre-activation at other places."""
        trace = self.trace
        if call.base in MOVES or _repeats(call) or _keeps_units(trace, call, result):
            word = None if call.base in REARRANGED else WORDS.get(call.base, call.base)
            self.activations.remember_move(moving, result, word)


def _reads_no_values(call: Call) -> bool:
    """Returns True for a call that gives sizes and the like, and no tensor of values."""
    if call.base == "get":
        # Properties: those that give the same values again are tensors.
        owner = getattr(call.function, "__self__", None)
        return getattr(owner, "__name__", "") not in ("T", "mT", "H", "mH", "data")
    return call.base in _METADATA


def _is_whole_selection(call: Call) -> bool:
    """Returns True for `z[:]`, `z[...]` and `z.data`, which are z itself."""
    if call.base == "get":
        return getattr(getattr(call.function, "__self__", None), "__name__", "") == "data"
    if call.base != "getitem" or not isinstance(call.args[0], Tensor):
        return False
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    return all(part is Ellipsis or part == slice(None) for part in index if _is_plain(part)) and (
        all(_is_plain(part) for part in index)
    )


def _is_plain(part: Any) -> bool:
    return part is Ellipsis or isinstance(part, slice)


def _repeats(call: Call) -> bool:
    """Returns True for an upsampling that repeats values."""
    return call.base == "interpolate" and call.argument(3, "mode", "nearest") == "nearest"


def _keeps_units(trace: Trace, call: Call, result: Any) -> bool:
    """Returns True for a choice of entries that leaves every unit of a layer there."""
    if (
        call.base != "getitem"
        or not isinstance(result, Tensor)
        or not isinstance(call.args[0], Tensor)
    ):
        return False
    source = call.args[0]
    origin = trace.origins.get(source)
    if origin is None or origin.stage != "weights" or result.dim() != source.dim():
        return False
    axis = source.dim() - 1 if origin.layer.kind == "linear" else 1
    return result.shape[axis] == source.shape[axis] and len(result) == len(source)


def _trace_other(trace: Trace, call: Call) -> Any:
    trace.note_unfollowed_weights(call.base, call.tensors)
    result = call.run()
    if call.base in (*TRANSPOSING, "get", "getitem"):
        remember_transpose(trace, result, call.args)
    name = "transpose" if call.base == "get" else call.base
    passed = trace.pass_on(name, result, (*call.args, *call.kwargs.values()))
    if call.base == "setitem":
        _mark_assignment(trace, call.args[0])
    return passed


def _mark_assignment(trace: Trace, changed: Tensor) -> None:
    """Records that entries of a tensor were assigned, which no function returns."""
    word = WORDS["setitem"]
    origin = trace.origins.get(changed)
    if origin is not None and origin.stage == "weights":
        trace.origins.remember(changed, replace(origin, scaled=True))
    elif origin is not None:
        trace.origins.remember(changed, replace(origin, changed_by=origin.changed_by or word))
    elif changed in trace.origins.of_input:
        trace.origins.of_input[changed] = trace.origins.of_input[changed] or word


def _trace_addition(trace: Trace, call: Call) -> Any:
    return trace_sum(trace, call) if len(call.args) > 1 else _trace_other(trace, call)


_HANDLERS: dict[str, Callable[[Trace, Call], Any]] = {
    **dict.fromkeys(ACTIVATIONS, trace_stray),
    **dict.fromkeys(NORMALIZATIONS, trace_normalization),
    **dict.fromkeys(DROPOUTS, trace_dropout),
    **dict.fromkeys(POOLS, trace_pool),
    **dict.fromkeys(("add", "sub"), _trace_addition),
    **dict.fromkeys(("mul", "div"), trace_product),
    "pad": trace_padding,
}


@contextmanager
def _hooked(model: nn.Module, trace: Trace, activations: ActivationCalls) -> Iterator[None]:
    """Hooks that tell the record which module runs; they are removed in any case."""
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(_entering(trace, name, activations)))
            handles.append(module.register_forward_hook(_leaving(trace, activations)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _entering(
    trace: Trace, name: str, activations: ActivationCalls
) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        trace.module_names.append(name)
        trace.modules.append(module)
        if inputs and isinstance(module, StandardDropout):
            activations.settle(inputs)
        if not inputs or trace.opaque is not None or not activations.enter_module(inputs[0]):
            return
        # A user's own activation is recorded as a whole, and its functions are not looked at,
        # nor are those of the check.
        trace.opaque = (module, module, inputs[0])
        copied = own_activation(module)
        trace.opaque = None if copied is None else (module, copied, inputs[0])

    return enter


def _leaving(
    trace: Trace, activations: ActivationCalls
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def leave(module: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        trace.module_names.pop()
        trace.modules.pop()
        if isinstance(module, StandardDropout) and inputs and isinstance(result, Tensor):
            kind = "alpha" if isinstance(module, AlphaDropout) else "standard"
            dropout = Dropout(kind, float(module.get_buffer("rate")))
            trace.note_dropout(inputs[0], inputs[0], result, dropout)
        if trace.opaque is None or trace.opaque[0] is not module:
            return
        _, copied, z = trace.opaque
        trace.opaque = None
        if not isinstance(result, Tensor):
            return
        if result.shape != z.shape or result is z:
            origin = trace.origins.get(z)
            if origin is not None:
                after = trace.origin_after(type(module).__name__, origin, result)
                trace.origins.remember(result, after)
            return
        activations.leave_module(copied, z, result)

    return leave
