"""How a convolution walks over its input: which outputs see padding, what each output sees, and the tau that acts there."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional


def spread(count: int, positions: int, device: torch.device) -> Tensor:
    """A position for each of `count` samples: multiples of the golden ratio, evenly spread at any count, unrelated to the samples' order."""
    return (
        (torch.arange(count, device=device, dtype=torch.float64) * 0.6180339887498949)
        % 1.0
        * positions
    ).long()


class Geometry:
    """A convolution's walk over inputs of `height` x `width`. An output position is interior when its window holds no zero padding."""

    def __init__(self, module: nn.Conv2d, height: int, width: int) -> None:
        self.module, self.height, self.width = module, height, width
        self.walk = {"stride": module.stride, "dilation": module.dilation}

    @cached_property
    def live(self) -> Tensor:
        """Of each window's taps those that are no padding: (1, kernel height * width, output positions), zeros and ones."""
        padded = self._padded(torch.ones(1, 1, self.height, self.width))
        return functional.unfold(padded, self.module.kernel_size, **self.walk)

    @cached_property
    def interior(self) -> Tensor:
        """Which output positions see no zero padding: (output positions,)."""
        return (self.live > 0).all(1)[0]

    def tau(self, weight: Tensor) -> Tensor:
        """Mean over units of the sum of squared weights on live taps: (trials, units, fan_in) -> (trials, output positions)."""
        taps = weight.double().square().unflatten(2, (-1, self.live.shape[1])).sum(2).mean(1)
        return taps @ self.live[0].to(taps)

    def sampled(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Row and column of one output position for each of `count` samples, interior ones where there are any, evenly spread."""
        allowed = (
            torch.nonzero(self.interior)[:, 0]
            if bool(self.interior.any())
            else torch.arange(len(self.interior))
        )
        chosen = allowed[spread(count, len(allowed), allowed.device)].to(device)
        columns = self.outputs[1]
        return chosen // columns, chosen % columns

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output map."""
        sizes = zip(
            (self.height, self.width),
            self._padding,
            self.module.kernel_size,
            self.module.stride,
            self.module.dilation,
        )
        height, width = (
            (size + padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, kernel, stride, dilation in sizes
        )
        return height, width

    def patches(self, inputs: Tensor, samples: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """What the given output position of each sample sees: (trials, samples, channels, height, width) -> (trials, rows, fan_in)."""
        chosen = inputs[:, samples]
        padded = self._padded(chosen.flatten(0, 1)).unflatten(0, chosen.shape[:2])
        (high, wide), (down, right), (apart, aside) = (
            self.module.kernel_size,
            self.module.stride,
            self.module.dilation,
        )
        rows = (row * down).unsqueeze(1) + torch.arange(high, device=row.device) * apart
        columns = (column * right).unsqueeze(1) + torch.arange(wide, device=row.device) * aside
        index = torch.arange(len(row), device=row.device).view(-1, 1, 1)
        windows = padded.transpose(0, 1)[
            index, :, :, rows.unsqueeze(2), columns.unsqueeze(1)
        ]  # (rows, high, wide, trials, channels)
        return windows.permute(3, 0, 4, 1, 2).flatten(2)

    @property
    def _padding(self) -> tuple[int, int]:
        """All padding of rows, and of columns."""
        left, right, top, bottom = self.module._reversed_padding_repeated_twice
        return top + bottom, left + right

    def _padded(self, images: Tensor) -> Tensor:
        mode = self.module.padding_mode
        return functional.pad(
            images,
            self.module._reversed_padding_repeated_twice,
            mode="constant" if mode == "zeros" else mode,
        )
