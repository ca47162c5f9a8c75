"""The request for one cell as dataclasses: one section per configuration group.

A section declares by hand what every name of its group shares, and options whose default is null;
the options that only some names take are read from the files in `conf/GROUP`. Nothing here imports
torch, so that `--help` and a misspelled option answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from omegaconf import MISSING

from harness.configuration.options import CONF_DIR as CONF_DIR
from harness.configuration.options import INSTALLED as INSTALLED
from harness.configuration.options import PROJECT_ROOT as PROJECT_ROOT
from harness.configuration.options import all_defaults
from harness.configuration.options import known_names as known_names
from harness.configuration.options import options as options

S = TypeVar("S", bound=type)


def described(default: Any, comment: str) -> Any:
    """Returns a dataclass field with a default and the comment that documents it."""
    return field(default=default, metadata={"comment": comment})


def section(group: str) -> Callable[[S], S]:
    """Returns a decorator that adds the options of a group's files to its section.

    An added option is None unless the chosen name takes it; its type is that of its defaults.
    """

    def extend(declared: S) -> S:
        by_hand = {entry.name for entry in fields(declared)}
        added = [
            (option, _optional_type(group, option, defaults), field(default=None))
            for option, defaults in all_defaults(group).items()
            if option not in by_hand
        ]
        extended = make_dataclass(
            declared.__name__, added, bases=(declared,), namespace={"__doc__": declared.__doc__}
        )
        # Pickled configurations refer to a section by the name that this module gives it.
        extended.__module__ = declared.__module__
        extended.__qualname__ = declared.__qualname__
        return cast(S, extended)

    return extend


def _optional_type(group: str, option: str, defaults: list[Any]) -> Any:
    """Returns the type of an option, None included, from its default values."""
    values = [default for default in defaults if default is not None]
    if not values:
        raise TypeError(
            f"conf/{group}: option {option!r} is null in every file, so its type is unknown; "
            f"declare it by hand in its section in {__name__}"
        )
    if all(isinstance(value, list) for value in values):
        element: Any = type(values[0][0])
        return list[element] | None
    types = {type(value) for value in values}
    if types == {int, float}:
        return float | None
    if len(types) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in types))
        raise TypeError(f"conf/{group}: the defaults of option {option!r} differ in type: {names}")
    return types.pop() | None


class Section:
    """Base of the sections: a group's options as attributes."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Options that `section` adds, which a type checker cannot see."""


@section("dataset")
@dataclass
class DatasetConfig(Section):
    """The data set, where it lies, and how it is split."""

    name: str = MISSING
    root: str | None = described(None, "folder of the files; null: the default data folder")
    download: bool = described(True, "download what is missing")
    image_size: int | None = described(None, "pixels a side; null: as the files are")
    split_seed: int = described(0, "seed of the random split, at least 0")
    validation_share: float = described(
        0.2, "share of the samples outside an official test split, in (0, 1)"
    )
    test_share: float = described(
        0.2, "share of all samples, in (0, 1); unused where there is an official test split"
    )
    training_samples: int | None = described(
        None, "number of training samples to keep, at least 4; null: all of them"
    )
    residency: str = described(
        "auto", "auto, resident (all samples in device memory) or streamed (batch by batch)"
    )
    participation_ratio: float | None = described(
        None, "effective number of input directions; null: independent pixels"
    )
    pixel_shuffle: int | None = described(
        None, "seed of one permutation of the pixels of all images; null: they stay in place"
    )
    label_noise: float = described(
        0.0, "probability that a training label is drawn anew from all classes, in [0, 1]"
    )
    label_noise_seed: int = described(0, "seed of the label noise, at least 0")


@section("preprocessing")
@dataclass
class PreprocessingConfig(Section):
    """The preprocessing of pixels; its moments come from the training split."""

    name: str = MISSING
    shift: float = described(0.0, "added last, after `scale`")
    scale: float = described(1.0, "multiplied after the preprocessing, above 0")


@section("augmentation")
@dataclass
class AugmentationConfig(Section):
    """The random changes of training images; evaluations and probes see them as they are."""

    name: str = "none"


@section("architecture")
@dataclass
class ArchitectureConfig(Section):
    """The kind of network; `depth` and `width` are axes of their own."""

    name: str = MISSING
    layers: Any = described(None, "hidden layers in order, see `harness.configuration.layer_lists`")
    pool_stride: int | None = described(None, "step of a pooling; null: its size")
    image_size: int | None = described(
        None, "pixels a side of what enters a named network; null: as the images are"
    )


@section("activation")
@dataclass
class ActivationConfig(Section):
    """The activation of every hidden layer, or a user's own `module:function`."""

    name: str = MISSING
    layers: int | None = described(None, "activated layers in a row; null: the depth")


@section("initializer")
@dataclass
class InitializerConfig(Section):
    """The distribution of the initial weights and biases."""

    name: str = MISSING


@section("normalization")
@dataclass
class NormalizationConfig(Section):
    """The normalization of every hidden layer."""

    name: str = MISSING
    position: str = described("before", "before or after the activation")


@section("dropout")
@dataclass
class DropoutConfig(Section):
    """The dropout after every hidden layer."""

    name: str = MISSING


@section("readout")
@dataclass
class ReadoutConfig(Section):
    """The last layer, which gives the classes' logits."""

    name: str = MISSING


@section("optimizer")
@dataclass
class OptimizerConfig(Section):
    """The optimizer and its constants."""

    name: str = MISSING
    learning_rate: float = described(MISSING, "peak learning rate, above 0")
    weight_decay: float = described(0.0, "at least 0")


@section("schedule")
@dataclass
class ScheduleConfig(Section):
    """The course of the learning rate over the steps."""

    name: str = MISSING


@dataclass
class BudgetConfig:
    """The length of a training, and how often it is evaluated and probed."""

    epochs: float | None = described(
        None, "passes over the training split, above 0; null where `steps` is given"
    )
    steps: int | None = described(
        None, "optimizer steps, at least 0 (0: initialisation only); null where `epochs` is given"
    )
    batch_size: int = described(64, "samples in a batch, at least 1")
    evaluations: int = described(
        10,
        "evaluations on the validation split after step 0: evenly spaced, the last step among "
        "them, at least 1",
    )
    probes: int = described(
        5, "probes, at least 0 (1: initialisation; 2: and the end; more: log-spaced between)"
    )


@dataclass
class ProbeConfig:
    """The samples that a probe measures, and how much it measures."""

    name: str = MISSING
    samples: int = described(512, "validation samples that a probe measures, at least 2")
    statistics: str = described("standard", "standard or full")


@section("search")
@dataclass
class SearchConfig(Section):
    """The search for a setting: tuned on seeds of its own, confirmed on the cell's seeds."""

    name: str = "none"


@dataclass
class TrackingConfig:
    """The MLflow server that receives finished trials."""

    enabled: bool = described(True, "send finished trials to MLflow")
    uri: str | None = described(
        None,
        "address of the tracking server or database; null: MLFLOW_TRACKING_URI, or mlflow.db"
        " in `runs`",
    )
    artifacts: str | None = described(
        None, "folder or address of artifacts; null: mlartifacts in `runs`, or the server's own"
    )
    experiment: str | None = described(
        None, "name of the MLflow experiment; null: MLFLOW_EXPERIMENT_NAME, or selu"
    )
    figures: bool = described(True, "send a figure of the layers' profile with each trial")


@dataclass
class Config:
    """A whole request for one cell: one job of a sweep trains it."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    initializer: InitializerConfig = field(default_factory=InitializerConfig)
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    depth: int = 8
    width: Any = 64
    seeds: Any = 3
    precision: str = "float32"
    repair: str = "none"
    device: str = "auto"
    checkpoint_minutes: float = 5.0
    keep_weights: str = "none"
    runs: str = "runs"


def shared_defaults(group: str) -> dict[str, Any]:
    """Returns the options that every name of a group shares, with the section's defaults.

    An option whose default is None belongs to the names whose files list it.
    """
    return {
        entry.name: entry.default
        for entry in fields(type(getattr(Config(), group)))
        if entry.name != "name" and entry.default is not None
    }
