"""The images and labels that a command line names."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torch.nn import functional
from yaml import YAMLError

from harness.configuration.messages import explain, first_line
from harness.configuration.number_ranges import check_preprocessing_numbers, check_shares
from harness.configuration.options import CONF_DIR, known_names
from harness.configuration.options import options as options_of
from harness.configuration.overrides import unreadable
from harness.configuration.schema import DatasetConfig, PreprocessingConfig
from harness.configuration.validation import check_section
from harness.data import datasets, preprocessing
from harness.errors import RequestError
from harness.sweeps.trained_network import trained_specification

_T = TypeVar("_T")
# Training images that are resized for the statistics of a preprocessing.
_MOST_FITTED = 4096


def diagnosed_data(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Loads and preprocesses the images that `options` name.

    They are those of the validation split and, where it has too few, of the training split.

    Args:
        options: `data` (a data set or a folder; None: that of `trial`, the folder of a trial),
            `settings` (a list of key=value), `samples`, `image_size` and `channels`.

    Returns:
        Images (samples, channels, height, width) and labels (samples,).

    Raises:
        RequestError: an option is wrong, or the data cannot be loaded.
    """
    if options.samples < 2:
        raise RequestError(
            f"--samples {options.samples}: at least 2 samples are needed for a variance"
        )
    if options.image_size is not None and options.image_size < 1:
        raise RequestError(f"--image-size {options.image_size}: expected at least 1 pixel a side")
    dataset, preprocess = _configurations(options)
    loaded = datasets.load(dataset)
    count = options.samples
    splits = [loaded.validation, loaded.training]
    images = torch.cat([split.images[:count] for split in splits])[:count]
    labels = torch.cat([split.labels[:count] for split in splits])[:count]
    if _is_fitted(images, options):
        fitted = preprocessing.fit(preprocess, loaded.training.images, loaded.full_scale)
        return fitted.apply(images), labels
    # Resizing changes the variance, so that it comes before the standardisation.
    training = _spread(loaded.training.images)
    fitted = preprocessing.fit(preprocess, _fit_to_model(training, options), loaded.full_scale)
    return fitted.apply(_fit_to_model(images, options)), labels


def _is_fitted(images: Tensor, options: argparse.Namespace) -> bool:
    """Returns True where the images have the requested channels and size already."""
    size = options.image_size
    right_size = not size or tuple(images.shape[2:]) == (size, size)
    return right_size and options.channels in (None, images.shape[1])


def _spread(images: Tensor) -> Tensor:
    """Returns evenly spread images, as many as a preprocessing needs for its statistics."""
    if len(images) <= _MOST_FITTED:
        return images
    return images[torch.linspace(0, len(images) - 1, _MOST_FITTED).round().long()]


def _fit_to_model(images: Tensor, options: argparse.Namespace) -> Tensor:
    """Returns images with the requested channels and size, whole brightnesses staying whole.

    Raises:
        RequestError: the images cannot have so many channels.
    """
    channels = images.shape[1]
    if options.channels == 3 and channels not in (1, 3):
        raise RequestError(
            f"--channels 3: the images have {channels} channels, and only 1 can be repeated to 3; "
            "--channels 1 averages them"
        )
    values = images.float()
    if options.channels == 3 and channels == 1:
        values = values.expand(-1, 3, -1, -1)
    if options.channels == 1 and channels > 1:
        values = values.mean(1, keepdim=True)
    size = options.image_size
    if size and tuple(values.shape[2:]) != (size, size):
        values = functional.interpolate(values, size=(size, size), mode="bilinear", antialias=True)
    if images.is_floating_point():
        return values.to(images.dtype)
    return values.round().to(images.dtype)


@dataclass
class _Settings:
    """Settings of the data as KEY=VALUE, and the name of the preprocessing."""

    preprocessing_name: str
    dataset: list[str] = field(default_factory=list)
    preprocessing: list[str] = field(default_factory=list)


def _configurations(options: argparse.Namespace) -> tuple[DatasetConfig, PreprocessingConfig]:
    """Returns the configurations of data set and preprocessing, from files and settings.

    A trial's own stand before the settings, its preprocessing on other data too.
    """
    own = {} if options.trial is None else trained_specification(options.trial)
    own_dataset: dict[str, Any] = {}
    if options.data is None:
        own_dataset = {**own["dataset"]}
        own_dataset.pop("fingerprint", None)
    data = options.data or own_dataset["name"]
    names = known_names("dataset")
    is_folder = data not in names
    if is_folder and not Path(data).is_dir():
        raise RequestError(
            f"--data {data}: neither a folder nor a data set; known data sets: {', '.join(names)}"
        )
    default = "none" if data == "gaussian" else "global"
    settings = _parsed(options.settings, own["preprocessing"]["name"] if own else default)
    if is_folder:
        # The quotes keep YAML from reading the name of a folder as a number.
        settings.dataset.insert(0, f"root={_as_text(data)}")
        if options.image_size:
            settings.dataset.append(f"image_size={options.image_size}")
    name = settings.preprocessing_name
    if name not in known_names("preprocessing"):
        known = ", ".join(known_names("preprocessing"))
        raise RequestError(f"unknown preprocessing {name!r}; known: {known}")
    dataset_name = "image_folder" if is_folder else data
    own_preprocessing = _own_preprocessing(own.get("preprocessing", {}), name)
    try:
        dataset = _merged(DatasetConfig, dataset_name, own_dataset, settings.dataset)
        preprocess = _merged(PreprocessingConfig, name, own_preprocessing, settings.preprocessing)
    except (OmegaConfBaseException, YAMLError) as error:
        raise RequestError(explain(error)) from error
    check_shares(dataset)
    check_section("preprocessing", preprocess)
    check_preprocessing_numbers(preprocess)
    return dataset, preprocess


def _own_preprocessing(own: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the options of a trial's preprocessing that one of this name takes.

    None of another preprocessing. One that a repair put in the place of another has the options of
    both.
    """
    if own.get("name") != name:
        return {}
    taken = options_of("preprocessing", name)
    return {option: value for option, value in own.items() if option in taken}


def _parsed(texts: Sequence[str], preprocessing_name: str) -> _Settings:
    settings = _Settings(preprocessing_name)
    for text in texts:
        key, equals, value = text.partition("=")
        group, _, option = key.partition(".")
        if equals and group == "preprocessing" and not option:
            settings.preprocessing_name = value
        elif equals and group == "preprocessing":
            settings.preprocessing.append(_readable(text, option, value))
        elif equals and group == "dataset" and option:
            settings.dataset.append(_readable(text, option, value))
        else:
            raise RequestError(
                f"{text}: expected dataset.KEY=VALUE, preprocessing=NAME or preprocessing.KEY=VALUE"
            )
    return settings


def _readable(text: str, option: str, value: str) -> str:
    """Returns an option and its value as YAML has them; a folder is text, whatever it looks like.

    Raises:
        RequestError: the value is no YAML.
    """
    is_folder = option == "root" and value != "null"
    setting = f"{option}={_as_text(value) if is_folder else value}"
    try:
        OmegaConf.from_dotlist([setting])
    except YAMLError as error:
        raise unreadable(text, getattr(error, "problem", None) or first_line(error)) from None
    return setting


def _as_text(value: str) -> str:
    """Returns a text in quotes, which YAML reads as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def _merged(schema: type[_T], name: str, own: Mapping[str, Any], settings: Sequence[str]) -> _T:
    """Returns a file of a group, with a trial's own values and then settings, as its schema."""
    group = "dataset" if schema is DatasetConfig else "preprocessing"
    merged = OmegaConf.merge(
        OmegaConf.structured(schema),
        OmegaConf.load(CONF_DIR / group / f"{name}.yaml"),
        dict(own),
        OmegaConf.from_dotlist(list(settings)),
    )
    return cast(_T, OmegaConf.to_object(merged))
