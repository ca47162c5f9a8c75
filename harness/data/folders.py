"""Folders of a user's own images: files, classes, sizes, pixels and content digest. No torch."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import RequestError

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLIT_FOLDERS = {
    "training": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}

# Modes in which a pixel is one brightness; all others are read as red, green and blue.
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
# Modes with more than 8 bits a pixel.
_DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L")
_FULL_BRIGHTNESS = np.float32(255)
# Class names that an error lists.
_MOST_NAMES = 10


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

    Without split folders there is `training` alone, which holds every image.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[ImageFile, ...]]

    @property
    def files(self) -> list[ImageFile]:
        """All files, split after split."""
        return [file for files in self.splits.values() for file in files]


def listing(root: Path) -> Listing:
    """Lists the images under `root`.

    The folder holds class folders, or split folders (`train`, `validation`, `test`) of class
    folders. Files that are not images by their extension, and hidden ones, are left out.

    Raises:
        RequestError: no folder, no images, one class only, or a split folder with a class that
            `train` lacks.
    """
    if not root.is_dir():
        raise RequestError(
            f"dataset.root={root}: no such folder; expected a folder that holds one sub-folder of "
            "images per class"
        )
    split_folders = _split_folders(root)
    training = split_folders["training"]
    classes = tuple(path.name for path in _subfolders(training))
    if not classes:
        raise RequestError(
            f"dataset.root={training}: empty, no class folders in it; expected one sub-folder of "
            "images per class"
        )
    if len(classes) == 1:
        raise RequestError(
            f"dataset.root={training}: one class folder only ({classes[0]}); expected at least two"
        )
    splits = {name: _image_files(folder, classes) for name, folder in split_folders.items()}
    return Listing(root, classes, splits)


def image_shape(listing: Listing, image_size: int | None) -> tuple[int, int, int]:
    """Returns (channels, height, width) from the headers of all images.

    One channel if every image is grey, else three.

    Raises:
        RequestError: an unreadable image, or unequal sizes and no `image_size`.
    """
    files = listing.files
    headers = _headers(tuple(files))
    channels = 1 if all(header.mode in _GREY_MODES for header in headers) else 3
    if image_size is not None:
        return channels, image_size, image_size
    first = headers[0]
    for file, header in zip(files, headers, strict=True):
        if (header.height, header.width) != (first.height, first.width):
            raise RequestError(
                f"dataset.root={listing.root}: images differ in size "
                f"({files[0].path.name}: {first.width}x{first.height}, "
                f"{file.path.name}: {header.width}x{header.height}); "
                "give dataset.image_size, the pixels a side to cut all to"
            )
    return channels, first.height, first.width


def digest(listing: Listing) -> str:
    """Returns 16 hexadecimal digits for the relative paths and the bytes of all images.

    The same wherever the folder lies.
    """
    return _digest(listing.root, tuple(listing.files))


def is_deep(listing: Listing) -> bool:
    """Returns whether any image has more than 8 bits a pixel."""
    return any(header.mode in _DEEP_MODES for header in _headers(tuple(listing.files)))


def read_images(
    files: tuple[ImageFile, ...], shape: tuple[int, int, int], resize: bool, deep: bool
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Reads pixels (samples, channels, height, width) on the scale 0..255.

    Args:
        files: the images to read.
        shape: (channels, height, width).
        resize: crop an image at its centre to the shape's proportions and scale it to the shape.
        deep: return float32 instead of uint8.

    Raises:
        RequestError: an unreadable image, a pixel that is not finite, or a pixel outside the range
            of its mode.
    """
    pixels = np.empty((len(files), *shape), dtype=np.float32 if deep else np.uint8)
    for index, file in enumerate(files):
        pixels[index] = _pixels(file.path, shape, resize)
    return pixels


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; `root` itself is `training` where there are no split folders.

    A folder `train` without folders in it is a class of its own: pictures of trains.
    """
    folders = {}
    for name, aliases in SPLIT_FOLDERS.items():
        for alias in aliases:
            if (root / alias).is_dir() and _subfolders(root / alias):
                folders[name] = root / alias
    return folders if "training" in folders else {"training": root}


def _subfolders(folder: Path) -> list[Path]:
    """Folders that are not hidden, sorted."""
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError as error:
        raise RequestError(f"dataset.root: {folder} cannot be read: {error.strerror}") from error


def _image_files(folder: Path, classes: tuple[str, ...]) -> tuple[ImageFile, ...]:
    """The images of one split folder, class after class."""
    names = [path.name for path in _subfolders(folder)]
    for name in names:
        if name not in classes:
            raise RequestError(
                f"dataset.root: {folder} has a class folder {name!r} that the training folder "
                f"lacks; its classes: {', '.join(classes[:_MOST_NAMES])}"
            )
    files: list[ImageFile] = []
    for name in names:
        paths = _image_paths(folder / name, folder)
        if not paths:
            raise RequestError(
                f"dataset.root: {folder / name} holds no images; expected files that end in "
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


def _image_paths(class_folder: Path, folder: Path) -> list[Path]:
    """Images of a class folder at any depth, sorted."""
    return sorted(
        path
        for path in class_folder.rglob("*")
        if _is_image(path.relative_to(folder)) and path.is_file()
    )


def _is_image(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in EXTENSIONS and not hidden


@dataclass(frozen=True)
class _Header:
    """Mode and size of an image, without its pixels."""

    mode: str
    height: int
    width: int


@functools.cache
def _headers(files: tuple[ImageFile, ...]) -> list[_Header]:
    return [_header(file.path) for file in files]


def _header(path: Path) -> _Header:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _Header(image.mode, image.height, image.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _pixels(
    path: Path, shape: tuple[int, int, int], resize: bool
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Pixels (channels, height, width) of one image on the scale 0..255."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                plain = Image.fromarray(_unit_floats(path, image))
            else:
                plain = image.convert("L" if channels == 1 else "RGB")
            if resize:
                plain = ImageOps.fit(plain, (width, height), method=Image.Resampling.BILINEAR)
    except RequestError:  # it says more than that the file cannot be read
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    pixels = np.asarray(plain)
    if plain.mode == "F":
        pixels = pixels * _FULL_BRIGHTNESS
    return np.moveaxis(np.atleast_3d(pixels), 2, 0)


def _unit_floats(path: Path, image: Image.Image) -> NDArray[np.float32]:
    """The one channel of an image with more than 8 bits a pixel, from 0 to 1."""
    top = 1 if image.mode == "F" else 65535
    pixels = np.asarray(image, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise RequestError(
            f"{path}: a pixel is not a finite number (NaN or infinite); mend or remove the image"
        )
    if pixels.min() < 0 or pixels.max() > top:
        raise RequestError(
            f"{path}: pixels from {pixels.min():g} to {pixels.max():g}; "
            f"expected 0 to {top} for an image of mode {image.mode}"
        )
    return pixels / np.float32(top)


@functools.cache
def _digest(root: Path, files: tuple[ImageFile, ...]) -> str:
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path.relative_to(root).as_posix()):
        try:
            content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        except OSError as error:
            raise _unreadable(file.path, error) from error
        total.update(f"{file.path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()[:16]


def _unreadable(path: Path, error: BaseException) -> RequestError:
    message = str(error)
    reason = message.splitlines()[0] if message else type(error).__name__
    return RequestError(f"{path}: not a readable image ({reason}); mend or remove the file")
