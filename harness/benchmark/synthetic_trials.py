"""Synthetic trials: real specifications with made-up results of the real shape.

They stand for a large sweep where only the work around the training is timed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from harness.configuration.composing import compose
from harness.configuration.schema import Config
from harness.configuration.trial import Trial
from harness.store.trials import Store

SEEDS_OF_CELL = 3
# Overrides that all cells share.
OVERRIDES = ("dataset=digits", "tracking=none", "depth=8", "width=64")
# Axis values, crossed until there are enough cells.
_AXES = {
    "activation": ("selu", "relu", "elu", "gelu", "silu", "tanh"),
    "initializer": ("lecun_normal", "he_normal", "orthogonal", "lecun_uniform"),
    "normalization": ("none", "batch", "layer"),
    "dropout": ("none", "standard", "alpha"),
    "preprocessing": ("none", "global", "per_pixel", "per_sample"),
}
_EVALUATIONS = 11
_STEPS_OF_EVALUATION = 48
_STEPS_OF_EPOCH = 16
_PROBED_STEPS = (0, 1, 8, 61, 480)
_PROBED_PHASES = ("init", "training", "training", "training", "end")
# Columns that reports read, and others that make up the usual number of columns.
_COLUMNS = (
    "pre_activation_mean",
    "pre_activation_variance",
    "activation_mean",
    "activation_variance",
    "gradient_square",
    "gradient_gain",
    "gradient_product",
    "saturated_share",
    "dead_share",
)
_OTHER_COLUMNS = 21


def sweep_axes(cells: int) -> tuple[str, ...]:
    """Returns the axes of a sweep of at least so many cells, as a command line gives them.

    As many axes are crossed as give no more cells; learning rates make up the rest.
    """
    axes = []
    crossed = 1
    for name, values in _AXES.items():
        if crossed * len(values) <= cells:
            axes.append(f"{name}={','.join(values)}")
            crossed *= len(values)
    rates = [_learning_rate(index) for index in range(-(-cells // crossed))]
    axes.append(f"optimizer.learning_rate={','.join(rates)}")
    return tuple(axes)


def _learning_rate(index: int) -> str:
    return f"{0.001 * 1.02**index:.6g}"


def cell_configs(cells: int, runs: Path) -> list[Config]:
    """Returns the requests of the cells that `sweep_axes` crosses, in Hydra's order.

    Hydra composes each combination of files once, and the learning rates are set in the result.
    """
    choices = []
    for axis in sweep_axes(cells):
        name, _, values = axis.partition("=")
        choices.append([(name, value) for value in values.split(",")])
    composed: dict[tuple[str, ...], Config] = {}
    configs = []
    for *file_choices, (_, learning_rate) in itertools.product(*choices):
        files = tuple(f"{name}={value}" for name, value in file_choices)
        if files not in composed:
            composed[files] = compose(
                [*OVERRIDES, *files, f"seeds={SEEDS_OF_CELL}", f"runs={runs}"]
            )
        base = composed[files]
        optimizer = _with_changes(base.optimizer, learning_rate=float(learning_rate))
        configs.append(_with_changes(base, optimizer=optimizer))
    return configs


def _with_changes(section: Any, **changes: Any) -> Any:
    """Returns a copy of a configuration object in which some fields are changed."""
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    return type(section)(**values | changes)


def store_results(store: Store, trials: Iterable[Trial]) -> None:
    """Stores a made-up result for every trial."""
    store.check_writable()
    generator = np.random.default_rng(0)
    for trial in trials:
        with store.claim(trial.trial_id):
            store.begin(
                {
                    "trial_id": trial.trial_id,
                    "cell_id": trial.cell_id,
                    "rules_version": trial.spec["rules_version"],
                    "seed": trial.seed,
                    "axes": trial.axes,
                    "spec": trial.spec,
                }
            )
            store.finish(trial.trial_id, **_result(generator, trial.spec["depth"]))


def _result(generator: np.random.Generator, depth: int) -> dict[str, dict[str, Any]]:
    """Returns a result of the usual shape: 11 evaluations, 5 probes with 30 columns a layer."""
    accuracy = generator.uniform(0.8, 1.0, _EVALUATIONS)
    steps = np.arange(_EVALUATIONS) * _STEPS_OF_EVALUATION
    curves = {
        "step": steps,
        "epoch": steps / _STEPS_OF_EPOCH,
        "learning_rate": np.full(_EVALUATIONS, 0.01),
        "train_loss": generator.uniform(0.0, 1.0, _EVALUATIONS),
        "validation_loss": generator.uniform(0.0, 1.0, _EVALUATIONS),
        "validation_accuracy": accuracy,
    }
    layers = _layers(generator, depth)
    final_accuracy = float(accuracy[-1])
    final_loss = float(curves["validation_loss"][-1])
    summary = {
        "train_accuracy": final_accuracy,
        "test_accuracy": final_accuracy,
        "validation_accuracy": final_accuracy,
        "best_validation_accuracy": final_accuracy,
        "train_loss": final_loss,
        "test_loss": final_loss,
        "validation_loss": final_loss,
        "steps": 480,
        "epochs": 30.0,
        "seconds": 0.1,
        "pack_size": 16,
        "parameters": 33_000,
    }
    return {"summary": summary, "curves": curves, "layers": layers}


def _layers(generator: np.random.Generator, depth: int) -> dict[str, Any]:
    """Returns the rows of all layers at all probes."""
    probes = len(_PROBED_STEPS)
    rows = depth * probes
    steps = np.repeat(_PROBED_STEPS, depth)
    names = [f"layer_{number:02d}" for number in range(1, depth + 1)]
    layers: dict[str, Any] = {
        "step": steps,
        "epoch": steps / _STEPS_OF_EPOCH,
        "phase": np.repeat(_PROBED_PHASES, depth).tolist(),
        "layer": np.tile(np.arange(1, depth + 1), probes),
        "name": names * probes,
        "kind": ["linear"] * rows,
        "units": np.full(rows, 64),
        "fan_in": np.full(rows, 64),
    }
    for name in _COLUMNS:
        layers[name] = generator.uniform(0.5, 1.5, rows)
    for number in range(_OTHER_COLUMNS):
        layers[f"column_{number:02d}"] = generator.uniform(0.5, 1.5, rows)
    return layers
