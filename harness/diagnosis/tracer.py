"""One watched forward pass of any model: which weights feed which activation, and the tensors.

Torch's functions are intercepted (`TorchFunctionMode`), so that `nn.SELU`, `functional.selu` and
`torch.selu_` look the same, a module used twice is seen twice, and the order is that of the calls.
Each tensor remembers the layer it comes from; an activation belongs to the last weights that its
input comes from, through normalizations and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.diagnosis.activation_calls import (
    ACTIVATIONS,
    CLAMPS,
    Elementwise,
    is_own_activation,
    is_rectifier,
    record_activation,
    trace_activation,
)
from harness.diagnosis.arithmetic_calls import trace_product, trace_sum
from harness.diagnosis.function_calls import Call
from harness.diagnosis.structure import Dropout
from harness.diagnosis.surrounding_calls import (
    DROPOUTS,
    NORMALIZATIONS,
    POOLS,
    trace_dropout,
    trace_normalization,
    trace_padding,
    trace_pool,
)
from harness.diagnosis.trace import Listeners, Trace
from harness.diagnosis.weight_calls import (
    TRANSPOSING,
    find_weights,
    remember_transpose,
    trace_weights,
)
from harness.errors import RequestError
from harness.networks.dropouts import AlphaDropout, StandardDropout

_NO_LISTENERS = Listeners()


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
    try:
        with _hooked(model, trace), _Interception(trace):
            trace.output = model(inputs)
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

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        trace = self.trace
        call = Call(func, args, kwargs or {})
        if trace.opaque is not None:
            return call.run()
        if call.name.startswith("__"):
            return _trace_special_method(trace, call)
        weights = find_weights(trace, call)
        if weights is not None:
            return trace_weights(trace, call, weights)
        return _HANDLERS.get(call.base, _trace_other)(trace, call)


def _trace_special_method(trace: Trace, call: Call) -> Any:
    """Runs a special method; of these only indexing and attributes are followed."""
    result = call.run()
    if call.name in ("__getitem__", "__get__"):
        remember_transpose(trace, result, call.args)
    if call.name == "__getitem__":
        return trace.pass_on(call.name, result, call.args)
    return result


def _trace_other(trace: Trace, call: Call) -> Any:
    """Runs a function that is not known to this package."""
    trace.note_unfollowed_weights(call.base, call.tensors)
    result = call.run()
    if call.base in TRANSPOSING:
        remember_transpose(trace, result, call.args)
    return trace.pass_on(call.base, result, call.args)


def _trace_clamp(trace: Trace, call: Call) -> Any:
    return trace_activation(trace, call) if is_rectifier(call) else _trace_other(trace, call)


def _trace_addition(trace: Trace, call: Call) -> Any:
    return trace_sum(trace, call) if len(call.args) > 1 else _trace_other(trace, call)


_HANDLERS: dict[str, Callable[[Trace, Call], Any]] = {
    **dict.fromkeys(ACTIVATIONS, trace_activation),
    **dict.fromkeys(CLAMPS, _trace_clamp),
    **dict.fromkeys(NORMALIZATIONS, trace_normalization),
    **dict.fromkeys(DROPOUTS, trace_dropout),
    **dict.fromkeys(POOLS, trace_pool),
    **dict.fromkeys(("add", "sub"), _trace_addition),
    **dict.fromkeys(("mul", "div"), trace_product),
    "pad": trace_padding,
}


@contextmanager
def _hooked(model: nn.Module, trace: Trace) -> Iterator[None]:
    """Hooks that tell the record which module runs; they are removed in any case."""
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(_entering(trace, name)))
            handles.append(module.register_forward_hook(_leaving(trace)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _entering(trace: Trace, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        trace.module_names.append(name)
        trace.modules.append(module)
        if not inputs or trace.opaque is not None:
            return
        origin = trace.origins.get(inputs[0])
        if origin is not None and origin.stage == "weights":
            # A user's own activation is recorded as a whole, and its functions are not looked at,
            # nor are those of the check.
            trace.opaque = (module, inputs[0])
            if not is_own_activation(module):
                trace.opaque = None

    return enter


def _leaving(trace: Trace) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def leave(module: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        trace.module_names.pop()
        trace.modules.pop()
        if isinstance(module, StandardDropout) and inputs and isinstance(result, Tensor):
            kind = "alpha" if isinstance(module, AlphaDropout) else "standard"
            dropout = Dropout(kind, float(module.get_buffer("rate")))
            trace.note_dropout(inputs[0], inputs[0], result, dropout)
        if trace.opaque is not None and trace.opaque[0] is module:
            _record_own_activation(trace, module, trace.opaque[1], result)
            trace.opaque = None

    return leave


def _record_own_activation(trace: Trace, module: nn.Module, z: Tensor, result: Any) -> None:
    """Records a user's own activation, whose functions were not looked at."""
    if not isinstance(result, Tensor):
        return
    origin = trace.origins.get(z)
    assert origin is not None  # only activations of layers are followed
    if result.shape != z.shape or result is z:
        after = trace.origin_after(type(module).__name__, origin, result)
        trace.origins.remember(result, after)
        return
    layer = origin.layer
    layer.activation = str(getattr(module, "name", type(module).__name__))
    # `forward` itself, because the module's hooks must not run while statistics are taken.
    layer.module = Elementwise(module.forward, {})
    layer.options = {}
    record_activation(trace, origin, z, lambda: result, in_place=False)
