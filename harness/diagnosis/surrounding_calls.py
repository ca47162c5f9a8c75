"""The functions around a layer: normalizations, dropouts, pools and padding."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from harness.diagnosis.function_calls import Call
from harness.diagnosis.structure import Dropout, Pool
from harness.diagnosis.trace import Trace

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
    y = _batch_normalized(trace, call) if call.base == "batch_norm" else call.run()
    trace.count_numbers(y)
    origin = trace.origins.get(x)
    if origin is None:
        return y
    kind = NORMALIZATIONS[call.base]
    if origin.stage == "weights":
        origin.layer.normalizations.append(kind)
    elif origin.stage == "activation":
        origin.layer.normalizations_after.append(kind)
    trace.origins.remember(y, origin)
    return y


def _batch_normalized(trace: Trace, call: Call) -> Tensor:
    """Runs a batch normalization, with the batch's own statistics if it never saw a batch."""
    x = call.input
    arguments = call.named(_BATCH_NORM_PARAMETERS)
    several_values = x.numel() > x.shape[1]
    if id(arguments.get("running_mean")) not in trace.fresh_means or not several_values:
        return call.run()
    return functional.batch_norm(
        x,
        None,
        None,
        arguments.get("weight"),
        arguments.get("bias"),
        True,
        0.0,
        arguments.get("eps", 1e-5),
    )


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
    window = call.kwargs.get("output_size", call.args[1] if len(call.args) > 1 else 0)
    window = call.kwargs.get("kernel_size", window)
    adaptive = call.base.startswith("adaptive")
    if adaptive:
        size = max(1, x.shape[-1] // y.shape[-1]) if y.shape[-1] > 1 else 0
        stride = call.kwargs.get("stride")
    else:
        size = max(window) if isinstance(window, (tuple, list)) else window
        stride = call.argument(2, "stride")
    disjoint = stride in (None, [], window)
    if origin.stage != "merged" and size != 1:
        pool = Pool(POOLS[call.base], int(size), origin.stage == "weights", disjoint)
        origin.layer.pools.append(pool)
    trace.origins.remember(y, origin)
    return result


def trace_padding(trace: Trace, call: Call) -> Tensor:
    """Runs a padding, and remembers its mode for the convolution that may follow."""
    x = call.input
    name = "pad" if x.dim() == 4 else "padding"
    y = trace.pass_on(name, call.run(), (x,))
    if x.dim() == 4:
        trace.padded[y] = (call.argument(2, "mode", "constant"), tuple(x.shape[2:]))
    return y
