"""The model that a command line names."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.errors import RequestError
from harness.registry import load_callable
from harness.sweeps.trained_network import trained_network
from harness.training import devices


def diagnosed_model(options: argparse.Namespace) -> nn.Module:
    """Returns the model that `options` name, on the device that they name.

    Args:
        options: `factory` (module:function or module:model), `argument` (a list of NAME=VALUE),
            `seed` and `device`; or `trial`, the folder of a trial that keeps weights.

    Raises:
        RequestError: the factory cannot be loaded, raises, or returns no module; the trial keeps
            no weights; or there is no such device.
    """
    if options.trial is not None:
        model = trained_network(options.trial)
    else:
        model = _made(options.factory, options.argument, options.seed)
    if not options.device:
        return model
    return model.to(devices.resolve(options.device, "float32"))


def compared_model(options: argparse.Namespace, other: str) -> nn.Module:
    """Returns the model to compare with: another factory's, or the same with a checkpoint.

    Args:
        options: as in `diagnosed_model`.
        other: a file with a state dictionary of the same model, the folder of a trial that keeps
            weights, or module:function, which is called without arguments unless it is the same
            factory.

    Raises:
        RequestError: as in `diagnosed_model`, or the checkpoint does not fit the model.
    """
    if not Path(other).is_file():
        arguments = options.argument if other == options.factory else []
        if Path(other).is_dir():
            model = trained_network(other)
        else:
            model = _made(other, arguments, options.seed)
        return model.to(devices.resolve(options.device, "float32")) if options.device else model
    model = diagnosed_model(options)
    # A ready model of a module is one object, which another diagnosis may still use.
    model = copy.deepcopy(model)
    try:
        read = torch.load(other, map_location="cpu", weights_only=True)
        state = _state_of(read)
        model.load_state_dict(state)
    except Exception as error:
        # A file of any kind may be named, and torch raises many errors for those it cannot read.
        raise RequestError(
            f"--against {other}: no state dictionary of this model ({_first_line(error)}); "
            "torch.save(model.state_dict(), path) writes one"
        ) from error
    return model


def _state_of(read: Any) -> Any:
    """Returns the state dictionary in a checkpoint, which may hold more than that."""
    if isinstance(read, Mapping):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(read.get(key), Mapping):
                return read[key]
    return read


def _made(path: str, arguments: Sequence[str], seed: int) -> nn.Module:
    if ":" not in path:
        raise RequestError(
            f"model factory {path!r}: expected package.module:factory, for example "
            "torchvision.models:vgg11_bn"
        )
    named = dict(_named_argument(text) for text in arguments)
    try:
        factory = load_callable(path, "model factory")
        torch.manual_seed(seed)
        is_model = isinstance(factory, nn.Module) and not arguments
        model = factory if is_model else factory(**named)
    except RequestError:
        raise
    except Exception as error:
        # A user's module or factory may raise anything; the message names it.
        raise RequestError(
            f"model factory {path!r} raised {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"model factory {path!r} returned a {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _named_argument(text: str) -> tuple[str, Any]:
    """Returns name and value of NAME=VALUE; the value is JSON where it reads as such, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise RequestError(f"--argument {text}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), "no message")
