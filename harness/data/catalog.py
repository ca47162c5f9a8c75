"""The declared data sets, and the facts of a request before pixels are read. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from harness.configuration.schema import DatasetConfig
from harness.data import gaussian, image_folder
from harness.data.dataset_spec import DatasetSpec
from harness.data.splits import split_sizes
from harness.errors import RequestError
from harness.registry import Registry

# Options that say where the files are. Data sets without files ignore them.
_LOCATION_OPTIONS = ("root", "download")

_DECLARED = (
    DatasetSpec(
        "digits",
        read="harness.data.digits:read",
        shape=(1, 8, 8),
        classes=10,
        samples=1_797,
    ),
    DatasetSpec(
        "mnist",
        read="harness.data.published:read_idx_files",
        family="MNIST",
        options=("root", "download"),
        shape=(1, 28, 28),
        classes=10,
        samples=60_000,
        test_samples=10_000,
    ),
    DatasetSpec(
        "fashion_mnist",
        read="harness.data.published:read_idx_files",
        family="FashionMNIST",
        options=("root", "download"),
        shape=(1, 28, 28),
        classes=10,
        samples=60_000,
        test_samples=10_000,
    ),
    DatasetSpec(
        "kmnist",
        read="harness.data.published:read_idx_files",
        family="KMNIST",
        options=("root", "download"),
        shape=(1, 28, 28),
        classes=10,
        samples=60_000,
        test_samples=10_000,
    ),
    DatasetSpec(
        "cifar10",
        read="harness.data.published:read_cifar",
        family="CIFAR10",
        options=("root", "download"),
        shape=(3, 32, 32),
        classes=10,
        samples=50_000,
        test_samples=10_000,
    ),
    DatasetSpec(
        "cifar100",
        read="harness.data.published:read_cifar",
        family="CIFAR100",
        options=("root", "download"),
        shape=(3, 32, 32),
        classes=100,
        samples=50_000,
        test_samples=10_000,
    ),
    DatasetSpec(
        "svhn",
        read="harness.data.published:read_svhn",
        family="SVHN",
        options=("root", "download"),
        shape=(3, 32, 32),
        classes=10,
        samples=73_257,
        test_samples=26_032,
    ),
    DatasetSpec(
        "image_folder",
        read="harness.data.image_folder:read",
        options=("root", "image_size", "classes"),
        check=image_folder.check,
        compose=image_folder.compose,
        user_files=image_folder.USER_FILES,
    ),
    DatasetSpec(
        "gaussian",
        read="harness.data.gaussian:read",
        options=("samples", "shape", "classes", "participation_ratio"),
        full_scale=None,
        check=gaussian.check,
        compose=gaussian.compose,
    ),
)

_LARGEST_SEED = 2**31

datasets: Registry = Registry("dataset")
for _spec in _DECLARED:
    datasets.register(_spec.name)(_spec)

# The data sets of fixed content, by name.
PUBLISHED: dict[str, DatasetSpec] = {
    spec.name: spec for spec in _DECLARED if spec.samples is not None
}


@dataclass(frozen=True)
class DatasetInfo:
    """Facts of a data set that a network is built for.

    Attributes:
        name: the data set's name.
        shape: (channels, height, width).
        classes: number of classes.
        training_samples: size of the training split after every cut.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    training_samples: int


def dataset_info(config: DatasetConfig) -> DatasetInfo:
    """Returns shape, classes and training samples without reading pixels.

    Of an `image_folder`, names and image headers are read.

    Raises:
        RequestError: unknown name, an option that the data set does not take, values out of range,
            an unusable folder.
    """
    check(config)
    composition = datasets[config.name].composition(config)
    sizes = split_sizes(composition.splits, config, composition.place)
    return DatasetInfo(config.name, composition.shape, composition.classes, sizes.training)


def fingerprint(config: DatasetConfig) -> str | None:
    """Returns a digest of the user's own images; None for data sets of fixed content.

    The digest covers relative paths and bytes.

    Raises:
        RequestError: the folder is missing, empty or cannot be read.
    """
    check(config)
    user_files = datasets[config.name].user_files
    return None if user_files is None else user_files.fingerprint(config)


def check(config: DatasetConfig) -> None:
    """Refuses what is wrong with the configuration alone.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    spec = datasets[config.name]
    for option in _particular_options():
        value = getattr(config, option)
        if value is not None and option not in spec.options:
            takers = [name for name in datasets if option in datasets[name].options]
            raise RequestError(
                f"dataset.{option}={value}: dataset={config.name} takes no such option; "
                f"it belongs to {', '.join(takers)}"
            )
    for option in ("split_seed", "pixel_shuffle", "label_noise_seed"):
        seed = getattr(config, option)
        if seed is not None and not 0 <= seed < _LARGEST_SEED:
            raise RequestError(
                f"dataset.{option}={seed}: expected an integer of at least 0, below 2^31"
            )
    if not 0 <= config.label_noise <= 1:
        raise RequestError(f"dataset.label_noise={config.label_noise}: expected a number in [0, 1]")
    if config.label_noise_seed and config.label_noise == 0:
        raise RequestError(
            f"dataset.label_noise_seed={config.label_noise_seed} without dataset.label_noise: "
            "there is no noise to draw; give dataset.label_noise a number in (0, 1]"
        )
    if spec.check is not None:
        spec.check(config)


def _particular_options() -> list[str]:
    """Options that only some data sets take, sorted."""
    options = {option for name in datasets for option in datasets[name].options}
    return sorted(options.difference(_LOCATION_OPTIONS))
