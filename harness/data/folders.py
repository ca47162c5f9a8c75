"""A user's own images: their sizes, pixels and the digest of their content. No torch."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.folder_listing import ImageFile, Listing, composed, tell_once
from harness.errors import RequestError

if TYPE_CHECKING:
    from PIL import Image

# Modes in which a pixel is one brightness; all others are read as red, green and blue.
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
# Modes with more than 8 bits a pixel.
_DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L")
# The tag of EXIF that says how a camera was held.
_ORIENTATION = 0x0112
_FULL_BRIGHTNESS = np.float32(255)


def image_shape(listing: Listing, image_size: int | None) -> tuple[int, int, int]:
    """Returns (channels, height, width) from the headers of all images.

    One channel if every image is grey, else three.

    Raises:
        RequestError: an unreadable image, or unequal sizes and no `image_size`.
    """
    files = listing.files
    headers = _headers(listing)
    _tell_changes(listing.root, headers, image_size)
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
    if "digest" not in listing.read:
        listing.read["digest"] = _digest(listing.root, listing.files, listing.renamed)
    return listing.read["digest"]


def is_deep(listing: Listing) -> bool:
    """Returns whether any image has more than 8 bits a pixel."""
    return any(header.mode in _DEEP_MODES for header in _headers(listing))


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


def _tell_changes(root: Path, headers: list[_Header], image_size: int | None) -> None:
    """Tells once how many images are read other than a viewer shows them."""
    counts = {
        "have an orientation that is not applied": sum(header.rotated for header in headers),
        "lose their transparency": sum(header.transparent for header in headers),
        "hold several frames, of which the first is read": sum(header.moving for header in headers),
    }
    if image_size is not None:
        counts["are cropped to a square"] = sum(header.height != header.width for header in headers)
    for change, count in counts.items():
        if count:
            tell_once(f"dataset.root={root}: {count:,} of {len(headers):,} images {change}")


@dataclass(frozen=True)
class _Header:
    """Mode and size of an image without its pixels, and what reading the pixels will change."""

    mode: str
    height: int
    width: int
    rotated: bool
    transparent: bool
    moving: bool


def _headers(listing: Listing) -> list[_Header]:
    if "headers" not in listing.read:
        listing.read["headers"] = _read_headers(listing.files)
    return listing.read["headers"]


@functools.cache
def _read_headers(files: tuple[ImageFile, ...]) -> list[_Header]:
    return [_header(file.path) for file in files]


def _header(path: Path) -> _Header:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _Header(
                image.mode,
                image.height,
                image.width,
                rotated=_orientation(image) != 1,
                transparent=image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info,
                moving=bool(getattr(image, "is_animated", False)),
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _orientation(image: Image.Image) -> Any:
    """Returns the tag of an image's orientation; 1, upright, where it has none."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Damaged tags raise errors of many kinds, and say nothing about pixels.
        return 1


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
def _digest(root: Path, files: tuple[ImageFile, ...], renamed: bool) -> str:
    total = hashlib.sha256()
    if renamed:
        # The same files were classes and not splits in earlier releases.
        total.update(b"splits\n")
    names = {file: composed(file.path.relative_to(root).as_posix()) for file in files}
    for file in sorted(files, key=names.__getitem__):
        try:
            content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        except OSError as error:
            raise _unreadable(file.path, error) from error
        # A name of bytes that are no UTF-8 is told apart by these bytes.
        total.update(f"{names[file]}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]


def _unreadable(path: Path, error: BaseException) -> RequestError:
    message = str(error)
    reason = message.splitlines()[0] if message else type(error).__name__
    return RequestError(f"{path}: not a readable image ({reason}); mend or remove the file")
