"""Activation modules by name. Each factory takes the activation's options and returns an elementwise module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.errors import RequestError
from harness.registry import Registry, load_callable

activations: Registry = Registry("activation")

activations.register("selu")(nn.SELU)
activations.register("relu")(nn.ReLU)
activations.register("leaky_relu")(lambda negative_slope=0.01: nn.LeakyReLU(negative_slope))
activations.register("elu")(lambda alpha=1.0: nn.ELU(alpha))
activations.register("gelu")(nn.GELU)
activations.register("silu")(nn.SiLU)
activations.register("mish")(nn.Mish)
activations.register("tanh")(nn.Tanh)
activations.register("softplus")(nn.Softplus)
activations.register("identity")(nn.Identity)


class Elementwise(nn.Module):
    """A user's own function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        super().__init__()
        self.function = function
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


def build_activation(spec: dict) -> nn.Module:
    """The activation of a specification such as `{"name": "elu", "alpha": 1.0}` or `{"name": "package.module:function"}`.

    Raises:
        RequestError: unknown name, or a user's callable that is not an elementwise map of tensors.
    """
    name = spec["name"]
    chosen = {key: value for key, value in spec.items() if key not in ("name", "source")}
    if ":" not in name:
        return activations[name](**chosen)
    function = load_callable(name, "activation")
    try:
        with torch.device(
            "cpu"
        ):  # a network is laid out on the meta device, where a function that looks at its values cannot run
            probe = torch.linspace(-2.0, 2.0, 6).reshape(2, 3)
            entered = probe.clone()
            y = function(entered)
    except Exception as error:  # a user's code may raise anything; the message names it
        raise RequestError(
            f"activation {name!r} raised {type(error).__name__}: {error}; expected a map of a tensor to a tensor of the same shape"
        ) from error
    shape = getattr(y, "shape", None)
    if shape != probe.shape:
        raise RequestError(
            f"activation {name!r} maps shape {tuple(probe.shape)} to {shape}; expected the same shape (it must act on every entry alone)"
        )
    if not torch.equal(entered, probe):
        raise RequestError(
            f"activation {name!r} writes over its input, which is measured too; expected a map to a new tensor"
        )
    return Elementwise(function, name)
