"""The command that diagnoses a model: layer statistics, verdicts, lint, and a page."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import RequestError
from harness.sweeps.progress import answer

_DESCRIPTION = """\
Per-layer statistics, verdicts on SELU's premises and promises, and a lint for any torch model.

FACTORY is module:function that returns a model (torchvision.models:vgg11_bn, or your own; the
current folder is importable), or module:name of a model itself. Arguments of the function:
--argument num_classes=10. --trial names the network of a sweep's trial instead, on its own data."""
_EXAMPLES = """\
examples:
  python scripts/diagnose.py torchvision.models:resnet18 --data cifar10 \\
      --argument num_classes=10
  python scripts/diagnose.py nets:make --data digits --html diagnosis.html
  python scripts/diagnose.py nets:make --data path/to/images --image-size 64 \\
      preprocessing=per_channel
  python scripts/diagnose.py nets:make --data digits --json > before.json
  python scripts/diagnose.py nets:mended --data digits --against before.json
  python scripts/diagnose.py nets:make --data mnist dataset.root=/data preprocessing.shift=0.5
  python scripts/diagnose.py --trial runs/trials/0123456789abcdef"""

# Exit codes: findings with --fail-on lint, and a program that Ctrl-C ended.
_FINDINGS = 1
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the diagnosis of a model.

    Args:
        argv: the arguments, those of the process by default.

    Returns:
        0; 1 for findings where `--fail-on lint` asks for it; 2 with one line of explanation for
        what cannot be diagnosed; 130 after an interruption.
    """
    options = _parser().parse_intermixed_args(argv)
    sys.path.insert(0, os.getcwd())
    try:
        return _diagnose(options)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _diagnose(options: argparse.Namespace) -> int:
    """Diagnoses, prints and writes; returns the exit code."""
    _settle_model(options)
    if options.html:
        _check_page(options.html)
    # torch takes seconds to import, which a wrong option need not wait for.
    with _no_garbage_collection():
        from harness import diagnose
        from harness.commands.diagnosed_data import diagnosed_data
        from harness.commands.diagnosed_model import compared_model, diagnosed_model
        from harness.diagnosis.comparison import comparison_text, of_card, of_file

        data = diagnosed_data(options)
        model = diagnosed_model(options)
    others = []
    for other in options.against:
        if Path(other).suffix == ".json":
            others.append(of_file(Path(other)))
        else:
            compared = diagnose(compared_model(options, other), data, samples=options.samples)
            others.append(of_card(compared, other))
    card = diagnose(model, data, samples=options.samples)
    # The diagnosis is printed first, so that a page that cannot be written loses nothing.
    answer(card.to_json() if options.json else str(card))
    if not options.json:
        for earlier in others:
            answer(f"\n{comparison_text(card, earlier)}")
    if options.html:
        with _no_garbage_collection():
            card.write_html(options.html, others)
        if not options.json:
            answer(f"\nPage: {options.html.resolve()}")
    return _FINDINGS if options.fail_on == "lint" and card.findings else 0


def _settle_model(options: argparse.Namespace) -> None:
    """Checks that one model is named, and its data; sorts a trial's settings from a factory.

    Raises:
        RequestError: there is no model, or more than one, or no data.
    """
    if options.trial is None:
        if options.factory is None:
            raise RequestError("no model: give FACTORY, or --trial runs/trials/ID")
        if options.data is None:
            raise RequestError("no data: give --data with a data set or a folder of images")
        return
    if options.factory is not None and "=" in options.factory:
        # The first word without a dash, which is a setting where there is no factory.
        options.settings.insert(0, options.factory)
        options.factory = None
    if options.factory is not None or options.argument:
        named = options.factory or f"--argument {options.argument[0]}"
        raise RequestError(f"{named} beside --trial: a trial names its network; leave one out")


def _check_page(path: Path) -> None:
    """Checks that a page can be written, before anything is measured.

    Raises:
        RequestError: a folder of the path is a file, or the path is a folder.
    """
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if not existing.is_dir():
        raise RequestError(f"cannot write {path}: {existing} is no folder")
    if path.is_dir():
        raise RequestError(f"cannot write {path}: it is a folder")
    if not os.access(path if path.exists() else existing, os.W_OK):
        raise RequestError(f"cannot write {path}: permission denied")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """No garbage collection while modules load.

    Loading makes many objects and no garbage; looking for some would take a fifth of the time.
    """
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
    _add_model_arguments(parser)
    _add_data_arguments(parser)
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write one self-contained page with figures"
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="OTHER",
        help="compare, layer by layer, with an earlier card (FILE.json, written with --json), a "
        "checkpoint of the model (a file of torch.save), another trial's folder, or another "
        "module:factory; may be repeated",
    )
    parser.add_argument(
        "--fail-on",
        choices=("nothing", "lint"),
        default="nothing",
        help="exit code 1 where the lint finds something, for use in CI (default: %(default)s)",
    )
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("factory", nargs="?", metavar="FACTORY", help="package.module:factory")
    parser.add_argument(
        "--trial",
        metavar="FOLDER",
        help="the trained network in a trial's folder, runs/trials/ID, of a sweep with "
        "keep_weights=best or keep_weights=last",
    )
    parser.add_argument(
        "--device", help="where to run: cpu, cuda, cuda:N (default: where the model is)"
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
        help="an argument of the factory; the value is JSON where it reads as such, else text; "
        "may be repeated",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="settings of the data: dataset.KEY=VALUE, preprocessing=NAME, preprocessing.KEY=VALUE",
    )
    parser.add_argument(
        "--data",
        metavar="DATASET|FOLDER",
        help="a data set of the harness (digits, mnist, cifar10, gaussian, ...) or a folder with "
        "one sub-folder of images a class (default with --trial: its own; a trial does not keep "
        "the place of its files, so give dataset.root=FOLDER where it was given)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=512,
        help="samples to measure on, of the validation split first (default: %(default)s)",
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


if __name__ == "__main__":
    sys.exit(main())
