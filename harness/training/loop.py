"""The training of one pack, as a stream of events. Knows no configuration files, no store and no tracker."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from harness.training import devices
from harness.training.capture import CapturedStep
from harness.training.events import Evaluated, Event, Finished, PackData, Samples, Stepped
from harness.training.feeds import feed
from harness.training.optimizers import PackOptimizer
from harness.training.packs import Pack
from harness.training.probing import probe
from harness.training.programs import EVALUATE, TRAIN
from harness.training.schedules import Plan

# Progress is reported every so many steps: often enough for a progress line, rarely enough to cost nothing.
_REPORT_EVERY = 16
# Bytes of one layer's activations while evaluating.
_EVALUATION_BYTES = 8 * 2**20


def train(pack: Pack, data: PackData, plan: Plan) -> Iterator[Event]:
    """Train all trials of a pack by the plan, with the settings of their specification.

    Nothing waits for the device between two evaluations. Training stops early only when every trial has diverged.
    """
    stepper = Stepper(pack, data, plan)
    precision = pack.trials[0].spec["precision"]
    while True:
        step = stepper.done
        with devices.exact_products(pack.device, precision):
            if step in plan.probes:
                yield probe(pack, data.probe, step, step == plan.steps, stepper.before)
            if step in plan.evaluations:
                evaluated = Evaluated(step, stepper.mean_loss(), *evaluate(pack, data.validation))
                stepper.watch.note(evaluated.validation_loss, step)
                yield evaluated
                if stepper.watch.all_diverged():
                    break
        if step == plan.steps:
            break
        for done in stepper.advance(min(stop for stop in plan.stops if stop > step)):
            yield Stepped(done)
    with devices.exact_products(pack.device, precision):
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

    def note(self, loss: Tensor, step: Tensor | int) -> None:
        """`loss` is (trials,), `step` its step, an integer or (trials,)."""
        known = torch.isfinite(loss) | (self.step >= 0)
        self.step.copy_(torch.where(known, self.step, step))

    def all_diverged(self) -> bool:
        """Whether nothing is left to train; waits for the device."""
        return bool((self.step >= 0).all())


class Stepper:
    """Takes training steps: a batch in each seed's order, the program forward and back, an update.

    `_update` works on fixed tensors alone, its counters and learning rates included, so that a GPU can replay it. `done`
    steps are taken; `before` holds the parameters before the last update where that step is probed.
    """

    def __init__(self, pack: Pack, data: PackData, plan: Plan, capture: bool = True) -> None:
        self.pack, self.plan = pack, plan
        spec = pack.trials[0].spec
        self.done, self.losses = 0, 0
        self.before: Tensor | None = None
        self.optimizer = PackOptimizer(pack)
        self.watch = Divergence(len(pack.trials), pack.device)
        self.loss_sum = torch.zeros(len(pack.trials), device=pack.device)
        self.multipliers = self.optimizer.multipliers(plan.steps)
        self.position = torch.zeros(1, dtype=torch.int64, device=pack.device)
        self.batches = feed(data.source, [trial.seed for trial in pack.trials], plan)
        self.autocast = nullcontext()
        if spec["precision"] == "bfloat16":
            self.autocast = torch.autocast(pack.device.type, torch.bfloat16)
        update = weakref.WeakMethod(
            self._update
        )  # a cycle would keep a pack and its graph on the device until Python looks for cycles
        self.update = CapturedStep(lambda: update()(), pack.device, capture)

    def advance(self, to: int) -> Iterator[int]:
        """Take all steps up to number `to`; yields the number of steps done, now and then."""
        while self.done < to:
            self.take_steps(min(to, self.done - self.done % _REPORT_EVERY + _REPORT_EVERY))
            yield self.done

    def take_steps(self, to: int) -> None:
        """Take all steps up to number `to`."""
        while self.done < to:
            self.batches.prepare(self.done)
            self.before = (
                self.pack.parameters.clone() if self.done + 1 in self.plan.probes else None
            )
            self.update()
            self.done += 1
            self.losses += 1

    def mean_loss(self) -> Tensor:
        """Mean training loss since the last call, NaN when there was no step."""
        mean = (
            self.loss_sum / self.losses
            if self.losses
            else torch.full_like(self.loss_sum, torch.nan)
        )
        self.loss_sum.zero_()
        self.losses = 0
        return mean

    def _update(self) -> None:
        images, labels = self.batches.take()
        self.pack.step.add_(1)
        with self.autocast:
            logits = self.pack.program(self.pack.state, self.pack.buffers, images, TRAIN)
        loss = mean_loss(logits, labels)
        gradients = torch.autograd.grad(loss.sum(), list(self.pack.state.values()))
        loss = loss.detach()
        self.watch.note(loss, self.pack.step)
        self.loss_sum.add_(loss)
        self.optimizer.step(gradients, self.multipliers.index_select(0, self.position)[0])
        self.position.add_(1)


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each trial: logits (trials, samples, classes), labels (trials, samples) -> (trials,)."""
    losses = functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), reduction="none"
    )
    return losses.view(labels.shape).mean(1)


@torch.no_grad()
def evaluate(pack: Pack, samples: Samples) -> tuple[Tensor, Tensor]:
    """Loss and accuracy (trials,) on a split, in blocks of trials and samples; NaN accuracy where the loss is no number."""
    widest = max(parameter.shape[1] for parameter in pack.state.values() if parameter.dim() > 1)
    positions = (
        samples.images[0][0, 0].numel()
        if pack.trials[0].spec["architecture"]["name"] == "cnn"
        else 1
    )
    block = max(1, min(len(samples), _EVALUATION_BYTES // (4 * widest * positions)))
    size = max(1, _EVALUATION_BYTES // (4 * widest * positions * block))
    losses, accuracies = [], []
    for start, stop in (run for part in pack.parts(size) for run in samples.alike(*part)):
        program, parameters, buffers = pack.part(start, stop)
        count, images = samples.count(start), samples.of(start, stop)
        labels = samples.labels[:count]
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
