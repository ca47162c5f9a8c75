"""Dropout modules whose noise depends on (key, step, sample, unit) alone.

Torch's dropout draws from one global stream, so a trial's masks would depend on its companions.
Here the mask is a hash: equal to the bit for a trial trained alone or in any pack, on any device.
Which name on the command line stands for which module is declared in
`harness.networks.hidden_layers`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.theory.selu import ALPHA, FLOOR, LAMBDA

# The rate at which alpha dropout's backward factor undoes SELU's chi_1 = 1.07157 at mean 0 and
# variance 1, so that gradients neither grow nor vanish.
NEUTRAL_RATE = (
    0.5 * LAMBDA**2 * (1.0 + ALPHA**2 * math.exp(2.0) * math.erfc(math.sqrt(2.0))) - 1.0
) / FLOOR**2


def hashed_uniform(key: Tensor, step: Tensor, entries: int) -> Tensor:
    """Returns uniform numbers in [0, 1), a pure function of the arguments.

    The finalizer of MurmurHash3 (Appleby 2011) over a counter, keyed by two 32-bit halves.

    Args:
        key: int64 scalar or (trials, 1), the trial's seed for this layer.
        step: int64 scalar, the training step.
        entries: how many numbers, one for every entry of a block of samples.

    Returns:
        float32 (entries,) or (trials, entries).
    """
    counter = torch.arange(entries, device=key.device, dtype=torch.int32)
    low = _mix((key ^ (step * 0x9E3779B1)).to(torch.int32))
    high = _mix(((key >> 32) ^ step).to(torch.int32))
    bits = _mix(_mix(counter ^ low) ^ high)
    return ((bits >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """MurmurHash3's finalizer on int32.

    Products wrap around; the masks make torch's arithmetic shifts logical ones.
    """
    x = (x ^ ((x >> 16) & 0xFFFF)) * -2048144789  # 0x85EBCA6B
    x = (x ^ ((x >> 13) & 0x7FFFF)) * -1028477387  # 0xC2B2AE35
    return x ^ ((x >> 16) & 0xFFFF)


class StandardDropout(nn.Module):
    """Sets a share of the entries to 0 and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014. The mask is `hashed_uniform(key, step) >= rate`; the training program
    sets the buffers `key`, `step` and `rate`.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.register_buffer("key", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rate", torch.tensor(float(rate)))

    def forward(self, x: Tensor) -> Tensor:
        """Drops entries of `x` while training, and returns it unchanged otherwise."""
        if not self.training:
            return x
        shape = self.mask_shape(x)
        uniform = hashed_uniform(self.key, self.step, shape.numel()).view(shape)
        return self.apply_mask(x, (uniform >= self.rate).to(x.dtype), self.rate)

    def mask_shape(self, x: Tensor) -> torch.Size:
        """Returns the shape of the mask of a block of samples, which broadcasts to `x`."""
        return x.shape

    def apply_mask(self, x: Tensor, keep: Tensor, rate: Tensor) -> Tensor:
        """Combines an input with a mask that is 1 where an entry is kept and 0 elsewhere."""
        return x * keep / (1.0 - rate)

    def extra_repr(self) -> str:
        """Returns the rate for the module's printed form."""
        return f"rate={float(self.rate):g}"


class AlphaDropout(StandardDropout):
    """Sets a share of the entries to SELU's floor, then restores mean 0 and variance 1.

    Both are restored by one affine map (Klambauer et al. 2017, "New Dropout Technique").
    """

    def apply_mask(self, x: Tensor, keep: Tensor, rate: Tensor) -> Tensor:
        """Combines an input with a mask that is 1 where an entry is kept and 0 elsewhere."""
        a = torch.rsqrt((1.0 - rate) * (1.0 + rate * FLOOR**2))
        return a * (x * keep + FLOOR * (1.0 - keep)) - a * rate * FLOOR


class FeatureDropout(StandardDropout):
    """Standard dropout of whole maps (Tompson et al. 2015), as torch's `nn.Dropout2d`."""

    def mask_shape(self, x: Tensor) -> torch.Size:
        """Returns the shape of the mask of a block of samples, which broadcasts to `x`."""
        samples, units, *positions = x.shape
        return torch.Size((samples, units, *(1 for _ in positions)))


class SampleDropout(StandardDropout):
    """Standard dropout of whole samples, which skips a residual branch.

    Huang et al. 2016, "Deep networks with stochastic depth".
    """

    def mask_shape(self, x: Tensor) -> torch.Size:
        """Returns the shape of the mask of a block of samples, which broadcasts to `x`."""
        samples, *others = x.shape
        return torch.Size((samples, *(1 for _ in others)))


class FeatureAlphaDropout(AlphaDropout):
    """Alpha dropout of whole maps: one draw for each sample and channel.

    Of vectors it is alpha dropout. Maps are dropped together because neighbouring positions tell
    nearly the same (Tompson et al. 2015, "Efficient object localization using convolutional
    networks", section 3.2).
    """

    def mask_shape(self, x: Tensor) -> torch.Size:
        """Returns the shape of the mask of a block of samples, which broadcasts to `x`."""
        samples, units, *positions = x.shape
        return torch.Size((samples, units, *(1 for _ in positions)))
