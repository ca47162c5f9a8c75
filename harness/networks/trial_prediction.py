"""The prediction of a trial before it trains: columns, scalars and a sentence.

It follows from the trial's specification and from representatives of its inputs.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from typing import Any

from harness.errors import RequestError
from harness.networks.architectures import architecture_of
from harness.networks.initializers import is_scaled_on_data
from harness.networks.prediction_sentence import prediction_sentence
from harness.theory.networks import predictions
from harness.theory.networks.predictions import Inputs, LayerPrediction, Value

# The parts of a specification that a prediction depends on, besides the inputs.
_GROUPS = (
    "architecture",
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "readout",
    "depth",
    "width",
    "repair",
)
# Keys of `Prediction.rows` by the names of the predicted columns.
_ROW_KEYS = {
    "q": "q",
    "activation_mean": "mean",
    "activation_variance": "variance",
    "cosine": "c",
    "gradient_product": "gradient_product",
    "gradient_gain": "gradient_gain",
}
_ABSENT = Value(math.nan)


@dataclass(frozen=True)
class Prediction:
    """The prediction of one cell at initialisation.

    Attributes:
        layers: the hidden layers without dropout acting, as they are measured.
        training: the same with dropout acting; the identical object where there is none.
        input_q: mean square of an input.
        input_cosine: mean cosine between two input samples.
    """

    layers: tuple[LayerPrediction, ...]
    training: tuple[LayerPrediction, ...]
    input_q: float
    input_cosine: float

    @functools.cached_property
    def sentence(self) -> str:
        """The prediction in words."""
        training = None if self.training is self.layers else self.training
        return prediction_sentence(self.layers, training, self.input_cosine)

    @functools.cached_property
    def scalars(self) -> dict[str, float | str]:
        """Headline numbers for a summary; NaN where theory says nothing."""
        first, last = self.layers[0], self.layers[-1]
        variance_depth, cosine_depth = self.recovery
        return {
            "prediction_sentence": self.sentence,
            "predicted_last_mean": last["activation_mean"],
            "predicted_last_variance": last["activation_variance"],
            "predicted_last_cosine": last["cosine"],
            "predicted_gradient_product": first["gradient_product"],
            "predicted_training_gradient_product": self.training[0]["gradient_product"],
            "predicted_variance_recovery_depth": _number_or_nan(variance_depth),
            "predicted_cosine_recovery_depth": _number_or_nan(cosine_depth),
        }

    @property
    def recovery(self) -> tuple[int | None, int | None]:
        """The layers at which variance and cosine recover from the inputs.

        See `harness.theory.networks.predictions.recovery_depths`.
        """
        return predictions.recovery_depths(self.layers, self.input_cosine)

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row for each layer: headline numbers with their bands.

        Keys are `layer`, `units`, then q, mean, variance, c, gradient_product and gradient_gain,
        each with the ends of its band as NAME_low and NAME_high, and `reason`, which says why a
        layer has no numbers.
        """
        rows = []
        for layer in self.layers:
            row: dict[str, Any] = {"layer": layer.layer, "units": layer.units}
            for name, key in _ROW_KEYS.items():
                value = layer.values.get(name, _ABSENT)
                row[key] = value.value
                row[f"{key}_low"] = value.low
                row[f"{key}_high"] = value.high
            row["reason"] = layer.reason
            rows.append(row)
        return rows

    @functools.cached_property
    def columns(self) -> dict[str, list[float]]:
        """The `predicted_*` columns of the layer table, one entry for each layer.

        A column with a band comes with `_low` and `_high`.
        """
        names = dict.fromkeys(name for layer in self.layers for name in layer.values)
        columns: dict[str, list[float]] = {}
        for name in names:
            values = [layer.values.get(name, _ABSENT) for layer in self.layers]
            columns[f"predicted_{name}"] = [float(value.value) for value in values]
            if any(math.isfinite(value.low) for value in values):
                columns[f"predicted_{name}_low"] = [float(value.low) for value in values]
                columns[f"predicted_{name}_high"] = [float(value.high) for value in values]
        return columns


def predict(
    spec: dict[str, Any], shape: tuple[int, int, int], classes: int, inputs: Inputs, samples: int
) -> Prediction:
    """Returns the prediction of a cell; its seeds, optimizers and budgets share one object.

    Theory that fails, for whatever reason, stops no training: the layers then carry the reason.

    Args:
        spec: the specification as trained (`harness.sweeps.runner.trained_as`).
        shape: (channels, height, width) of an input.
        classes: units of the readout.
        inputs: representatives of the training split.
        samples: how many samples the probe measures.
    """
    parts = {group: spec[group] for group in _GROUPS if group in spec}
    if is_scaled_on_data(spec["initializer"]):
        # The first batch sets the scale of the weights.
        parts["budget"] = {"batch_size": spec["budget"]["batch_size"]}
    return _predict(json.dumps(parts, sort_keys=True), tuple(shape), classes, inputs, samples)


@functools.lru_cache(maxsize=1024)
def _predict(
    text: str, shape: tuple[int, int, int], classes: int, inputs: Inputs, samples: int
) -> Prediction:
    """Predicts from the relevant parts of a specification as JSON."""
    spec = json.loads(text)
    try:
        return _follow(spec, shape, classes, inputs, samples)
    except RequestError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    silent = _silent(spec["depth"], reason)
    return Prediction(silent, silent, math.nan, math.nan)


def _silent(depth: int, reason: str) -> tuple[LayerPrediction, ...]:
    """Returns layers of which theory says nothing, for one reason."""
    return tuple(LayerPrediction(layer, 0, reason=reason) for layer in range(1, depth + 1))


def _follow(
    spec: dict[str, Any], shape: tuple[int, int, int], classes: int, inputs: Inputs, samples: int
) -> Prediction:
    kind = architecture_of(spec)
    network = kind.describe(spec, shape, classes)
    users_functions = kind.activation_functions(spec, shape, classes)
    entering = kind.entering(spec, inputs.images)
    if entering is not inputs.images:
        inputs = Inputs(entering)
    layers = predictions.predict(network, inputs, samples, activations=users_functions)
    training = layers
    if "library" in spec["architecture"] and spec["dropout"]["name"] != "none":
        training = _silent(len(layers), "the dropouts of a named network are not followed")
    elif spec["dropout"]["name"] != "none":
        training = predictions.predict(
            network, inputs, samples, training=True, activations=users_functions
        )
    signal = inputs.signal(network)
    return Prediction(layers, training, signal.level, signal.mean_cosine)


def _number_or_nan(depth: int | None) -> float:
    return math.nan if depth is None else float(depth)
