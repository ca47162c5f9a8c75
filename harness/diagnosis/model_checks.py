"""Refusals of models that cannot be diagnosed, each with a reason in one line."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from harness.errors import RequestError
from harness.networks.tracing.structure import Structure


def check_model(model: Any) -> None:
    """Checks that a model can run and be watched.

    Raises:
        RequestError: it is no module, is compiled by TorchScript, has parameters without values,
            or lies on several devices.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise RequestError(
            "the model is a TorchScript module, which hides its functions; give the module that "
            "it was made from"
        )
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise RequestError(
            f"the model has parameters without values yet ({', '.join(lazy[:3])}): run it once on "
            "a batch first, which fixes the shapes of its lazy modules"
        )
    tensors = [*model.named_parameters(), *model.named_buffers()]
    meta = [name for name, tensor in tensors if tensor.device.type == "meta"]
    if meta:
        raise RequestError(
            "the model has tensors on the meta device, which hold no numbers "
            f"({', '.join(meta[:3])}); give it values first"
        )
    devices = sorted({str(tensor.device) for _, tensor in tensors})
    if len(devices) > 1:
        raise RequestError(
            f"the model lies on several devices ({', '.join(devices)}); move it to one, for "
            f"example model.to({devices[0]!r})"
        )


def check_samples(samples: int) -> None:
    """Checks the number of samples.

    Raises:
        RequestError: there are fewer than two.
    """
    if samples < 2:
        raise RequestError(f"samples={samples}: at least 2 samples are needed for a variance")


def check_structure(structure: Structure) -> None:
    """Checks that a model has a layer that can be diagnosed.

    Raises:
        RequestError: it has no layer, or none with an activation.
    """
    if structure.activated:
        return
    if not structure.layers:
        raise RequestError(
            "the model called no linear or convolutional layer through torch's functions; there is "
            "nothing to diagnose"
        )
    functions = sorted(structure.functions)[:8]
    raise RequestError(
        "no layer of the model is followed by a supported activation: "
        f"{len(structure.layers)} linear or convolutional layers, followed by "
        f"{', '.join(functions) or 'nothing'}; supported are torch's elementwise activations, as "
        "modules or functions, and a module of your own that acts on every entry alone"
    )
