"""A user's own images: which files there are, their classes, sizes and content digest. No torch."""

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

# Modes in which a pixel is one brightness; all else is read as red, green and blue.
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class ImageFile:
    """One image: where it is, its class index, and its size in bytes and time of change."""

    path: Path
    label: int
    size: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """The image files by split. Without split folders there is `training` alone, which holds every image."""

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[ImageFile, ...]]

    @property
    def files(self) -> list[ImageFile]:
        """All files, split after split."""
        return [file for files in self.splits.values() for file in files]


def listing(root: Path) -> Listing:
    """The images under `root`: class folders, or split folders (`train`, `validation`, `test`) of class folders.

    Files that are not images by their extension, and hidden ones, are left out.

    Raises:
        RequestError: no folder, no images, one class only, or a split folder with a class that `train` lacks.
    """
    if not root.is_dir():
        raise RequestError(
            f"dataset.root={root}: no such folder; expected a folder that holds one sub-folder of images per class"
        )
    present = _split_folders(root)
    classes = tuple(path.name for path in _subfolders(present["training"]))
    if not classes:
        raise RequestError(
            f"dataset.root={present['training']}: empty, no class folders in it; expected one sub-folder of images per class"
        )
    if len(classes) == 1:
        raise RequestError(
            f"dataset.root={present['training']}: one class folder only ({classes[0]}); expected at least two"
        )
    return Listing(
        root, classes, {name: _images(folder, classes) for name, folder in present.items()}
    )


def image_shape(listing: Listing, image_size: int | None) -> tuple[int, int, int]:
    """(channels, height, width) from the headers: one channel if every image is grey, else three.

    Raises:
        RequestError: an unreadable image, or unequal sizes and no `image_size`.
    """
    headers = _headers(tuple(listing.files))
    channels = 1 if all(mode in _GREY_MODES for mode, _, _ in headers) else 3
    if image_size is not None:
        return channels, image_size, image_size
    sizes = [(height, width) for _, height, width in headers]
    odd = next((index for index, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is not None:
        files = listing.files
        raise RequestError(
            f"dataset.root={listing.root}: images differ in size ({_told(files[0].path, sizes[0])}, {_told(files[odd].path, sizes[odd])}); give dataset.image_size, the pixels a side to cut all to"
        )
    return channels, *sizes[0]


def digest(listing: Listing) -> str:
    """16 hexadecimal digits for the relative paths and the bytes of all images, wherever the folder lies."""
    return _digest(listing.root, tuple(listing.files))


def is_deep(listing: Listing) -> bool:
    """Whether any image is finer than 8 bits a pixel."""
    return any(_finer(mode) for mode, _, _ in _headers(tuple(listing.files)))


def read_images(
    files: tuple[ImageFile, ...], shape: tuple[int, int, int], resize: bool, deep: bool
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Pixels (samples, channels, height, width) on the scale 0..255: uint8, or float32 if `deep`.

    With `resize`, an image is cropped at its centre to the shape's proportions and scaled to it.

    Raises:
        RequestError: an unreadable image, a pixel that is not finite, or a floating-point pixel outside 0..1.
    """
    pixels = np.empty((len(files), *shape), dtype=np.float32 if deep else np.uint8)
    for index, file in enumerate(files):
        pixels[index] = _pixels(file.path, shape, resize)
    return pixels


def _split_folders(root: Path) -> dict[str, Path]:
    # A folder `train` without folders in it is a class of its own: pictures of trains.
    present = {
        name: root / alias
        for name, aliases in SPLIT_FOLDERS.items()
        for alias in aliases
        if (root / alias).is_dir() and _subfolders(root / alias)
    }
    return present if "training" in present else {"training": root}


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError as error:
        raise RequestError(f"dataset.root: {folder} cannot be read: {error.strerror}") from error


def _images(folder: Path, classes: tuple[str, ...]) -> tuple[ImageFile, ...]:
    found = [path.name for path in _subfolders(folder)]
    strange = [name for name in found if name not in classes]
    if strange:
        raise RequestError(
            f"dataset.root: {folder} has a class folder {strange[0]!r} that the training folder lacks; its classes: {', '.join(classes[:10])}"
        )
    files: list[ImageFile] = []
    for name in found:
        members = sorted(
            path
            for path in (folder / name).rglob("*")
            if _is_image(path.relative_to(folder)) and path.is_file()
        )
        if not members:
            raise RequestError(
                f"dataset.root: {folder / name} holds no images; expected files that end in {', '.join(EXTENSIONS)}"
            )
        for path in members:
            state = path.stat()
            files.append(ImageFile(path, classes.index(name), state.st_size, state.st_mtime_ns))
    if not files:
        raise RequestError(
            f"dataset.root: {folder} is empty; expected one sub-folder of images per class"
        )
    return tuple(files)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not any(
        part.startswith(".") for part in path.parts
    )


@functools.cache
def _headers(files: tuple[ImageFile, ...]) -> list[tuple[str, int, int]]:
    return [_header(file.path) for file in files]


def _header(path: Path) -> tuple[str, int, int]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode, image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _pixels(
    path: Path, shape: tuple[int, int, int], resize: bool
) -> NDArray[np.uint8] | NDArray[np.float32]:
    from PIL import Image, ImageOps

    channels, height, width = shape
    try:
        with Image.open(path) as image:
            plain = (
                Image.fromarray(_unit_floats(path, image))
                if _finer(image.mode)
                else image.convert("L" if channels == 1 else "RGB")
            )
            if resize:
                plain = ImageOps.fit(plain, (width, height), method=Image.Resampling.BILINEAR)
    except RequestError:  # it says more than that the file cannot be read
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    pixels = np.asarray(plain) if plain.mode != "F" else np.asarray(plain) * np.float32(255)
    return np.moveaxis(np.atleast_3d(pixels), 2, 0)


def _unit_floats(path: Path, image: Image.Image) -> NDArray[np.float32]:
    """The one channel of an image that is finer than 8 bits, from 0 to 1."""
    top = 1 if image.mode == "F" else 65535
    pixels = np.asarray(image, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise RequestError(
            f"{path}: a pixel is not a finite number (NaN or infinite); mend or remove the image"
        )
    if pixels.min() < 0 or pixels.max() > top:
        raise RequestError(
            f"{path}: pixels from {pixels.min():g} to {pixels.max():g}; expected 0 to {top} for an image of mode {image.mode}"
        )
    return pixels / np.float32(top)


def _finer(mode: str) -> bool:
    return mode == "F" or mode in _DEEP_MODES


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
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return RequestError(f"{path}: not a readable image ({reason}); mend or remove the file")


def _told(path: Path, size: tuple[int, int]) -> str:
    return f"{path.name}: {size[1]}x{size[0]}"
