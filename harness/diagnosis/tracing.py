"""One forward pass of any model, watched: which weights feed which activation, and the tensors in between.

Torch's functions are intercepted (`TorchFunctionMode`), so that `nn.SELU`, `functional.selu` and `torch.selu_` look the same, a
module used twice is seen twice, and the order is that of the calls. Each tensor remembers where it comes from; an activation
belongs to the last weights that its input comes from, through normalizations and sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from harness.diagnosis.structure import Dropout, Layer, Pool, Structure, Sum
from harness.networks.dropouts import AlphaDropout, StandardDropout

_NORMALIZATIONS = {
    "batch_norm": "batch",
    "layer_norm": "layer",
    "group_norm": "group",
    "instance_norm": "instance",
    "rms_norm": "rms",
    "local_response_norm": "local response",
}
_DROPOUTS = dict.fromkeys(
    ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"), "standard"
) | {"alpha_dropout": "alpha", "feature_alpha_dropout": "alpha"}
_POOLS = {
    f"{prefix}{kind}_pool{dims}d": word
    for prefix in ("", "adaptive_")
    for kind, word in (("max", "max"), ("avg", "average"))
    for dims in (1, 2, 3)
}
_POOLS |= {f"{name}_with_indices": "max" for name in list(_POOLS) if "max" in name}
_WEIGHT_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
# Leave every number as it is, or only move it.
_SAME = {
    "clone",
    "contiguous",
    "to",
    "float",
    "double",
    "detach",
    "type",
    "requires_grad",
    "identity",
}
# Keep a layer's values and only arrange them anew; a padding in front of a convolution is looked at there.
_MOVES = _SAME | {
    "flatten",
    "unflatten",
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "t",
    "transpose",
    "permute",
    "movedim",
    "pad",
}
# Sum over units, so that what leaves them is no layer's W x any more, whatever its shape.
_MIXING = {"matmul", "bmm", "mm", "einsum", "scaled_dot_product_attention"}
_WORDS = {
    "cat": "a concatenation",
    "concat": "a concatenation",
    "concatenate": "a concatenation",
    "stack": "a concatenation",
}
_WORDS |= {
    "multi_head_attention_forward": "attention",
    "scaled_dot_product_attention": "attention",
    "getitem": "a choice of entries",
}
# Elementwise activations by torch's names, with the names of their options in order behind the input.
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
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


@dataclass(frozen=True, eq=False)
class Held:
    """What entered a layer's weights and what left them, alive as long as anything that comes from them.

    `outputs` is None where it is the very tensor whose origin this is part of, which must not keep itself alive.
    """

    inputs: Tensor
    outputs: Tensor | None


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a tensor comes from: `stage` is "weights" before the activation, "activation" behind it, "merged" where units are mixed.

    `through`: the first function on the way that changed the values and is neither pooling nor normalization.
    """

    layer: Layer
    stage: str
    held: Held | None = None
    through: str | None = None


@dataclass(frozen=True)
class Activated:
    """An activation that ran: what entered the weights, W x + b, z, y, and the activation as a module."""

    layer: Layer
    inputs: Tensor
    outputs: Tensor
    pre_activation: Tensor
    activation: Tensor
    module: nn.Module


class Elementwise(nn.Module):
    """A torch function with its options as a module of one argument."""

    def __init__(
        self, function: Callable[..., Tensor], arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        super().__init__()
        self.function, self.arguments, self.options = function, arguments, options

    def forward(self, x: Tensor) -> Tensor:
        arguments = tuple(
            value.to(x) if isinstance(value, Tensor) else value for value in self.arguments
        )
        return self.function(x, *arguments, **self.options)


class Tracer(TorchFunctionMode):
    """Watches a forward pass; use through `watch`.

    Args:
        names: module names by the id of the module and of its parameters.
        fresh: ids of the running means of batch normalizations that never saw a batch: they use the batch's own statistics.
        on_activation: called behind every activation of a layer; None keeps no tensors.
        before_activation: called with (layer, z) before it, z a part of the autograd graph.
        keep: copies what is to be kept of a z that the activation overwrites; all of it by default.
        on_dropout: called with (layer, x, y, dropout) behind every dropout whose input x comes from a layer's activation.
    """

    def __init__(
        self,
        model_input: Tensor,
        names: dict[int, str],
        fresh: set[int],
        on_activation: Callable[[Activated], None] | None = None,
        before_activation: Callable[[Layer, Tensor], None] | None = None,
        keep: Callable[[Tensor], Tensor] | None = None,
        on_dropout: Callable[[Layer, Tensor, Tensor, Dropout], None] | None = None,
    ) -> None:
        super().__init__()
        self.structure = Structure()
        self.on_activation, self.before_activation, self.keep, self.on_dropout = (
            on_activation,
            before_activation,
            keep,
            on_dropout,
        )
        self.names, self.fresh = names, fresh
        self.stack: list[str] = []
        self.modules: list[nn.Module] = []
        self.calls: Counter[str] = Counter()
        self.origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        # Tensors that come from the model's input without any weights in between, with the first function that changed their values.
        self.of_input: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.of_input[model_input] = None
        # Parameters by their transposes.
        self.turned: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        # Mean squares that tensors had before they were multiplied by a number.
        self.unscaled: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.padded: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.whole: tuple[nn.Module, Tensor] | None = None
        # Numbers put out by all weights, normalizations and activations together, and by the largest of them.
        self.numbers, self.largest = 0, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.whole is not None or name.startswith("__"):
            result = func(*args, **kwargs)
            if self.whole is None and name in ("__getitem__", "__get__"):
                self._turn(result, args)
                return self._passed_on(name, result, args) if name == "__getitem__" else result
            return result
        base = name.rstrip("_")
        if base == "linear" or base in _CONVOLUTIONS:
            return self._weights(
                base, dict(zip(_WEIGHT_ARGUMENTS, args)) | kwargs, lambda: func(*args, **kwargs)
            )
        product = self._product(base, args)
        if product is not None:
            return self._weights("linear", product, lambda: func(*args, **kwargs))
        if base in _ACTIVATIONS or self._rectifies(base, args, kwargs):
            return self._activation(base, name.endswith("_"), func, args, kwargs)
        if base in _NORMALIZATIONS:
            return self._normalization(base, func, args, kwargs)
        if base in _DROPOUTS:
            return self._dropout(base, name.endswith("_"), func, args, kwargs)
        if base in _POOLS:
            return self._pool(base, func, args, kwargs)
        if base in ("add", "sub") and len(args) > 1:
            return self._sum(base, name.endswith("_"), func, args, kwargs)
        if base in ("mul", "div"):
            return self._factor(base, func, args, kwargs)
        if base == "pad":
            return self._padding(func, args, kwargs)
        self._note_weights(base, args, kwargs)
        result = func(*args, **kwargs)
        if base in ("t", "transpose", "permute"):
            self._turn(result, args)
        return self._passed_on(base, result, args)

    def _note_weights(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Weights that meet the model's input in a function of which only the result is seen."""
        tensors = _tensors((*args, *kwargs.values()))
        if any(value in self.of_input or value in self.origins for value in tensors):
            weights = [
                self.names[id(value)]
                for value in tensors
                if id(value) in self.names and value.dim() > 1
            ]
            self.structure.unfollowed |= dict.fromkeys(weights, f"{name} in {self._place()}")

    def _place(self) -> str:
        return (self.stack[-1] if self.stack else "") or "the model"

    def _count(self, tensor: Tensor) -> None:
        self.numbers += tensor.numel()
        self.largest = max(self.largest, tensor.numel())

    def _origin(self, value: Any) -> Origin | None:
        origin = self.origins.get(value) if isinstance(value, Tensor) else None
        if origin is None or origin.held is None or origin.held.outputs is not None:
            return origin
        return replace(origin, held=Held(origin.held.inputs, value))

    def _remember(self, tensor: Tensor, origin: Origin) -> None:
        own = origin.held is not None and origin.held.outputs is tensor
        self.origins[tensor] = (
            replace(origin, held=Held(origin.held.inputs, None)) if own else origin
        )

    def _product(self, name: str, args: tuple[Any, ...]) -> dict[str, Any] | None:
        """A product x W written out, W a parameter or its transpose, as the arguments of a linear layer; None for any other."""
        if name not in ("matmul", "mm", "addmm") or len(args) < 2:
            return None
        x, factor = args[-2:]
        turned = self.turned.get(factor) if isinstance(factor, Tensor) else None
        if (
            not isinstance(factor, Tensor)
            or factor.dim() != 2
            or (turned is None and id(factor) not in self.names)
        ):
            return None
        label = self.names[id(factor if turned is None else turned)]
        bias = args[0] if name == "addmm" and args[0].dim() == 1 else None
        return {
            "input": x,
            "weight": factor.detach().t() if turned is None else turned.detach(),
            "bias": bias,
            "label": label,
        }

    def _turn(self, result: Any, args: tuple[Any, ...]) -> None:
        """Remember the transpose of a parameter."""
        if (
            args
            and id(args[0]) in self.names
            and isinstance(result, Tensor)
            and result.dim() == 2
            and result.shape == args[0].shape[::-1]
            and result.data_ptr() == args[0].data_ptr()
        ):
            self.turned[result] = args[0]

    def _weights(self, name: str, given: dict[str, Any], run: Callable[[], Tensor]) -> Tensor:
        inputs, weight = given["input"], given["weight"]
        outputs = run()
        self._count(outputs)
        source = self._origin(inputs)
        label = (
            given.get("label", self.names.get(id(weight), "")).removesuffix(".weight")
            or (self.stack[-1] if self.stack else "")
            or name
        )
        self.calls[label] += 1
        layer = Layer(
            name=label,
            call=self.calls[label],
            kind=name,
            weight=weight.detach(),
            bias=None if given.get("bias") is None else given["bias"].detach(),
            units=weight.shape[0],
            fan_in=weight[0].numel(),
            fan_out=weight.shape[0] * weight[0, 0].numel() // given.get("groups", 1),
            groups=given.get("groups", 1),
            source=source.layer if source is not None and source.stage == "activation" else None,
            first=inputs in self.of_input,
            behind=source.through if source is not None else self.of_input.get(inputs),
        )
        if name in ("conv1d", "conv2d"):
            layer.convolution = _walk(given)
            layer.map_size = tuple(inputs.shape[2:]) if name == "conv2d" else (1, inputs.shape[2])
            if inputs in self.padded:
                layer.wrapped, layer.inner_size = self.padded[inputs]
            layer.padded = any(
                size > 0 for size in layer.convolution._reversed_padding_repeated_twice
            )
        self.structure.layers.append(layer)
        self._remember(outputs, Origin(layer, "weights", Held(inputs, outputs)))
        return outputs

    def _factor(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A product: where one factor is a number, remember what the other one was before."""
        terms = [value for value in args if isinstance(value, Tensor) and value.numel() > 1]
        known = len(terms) == 1 and (
            terms[0] in self.of_input or self._origin(terms[0]) is not None
        )
        before = self.unscaled.get(terms[0], _mean_square(terms[0])) if known else None
        y = self._passed_on(name, func(*args, **kwargs), args)
        if before is not None and isinstance(y, Tensor):
            self.unscaled[y] = before
        return y

    def _padding(
        self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        x = args[0] if args else kwargs["input"]
        y = self._passed_on("pad" if x.dim() == 4 else "padding", func(*args, **kwargs), (x,))
        if x.dim() == 4:
            self.padded[y] = (
                kwargs.get("mode", args[2] if len(args) > 2 else "constant"),
                tuple(x.shape[2:]),
            )
        return y

    def _activation(
        self,
        name: str,
        in_place: bool,
        func: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        z = args[0] if args else kwargs["input"]
        origin = self._origin(z)
        if origin is None or origin.stage != "weights":
            self.structure.stray_activations.append(
                f"{name} in {self._place()}"
                + (
                    f" (behind {origin.through})"
                    if origin is not None and origin.through is not None
                    else ""
                )
            )
            return self._passed_on(name, func(*args, **kwargs), args)
        options = dict(zip(_ACTIVATIONS.get(name, ()), args[1:])) | {
            key: value for key, value in kwargs.items() if key not in ("input", "inplace")
        }
        if name == "prelu" and options["weight"].numel() > 1:
            self.structure.left_out.append(
                f"{origin.layer.label}: a PReLU with a slope for each unit is not one function of z"
            )
            return self._passed_on(name, func(*args, **kwargs), args)
        in_place = in_place or bool(kwargs.get("inplace", False))
        if name == "prelu":  # with one slope it is a leaky ReLU, in any precision
            name, options = "leaky_relu", {"negative_slope": float(options["weight"].detach())}
        module = self._module(name, options)
        return self._activated(
            name,
            module,
            {
                key: float(value)
                for key, value in options.items()
                if isinstance(value, (int, float))
            },
            origin,
            z,
            in_place,
            lambda: func(*args, **kwargs),
        )

    def _activated(
        self,
        name: str,
        module: nn.Module,
        options: dict[str, float],
        origin: Origin,
        z: Tensor,
        in_place: bool,
        run: Callable[[], Tensor],
    ) -> Tensor:
        layer, held = origin.layer, origin.held
        if self.before_activation is not None:
            self.before_activation(layer, z)
        kept = (
            (self.keep(z.detach()) if self.keep is not None else z.detach().clone())
            if in_place and self.on_activation is not None
            else z
        )
        y = run()
        self._count(y)
        layer.activation, layer.module, layer.options = name, module, options
        self.structure.activated.append(layer)
        self._remember(y, Origin(layer, "activation"))
        if self.on_activation is not None:
            self.on_activation(Activated(layer, held.inputs, held.outputs, kept, y, module))
        return y

    def _module(self, name: str, options: dict[str, Any]) -> nn.Module:
        if name == "selu":
            return nn.SELU()
        if name in ("clamp", "clamp_min", "relu"):
            return nn.ReLU()
        function = getattr(functional, name, None) or getattr(torch, name)
        return Elementwise(
            function,
            (),
            {
                key: value.detach() if isinstance(value, Tensor) else value
                for key, value in options.items()
            },
        )

    def _rectifies(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a clamp is a ReLU."""
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        return (
            name in ("clamp", "clamp_min")
            and isinstance(low, (int, float))
            and low == 0
            and high is None
        )

    def _normalization(
        self, name: str, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        x = args[0] if args else kwargs["input"]
        if name == "batch_norm":
            given = (
                dict(
                    zip(
                        (
                            "input",
                            "running_mean",
                            "running_var",
                            "weight",
                            "bias",
                            "training",
                            "momentum",
                            "eps",
                        ),
                        args,
                    )
                )
                | kwargs
            )
            several = x.numel() > x.shape[1]
            if id(given.get("running_mean")) in self.fresh and several:
                y = functional.batch_norm(
                    x,
                    None,
                    None,
                    given.get("weight"),
                    given.get("bias"),
                    True,
                    0.0,
                    given.get("eps", 1e-5),
                )
            else:
                y = func(*args, **kwargs)
        else:
            y = func(*args, **kwargs)
        self._count(y)
        origin = self._origin(x)
        if origin is not None:
            kinds = (
                origin.layer.normalizations
                if origin.stage == "weights"
                else origin.layer.normalizations_after
            )
            if origin.stage != "merged":
                kinds.append(_NORMALIZATIONS[name])
            self._remember(y, origin)
        return y

    def _dropout(
        self,
        name: str,
        in_place: bool,
        func: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        x = args[0] if args else kwargs["input"]
        given = dict(zip(("input", "p", "training", "inplace"), args)) | kwargs
        rate, training = (
            float(given.get("p", 0.5)),
            bool(given.get("train", given.get("training", True))),
        )
        before = (
            x.detach().clone()
            if self.on_dropout is not None and (in_place or given.get("inplace", False))
            else x
        )
        y = func(*args, **kwargs)
        if rate > 0 and not (self.modules and isinstance(self.modules[-1], _DropoutNd)):
            self.structure.functional_dropouts.append(
                f"rate {rate:g} in {self._place()}"
                + (", acting in evaluation too" if training else "")
            )
        self._note_dropout(x, before, y, Dropout(_DROPOUTS[name], rate))
        return y

    def _note_dropout(self, x: Tensor, before: Tensor, y: Tensor, dropout: Dropout) -> None:
        """`before` has the values that `x` had when the dropout began; a rate of 1 leaves nothing of which anything could be said."""
        origin = self._origin(x)
        if origin is not None:
            if 0 < dropout.rate < 1:
                origin.layer.dropouts.append(dropout)
                if self.on_dropout is not None and origin.stage != "weights":
                    self.on_dropout(origin.layer, before, y, dropout)
            self._remember(y, origin)

    def _pool(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        y = result[0] if isinstance(result, tuple) else result
        origin = self._origin(x)
        if origin is not None:
            given = kwargs.get(
                "kernel_size", kwargs.get("output_size", args[1] if len(args) > 1 else 0)
            )
            size = max(given) if isinstance(given, (tuple, list)) else given
            if name.startswith("adaptive"):
                size = max(1, x.shape[-1] // y.shape[-1]) if y.shape[-1] > 1 else 0
            stride = kwargs.get(
                "stride", args[2] if len(args) > 2 and not name.startswith("adaptive") else None
            )
            blocks = stride in (None, [], given)
            if origin.stage != "merged" and size != 1:
                origin.layer.pools.append(
                    Pool(_POOLS[name], int(size), origin.stage == "weights", blocks)
                )
            self._remember(y, origin)
        return result

    def _sum(
        self,
        name: str,
        in_place: bool,
        func: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        a, b = args[0], args[1]
        origins = [self._origin(a), self._origin(b)]
        tensors = isinstance(a, Tensor) and isinstance(b, Tensor)
        if not tensors or origins == [None, None]:
            return self._passed_on(name, func(*args, **kwargs), args)
        if a.shape != b.shape:
            known, other = (origins[0], b) if origins[0] is not None else (origins[1], a)
            if (
                known.stage == "weights"
                and known.layer.bias is None
                and other.numel() == known.layer.units
                and known.layer.direct
            ):
                known.layer.bias = other.detach().flatten()
                y = func(*args, **kwargs)
                self._remember(y, replace(known, held=Held(known.held.inputs, y)))
                return y
            return self._passed_on(name, func(*args, **kwargs), args)
        if any(
            origin is None and term not in self.of_input for origin, term in zip(origins, (a, b))
        ):
            return self._passed_on(name, func(*args, **kwargs), args)
        if (
            in_place
            and origins[0] is not None
            and origins[0].held is not None
            and origins[0].held.outputs is a
        ):
            origins[0] = replace(origins[0], held=Held(origins[0].held.inputs, a.detach().clone()))
        squares = [self.unscaled.get(term, _mean_square(term)) for term in (a, b)]
        y = func(*args, **kwargs)
        # The branch is the way through more layers: a skip may have weights too.
        carriers = sorted(
            (origin for origin in origins if origin is not None),
            key=lambda origin: (origin.layer.depth, self.structure.layers.index(origin.layer)),
        )
        waiting = [origin for origin in carriers if origin.stage == "weights"]
        carrier = (waiting or carriers)[-1]
        branch, skip = squares if carrier is origins[0] else squares[::-1]
        self.structure.sums.append(Sum(carrier.layer, branch, skip, _mean_square(y)))
        carrier.layer.residual = carrier.layer.residual or carrier.stage == "weights"
        self._remember(y, carrier)
        return y

    def _passed_on(self, name: str, result: Any, args: tuple[Any, ...]) -> Any:
        """Hand the origin of an argument on to the result of any other function."""
        tensors = _tensors(args)
        known = [origin for origin in map(self._origin, tensors) if origin is not None]
        results = [
            y
            for y in (result if isinstance(result, (tuple, list)) else [result])
            if isinstance(y, Tensor) and y.is_floating_point()
        ]
        changed = None if name in _MOVES else _WORDS.get(name.strip("_"), name.strip("_"))
        if not known:
            entered = [self.of_input[value] for value in tensors if value in self.of_input]
            for y in results if entered else ():
                self.of_input[y] = entered[0] or changed
            return result
        origin = max(known, key=lambda candidate: self.structure.layers.index(candidate.layer))
        mixed = name in _MIXING or any(
            id(value) in self.names and value.dim() > 1 for value in tensors
        )
        for y in results:
            if not any(y is value for value in tensors if name in _SAME):
                self._remember(y, self._through(name, origin, y, mixed, changed))
                if name not in _SAME:
                    self.structure.functions.add(name)
        return result

    def _through(
        self, name: str, origin: Origin, y: Tensor, mixed: bool = False, changed: str | None = None
    ) -> Origin:
        if name in _SAME:
            return origin
        if (
            origin.stage == "weights"
            and origin.held is not None
            and y.shape == origin.held.outputs.shape
            and not mixed
        ):
            origin.layer.scaled = True
            return origin
        return (
            replace(origin, through=origin.through or changed)
            if origin.stage != "weights"
            else Origin(origin.layer, "merged", through=changed)
        )

    def enter(self, module: nn.Module, name: str, inputs: tuple[Any, ...]) -> None:
        """A module begins: remember its name, and whether it is a user's own activation, to be seen as a whole."""
        self.stack.append(name)
        self.modules.append(module)
        origin = self._origin(inputs[0]) if inputs and self.whole is None else None
        if origin is not None and origin.stage == "weights":
            self.whole = (
                module,
                inputs[0],
            )  # its functions are its own affair, those of the check included
            if not _is_own_activation(module):
                self.whole = None

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        """A module ends."""
        self.stack.pop()
        self.modules.pop()
        if isinstance(module, StandardDropout) and inputs and isinstance(result, Tensor):
            self._note_dropout(
                inputs[0],
                inputs[0],
                result,
                Dropout(
                    "alpha" if isinstance(module, AlphaDropout) else "standard", float(module.rate)
                ),
            )
        if self.whole is None or self.whole[0] is not module:
            return
        z = self.whole[1]
        origin = self._origin(z)
        if isinstance(result, Tensor) and result.shape == z.shape and result is not z:
            name = str(getattr(module, "name", type(module).__name__))
            # Without the module's hooks, and still as a whole while its statistics are taken.
            self._activated(
                name, Elementwise(module.forward, (), {}), {}, origin, z, False, lambda: result
            )
        elif isinstance(result, Tensor):
            self._remember(result, self._through(type(module).__name__, origin, result))
        self.whole = None


def _is_own_activation(module: nn.Module) -> bool:
    """A module that is not torch's, has nothing of its own, and acts on every entry alone."""
    if (
        type(module).__module__.startswith("torch.")
        or next(module.children(), None) is not None
        or next(module.parameters(), None) is not None
    ):
        return False
    if next(module.buffers(), None) is not None or isinstance(module, StandardDropout):
        return False
    x = torch.linspace(-2.0, 2.0, 24).view(2, 12)
    moved = x.clone()
    moved[0, 5] += 1.0
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            change = module.forward(moved) - module.forward(x)
    except (
        Exception
    ):  # a user's code may raise anything on a tensor of another shape; then it is no activation
        return False
    others = torch.ones_like(x, dtype=torch.bool)
    others[0, 5] = False
    return change.shape == x.shape and bool((change[others] == 0).all()) and bool(change[0, 5] != 0)


def _walk(given: dict[str, Any]) -> nn.Conv2d:
    """A convolution over two dimensions that walks as the call does; one over one dimension has maps of height 1."""
    weight, rank = given["weight"], given["weight"].dim() - 2

    def pair(key: str, default: int) -> Any:
        value = given.get(key, default)
        if isinstance(value, str):
            return value
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
        values = values * rank if len(values) < rank else values
        return (default, *values) if rank == 1 else values

    kernel = (1, *weight.shape[2:]) if rank == 1 else tuple(weight.shape[2:])
    groups = given.get("groups", 1)
    return nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        pair("stride", 1),
        pair("padding", 0),
        pair("dilation", 1),
        groups,
        bias=False,
        device="meta",
    )


def _tensors(values: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among arguments and in lists of them."""
    return [
        one
        for value in values
        for one in (value if isinstance(value, (tuple, list)) else [value])
        if isinstance(one, Tensor)
    ]


def _mean_square(tensor: Tensor) -> float:
    return float(tensor.detach().float().square().mean())


@contextmanager
def watch(model: nn.Module, tracer: Tracer) -> Iterator[None]:
    """Run the tracer over a forward pass of `model`; its hooks are gone afterwards, whatever happens."""
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, inputs, name=name: tracer.enter(module, name, inputs)
                )
            )
            handles.append(
                module.register_forward_hook(
                    lambda module, inputs, result: tracer.leave(module, inputs, result)
                )
            )
        with tracer:
            yield
    finally:
        for handle in handles:
            handle.remove()


def parameter_names(model: nn.Module) -> dict[int, str]:
    """The name of each parameter by its id; a shared one has its first name."""
    return {
        id(parameter): name
        for name, parameter in reversed(list(model.named_parameters(remove_duplicate=False)))
    }


def fresh_batch_norms(model: nn.Module) -> set[int]:
    """Ids of the running means of batch normalizations that have not seen a batch yet."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]
    return {
        id(module.running_mean)
        for module in norms
        if module.num_batches_tracked is not None and int(module.num_batches_tracked) == 0
    }
