"""Contexts after which a model and the random generators are as before."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, module by module; afterwards the model is as before.

    Modes, buffers and the random generators are restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        for module, _ in modes:
            module.training = False
        # Importing the compiler takes seconds, and where it is not imported nothing is compiled.
        compiler_is_imported = "torch._dynamo" in sys.modules
        eager = torch.compiler.set_stance("force_eager") if compiler_is_imported else nullcontext()
        with same_random_numbers(), eager:
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(torch.nan_to_num(buffer), torch.nan_to_num(before)):
                    buffer.copy_(before)


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
