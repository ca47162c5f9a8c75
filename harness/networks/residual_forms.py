"""The forms of a residual block, by name; each is one declaration. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.registry import Registry

residual_forms: Registry = Registry("architecture.residual")


@dataclass(frozen=True)
class ResidualForm:
    """A way to add a branch to what enters it, skip_scale * x + branch_scale * branch(x).

    Attributes:
        name: the form's name.
        skip_scale: factor of what enters.
        branch_scale: factor of the branch.
        multiplier: initial value of a learned scalar that multiplies the branch; None without one.
        zero_end: the last weights of each branch, and those of the readout, begin at 0.
        shrinks: the other weights of a branch begin at blocks^(-1 / (2 layers - 2)) times the
            initializer's, for branches of `layers` weight layers.
    """

    name: str
    skip_scale: float = 1.0
    branch_scale: float = 1.0
    multiplier: float | None = None
    zero_end: bool = False
    shrinks: bool = False

    @property
    def initial_branch_scale(self) -> float:
        """The factor of the branch at initialisation."""
        return self.branch_scale * (1.0 if self.multiplier is None else self.multiplier)

    def initial_scales(self, layers: int, blocks: int) -> list[float]:
        """Returns the factors on the initial weights of a branch, one for each of its layers."""
        scale = blocks ** (-1.0 / (2 * layers - 2)) if self.shrinks and layers > 1 else 1.0
        last = 0.0 if self.zero_end else scale
        return [scale] * (layers - 1) + [last]


def _declare(form: ResidualForm) -> None:
    residual_forms.register(form.name)(form)


# The control: the branches follow each other, and nothing is added.
_declare(ResidualForm("none", skip_scale=0.0))
# He et al. 2016.
_declare(ResidualForm("plain"))
# Squares sum to 1, so that a signal of independent parts keeps its size.
_declare(ResidualForm("scaled", math.sqrt(0.5), math.sqrt(0.5)))
# De and Smith 2020, "Batch normalization biases residual blocks towards the identity function".
_declare(ResidualForm("skip_init", multiplier=0.0))
# Zhang, Dauphin and Ma 2019, "Fixup initialization", without its scalar biases: each layer has
# biases of its own.
_declare(ResidualForm("fixup", multiplier=1.0, zero_end=True, shrinks=True))
