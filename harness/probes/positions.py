"""Geometry of a convolution: the outputs that see padding, and the inputs of each output."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

_GOLDEN_RATIO = 0.6180339887498949


def spread(count: int, positions: int, device: torch.device) -> Tensor:
    """A position for each of `count` samples, int64 (count,).

    Multiples of the golden ratio: evenly spread at any count, unrelated to the samples' order.
    """
    steps = torch.arange(count, device=device, dtype=torch.float64)
    return ((steps * _GOLDEN_RATIO) % 1.0 * positions).long()


class Geometry:
    """The windows of a convolution over inputs of `height` x `width`.

    An output position is interior when its window holds no zero padding.
    """

    def __init__(self, module: nn.Conv2d, height: int, width: int) -> None:
        self.module = module
        self.height = height
        self.width = width

    @cached_property
    def live(self) -> Tensor:
        """1 for each tap of a window that is no padding, else 0.

        Shape (1, kernel height * kernel width, output positions).
        """
        padded = self._padded(torch.ones(1, 1, self.height, self.width))
        return functional.unfold(
            padded,
            self.module.kernel_size,
            stride=self.module.stride,
            dilation=self.module.dilation,
        )

    @cached_property
    def interior(self) -> Tensor:
        """True for output positions that see no zero padding: (output positions,)."""
        return (self.live > 0).all(1)[0]

    def tau(self, weight: Tensor) -> Tensor:
        """Mean over units of the sum of squared weights on live taps.

        (trials, units, fan_in) -> (trials, output positions).
        """
        taps = self.live.shape[1]
        square = weight.double().square().unflatten(2, (-1, taps))
        by_tap = square.sum(2).mean(1)
        return by_tap @ self.live[0].to(by_tap)

    def sampled(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Row and column of one output position for each of `count` samples, evenly spread.

        Interior positions where there are any, else all.
        """
        if bool(self.interior.any()):
            allowed = torch.nonzero(self.interior)[:, 0]
        else:
            allowed = torch.arange(len(self.interior))
        position = allowed[spread(count, len(allowed), allowed.device)].to(device)
        width = self.outputs[1]
        return position // width, position % width

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output map."""
        vertical, horizontal = self._padding
        height = self._output_size(self.height + vertical, 0)
        width = self._output_size(self.width + horizontal, 1)
        return height, width

    def patches(self, inputs: Tensor, samples: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Inputs of one output position of each sample, in the order of the weights.

        Args:
            inputs: (trials, samples, channels, height, width).
            samples: indices of the samples to take, (rows,).
            row: row of each one's output position, (rows,).
            column: its column, (rows,).

        Returns:
            (trials, rows, fan_in).
        """
        taken = inputs[:, samples]
        padded = self._padded(taken.flatten(0, 1)).unflatten(0, taken.shape[:2])
        index = torch.arange(len(row), device=row.device).view(-1, 1, 1)
        rows = self._window(row, 0).unsqueeze(2)
        columns = self._window(column, 1).unsqueeze(1)
        # (rows, kernel height, kernel width, trials, channels)
        windows = padded.transpose(0, 1)[index, :, :, rows, columns]
        return windows.permute(3, 0, 4, 1, 2).flatten(2)

    def _window(self, position: Tensor, axis: int) -> Tensor:
        """Padded input indices along an axis that an output position sees: (rows, kernel size)."""
        start = (position * self.module.stride[axis]).unsqueeze(1)
        taps = torch.arange(self.module.kernel_size[axis], device=position.device)
        return start + taps * self.module.dilation[axis]

    def _output_size(self, padded_size: int, axis: int) -> int:
        reach = self.module.dilation[axis] * (self.module.kernel_size[axis] - 1)
        return (padded_size - reach - 1) // self.module.stride[axis] + 1

    @property
    def _padding(self) -> tuple[int, int]:
        """Padding at both ends together: of rows, and of columns."""
        left, right, top, bottom = self.module._reversed_padding_repeated_twice
        return top + bottom, left + right

    def _padded(self, images: Tensor) -> Tensor:
        padding = self.module._reversed_padding_repeated_twice
        mode = self.module.padding_mode
        return functional.pad(images, padding, mode="constant" if mode == "zeros" else mode)
