"""Classification networks of torchvision, by name.

The head is made for the number of classes, and the first convolution for the channels of the
images.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from harness.errors import RequestError
from harness.networks.hidden_stack import Shape
from harness.networks.named.named_architecture import NamedArchitecture

if TYPE_CHECKING:
    from torch import nn

# Networks that have further heads in training unless they are told not to.
_WITH_FURTHER_HEADS = ("googlenet", "inception_v3")
_COLOURS = 3


class Torchvision(NamedArchitecture):
    """Networks of `torchvision.models`, without pretrained weights."""

    def make(self, name: str, shape: Shape, classes: int) -> nn.Module:
        """Returns a network; see `NamedArchitecture.make`."""
        from torchvision import models

        refuse_unknown("torchvision", name, models.list_models(module=models))
        options: dict[str, Any] = {"num_classes": classes, "weights": None}
        if name in _WITH_FURTHER_HEADS:
            options |= {"aux_logits": False, "init_weights": True}
        network = models.get_model(name, **options)
        _set_channels(network, shape[0])
        return network


def refuse_unknown(library: str, name: str, known: list[str]) -> None:
    """Refuses a name that a library does not have.

    Raises:
        RequestError: with the names that are close to it.
    """
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"for example {', '.join(known[:5])}"
    raise RequestError(f"architecture.name={name}: {library} has no such network; {hint}")


def _set_channels(network: nn.Module, channels: int) -> None:
    """Replaces a network's first convolution, if it is for other than `channels` channels."""
    from torch import nn

    from harness.networks.named.replaced_modules import convolution_like

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if channels != _COLOURS:
                network.set_submodule(name, convolution_like(module, channels=channels))
            return


ARCHITECTURE = Torchvision()
