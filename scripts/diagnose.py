#!/usr/bin/env python
"""Diagnose any model: `python scripts/diagnose.py package.module:factory --data DATASET|FOLDER [--json] [--html FILE] [key=value ...]`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.configuration.messages import explain
from harness.configuration.schema import CONF_DIR, DatasetConfig, PreprocessingConfig
from harness.errors import RequestError
from harness.sweeps.progress import answer

_DESCRIPTION = """Per-layer statistics, verdicts on SELU's assumptions and a lint for any torch model.

FACTORY is module:function that returns a model (torchvision.models:vgg11_bn, or your own; the current folder is importable), or
module:name of a model itself. Arguments of the function: --argument num_classes=10."""
_EXAMPLES = """examples:
  python scripts/diagnose.py torchvision.models:resnet18 --data cifar10 --argument num_classes=10
  python scripts/diagnose.py nets:make --data digits --html diagnosis.html
  python scripts/diagnose.py nets:make --data path/to/images --image-size 64 preprocessing=per_channel
  python scripts/diagnose.py nets:make --data mnist dataset.root=/data preprocessing.shift=0.5"""


def main(arguments: list[str] | None = None) -> int:
    """Print the diagnosis; exit code 2 and one line for whatever cannot be diagnosed."""
    options = _parser().parse_intermixed_args(arguments)
    sys.path.insert(0, os.getcwd())
    try:
        with _no_collection():
            from harness import diagnose

            data = _data(options)
            model = _on_device(
                _model(options.factory, options.argument, options.seed), options.device
            )
        card = diagnose(model, data, samples=options.samples)
        if options.html:
            with _no_collection():
                card.write_html(options.html)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    answer(card.to_json() if options.json else str(card))
    if options.html and not options.json:
        print(f"\nPage: {options.html.resolve()}")
    return 0


@contextmanager
def _no_collection() -> Iterator[None]:
    """While modules load, which makes many objects and no garbage: looking for it would take a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("factory", metavar="FACTORY", help="package.module:factory")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="settings of the data: dataset.KEY=VALUE, preprocessing=NAME, preprocessing.KEY=VALUE",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATASET|FOLDER",
        help="a data set of the harness (digits, mnist, cifar10, gaussian, ...) or a folder with one sub-folder of images a class",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=512,
        help="samples to measure on, of the validation split first (default: %(default)s)",
    )
    parser.add_argument(
        "--device", help="where to run: cpu, cuda, cuda:N (default: where the model is)"
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="resize the images to this many pixels a side",
    )
    parser.add_argument(
        "--channels",
        type=int,
        choices=(1, 3),
        help="repeat grey images to 3 channels, or average colours to 1 (default: as the data are)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="torch's seed before the factory is called (default: %(default)s)",
    )
    parser.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the factory; the value is JSON where it reads as such, else text; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write one self-contained page with figures"
    )
    return parser


def _model(path: str, arguments: list[str], seed: int) -> Any:
    import torch
    from torch import nn

    from harness.registry import load_callable

    if ":" not in path:
        raise RequestError(
            f"model factory {path!r}: expected package.module:factory, for example torchvision.models:vgg11_bn"
        )
    named = dict(_argument(text) for text in arguments)
    try:
        made = load_callable(path, "model factory")
        torch.manual_seed(seed)
        model = made if isinstance(made, nn.Module) and not arguments else made(**named)
    except RequestError:
        raise
    except (
        Exception
    ) as error:  # a user's module or factory may raise anything; the message names it
        raise RequestError(
            f"model factory {path!r} raised {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"model factory {path!r} returned a {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise RequestError(f"--argument {text}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _configs(options: argparse.Namespace) -> tuple[DatasetConfig, PreprocessingConfig]:
    """The data set and its preprocessing as the harness describes them, from the files in conf and the settings."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = sorted(path.stem for path in (CONF_DIR / "dataset").glob("*.yaml"))
    folder = options.data not in known
    if folder and not Path(options.data).is_dir():
        raise RequestError(
            f"--data {options.data}: neither a folder nor a data set; known data sets: {', '.join(known)}"
        )
    chosen: dict[str, list[str]] = {"dataset": [], "preprocessing": []}
    preprocessing = "none" if options.data == "gaussian" else "global"
    for text in options.settings:
        key, equals, value = text.partition("=")
        group, _, option = key.partition(".")
        if not equals or group not in chosen or (group == "dataset" and not option):
            raise RequestError(
                f"{text}: expected dataset.KEY=VALUE, preprocessing=NAME or preprocessing.KEY=VALUE"
            )
        if option:
            chosen[group].append(f"{option}={value}")
        else:
            preprocessing = value
    if folder:
        chosen["dataset"].insert(0, f"root={options.data}")
        if options.image_size:
            chosen["dataset"].append(f"image_size={options.image_size}")
    if not (CONF_DIR / "preprocessing" / f"{preprocessing}.yaml").is_file():
        raise RequestError(
            f"unknown preprocessing {preprocessing!r}; known: {', '.join(sorted(path.stem for path in (CONF_DIR / 'preprocessing').glob('*.yaml')))}"
        )
    try:
        pairs = (
            (DatasetConfig, "dataset", "image_folder" if folder else options.data),
            (PreprocessingConfig, "preprocessing", preprocessing),
        )
        made = [
            OmegaConf.merge(
                OmegaConf.structured(form),
                OmegaConf.load(CONF_DIR / group / f"{name}.yaml"),
                OmegaConf.from_dotlist(chosen[group]),
            )
            for form, group, name in pairs
        ]
        return OmegaConf.to_object(made[0]), OmegaConf.to_object(made[1])
    except OmegaConfBaseException as error:
        raise RequestError(explain(error)) from error


def _data(options: argparse.Namespace) -> tuple[Any, Any]:
    """Preprocessed images and labels, of the validation split and, where that has too few, of the training split."""
    import torch
    from torch.nn import functional

    from harness.data import datasets, preprocessing

    if options.samples < 2:
        raise RequestError(
            f"--samples {options.samples}: at least 2 samples are needed for a variance"
        )
    if options.image_size is not None and options.image_size < 1:
        raise RequestError(f"--image-size {options.image_size}: expected at least 1 pixel a side")
    dataset, chosen = _configs(options)
    loaded = datasets.load(dataset)
    fitted = preprocessing.fit(chosen, loaded.training.images, loaded.full_scale)
    parts = [loaded.validation, loaded.training]
    images = fitted.apply(
        torch.cat([part.images[: options.samples] for part in parts])[: options.samples]
    )
    labels = torch.cat([part.labels[: options.samples] for part in parts])[: options.samples]
    if options.channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1).contiguous()
    if options.channels == 1 and images.shape[1] > 1:
        images = images.mean(1, keepdim=True)
    if options.image_size and images.shape[-1] != options.image_size:
        images = functional.interpolate(
            images, size=(options.image_size, options.image_size), mode="bilinear", antialias=True
        )
    return images, labels


def _on_device(model: Any, device: str | None) -> Any:
    from harness.training import devices

    return model.to(devices.resolve(device, "float32")) if device else model


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


if __name__ == "__main__":
    sys.exit(main())
