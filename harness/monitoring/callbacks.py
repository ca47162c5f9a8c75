"""A monitor as a callback of Lightning and of Hugging Face's Trainer, which are optional.

Neither is imported before a callback is asked for. Both callbacks tell the monitor every step of
the optimizer, give it the optimizer where it has none, and close it at the end.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from harness.errors import RequestError


class Steps(Protocol):
    """The part of a `Monitor` that a callback drives."""

    optimizer: Any

    def step(self, step: int | None = None) -> bool:
        """Tells the number of steps taken."""

    def close(self) -> Any:
        """Ends the course."""


def lightning_callback(monitor: Steps) -> Any:
    """Returns a Lightning callback that drives the monitor.

    Raises:
        RequestError: Lightning is not installed.
    """
    base = _first_of("lightning.pytorch", "pytorch_lightning", extra="lightning").Callback

    class MonitorCallback(base):  # type: ignore[misc, valid-type]
        """Tells a monitor the steps of a Lightning training."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """Takes the first optimizer where the monitor has none."""
            _give_optimizer(monitor, next(iter(trainer.optimizers), None))

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            """Tells the number of optimizer steps."""
            monitor.step(trainer.global_step)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            """Closes the monitor."""
            monitor.close()

    return MonitorCallback()


def trainer_callback(monitor: Steps) -> Any:
    """Returns a Hugging Face callback that drives the monitor.

    Raises:
        RequestError: transformers is not installed.
    """
    base = _first_of("transformers", extra="transformers").TrainerCallback

    class MonitorCallback(base):  # type: ignore[misc, valid-type]
        """Tells a monitor the steps of a Trainer's training."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            """Takes the optimizer where the monitor has none."""
            _give_optimizer(monitor, given.get("optimizer"))

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            """Tells the number of optimizer steps."""
            monitor.step(state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            """Closes the monitor."""
            monitor.close()

    return MonitorCallback()


def _give_optimizer(monitor: Steps, optimizer: Any) -> None:
    """Gives a monitor the optimizer, out of the wrappers that have it as `optimizer`."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    if monitor.optimizer is None:
        monitor.optimizer = optimizer


def _first_of(*modules: str, extra: str) -> Any:
    """Returns the first of these modules that is installed."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise RequestError(f"{modules[0]} is not installed; pip install 'harness[{extra}]'")
