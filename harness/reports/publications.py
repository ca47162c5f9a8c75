"""Published numbers, and what the same experiment gives here.

A declaration names the experiment file that repeats a publication, the trials that are its own, and
the numbers as they were published. Another one is one more entry in `PUBLISHED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy
import pandas

from harness.reports.claims.selection import RECIPE, Arm, select
from harness.reports.evidence import FIXED, Evidence
from harness.reports.statistics import mean_interval


@dataclass(frozen=True)
class Publication:
    """Numbers of a publication and the trials that repeat it.

    Attributes:
        name: short name.
        text: what was measured, with its unit.
        source: where it was published.
        experiment: the preset under `conf/experiment` that repeats it.
        arm: the values of the axes of the trials that repeat it.
        position: what the numbers run over: `epoch` or `layer`.
        values: the published numbers by position.
        measure: the same number of trials of ours: a table with trial_id, position and `value`.
    """

    name: str
    text: str
    source: str
    experiment: str
    arm: Arm
    position: str
    values: Mapping[int, float]
    measure: Callable[[Evidence], pandas.DataFrame]


def _training_losses(evidence: Evidence) -> pandas.DataFrame:
    curves = evidence.curves
    if not {"epoch", "train_loss"} <= set(curves):
        return pandas.DataFrame(columns=["trial_id", "position", "value"])
    rows = curves[curves["epoch"] > 0]
    position = rows["epoch"].round().astype(int)
    return rows.assign(position=position, value=rows["train_loss"])


def _validation_accuracies(evidence: Evidence) -> pandas.DataFrame:
    curves = evidence.curves
    if not {"epoch", "validation_accuracy"} <= set(curves):
        return pandas.DataFrame(columns=["trial_id", "position", "value"])
    rows = curves[curves["epoch"] > 0]
    position = rows["epoch"].round().astype(int)
    return rows.assign(position=position, value=100 * rows["validation_accuracy"])


def _deviations(evidence: Evidence) -> pandas.DataFrame:
    layers = evidence.layers
    if not {"layer", "phase", "activation_variance"} <= set(layers):
        return pandas.DataFrame(columns=["trial_id", "position", "value"])
    rows = layers[layers["phase"] == "init"]
    return rows.assign(position=rows["layer"], value=numpy.sqrt(rows["activation_variance"]))


_TUTORIAL_LOSSES = (
    (0.378, 0.261, 0.210, 0.173, 0.143, 0.121, 0.109, 0.0956)
    + (0.0863, 0.0761, 0.0698, 0.0636, 0.0583, 0.0535, 0.0481)
)  # fmt: skip
_SELU_ACCURACIES = (
    (80.90, 85.03, 86.72, 87.70, 88.40, 88.74, 89.11, 89.34, 89.52, 89.89)
    + (90.16, 90.22, 90.33, 90.56, 90.66, 90.85, 90.95, 91.06, 91.14, 91.24)
)  # fmt: skip
_RELU_ACCURACIES = (
    (54.21, 67.01, 71.63, 75.86, 79.36, 82.39, 84.16, 85.42, 86.22, 87.00)
    + (87.64, 88.20, 88.41, 88.78, 88.98, 89.13, 89.35, 89.57, 89.84, 89.98)
)  # fmt: skip
# The authors' PyTorch network, whose two arms differ in activation, weights and dropout.
_PYTORCH_MLP: Arm = {
    **RECIPE,
    "dataset": "mnist",
    "depth": 2,
    "width": "512-256",
    "optimizer": "sgd",
    "learning_rate": 0.001,
}
_PYTORCH_SOURCE = "bioinf-jku/SNNs, Pytorch/SelfNormalizingNetworks_MLP_MNIST"
_GAIN_DEVIATIONS = (
    (0.7968, 0.3127, 0.2404, 0.2062, 0.2056, 0.2044, 0.2005, 0.2042, 0.1944, 0.2085)
)  # fmt: skip
# What all of them trained on: images and labels as they are.
_INTACT: Arm = {"dataset.pixel_shuffle": "default", "dataset.label_noise": "default"}

PUBLISHED = (
    Publication(
        name="MNIST tutorial of the authors",
        text="mean training loss of an epoch, in nats",
        source="bioinf-jku/SNNs, TF_1_x/SelfNormalizingNetworks_MLP_MNIST",
        experiment="published/snn_mnist_tutorial",
        arm={
            **RECIPE,
            "dataset": "mnist",
            "depth": 2,
            "width": 784,
            "dropout": "alpha_0.05",
            "preprocessing": "per_pixel",
            "optimizer": "sgd",
            "learning_rate": 0.05,
        },
        position="epoch",
        values=dict(enumerate(_TUTORIAL_LOSSES, start=1)),
        measure=_training_losses,
    ),
    Publication(
        name="SELU in the authors' PyTorch network on MNIST",
        text="validation accuracy after an epoch, in percent",
        source=_PYTORCH_SOURCE,
        experiment="published/snn_mnist_pytorch_selu",
        arm={**_PYTORCH_MLP, "dropout": "alpha_0.05"},
        position="epoch",
        values=dict(enumerate(_SELU_ACCURACIES, start=1)),
        measure=_validation_accuracies,
    ),
    Publication(
        name="ReLU in the authors' PyTorch network on MNIST",
        text="validation accuracy after an epoch, in percent",
        source=_PYTORCH_SOURCE,
        experiment="published/snn_mnist_pytorch_relu",
        arm={
            **_PYTORCH_MLP,
            "activation": "relu",
            "initializer": "pytorch_default",
            "initializer.bias": "uniform",
            "dropout": "standard_0.05",
        },
        position="epoch",
        values=dict(enumerate(_RELU_ACCURACIES, start=1)),
        measure=_validation_accuracies,
    ),
    Publication(
        name="a hundred layers with torch's gain 3/4",
        text="standard deviation of activations at initialisation",
        source="pytorch pull request #50664",
        experiment="published/torch_selu_gain",
        arm={
            **RECIPE,
            "dataset": "gaussian",
            "initializer": "torch_selu_gain",
            "depth": 100,
            "width": 1000,
        },
        position="layer",
        values=dict(zip(range(1, 100, 10), _GAIN_DEVIATIONS, strict=True)),
        measure=_deviations,
    ),
)


def comparison(evidence: Evidence, publication: Publication) -> pandas.DataFrame:
    """Returns published numbers beside ours; no rows where no trial repeats the publication.

    One row per published position: `published`; `ours`, the mean over seeds with its 95 % interval
    `low`, `high`; `seeds`; and `ratio`, ours over the published one.
    """
    trials = select(evidence, {**publication.arm, **_INTACT}, role=FIXED)
    measured = publication.measure(evidence)
    measured = measured[measured["trial_id"].isin(trials["trial_id"])]
    rows = []
    for position, published in publication.values.items():
        values = measured["value"][measured["position"] == position]
        if not len(values):
            continue
        interval = mean_interval(values)
        rows.append(
            {
                publication.position: position,
                "published": published,
                "ours": interval.value,
                "low": interval.low,
                "high": interval.high,
                "seeds": interval.n,
                "ratio": interval.value / published,
            }
        )
    return pandas.DataFrame(rows)
