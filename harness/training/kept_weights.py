"""Trained weights that a trial keeps: those after its last step, or at its best evaluation.

They are a file in the format of safetensors, which holds numbers and text only, so that a
stranger's file runs no code when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.networks.hidden_stack import Shape
from harness.training.packs import Pack

# The entry of a file's metadata that says which trial it belongs to, as JSON.
_ORIGIN = "harness"


class BestWeights:
    """The weights of each trial of a pack at its best evaluation so far.

    The best evaluation has the highest validation accuracy, and of equal ones it is the first.
    Nothing here waits for the device.

    Attributes:
        accuracy: (trials,), the best validation accuracy; -inf before the first evaluation.
        step: (trials,) int64, the step of that evaluation; 0 before the first.
    """

    def __init__(self, pack: Pack) -> None:
        self.accuracy = torch.full((len(pack.trials),), -torch.inf, device=pack.device)
        self.step = torch.zeros_like(pack.step)
        self._pack = pack
        self._parameters = pack.parameters.clone()
        # The steps of all dropouts are the pack's own.
        self._buffers = {
            name: buffer.clone() for name, buffer in pack.buffers.items() if buffer is not pack.step
        }

    @torch.no_grad()
    def note(self, accuracy: Tensor, step: int, diverged_step: Tensor) -> None:
        """Keeps the weights of the trials whose evaluation is their best so far.

        Args:
            accuracy: (trials,), the validation accuracy of the pack's weights as they are.
            step: the number of updates done.
            diverged_step: (trials,), -1 for a trial that has not diverged; others keep nothing.
        """
        is_better = (accuracy > self.accuracy) & (diverged_step < 0)
        current = self._current()
        for name, kept in self.tensors():
            if name in current:
                better = is_better.view(-1, *(1,) * (kept.dim() - 1))
                kept.copy_(torch.where(better, current[name], kept))
        self.accuracy.copy_(torch.where(is_better, accuracy, self.accuracy))
        self.step.copy_(torch.where(is_better, step, self.step))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Gives everything that is kept by name, each (trials, ...), as views."""
        for name in self._pack.spans:
            yield f"parameter/{name}", self._pack.parameter_in(self._parameters, name)
        for name, buffer in self._buffers.items():
            yield f"buffer/{name}", buffer
        yield "accuracy", self.accuracy
        yield "step", self.step

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """A context in which the pack has these weights, and after which it has its own again."""
        pack = self._pack
        pairs = [(pack.parameters, self._parameters), (pack.step, self.step)]
        pairs += [(pack.buffers[name], buffer) for name, buffer in self._buffers.items()]
        own = [tensor.clone() for tensor, _ in pairs]
        with torch.no_grad():
            for tensor, kept in pairs:
                tensor.copy_(kept)
        try:
            yield
        finally:
            with torch.no_grad():
                for (tensor, _), before in zip(pairs, own, strict=True):
                    tensor.copy_(before)

    def _current(self) -> dict[str, Tensor]:
        """Returns the pack's weights and buffers as they are, by the names of `tensors`."""
        current = {f"parameter/{name}": tensor for name, tensor in self._pack.state.items()}
        for name in self._buffers:
            current[f"buffer/{name}"] = self._pack.buffers[name]
        return current


@dataclass(frozen=True)
class Origin:
    """The network that weights belong to.

    Attributes:
        trial_id: the trial.
        kept: `best` or `last`.
        shape: channels, height and width of its images.
        classes: the number of its classes.
        step: the updates after which it had these weights.
    """

    trial_id: str
    kept: str
    shape: Shape
    classes: int
    step: int


def weights_file(pack: Pack, index: int, origin: Origin) -> bytes:
    """Returns the file of one trial's weights, its buffers included, as they are in the pack.

    Args:
        pack: the pack.
        index: the trial's number in the pack's order.
        origin: what the file says about itself.
    """
    # Loaded by those who keep weights alone.
    from safetensors.torch import save

    tensors = {
        name: tensor[index].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in (pack.state | pack.buffers).items()
    }
    # One entry, as the library writes several in an order of chance.
    about = {_ORIGIN: json.dumps(asdict(origin))}
    return save(tensors, about)


def read_weights(path: Path) -> tuple[dict[str, Tensor], Origin]:
    """Returns the weights in a file by name, and where they come from.

    Raises:
        ValueError: the file has no weights of a trial.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_ORIGIN])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        origin = Origin(**about | {"shape": tuple(about["shape"])})
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"no weights of a trial: {error}") from None
    return tensors, origin
