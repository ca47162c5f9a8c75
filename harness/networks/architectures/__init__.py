"""Architectures by name: `conf/architecture/NAME.yaml` names the file NAME.py of this package.

Each file declares its `ARCHITECTURE`: layer sizes, module, description for theory, and the checks
of its options. Importing this package loads no torch; building a network does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.configuration.options import known_names
from harness.networks.architectures.declaration import Architecture
from harness.networks.hidden_stack import Shape
from harness.registry import unknown

if TYPE_CHECKING:
    from torch import nn


def architecture(name: str) -> Architecture:
    """Returns the architecture of this name.

    Raises:
        RequestError: unknown name.
    """
    names = known_names("architecture")
    if name not in names:
        raise unknown("architecture", name, names)
    return importlib.import_module(f"{__name__}.{name}").ARCHITECTURE


def build_network(spec: dict[str, Any], shape: Shape, classes: int) -> nn.Sequential:
    """Returns the network of a trial's specification.

    Its weights are torch's own draws; `harness.networks.initialization.initialize` gives it those
    of the trial. Probes and programs rely on the names of its modules, see `Architecture.build`.

    Args:
        spec: `Trial.spec`.
        shape: (channels, height, width) of an input.
        classes: units of the readout.

    Raises:
        RequestError: unknown architecture, activation, normalization or dropout.
    """
    return architecture(spec["architecture"]["name"]).build(spec, shape, classes)
