"""The sizes of a network's layers from its specification alone, without torch: for checks, predictions and counting."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from harness.errors import RequestError


@dataclass(frozen=True)
class LayerSize:
    """One weight layer: `kind` is "linear" or "conv2d"; `height` and `width` are those of its output map (1 when dense)."""

    name: str
    kind: str
    fan_in: int
    units: int
    height: int = 1
    width: int = 1
    kernel_size: int = 1
    pooled: bool = False


def pooled_after(architecture: dict, index: int, height: int, width: int) -> bool:
    """Whether hidden layer `index` (from 0) of a convolutional stack is followed by 2x2 pooling."""
    wanted = architecture["pool"] != "none" and (index + 1) % architecture["pool_every"] == 0
    return wanted and min(height, width) >= 4


def layer_sizes(spec: dict, shape: tuple[int, int, int], classes: int) -> list[LayerSize]:
    """Every weight layer in order, the readout last."""
    sizes: list[LayerSize] = []
    if spec["architecture"]["name"] == "mlp":
        inputs = prod(shape)
        units = inputs if spec["width"] == "input" else spec["width"]
        for index in range(spec["depth"]):
            sizes.append(LayerSize(f"layer_{index + 1:02d}", "linear", inputs, units))
            inputs = units
        return [*sizes, LayerSize("readout", "linear", inputs, classes)]
    architecture = spec["architecture"]
    channels, height, width = shape
    kernel = architecture["kernel_size"]
    for index in range(spec["depth"]):
        pooled = pooled_after(architecture, index, height, width)
        sizes.append(
            LayerSize(
                f"layer_{index + 1:02d}",
                "conv2d",
                channels * kernel**2,
                spec["width"],
                height,
                width,
                kernel,
                pooled,
            )
        )
        height, width = (height // 2, width // 2) if pooled else (height, width)
        channels = spec["width"]
    positions = 1 if architecture["head"] == "average" else height * width
    return [*sizes, LayerSize("readout", "linear", channels * positions, classes)]


def check_layout(spec: dict, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse what no weight draw can satisfy.

    Raises:
        RequestError: an initializer or normalization that centres a unit's weights on a layer with fan-in 1.
    """
    centring = [f"initializer={spec['initializer']['name']}"] * (
        spec["initializer"]["name"] == "lecun_exact"
    )
    centring += ["normalization=weight_standardization"] * (
        spec["normalization"]["name"] == "weight_standardization"
    )
    centring += ["repair=center_rows"] * (spec.get("repair") == "center_rows")
    for size in layer_sizes(spec, shape, classes):
        if size.fan_in < 2 and centring:
            raise RequestError(
                f"{centring[0]} with fan-in {size.fan_in} ({size.name}): a single weight cannot have sum 0; use a width of at least 2 or another choice"
            )
