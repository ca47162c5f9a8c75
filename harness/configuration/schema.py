"""What can be asked for: one dataclass per configuration group, and the checks that need no data.

Nothing here imports torch, so that `--help` and a misspelled option answer at once. The names a group
knows are the files in `conf/<group>`; a test holds them against the registries that implement them.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from harness.errors import RequestError
from harness.registry import unknown

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# An installed harness has its configuration files inside the package, a checkout beside it.
_PACKAGED_CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
INSTALLED = _PACKAGED_CONF_DIR.is_dir()
CONF_DIR = _PACKAGED_CONF_DIR if INSTALLED else PROJECT_ROOT / "conf"

PROBE_STATISTICS = ("standard", "full")
PRECISIONS = ("float32", "tf32", "bfloat16")
REPAIRS = (
    "none",
    "center_rows",
    "rescale_tau",
    "lsuv",
    "zero_bias",
    "per_sample",
    "neutral_dropout",
)


@dataclass
class DatasetConfig:
    name: str = MISSING
    root: str | None = None
    download: bool = True
    image_size: int | None = None
    split_seed: int = 0
    validation_share: float = 0.2
    test_share: float = 0.2
    training_samples: int | None = None
    residency: str = "auto"
    samples: int | None = None
    shape: list[int] | None = None
    classes: int | None = None
    participation_ratio: float | None = None


@dataclass
class PreprocessingConfig:
    name: str = MISSING
    shift: float = 0.0
    scale: float = 1.0
    epsilon: float | None = None


@dataclass
class ArchitectureConfig:
    name: str = MISSING
    kernel_size: int | None = None
    padding: str | None = None
    pool: str | None = None
    pool_every: int | None = None
    head: str | None = None


@dataclass
class ActivationConfig:
    name: str = MISSING
    alpha: float | None = None
    negative_slope: float | None = None


@dataclass
class InitializerConfig:
    name: str = MISSING
    sigma_w2: float | None = None
    sigma_b2: float | None = None
    bias: str | None = None


@dataclass
class NormalizationConfig:
    name: str = MISSING
    position: str = "before"


@dataclass
class DropoutConfig:
    name: str = MISSING
    rate: float | None = None


@dataclass
class OptimizerConfig:
    name: str = MISSING
    learning_rate: float = MISSING
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    weight_decay: float = 0.0


@dataclass
class ScheduleConfig:
    name: str = MISSING
    warmup_share: float | None = None
    final_share: float | None = None


@dataclass
class BudgetConfig:
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 64
    evaluations: int = 10
    probes: int = 5


@dataclass
class ProbeConfig:
    name: str = MISSING
    samples: int = 512
    statistics: str = "standard"


@dataclass
class TrackingConfig:
    enabled: bool = True
    uri: str | None = None
    artifacts: str | None = None
    experiment: str = "selu"
    figures: bool = True


@dataclass
class Config:
    """A whole request for one cell: what one job of a sweep trains."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    initializer: InitializerConfig = field(default_factory=InitializerConfig)
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    depth: int = 8
    width: Any = 64
    seeds: Any = 3
    precision: str = "float32"
    repair: str = "none"
    device: str = "auto"
    runs: str = "runs"


def known_names(group: str) -> list[str]:
    """The names a configuration group offers, sorted."""
    return list(_files(group))


@functools.cache  # thousands of cells ask for the same few folders
def _files(group: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml")))


def seed_list(seeds: Any) -> list[int]:
    """The seeds that `seeds=5` (0..4) or `seeds=[3,7]` stands for."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        _require(
            seeds >= 1, f"seeds={seeds}: at least one seed is needed, or a list such as seeds=[3,7]"
        )
        return list(range(seeds))
    try:
        values = list(seeds)
        good = bool(values) and all(
            isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**31 for v in values
        )
    except TypeError:
        good = False
    _require(
        good and not isinstance(seeds, str),
        f"seeds={seeds}: expected a count or a list of integers in [0, 2^31), such as seeds=5 or seeds=[3,7]",
    )
    _require(len(set(values)) == len(values), f"seeds={values}: a seed is listed twice")
    return values


# Which options each name takes; an option that a name would ignore is a mistake, not a default.
_OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "activation": {"elu": ("alpha",), "leaky_relu": ("negative_slope",)},
    "initializer": {"gaussian": ("sigma_w2", "sigma_b2"), "pytorch_default": ("bias",)},
    "dropout": {"standard": ("rate",), "alpha": ("rate",)},
    "optimizer": {
        "momentum": ("momentum",),
        "adam": ("beta1", "beta2", "epsilon"),
        "adamw": ("beta1", "beta2", "epsilon"),
    },
    "schedule": {"cosine": ("final_share",), "warmup_cosine": ("warmup_share", "final_share")},
    "architecture": {"cnn": ("kernel_size", "padding", "pool", "pool_every", "head")},
    "preprocessing": {"zca": ("epsilon",)},
}
_COMMON_OPTIONS = {
    "optimizer": ("learning_rate", "weight_decay"),
    "preprocessing": ("shift", "scale"),
    "normalization": ("position",),
}


def options(group: str, name: str) -> tuple[str, ...]:
    """The options that `name` of a configuration group takes, besides its name."""
    return _COMMON_OPTIONS.get(group, ()) + _OPTIONS.get(group, {}).get(name, ())


def validate(config: Config) -> None:
    """Check everything that can be checked without reading data.

    Raises:
        RequestError: one line that says what is wrong, where, and what is allowed.
    """
    for group in (
        "dataset",
        "preprocessing",
        "architecture",
        "activation",
        "initializer",
        "normalization",
        "dropout",
        "optimizer",
        "schedule",
        "probe",
    ):
        _validate_group(group, getattr(config, group))
    seed_list(config.seeds)
    _require(
        _whole(config.depth) and config.depth >= 1,
        f"depth={config.depth}: expected an integer of at least 1 (hidden layers)",
    )
    _require(
        config.width == "input" or (_whole(config.width) and config.width >= 1),
        f"width={config.width}: expected an integer of at least 1, or 'input' (as wide as the input)",
    )
    _require(
        not (config.architecture.name == "cnn" and config.width == "input"),
        "width=input: only for architecture=mlp; give a number of channels for cnn",
    )
    _choice("precision", config.precision, PRECISIONS)
    _choice("repair", config.repair, REPAIRS)
    _choice("normalization.position", config.normalization.position, ("before", "after"))
    if config.initializer.bias is not None:
        _choice("initializer.bias", config.initializer.bias, ("zeros", "uniform"))
    _choice("dataset.residency", config.dataset.residency, ("auto", "resident", "streamed"))
    _choice("probe.statistics", config.probe.statistics, PROBE_STATISTICS)
    _validate_architecture(config.architecture)
    _validate_numbers(config)
    _validate_budget(config)
    _require(
        config.device == "auto" or config.device == "cpu" or config.device.split(":")[0] == "cuda",
        f"device={config.device}: expected auto, cpu, cuda or cuda:N",
    )
    batch_norm_alone = config.normalization.name == "batch" and config.budget.batch_size == 1
    _require(
        not batch_norm_alone,
        "normalization=batch with budget.batch_size=1: a batch of one has no variance; use at least 2, or normalization=layer",
    )
    if config.repair in ("center_rows", "rescale_tau", "lsuv"):
        _require(
            config.normalization.name != "weight_standardization",
            f"repair={config.repair}: normalization=weight_standardization gives every unit's weights sum 0 and length 1 whatever they are; nothing would change",
        )
    if config.repair == "neutral_dropout":
        _require(
            config.dropout.name != "none",
            "repair=neutral_dropout: there is no dropout to repair; give dropout=alpha or dropout=standard",
        )


def _validate_group(group: str, section: Any) -> None:
    name = section.name
    if not (group == "activation" and ":" in name) and name not in known_names(group):
        raise unknown(group, name, known_names(group))
    if group not in _OPTIONS:
        return
    allowed = options(group, name)
    for option in (
        key
        for key in section.__dataclass_fields__
        if key != "name" and key not in _COMMON_OPTIONS.get(group, ())
    ):
        value = getattr(section, option)
        takers = [other for other in known_names(group) if option in options(group, other)]
        _require(
            value is None or option in allowed,
            f"{group}.{option}={value}: {group}={name} takes no such option; it belongs to {', '.join(takers)}",
        )
        _require(
            value is not None or option not in allowed,
            f"{group}.{option} is missing: {group}={name} needs it",
        )


def _validate_architecture(section: ArchitectureConfig) -> None:
    if section.name != "cnn":
        return
    _require(
        section.kernel_size >= 1 and section.kernel_size % 2 == 1,
        f"architecture.kernel_size={section.kernel_size}: expected an odd integer of at least 1",
    )
    _choice("architecture.padding", section.padding, ("zeros", "circular"))
    _choice("architecture.pool", section.pool, ("none", "max", "average"))
    _choice("architecture.head", section.head, ("flatten", "average"))
    _require(
        section.pool_every >= 1,
        f"architecture.pool_every={section.pool_every}: expected an integer of at least 1",
    )


def _validate_numbers(config: Config) -> None:
    positive = {
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "preprocessing.scale": config.preprocessing.scale,
    }
    for key, value in positive.items():
        _require(0 < value < math.inf, f"{key}={value}: expected a number above 0")
    shares = {
        "optimizer.momentum": config.optimizer.momentum,
        "optimizer.beta1": config.optimizer.beta1,
        "optimizer.beta2": config.optimizer.beta2,
        "dropout.rate": config.dropout.rate,
        "schedule.warmup_share": config.schedule.warmup_share,
    }
    for key, value in shares.items():
        _require(value is None or 0 <= value < 1, f"{key}={value}: expected a number in [0, 1)")
    at_least_zero = {
        "optimizer.weight_decay": config.optimizer.weight_decay,
        "initializer.sigma_w2": config.initializer.sigma_w2,
        "initializer.sigma_b2": config.initializer.sigma_b2,
        "schedule.final_share": config.schedule.final_share,
    }
    for key, value in at_least_zero.items():
        _require(
            value is None or 0 <= value < math.inf,
            f"{key}={value}: expected a number of at least 0",
        )
    for key in ("validation_share", "test_share"):
        value = getattr(config.dataset, key)
        _require(0 < value < 1, f"dataset.{key}={value}: expected a number between 0 and 1")
    _require(
        config.probe.samples >= 2,
        f"probe.samples={config.probe.samples}: at least 2 samples are needed for a variance",
    )


def _validate_budget(config: Config) -> None:
    budget = config.budget
    _require(
        (budget.steps is None) != (budget.epochs is None),
        f"budget: give either budget.steps or budget.epochs (set the other to null), not steps={budget.steps} and epochs={budget.epochs}",
    )
    _require(
        budget.steps is None or budget.steps >= 0,
        f"budget.steps={budget.steps}: expected an integer of at least 0 (0 probes at initialisation only)",
    )
    _require(
        budget.epochs is None or 0 < budget.epochs < math.inf,
        f"budget.epochs={budget.epochs}: expected a number above 0",
    )
    _require(
        budget.batch_size >= 1,
        f"budget.batch_size={budget.batch_size}: expected an integer of at least 1",
    )
    _require(
        budget.evaluations >= 1,
        f"budget.evaluations={budget.evaluations}: expected an integer of at least 1 (the last step is always evaluated)",
    )
    _require(
        budget.probes >= 0,
        f"budget.probes={budget.probes}: expected an integer of at least 0 (1: initialisation; 2: and the end; more: log-spaced between)",
    )


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute folder for results, made sure to be writable without leaving anything behind.

    Raises:
        RequestError: the folder, or the nearest existing parent, cannot be written.
    """
    _require(str(path).strip() != "", "runs is empty; give the folder for results with runs=FOLDER")
    folder = Path(path).expanduser().resolve()
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    _require(
        nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
        f"runs={folder}: {nearest} cannot be written; choose another folder with runs=FOLDER",
    )
    return folder


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"{key}={value}: expected one of {', '.join(allowed)}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)
