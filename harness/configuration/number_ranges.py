"""The ranges of a request's numbers. Needs neither torch nor Hydra."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.configuration.schema import BudgetConfig, Config, DatasetConfig, PreprocessingConfig
from harness.errors import RequestError

# Bounds that no study meets, so that a slip of the pen is told before it fills the memory.
_MOST_STOPS = 100_000
_MOST_STEPS = 10**8
_MOST_EPOCHS = 10**6


def require(condition: bool, message: str) -> None:
    """Refuses a request with a message where a condition does not hold; RequestError."""
    if not condition:
        raise RequestError(message)


def check_numbers(config: Config) -> None:
    """Refuses numbers of a request that are out of range, but for those of its size.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    check_preprocessing_numbers(config.preprocessing)
    check_shares(config.dataset)
    _check_budget(config.budget)
    _check_augmentation(config.augmentation.padding, config.augmentation.flip)
    _require_above_zero(
        {
            "optimizer.learning_rate": config.optimizer.learning_rate,
            "optimizer.epsilon": config.optimizer.epsilon,
        }
    )
    below_one = {
        "optimizer.momentum": config.optimizer.momentum,
        "optimizer.beta1": config.optimizer.beta1,
        "optimizer.beta2": config.optimizer.beta2,
        "optimizer.rho": config.optimizer.rho,
        "dropout.rate": config.dropout.rate,
        "schedule.warmup_share": config.schedule.warmup_share,
    }
    for key, value in below_one.items():
        require(value is None or 0 <= value < 1, f"{key}={value}: expected a number in [0, 1)")
    at_least_zero = {
        "optimizer.weight_decay": config.optimizer.weight_decay,
        "optimizer.momentum_decay": config.optimizer.momentum_decay,
        "initializer.sigma_w2": config.initializer.sigma_w2,
        "initializer.sigma_b2": config.initializer.sigma_b2,
        "schedule.final_share": config.schedule.final_share,
    }
    for key, value in at_least_zero.items():
        require(
            value is None or 0 <= value < math.inf,
            f"{key}={value}: expected a number of at least 0",
        )
    require(
        config.probe.samples >= 2,
        f"probe.samples={config.probe.samples}: at least 2 samples are needed for a variance",
    )


def check_preprocessing_numbers(preprocessing: PreprocessingConfig) -> None:
    """Refuses numbers of a preprocessing that are out of range.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    _require_above_zero(
        {
            "preprocessing.scale": preprocessing.scale,
            "preprocessing.epsilon": preprocessing.epsilon,
        }
    )
    require(
        math.isfinite(preprocessing.shift),
        f"preprocessing.shift={preprocessing.shift}: expected a finite number",
    )


def check_shares(dataset: DatasetConfig) -> None:
    """Refuses shares of a split that leave nothing on one of its sides.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    shares = {
        "dataset.validation_share": dataset.validation_share,
        "dataset.test_share": dataset.test_share,
    }
    for key, value in shares.items():
        require(0 < value < 1, f"{key}={value}: expected a number between 0 and 1")


def _require_above_zero(values: Mapping[str, float | None]) -> None:
    """Refuses numbers that are neither absent nor above 0 and finite."""
    for key, value in values.items():
        require(value is None or 0 < value < math.inf, f"{key}={value}: expected a number above 0")


def _check_augmentation(padding: int | None, flip: float | None) -> None:
    require(
        flip is None or 0 <= flip <= 1, f"augmentation.flip={flip}: expected a number in [0, 1]"
    )
    require(
        padding is None or padding >= 0,
        f"augmentation.padding={padding}: expected an integer of at least 0",
    )
    require(
        (padding, flip) != (0, 0),
        "augmentation.padding=0 and augmentation.flip=0 leave images as they are; "
        "give augmentation=none",
    )


def _check_budget(budget: BudgetConfig) -> None:
    require(
        (budget.steps is None) != (budget.epochs is None),
        "budget: give either budget.steps or budget.epochs (set the other to null), "
        f"not steps={budget.steps} and epochs={budget.epochs}",
    )
    require(
        budget.steps is None or budget.steps >= 0,
        f"budget.steps={budget.steps}: expected an integer of at least 0 "
        "(0 probes at initialisation only)",
    )
    require(
        budget.steps is None or budget.steps <= _MOST_STEPS,
        f"budget.steps={budget.steps}: expected at most {_MOST_STEPS:,} steps",
    )
    require(
        budget.epochs is None or 0 < budget.epochs < math.inf,
        f"budget.epochs={budget.epochs}: expected a number above 0",
    )
    require(
        budget.epochs is None or budget.epochs <= _MOST_EPOCHS,
        f"budget.epochs={budget.epochs}: expected at most {_MOST_EPOCHS:,} epochs",
    )
    require(
        budget.batch_size >= 1,
        f"budget.batch_size={budget.batch_size}: expected an integer of at least 1",
    )
    require(
        budget.evaluations >= 1,
        f"budget.evaluations={budget.evaluations}: expected an integer of at least 1 "
        "(the last step is always evaluated)",
    )
    require(
        budget.probes >= 0,
        f"budget.probes={budget.probes}: expected an integer of at least 0 "
        "(1: initialisation; 2: and the end; more: log-spaced between)",
    )
    for option, count in (("evaluations", budget.evaluations), ("probes", budget.probes)):
        require(count <= _MOST_STOPS, f"budget.{option}={count}: expected at most {_MOST_STOPS:,}")
