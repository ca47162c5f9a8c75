"""The training of one pack, as a stream of events. Knows no configuration files, no store and no tracker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from harness.data.batches import permutation
from harness.training.events import Evaluated, Event, Finished, PackData, Samples, Stepped
from harness.training.optimizers import PackOptimizer
from harness.training.packs import Pack
from harness.training.probing import probe
from harness.training.programs import EVALUATE, TRAIN
from harness.training.schedules import Plan, multiplier

# Progress is reported every so many steps: often enough for a progress line, rarely enough to cost nothing.
_REPORT_EVERY = 16
# Bytes of one layer's activations while evaluating.
_EVALUATION_BYTES = 8 * 2**20


def train(pack: Pack, data: PackData, plan: Plan) -> Iterator[Event]:
    """Train all trials of a pack by the plan, with the settings of their specification.

    Nothing waits for the device between two evaluations. Training stops early only when every trial has diverged.
    """
    stepper = Stepper(pack, data, plan)
    statistics = pack.trials[0].spec["probe"]["statistics"]
    step = 0
    while True:
        if step in plan.probes:
            yield probe(pack, data.probe, statistics, step, stepper.before)
        if step in plan.evaluations:
            evaluated = Evaluated(step, stepper.mean_loss(), *evaluate(pack, data.validation))
            stepper.watch.note(evaluated.validation_loss, step)
            yield evaluated
            if stepper.watch.all_diverged():
                break
        if step == plan.steps:
            break
        step += 1
        stepper.take(step, keep_before=step in plan.probes)
        if step % _REPORT_EVERY == 0:
            yield Stepped(step)
    yield Finished(step, stepper.watch.step, final_scores(pack, data))


def final_scores(pack: Pack, data: PackData) -> dict[str, Tensor]:
    """Loss and accuracy on the training and test samples; the only place where the test split is read."""
    scores = {}
    for name in ("training", "test"):
        loss, accuracy = evaluate(pack, getattr(data, name))
        prefix = "train" if name == "training" else name
        scores |= {f"{prefix}_loss": loss, f"{prefix}_accuracy": accuracy}
    return scores


class Divergence:
    """Remembers, on the device, the first step at which each trial's loss was no number."""

    def __init__(self, trials: int, device: torch.device) -> None:
        self.step = torch.full((trials,), -1, dtype=torch.int64, device=device)

    def note(self, loss: Tensor, step: int) -> None:
        """`loss` is (trials,)."""
        first = (self.step < 0) & ~torch.isfinite(loss)
        self.step = torch.where(first, step, self.step)

    def all_diverged(self) -> bool:
        """Whether nothing is left to train; waits for the device."""
        return bool((self.step >= 0).all())


class Stepper:
    """Takes training steps: gathers batches in each seed's order, runs the program forward and back, and updates."""

    def __init__(self, pack: Pack, data: PackData, plan: Plan) -> None:
        self.pack, self.data, self.plan = pack, data, plan
        spec = pack.trials[0].spec
        self.schedule = spec["schedule"]
        self.optimizer = PackOptimizer(pack)
        self.watch = Divergence(len(pack.trials), pack.device)
        self.loss_sum = torch.zeros(len(pack.trials), device=pack.device)
        self.losses = 0
        self.before: Tensor | None = None
        self.batches = data.source.batches(self._indices())
        self.autocast = nullcontext()
        if spec["precision"] == "bfloat16":
            self.autocast = torch.autocast(pack.device.type, torch.bfloat16)

    def take(self, step: int, keep_before: bool) -> None:
        """Update number `step`, from 1; `keep_before` keeps a copy of the parameters for the update ratio."""
        images, labels = next(self.batches)
        self.pack.set_step(step)
        with self.autocast:
            logits = self.pack.program(self.pack.state, self.pack.buffers, images, TRAIN)
        loss = mean_loss(logits, labels)
        self.pack.set_gradients(torch.autograd.grad(loss.sum(), list(self.pack.state.values())))
        loss = loss.detach()
        self.watch.note(loss, step)
        self.loss_sum += loss
        self.losses += 1
        self.before = self.pack.parameters.clone() if keep_before else None
        self.optimizer.step(multiplier(self.schedule, step, self.plan.steps))

    def mean_loss(self) -> Tensor:
        """Mean training loss since the last call, NaN when there was no step."""
        mean = self.loss_sum / self.losses if self.losses else torch.full_like(self.loss_sum, torch.nan)
        self.loss_sum, self.losses = torch.zeros_like(self.loss_sum), 0
        return mean

    def _indices(self) -> Iterator[Tensor]:
        """Each step's samples (trials, batch), in each seed's own order, epoch after epoch."""
        seeds = torch.tensor([trial.seed for trial in self.pack.trials], device=self.data.source.index_device)
        for epoch in itertools.count():
            order = permutation(seeds, epoch, self.data.source.samples)
            for position in range(self.plan.steps_per_epoch):
                yield order[:, position * self.plan.batch_size : (position + 1) * self.plan.batch_size]


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each trial: logits (trials, samples, classes), labels (trials, samples) -> (trials,)."""
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(1)


@torch.no_grad()
def evaluate(pack: Pack, samples: Samples) -> tuple[Tensor, Tensor]:
    """Loss and accuracy (trials,) on a split, in blocks of trials and samples; NaN accuracy where the loss is no number."""
    count = len(samples)
    widest = max(parameter.shape[1] for parameter in pack.state.values() if parameter.dim() > 1)
    positions = samples.images[0, 0, 0].numel() if pack.trials[0].spec["architecture"]["name"] == "cnn" else 1
    block = max(1, min(count, _EVALUATION_BYTES // (4 * widest * positions)))
    size = max(1, _EVALUATION_BYTES // (4 * widest * positions * block))
    losses, accuracies = [], []
    for start, stop in pack.parts(size):
        program, parameters, buffers = pack.part(start, stop)
        images, labels = samples.of(start, stop), samples.labels
        loss = torch.zeros(stop - start, device=pack.device, dtype=torch.float64)
        correct = torch.zeros(stop - start, device=pack.device, dtype=torch.int64)
        for first in range(0, count, block):
            logits = program(parameters, buffers, images[:, first : first + block], EVALUATE)
            wanted = labels[first : first + block].expand(stop - start, -1)
            loss += mean_loss(logits, wanted).double() * wanted.shape[1]
            correct += (logits.argmax(2) == wanted).sum(1)
        losses.append(loss / count)
        accuracies.append(correct / count)
    loss, accuracy = torch.cat(losses), torch.cat(accuracies)
    return loss, torch.where(torch.isfinite(loss), accuracy, torch.nan)
