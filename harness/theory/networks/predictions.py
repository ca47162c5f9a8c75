"""Predictions for a whole network before it trains, with bands.

The signal is followed on its actual trajectory, for representative samples of the actual inputs:
not at the fixed point, and not for a single norm. A band holds the value of one network with
probability 0.99 if theory holds. It has two parts. The units of a layer are independent given the
layer in front, so that every pooled mean scatters like 1 / width (the fluctuations of
`harness.theory.networks.identities`, summed over the depth). And measurements use only some of all
samples.

Other packages need the names in `__all__` and no more.
"""

from __future__ import annotations

import math

import numpy as np

from harness.theory.activations.functions import ActivationFunction
from harness.theory.networks.backward_pass import predict_gradients
from harness.theory.networks.bands import BAND_DEVIATIONS, Value
from harness.theory.networks.description import Network
from harness.theory.networks.forward_pass import Trace, follow
from harness.theory.networks.layer_prediction import LayerPrediction, recovery_depths
from harness.theory.networks.representatives import Inputs, normal_inputs, representatives
from harness.theory.networks.signals import Signal

__all__ = [
    "BAND_DEVIATIONS",
    "Inputs",
    "LayerPrediction",
    "Value",
    "normal_inputs",
    "predict",
    "recovery_depths",
    "representatives",
]


def predict(
    network: Network,
    inputs: Inputs | Signal,
    samples: float = math.inf,
    training: bool = False,
    activations: dict[str, ActivationFunction] | None = None,
) -> tuple[LayerPrediction, ...]:
    """Predicts every activated layer of a network at initialisation.

    Args:
        network: see `harness.theory.networks.description`.
        inputs: representative inputs, or a signal such as `normal_inputs`.
        samples: number of samples that measurements use; bands allow for the choice of them.
        training: dropout acts. Measurements at initialisation are taken without it.
        activations: functions for names that are no built-in activation.

    Raises:
        RequestError: an activation whose moments do not exist, or an unknown name.
    """
    signal = inputs.signal(network) if isinstance(inputs, Inputs) else inputs
    trace = Trace(measured=samples, training=training, functions=activations or {})
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        steps, _ = follow(network, signal, trace)
        predict_gradients(steps, trace)
    return tuple(trace.predictions)
