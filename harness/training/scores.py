"""Scores: loss and accuracy of every trial of a pack on a split."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness.training.events import PackData, Samples
from harness.training.kept_weights import BestWeights
from harness.training.packs import Pack
from harness.training.programs import EVALUATE

# Bytes of one layer's activations while evaluating.
_ACTIVATION_BYTES = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}
_FLOAT_BYTES = 4


def trial_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy of each trial, (trials,).

    Args:
        logits: (trials, samples, classes).
        labels: (trials, samples).
    """
    losses = functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), reduction="none"
    )
    return losses.view(labels.shape).mean(1)


@torch.no_grad()
def evaluate(pack: Pack, samples: Samples) -> tuple[Tensor, Tensor]:
    """Returns loss and accuracy on a split, each (trials,).

    Runs in blocks of trials and samples, and without dropout. The accuracy is NaN where the loss
    is not finite.
    """
    bytes_per_sample = _FLOAT_BYTES * pack.activations_per_sample(samples.images[0])
    most_bytes = _ACTIVATION_BYTES[pack.device.type]
    block = max(1, min(len(samples), most_bytes // bytes_per_sample))
    most_trials = max(1, most_bytes // (bytes_per_sample * block))
    losses, accuracies = [], []
    for start, stop in pack.ranges(most_trials):
        for first, end in samples.ranges_of_equal_count(start, stop):
            loss, accuracy = _evaluate_range(pack, samples, first, end, block)
            losses.append(loss)
            accuracies.append(accuracy)
    loss = torch.cat(losses)
    accuracy = torch.cat(accuracies)
    return loss, torch.where(torch.isfinite(loss), accuracy, torch.nan)


def _evaluate_range(
    pack: Pack, samples: Samples, start: int, stop: int, block: int
) -> tuple[Tensor, Tensor]:
    """Returns loss and accuracy of trials `start:stop`, `block` samples at a time."""
    program, parameters, buffers = pack.part(start, stop)
    count = samples.sample_count(start)
    images = samples.images_of(start, stop)
    labels = samples.labels[:count]
    loss = torch.zeros(stop - start, device=pack.device, dtype=torch.float64)
    correct = torch.zeros(stop - start, device=pack.device, dtype=torch.int64)
    for first in range(0, count, block):
        logits = program(parameters, buffers, images[:, first : first + block], EVALUATE)
        block_labels = labels[first : first + block].expand(stop - start, -1)
        loss += trial_losses(logits, block_labels).double() * block_labels.shape[1]
        correct += (logits.argmax(2) == block_labels).sum(1)
    return loss / count, correct / count


def final_scores(pack: Pack, data: PackData) -> dict[str, Tensor]:
    """Returns loss and accuracy on the training and test samples, by name, each (trials,).

    The test split is read here and in `best_scores`, and nowhere else.
    """
    train_loss, train_accuracy = evaluate(pack, data.training)
    test_loss, test_accuracy = evaluate(pack, data.test)
    return {
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
    }


def best_scores(pack: Pack, data: PackData, best: BestWeights) -> dict[str, Tensor]:
    """Returns the step of the best evaluation, and the test scores of its weights.

    The evaluation is chosen by validation accuracy alone. By name, each (trials,).
    """
    with best.swapped_in():
        test_loss, test_accuracy = evaluate(pack, data.test)
    return {
        "best_validation_step": best.step,
        "test_loss_best": test_loss,
        "test_accuracy_best": test_accuracy,
    }
