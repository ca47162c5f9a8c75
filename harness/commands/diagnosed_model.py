"""The model that a command line names."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.errors import RequestError
from harness.registry import load_callable
from harness.training import devices


def diagnosed_model(options: argparse.Namespace) -> nn.Module:
    """Returns the model that `options` name, on the device that they name.

    Args:
        options: `factory` (module:function or module:model), `argument` (a list of NAME=VALUE),
            `seed` and `device`.

    Raises:
        RequestError: the factory cannot be loaded, raises, or returns no module; or there is no
            such device.
    """
    model = _made(options.factory, options.argument, options.seed)
    if not options.device:
        return model
    return model.to(devices.resolve(options.device, "float32"))


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
