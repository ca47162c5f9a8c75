"""Architectures by name: `conf/architecture/NAME.yaml` names the file NAME.py of this package.

Each file declares its `ARCHITECTURE`: layer sizes, module, description for theory, and the checks
of its options. Importing this package loads no torch; building a network does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.configuration.options import known_names
from harness.networks.declaration import Architecture
from harness.networks.hidden_stack import Shape
from harness.registry import unknown

if TYPE_CHECKING:
    from torch import nn


def architecture_of(spec: Mapping[str, Any]) -> Architecture:
    """Returns the architecture of a trial's specification.

    Raises:
        RequestError: unknown name.
    """
    names = known_names("architecture")
    name = spec["architecture"].get("library", spec["architecture"]["name"])
    if name not in names:
        raise unknown("architecture", name, names)
    return importlib.import_module(f"{__name__}.{name}").ARCHITECTURE


def build_network(spec: dict[str, Any], shape: Shape, classes: int) -> nn.Module:
    """Returns the network of a trial's specification.

    Its weights are torch's own draws; `Architecture.initialize` gives it those of the trial. Of a
    layered architecture, probes and programs rely on the names of its modules, see
    `LayeredArchitecture.build`.

    Args:
        spec: `Trial.spec`.
        shape: (channels, height, width) of an input.
        classes: units of the readout.

    Raises:
        RequestError: unknown architecture, activation, normalization or dropout.
    """
    return architecture_of(spec).build(spec, shape, classes)
