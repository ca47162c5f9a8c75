"""Linear and convolutional weights, as torch's functions show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from harness.networks.tracing.function_calls import Call
from harness.networks.tracing.input_statistics import InputStatistics
from harness.networks.tracing.origins import Held, Origin, version_of
from harness.networks.tracing.structure import Layer
from harness.networks.tracing.trace import Trace

# Functions whose second argument is the weight, with the names of their parameters.
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_WEIGHT_FUNCTIONS = ("linear", "conv1d", "conv2d", "conv3d", *_TRANSPOSED)
_PARAMETERS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_PARAMETERS = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "dilation",
)
# Functions that return the transpose of a matrix.
TRANSPOSING = ("t", "transpose", "permute")


@dataclass(frozen=True)
class WeightUse:
    """A use of weights.

    Attributes:
        kind: torch's name of the function.
        inputs: what enters the weights.
        weight: (units, inputs per group, ...).
        bias: (units,), or None.
        label: the name of the parameter, None where it is found by `weight`.
        options: arguments of a convolution by name.
    """

    kind: str
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    label: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def find_weights(trace: Trace, call: Call) -> WeightUse | None:
    """Returns the weights that a function uses, None where it is none that can be followed."""
    if call.base in _WEIGHT_FUNCTIONS:
        names = _TRANSPOSED_PARAMETERS if call.base in _TRANSPOSED else _PARAMETERS
        arguments = call.named(names)
        return WeightUse(
            kind=call.base,
            inputs=arguments["input"],
            weight=arguments["weight"],
            bias=arguments.get("bias"),
            options=arguments,
        )
    return _matrix_product(trace, call)


def _matrix_product(trace: Trace, call: Call) -> WeightUse | None:
    """Returns a product x W as a linear layer, where W is a parameter or its transpose."""
    if call.base not in ("matmul", "mm", "addmm") or len(call.args) < 2:
        return None
    x, factor = call.args[-2:]
    if not isinstance(factor, Tensor) or factor.dim() != 2:
        return None
    parameter = trace.transposes.get(factor)
    if parameter is None and id(factor) not in trace.parameter_names:
        return None
    bias = call.args[0] if call.base == "addmm" and call.args[0].dim() == 1 else None
    if parameter is None:
        label = trace.parameter_names[id(factor)]
        return WeightUse("linear", x, factor.detach().t(), bias, label)
    label = trace.parameter_names[id(parameter)]
    return WeightUse("linear", x, parameter.detach(), bias, label)


def remember_transpose(trace: Trace, result: Any, args: tuple[Any, ...]) -> None:
    """Records `result` if it is the transpose of a parameter, the first of `args`."""
    if not args or id(args[0]) not in trace.parameter_names:
        return
    parameter = args[0]
    if not isinstance(result, Tensor) or result.dim() != 2:
        return
    same_memory = (
        result.shape == parameter.shape[::-1] and result.data_ptr() == parameter.data_ptr()
    )
    if same_memory:
        trace.transposes[result] = parameter


def trace_weights(trace: Trace, call: Call, use: WeightUse) -> Tensor:
    """Runs a function that uses weights, and records a layer."""
    outputs = call.run()
    followed = use.inputs in trace.origins or use.inputs in trace.origins.of_input
    if use.kind in _TRANSPOSED and use.options.get("groups", 1) != 1:
        trace.structure.left_out.append(f"{_label(trace, use)}: a transposed convolution in groups")
        return trace.pass_on(use.kind, outputs, (use.inputs,))
    if followed:
        trace.count_numbers(use.inputs)
        trace.count_numbers(outputs)
    layer = _layer(trace, use)
    if layer.reads_model_input and layer.input_function and trace.structure.entering is None:
        trace.structure.entering = InputStatistics.measured(use.inputs.detach())
    trace.structure.append(layer)
    held = Held(use.inputs, outputs, version_of(use.inputs))
    trace.origins.remember(outputs, Origin(layer, "weights", held))
    return outputs


def _layer(trace: Trace, use: WeightUse) -> Layer:
    source = trace.origins.get(use.inputs)
    label = _label(trace, use)
    trace.calls[label] += 1
    weight = _acting(use)
    groups = use.options.get("groups", 1)
    if source is not None:
        input_function = source.changed_by
    else:
        input_function = trace.origins.of_input.get(use.inputs)
    layer = Layer(
        name=label,
        call=trace.calls[label],
        kind=use.kind,
        weight=weight.detach(),
        bias=None if use.bias is None else use.bias.detach(),
        units=weight.shape[0],
        fan_in=max(1, round(weight[0].numel() / _strides(use))),
        fan_out=weight.shape[0] * weight[0, 0].numel() // groups,
        groups=groups,
        source=source.layer if source is not None and source.stage == "activation" else None,
        reads_model_input=use.inputs in trace.origins.of_input,
        input_function=input_function,
        depth=1 if source is None else 1 + source.layer.depth,
    )
    if use.kind in ("conv1d", "conv2d"):
        _describe_convolution(trace, use, layer)
    return layer


def _acting(use: WeightUse) -> Tensor:
    """Returns the weights by unit; those of a transposed convolution as one output sees them."""
    if use.kind not in _TRANSPOSED:
        return use.weight
    return use.weight.detach().transpose(0, 1) / math.sqrt(_strides(use))


def _strides(use: WeightUse) -> int:
    """Returns the product of a transposed convolution's strides, 1 for other weights."""
    if use.kind not in _TRANSPOSED:
        return 1
    rank = use.weight.dim() - 2
    stride = use.options.get("stride", 1)
    values = tuple(stride) if isinstance(stride, (tuple, list)) else (stride,)
    return math.prod(values if len(values) == rank else values * rank)


def _label(trace: Trace, use: WeightUse) -> str:
    """Returns the name of the weight's module, or the best name that there is."""
    parameter = use.label
    if parameter is None:
        parameter = trace.parameter_names.get(id(use.weight), "")
    return parameter.removesuffix(".weight") or trace.module_name or use.kind


def _describe_convolution(trace: Trace, use: WeightUse, layer: Layer) -> None:
    inputs = use.inputs
    convolution = _convolution_module(use)
    layer.convolution = convolution
    height = inputs.shape[2] if use.kind == "conv2d" else 1
    layer.map_size = (height, inputs.shape[-1])
    if inputs in trace.padded:
        layer.padding_mode, layer.unpadded_size = trace.padded[inputs]
    layer.padded = any(size > 0 for size in convolution._reversed_padding_repeated_twice)


def _convolution_module(use: WeightUse) -> nn.Conv2d:
    """Returns a module without values that has the options of the call.

    A convolution over one dimension becomes one over maps of height 1.
    """
    weight = use.weight
    rank = weight.dim() - 2
    kernel = (1 if rank == 1 else weight.shape[2], weight.shape[-1])
    groups = use.options.get("groups", 1)
    return nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        _pair(use, "stride", 1),
        _pair(use, "padding", 0),
        _pair(use, "dilation", 1),
        groups,
        bias=False,
        device="meta",
    )


def _pair(use: WeightUse, name: str, default: int) -> Any:
    """Returns an option as a pair (height, width), or as the text that it was given as."""
    value = use.options.get(name, default)
    if isinstance(value, str):
        return value
    rank = use.weight.dim() - 2
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) < rank:
        values = values * rank
    return (default, *values) if rank == 1 else values
