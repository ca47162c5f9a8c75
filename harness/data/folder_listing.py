"""The image files in a folder of a user's own: classes, splits, and what is left out. No torch.

Names are compared in Unicode's composed form, as macOS writes them decomposed. What is left out is
counted, and told once in a process.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import RequestError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Names of split folders, in lower case.
SPLIT_FOLDERS = {
    "training": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
# Names that say the same as the content digests of earlier releases.
_EARLIER_NAMES = ("train", "training", "validation", "val", "valid", "test")
# Folders in which systems keep thumbnails, copies of metadata and deleted files.
_FOLDERS_OF_SYSTEMS = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found")
# Class names, or kinds of files, that a message lists.
_MOST_NAMES = 10

_LOGGER = logging.getLogger(__name__)
# Listings that stay as they are for the time of one command, or None.
_kept: dict[Path, Listing] | None = None


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        path: where it is.
        label: index of its class.
        size: in bytes.
        changed: time of its last change, in nanoseconds.
    """

    path: Path
    label: int
    size: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, by split.

    Without split folders there is `training` alone, which holds every image. `renamed` says that
    the split folders have names that were classes in earlier releases. `left_out` counts files
    that are no images, by the reason.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[ImageFile, ...]]
    renamed: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    # What was read from the files, so that their long list need not be compared to find it again.
    read: dict[str, Any] = field(default_factory=dict, compare=False)

    @functools.cached_property
    def files(self) -> tuple[ImageFile, ...]:
        """All files, split after split."""
        return tuple(file for files in self.splits.values() for file in files)


@contextlib.contextmanager
def listed_once() -> Iterator[None]:
    """Within it, a folder is listed at its first use only: it must not change meanwhile."""
    global _kept
    outermost = _kept is None
    if _kept is None:
        _kept = {}
    try:
        yield
    finally:
        if outermost:
            _kept = None


@functools.cache
def tell_once(line: str) -> None:
    """Logs a warning, once in a process."""
    _LOGGER.warning(line)


def listing(root: Path) -> Listing:
    """Lists the images under `root`.

    The folder holds class folders, or split folders (`train`, `validation`, `test`) of class
    folders; other names and capitals of split folders are known, such as `Testing` and `dev`.
    Files that are not images by their extension, hidden ones, and what systems keep beside files
    are left out, which is told.

    Raises:
        RequestError: no folder, no images, one class only, two folders for one split, or a split
            folder with a class that `train` lacks.
    """
    if _kept is not None and root in _kept:
        return _kept[root]
    made = _listing(root)
    if made.left_out:
        reasons = [f"{count:,} {reason}" for reason, count in sorted(made.left_out.items())]
        tell_once(f"dataset.root={root}: left out: {', '.join(reasons)}")
    if _kept is not None:
        _kept[root] = made
    return made


def composed(name: str) -> str:
    """Returns a name in Unicode's composed form, the same wherever it was written."""
    return unicodedata.normalize("NFC", name)


def _listing(root: Path) -> Listing:
    if not root.is_dir():
        raise RequestError(
            f"dataset.root={root}: no such folder; expected a folder that holds one sub-folder of "
            "images per class"
        )
    left_out: Counter[str] = Counter()
    split_folders = _split_folders(root, left_out)
    training = split_folders["training"]
    classes = tuple(sorted(_classes(training)))
    if not classes:
        raise RequestError(
            f"dataset.root={training}: empty, no class folders in it; expected one sub-folder of "
            "images per class"
        )
    if len(classes) == 1:
        raise RequestError(
            f"dataset.root={training}: one class folder only ({classes[0]}); expected at least two"
        )
    splits = {
        name: _image_files(folder, classes, left_out) for name, folder in split_folders.items()
    }
    names = {folder.name for folder in split_folders.values()} if training != root else set()
    return Listing(root, classes, splits, bool(names - set(_EARLIER_NAMES)), dict(left_out))


def _split_folders(root: Path, left_out: Counter[str]) -> dict[str, Path]:
    """Returns the folder of each split; `root` is `training` where there are no split folders.

    A folder `train` without folders in it is a class of its own: pictures of trains.
    """
    folders: dict[str, Path] = {}
    others = []
    for folder in _subfolders(root):
        split = _split_of(folder.name)
        if split is None or not _subfolders(folder):
            others.append(folder.name)
        elif split in folders:
            raise RequestError(
                f"dataset.root={root}: {folders[split].name!r} and {folder.name!r} both name the "
                f"{split} split; keep one of them"
            )
        else:
            folders[split] = folder
    if "training" not in folders:
        return {"training": root}
    for name in others:
        left_out[f"folder {name!r} beside the splits"] += 1
    return {split: folders[split] for split in SPLIT_FOLDERS if split in folders}


def _split_of(name: str) -> str | None:
    """Returns the split that a folder's name stands for, in capitals or not."""
    for split, aliases in SPLIT_FOLDERS.items():
        if name.lower() in aliases:
            return split
    return None


def _subfolders(folder: Path) -> list[Path]:
    """Returns the folders that are not hidden and not a system's, sorted."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.is_dir()
            and not path.name.startswith(".")
            and path.name not in _FOLDERS_OF_SYSTEMS
        )
    except OSError as error:
        raise RequestError(f"dataset.root: {folder} cannot be read: {error.strerror}") from error


def _classes(folder: Path) -> dict[str, Path]:
    """Returns the class folders by their composed names."""
    classes: dict[str, Path] = {}
    for path in _subfolders(folder):
        name = composed(path.name)
        if name in classes:
            raise RequestError(
                f"dataset.root: {folder} has two folders of the name {name!r}, written in two "
                "forms of Unicode; put their images into one"
            )
        classes[name] = path
    return classes


def _image_files(
    folder: Path, classes: tuple[str, ...], left_out: Counter[str]
) -> tuple[ImageFile, ...]:
    """Returns the images of one split folder, class after class."""
    folders = _classes(folder)
    for name in folders:
        if name not in classes:
            raise RequestError(
                f"dataset.root: {folder} has a class folder {name!r} that the training folder "
                f"lacks; its classes: {', '.join(classes[:_MOST_NAMES])}"
            )
    files: list[ImageFile] = []
    for name, class_folder in folders.items():
        paths = sorted(_image_paths(class_folder, left_out))
        if not paths:
            raise RequestError(
                f"dataset.root: {class_folder} holds no images; expected files that end in "
                f"{', '.join(EXTENSIONS)}"
            )
        for path in paths:
            state = path.stat()
            files.append(ImageFile(path, classes.index(name), state.st_size, state.st_mtime_ns))
    if not files:
        raise RequestError(
            f"dataset.root: {folder} is empty; expected one sub-folder of images per class"
        )
    return tuple(files)


def _image_paths(class_folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Yields the images of a class folder at any depth; counts what is left out."""
    for text, folders, names in os.walk(class_folder):
        folder = Path(text)
        for name in list(folders):
            reason = _reason_against_folder(folder / name)
            if reason is not None:
                folders.remove(name)
                left_out[reason] += 1
        for name in names:
            path = folder / name
            reason = _reason_against_file(path)
            if reason is None:
                yield path
            else:
                left_out[reason] += 1


def _reason_against_folder(path: Path) -> str | None:
    """Returns why a folder below a class is left out, or None."""
    if path.name in _FOLDERS_OF_SYSTEMS:
        return f"{path.name} (kept by a system)"
    if path.name.startswith("."):
        return "hidden folders"
    return "links to folders" if path.is_symlink() else None


def _reason_against_file(path: Path) -> str | None:
    """Returns why a file below a class is left out, or None for an image."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return "hidden files"
    if suffix not in EXTENSIONS:
        return f"files that end in {suffix}" if suffix else "files without an extension"
    return None if path.is_file() else "links that lead nowhere"
