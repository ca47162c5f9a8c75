"""The functions around a layer: normalizations, dropouts, pools and padding."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from harness.networks.tracing.function_calls import Call
from harness.networks.tracing.structure import Dropout, Pool
from harness.networks.tracing.trace import Trace

NORMALIZATIONS = {
    "batch_norm": "batch",
    "layer_norm": "layer",
    "group_norm": "group",
    "instance_norm": "instance",
    "rms_norm": "rms",
    "local_response_norm": "local response",
}
DROPOUTS = {
    "dropout": "standard",
    "dropout1d": "standard",
    "dropout2d": "standard",
    "dropout3d": "standard",
    "feature_dropout": "standard",
    "alpha_dropout": "alpha",
    "feature_alpha_dropout": "alpha",
}
_BATCH_NORM_PARAMETERS = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "training",
    "momentum",
    "eps",
)

_NORM_PARAMETERS = ("input", "normalized_shape", "weight", "bias", "eps")
_EPSILON = 1e-5
# Theory has an epsilon of 1e-5; another one matters where it is no longer small beside 1.
_LARGEST_EPSILON = 1e-3


def _pool_kinds() -> dict[str, str]:
    """Returns "max" or "average" by the names of torch's functions."""
    kinds: dict[str, str] = {}
    for dimensions in (1, 2, 3):
        for prefix in ("", "adaptive_"):
            kinds[f"{prefix}max_pool{dimensions}d"] = "max"
            kinds[f"{prefix}max_pool{dimensions}d_with_indices"] = "max"
            kinds[f"{prefix}avg_pool{dimensions}d"] = "average"
    return kinds


POOLS = _pool_kinds()


def trace_normalization(trace: Trace, call: Call) -> Tensor:
    """Runs a normalization, and records its kind at the layer that it follows."""
    x = call.input
    fresh = call.base == "batch_norm" and _uses_its_batch(trace, call)
    y = _batch_normalized(call) if fresh else call.run()
    origin = trace.origins.get(x)
    kind = NORMALIZATIONS[call.base]
    if origin is None:
        return trace.pass_on(f"a {kind} normalization", y, (x,))
    trace.count_numbers(y)
    origin.layer.undescribed += _undescribed(call, fresh)
    if origin.stage == "weights":
        origin.layer.normalizations.append(kind)
    elif origin.stage == "activation":
        origin.layer.normalizations_after.append(kind)
    trace.origins.remember(y, origin)
    return y


def _uses_its_batch(trace: Trace, call: Call) -> bool:
    """Returns True for a batch normalization that never saw a batch, and can use this one."""
    arguments = call.named(_BATCH_NORM_PARAMETERS)
    x = call.input
    return id(arguments.get("running_mean")) in trace.fresh_means and x.numel() > x.shape[1]


def _batch_normalized(call: Call) -> Tensor:
    """Runs a batch normalization with the batch's own statistics."""
    arguments = call.named(_BATCH_NORM_PARAMETERS)
    return functional.batch_norm(
        call.input,
        None,
        None,
        arguments.get("weight"),
        arguments.get("bias"),
        True,
        0.0,
        arguments.get("eps", _EPSILON),
    )


def _undescribed(call: Call, fresh: bool) -> list[str]:
    """Returns what theory does not describe in a normalization."""
    kind = NORMALIZATIONS[call.base]
    names = _BATCH_NORM_PARAMETERS if call.base == "batch_norm" else _NORM_PARAMETERS
    arguments = call.named(names)
    reasons: list[str] = []
    weight, bias = arguments.get("weight"), arguments.get("bias")
    scales = isinstance(weight, Tensor) and bool((weight != 1).any())
    shifts = isinstance(bias, Tensor) and bool((bias != 0).any())
    if scales or shifts:
        reasons.append(f"a {kind} normalization with factors or shifts of its own")
    if call.base == "batch_norm" and not fresh and not arguments.get("training", False):
        reasons.append("a batch normalization with running statistics")
    epsilon = arguments.get("eps")
    if isinstance(epsilon, float) and epsilon > _LARGEST_EPSILON:
        reasons.append(f"a {kind} normalization with an epsilon of {epsilon:g}")
    return reasons


def trace_dropout(trace: Trace, call: Call) -> Tensor:
    """Runs a dropout, and records it at the layer that it follows."""
    x = call.input
    arguments = call.named(("input", "p", "training", "inplace"))
    rate = float(arguments.get("p", 0.5))
    acts = bool(arguments.get("train", arguments.get("training", True)))
    overwrites = call.in_place or arguments.get("inplace", False)
    values = x
    if trace.listeners.on_dropout is not None and overwrites:
        values = x.detach().clone()
    y = call.run()
    by_module = bool(trace.modules) and isinstance(trace.modules[-1], _DropoutNd)
    if rate > 0 and not by_module:
        acting = ", acting in evaluation too" if acts else ""
        trace.structure.functional_dropouts.append(f"rate {rate:g} in {trace.place}{acting}")
    trace.note_dropout(x, values, y, Dropout(DROPOUTS[call.base], rate))
    return y


def trace_pool(trace: Trace, call: Call) -> Any:
    """Runs a pooling, and records it at the layer that it follows."""
    result = call.run()
    x = call.input
    y = result[0] if isinstance(result, tuple) else result
    origin = trace.origins.get(x)
    if origin is None:
        return result
    pool = _pool(call, x, y, origin.stage == "weights")
    if origin.stage != "merged" and pool.entries != 1:
        origin.layer.pools.append(pool)
    trace.origins.remember(y, origin)
    return result


def _pool(call: Call, x: Tensor, y: Tensor, before_activation: bool) -> Pool:
    """Describes a pooling from its arguments and its result."""
    rank = int(call.base.partition("_pool")[2][0])
    before, after = tuple(x.shape[-rank:]), tuple(y.shape[-rank:])
    whole = all(size == 1 for size in after)
    if call.base.startswith("adaptive"):
        window = tuple(-(-size // parts) for size, parts in zip(before, after, strict=True))
        divides = all(size % parts == 0 for size, parts in zip(before, after, strict=True))
        return Pool(POOLS[call.base], window, before_activation, divides, whole)
    window = _sides(call.argument(1, "kernel_size"), rank)
    stride = call.argument(2, "stride")
    steps = window if stride in (None, [], ()) else _sides(stride, rank)
    whole = whole and window == before
    disjoint = all(step >= size for step, size in zip(steps, window, strict=True))
    exact = disjoint and steps == window
    return Pool(POOLS[call.base], window, before_activation, exact, whole)


def _sides(value: Any, rank: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(int(size) for size in (values if len(values) == rank else values * rank))


def trace_padding(trace: Trace, call: Call) -> Tensor:
    """Runs a padding, and remembers its mode for the convolution that may follow."""
    x = call.input
    y = trace.pass_on("pad", call.run(), (x,))
    trace.padded[y] = (call.argument(2, "mode", "constant"), tuple(x.shape[2:]))
    return y
