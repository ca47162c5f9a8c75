"""Contexts after which a model and the random generators are as before."""

from __future__ import annotations

import copy
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy
import torch
from torch import Tensor, nn

# Containers whose contents are restored; other objects are put back as they are.
_CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, set, deque, bytearray)
_DEEPEST = 4
# Numbers of parameters up to which they are copied, in case that the model changes them.
_MOST_COPIED = 2**27


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, module by module; afterwards the model is as before.

    Modes, parameters, buffers, attributes of modules and the random generators are restored.
    """
    modules = list(model.modules())
    attributes = [_Snapshot(vars(module)) for module in modules]
    tensors = _copies(model)
    try:
        # A module may prepare itself for evaluation where it is told to.
        model.eval()
        for module in modules:
            module.training = False
        # Importing the compiler takes seconds, and where it is not imported nothing is compiled.
        compiler_is_imported = "torch._dynamo" in sys.modules
        eager = torch.compiler.set_stance("force_eager") if compiler_is_imported else nullcontext()
        with same_random_numbers(), eager:
            yield
    finally:
        for snapshot in attributes:
            snapshot.restore()
        with torch.no_grad():
            for tensor, before in tensors:
                if not _same(tensor, before):
                    tensor.copy_(before)


class _Snapshot:
    """The contents of a container, and of those in it."""

    def __init__(self, container: Any, depth: int = 0) -> None:
        self.container = container
        self.contents = copy.copy(container)
        self.inner: list[_Snapshot] = []
        if depth == _DEEPEST:
            return
        members = container.values() if isinstance(container, dict) else container
        for member in members:
            if type(member) in _CONTAINERS:
                self.inner.append(_Snapshot(member, depth + 1))

    def restore(self) -> None:
        """Puts the contents back."""
        if isinstance(self.container, (dict, set)):
            self.container.clear()
            self.container.update(self.contents)
        elif isinstance(self.container, deque):
            self.container.clear()
            self.container.extend(self.contents)
        else:
            self.container[:] = self.contents
        for snapshot in self.inner:
            snapshot.restore()


def _copies(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Returns tensors of a model with copies of their values."""
    tensors = list(model.buffers())
    for module in model.modules():
        tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    parameters = list(model.parameters())
    if sum(parameter.numel() for parameter in parameters) <= _MOST_COPIED:
        tensors += parameters
    return [(tensor, tensor.detach().clone()) for tensor in tensors]


def _same(tensor: Tensor, before: Tensor) -> bool:
    """Returns True for equal values, NaN being equal to itself."""
    if tensor.shape != before.shape:
        return False
    if torch.equal(tensor, before):
        return True
    both_nan = torch.isnan(tensor) & torch.isnan(before)
    return bool(((tensor == before) | both_nan).all())


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Restores the global generators of Python, NumPy and torch, whatever is drawn meanwhile."""
    python_state = random.getstate()
    numpy_state = numpy.random.get_state()
    initialized = torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if initialized else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        numpy.random.set_state(numpy_state)
