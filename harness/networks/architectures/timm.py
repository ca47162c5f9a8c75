"""Classification networks of timm, by name; timm is an optional extra.

timm makes the head for the number of classes, and the first layer for the channels of the images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import RequestError
from harness.networks.architectures.torchvision import refuse_unknown
from harness.networks.hidden_stack import Shape
from harness.networks.named.named_architecture import NamedArchitecture

if TYPE_CHECKING:
    from torch import nn


class Timm(NamedArchitecture):
    """Networks of `timm.create_model`, without pretrained weights."""

    def make(self, name: str, shape: Shape, classes: int) -> nn.Module:
        """Returns a network; see `NamedArchitecture.make`."""
        try:
            import timm
        except ImportError:
            raise RequestError(
                f"architecture=timm architecture.name={name}: timm is not installed; "
                "`pip install timm`, or choose architecture=torchvision"
            ) from None
        refuse_unknown("timm", name, timm.list_models())
        return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=shape[0])


ARCHITECTURE = Timm()
