"""What theory says of a trial before it trains: from its specification and its inputs to columns, scalars and a sentence."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import RequestError
from harness.networks.layout import describe
from harness.registry import load_callable
from harness.theory.activations.functions import ActivationFunction, from_callable
from harness.theory.networks import predictions
from harness.theory.networks.predictions import Inputs, LayerPrediction, Value

# What a prediction depends on, besides the inputs.
_GROUPS = (
    "architecture",
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "depth",
    "width",
    "repair",
)


@dataclass(frozen=True)
class Prediction:
    """The layers of one cell without dropout acting, as measured at initialisation, and `training`, with it (the same where there is none)."""

    layers: tuple[LayerPrediction, ...]
    training: tuple[LayerPrediction, ...]
    input_q: float
    input_cosine: float

    @functools.cached_property
    def sentence(self) -> str:
        """What to expect, in words."""
        return sentence(self)

    @functools.cached_property
    def scalars(self) -> dict[str, float | str]:
        """Headline numbers for a summary; NaN where theory says nothing."""
        last, first = self.layers[-1], self.layers[0]
        variance, cosine = self.recovery
        return {
            "prediction_sentence": self.sentence,
            "predicted_last_mean": last["activation_mean"],
            "predicted_last_variance": last["activation_variance"],
            "predicted_last_cosine": last["cosine"],
            "predicted_gradient_product": first["gradient_product"],
            "predicted_training_gradient_product": self.training[0]["gradient_product"],
            "predicted_variance_recovery_depth": math.nan if variance is None else float(variance),
            "predicted_cosine_recovery_depth": math.nan if cosine is None else float(cosine),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One dict a layer: q, mean, variance, c, gradient_product and gradient_gain, bands as NAME_low and NAME_high, the reason where unknown."""
        names = {
            "q": "q",
            "mean": "activation_mean",
            "variance": "activation_variance",
            "c": "cosine",
            "gradient_product": "gradient_product",
            "gradient_gain": "gradient_gain",
        }
        rows = []
        for layer in self.layers:
            row: dict[str, Any] = {"layer": layer.layer, "units": layer.units}
            for short, name in names.items():
                value = layer.values.get(name, Value(math.nan))
                row |= {short: value.value, f"{short}_low": value.low, f"{short}_high": value.high}
            rows.append(row | {"reason": layer.reason})
        return rows

    @property
    def recovery(self) -> tuple[int | None, int | None]:
        """See `harness.theory.networks.predictions.recovery_depths`."""
        return predictions.recovery_depths(self.layers, self.input_cosine)

    @functools.cached_property
    def columns(self) -> dict[str, list[float]]:
        """`predicted_*` columns of the layer table, one entry a layer, with `_low` and `_high` where there is a band."""
        names = list(dict.fromkeys(name for layer in self.layers for name in layer.values))
        found: dict[str, list[float]] = {}
        for name in names:
            values = [layer.values.get(name) for layer in self.layers]
            found[f"predicted_{name}"] = [
                math.nan if value is None else float(value.value) for value in values
            ]
            if any(value is not None and math.isfinite(value.low) for value in values):
                found[f"predicted_{name}_low"] = [
                    math.nan if value is None else float(value.low) for value in values
                ]
                found[f"predicted_{name}_high"] = [
                    math.nan if value is None else float(value.high) for value in values
                ]
        return found


def predict(
    spec: dict[str, Any], shape: tuple[int, int, int], classes: int, inputs: Inputs, samples: int
) -> Prediction:
    """The prediction of a cell; seeds, optimizers and budgets share one.

    Args:
        spec: the specification as trained (`harness.sweeps.runner.trained_as`).
        shape, classes: of the data set.
        inputs: representatives of the training split.
        samples: how many samples the probe measures.
    """
    relevant = json.dumps(
        {group: spec[group] for group in _GROUPS if group in spec}, sort_keys=True
    )
    return _predict(relevant, tuple(shape), classes, inputs, samples)


@functools.lru_cache(maxsize=1024)
def _predict(
    text: str, shape: tuple[int, int, int], classes: int, inputs: Inputs, samples: int
) -> Prediction:
    spec = json.loads(text)
    try:
        network, own = (
            describe(spec, shape, classes),
            {name: own_activation(name) for name in [spec["activation"]["name"]] if ":" in name},
        )
        layers = predictions.predict(network, inputs, samples, activations=own)
        training = (
            layers
            if spec["dropout"]["name"] == "none"
            else predictions.predict(network, inputs, samples, training=True, activations=own)
        )
        signal = inputs.signal(network)
    except Exception as error:  # theory that cannot speak, whatever the reason, costs no trained trial: the reason stands in its place
        reason = (
            str(error) if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
        )
        silent = tuple(
            LayerPrediction(layer, 0, reason=reason) for layer in range(1, spec["depth"] + 1)
        )
        return Prediction(silent, silent, math.nan, math.nan)
    return Prediction(layers, training, signal.level, signal.mean_cosine)


def own_activation(path: str, kinks: tuple[float, ...] | None = None) -> ActivationFunction:
    """A user's `module:function` for theory: of arrays as it is; of tensors, or a torch module class, with its slope from autograd.

    Raises:
        RequestError: it cannot be loaded or made, or is no elementwise map.
    """
    function = load_callable(path, "activation")
    if _takes_arrays(function):
        return from_callable(function, path, kinks)
    import torch  # a function of tensors cannot be called without it

    if isinstance(function, type) and issubclass(function, torch.nn.Module):
        try:
            function = function().double()
        except TypeError as error:
            raise RequestError(
                f"activation {path!r} cannot be made without arguments: {error}"
            ) from error

    def value(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(function(torch.from_numpy(np.array(x, dtype=float))))

    def slope(x: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(np.array(x, dtype=float)).requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)[0].numpy()

    return from_callable(value, path, kinks, slope)


def _takes_arrays(function: Callable[..., Any]) -> bool:
    try:
        with np.errstate(all="ignore"):
            return isinstance(function(np.linspace(-1.0, 1.0, 3)), np.ndarray)
    except Exception:  # a user's code may raise anything; as a function of tensors it is tried next
        return False


def sentence(prediction: Prediction) -> str:
    """One plain sentence on activations, one on gradients, one on cosines; why, where theory cannot follow."""
    unknown = next((layer for layer in prediction.layers if layer.reason is not None), None)
    if unknown is not None:
        return f"Theory cannot follow layer {unknown.layer}: {unknown.reason}."
    if not prediction.layers[-1].values:
        return "Theory predicts that nothing passes: the inputs are 0."
    depth = len(prediction.layers)
    words = [_activations(prediction.layers), _gradients(prediction.layers)]
    last = prediction.layers[-1]["cosine"]
    words.append(
        f"the mean cosine between samples goes from {prediction.input_cosine:.2f} at the input to {last:.2f}"
        + (" (samples look alike)" if last > 0.9 else "")
    )
    said = f"Theory predicts, over {depth} layer{'s' * (depth > 1)}: " + "; ".join(words) + "."
    if prediction.training is not prediction.layers and prediction.training[0].values:
        said += f" With dropout acting, squared gradients {_factor(prediction.training[0]['gradient_product'])} towards the first layer."
    return said


def _activations(layers: tuple[LayerPrediction, ...]) -> str:
    variances = np.array([layer["activation_variance"] for layer in layers])
    mean = layers[-1]["activation_mean"]
    if len(layers) > 4 and min(variances[-1], variances[-4]) > 0:
        rate = (variances[-1] / variances[-4]) ** (1 / 3)
        if abs(rate - 1) > 0.02:
            verb = "shrinks" if rate < 1 else "grows"
            return f"the variance of activations {verb}, at the end by a factor of {rate:.3g} a layer, to {variances[-1]:.3g}, with mean {mean:.2g}"
    inside = 0.8 <= variances[-1] <= 1.5 and abs(mean) <= 0.1
    keeps = (
        "activations keep" if abs(variances[-1] / variances[0] - 1) < 0.1 else "activations reach"
    )
    return (
        f"{keeps} mean {round(mean, 2) + 0.0:.2f} and variance {variances[-1]:.2f}"
        + (", inside" if inside else ", outside")
        + " Theorem 1's range"
    )


def _gradients(layers: tuple[LayerPrediction, ...]) -> str:
    product = layers[0]["gradient_product"]
    if len(layers) == 1:
        return "with one layer there is no gradient to follow"
    rate = product ** (1 / (len(layers) - 1)) if product > 0 else 0.0
    return f"squared gradients {_factor(product)} from the last layer to the first ({rate:.3g} a layer)"


def _factor(product: float) -> str:
    if product >= 1.1:
        return f"grow by a factor of {product:.3g}"
    return (
        f"shrink by a factor of {1 / product:.3g}"
        if 0 < product < 1 / 1.1
        else "vanish"
        if product <= 0
        else f"stay the same (factor {product:.3g})"
    )
