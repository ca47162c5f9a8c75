"""The handwritten digits that scikit-learn brings along: 1,797 images of 8 x 8. No torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.configuration.schema import DatasetConfig
from harness.data.dataset_spec import Content, DatasetSpec, LabelledImages

# Brightnesses are 0..16 in the file; every image set is kept on the scale 0..255.
_SCALE = 255.0 / 16.0


def read(spec: DatasetSpec, config: DatasetConfig) -> Content:
    """Returns all digits as float32 images on the scale 0..255."""
    pixels, labels = read_bundled_digits()
    images = (pixels.reshape(-1, *spec.shape) * _SCALE).astype(np.float32)
    return Content(LabelledImages(images, labels.astype(np.int64)))


def read_bundled_digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns pixels (samples, 64) and labels (samples,) as they are in the file.

    The file is read without its package: importing scikit-learn takes longer than reading it.
    """
    package = importlib.util.find_spec("sklearn")
    folder = package.submodule_search_locations[0]
    path = Path(folder, "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        # The file's place is not promised by the package.
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1], table[:, -1]
