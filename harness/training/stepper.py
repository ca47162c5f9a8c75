"""Training steps of a pack: a batch in each trial's order, forward and backward, an update.

`Stepper._update` is what a GPU records and replays (`harness.training.capture`): it works on fixed
tensors alone, its counters and learning rates included, and never asks the device for a number.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from harness.training.augmentation import augmentation
from harness.training.capture import CapturedStep
from harness.training.events import PackData
from harness.training.feeds import Feed, feed
from harness.training.kept_weights import BestWeights
from harness.training.optimizers import PackOptimizer
from harness.training.packs import Pack
from harness.training.programs import TRAIN
from harness.training.schedules import Plan
from harness.training.scores import trial_losses

# Steps between two reports: often enough for a progress line, rarely enough to cost nothing.
_REPORT_EVERY = 16
# Steps of a large network take long; whoever wants to stop it is heard about every second.
_REPORT_SECONDS = 1.0


class Divergence:
    """The first step at which each trial's loss was not finite, kept on the device.

    `step` is (trials,), -1 for a trial that has not diverged.
    """

    def __init__(self, trials: int, device: torch.device) -> None:
        self.step = torch.full((trials,), -1, dtype=torch.int64, device=device)

    def note(self, loss: Tensor, step: Tensor | int) -> None:
        """Takes note of the losses of a step.

        Args:
            loss: (trials,).
            step: the step's number, an integer or (trials,).
        """
        unchanged = torch.isfinite(loss) | (self.step >= 0)
        self.step.copy_(torch.where(unchanged, self.step, step))

    def all_diverged(self) -> bool:
        """Returns whether nothing is left to train; waits for the device."""
        return bool((self.step >= 0).all())


class Stepper:
    """Takes the training steps of a pack.

    Attributes:
        done: the number of steps taken.
        before: the parameters before the last update where that update is probed, else None.
        divergence: the steps at which trials diverged.
        captured_update: the update, replayed on a GPU.
        best: the weights at each trial's best evaluation, or None where they are not kept.

    Args:
        pack: the pack, whose parameters change.
        data: its data.
        plan: its plan.
        capture: whether steps are recorded and replayed on a GPU.
        keep_best: whether the weights at the best evaluation are kept.
    """

    def __init__(
        self,
        pack: Pack,
        data: PackData,
        plan: Plan,
        capture: bool = True,
        keep_best: bool = False,
    ) -> None:
        self.pack = pack
        self.plan = plan
        self.done = 0
        self.before: Tensor | None = None
        self.best = BestWeights(pack) if keep_best else None
        self.optimizer = PackOptimizer(pack)
        self.divergence = Divergence(len(pack.trials), pack.device)
        # Sum and number of the losses since they were last read.
        self.loss_sum = torch.zeros(len(pack.trials), device=pack.device)
        self.losses = 0
        # Factors on the learning rates, (steps, updated runs), and the row of the next step.
        self.multipliers = self.optimizer.multipliers(plan.steps)
        self.position = torch.zeros(1, dtype=torch.int64, device=pack.device)
        self.augment = augmentation(pack.trials, pack.device)
        self._data = data
        self.batches = self._feed(0)
        self.autocast = nullcontext()
        if pack.trials[0].spec["precision"] == "bfloat16":
            self.autocast = torch.autocast(pack.device.type, torch.bfloat16)
        # A strong reference would make a cycle, which would keep the pack and its graph on the
        # device until Python looks for cycles.
        update = weakref.WeakMethod(self._update)
        self.captured_update = CapturedStep(lambda: update()(), pack.device, capture)

    def seek(self, done: int) -> None:
        """Goes on behind step number `done`, whose parameters were set before the first step."""
        self.done = done
        self.position.fill_(done)
        self.batches = self._feed(done)

    def advance(self, to: int) -> Iterator[int]:
        """Takes all steps up to number `to`, and yields the steps done every now and then."""
        while self.done < to:
            next_report = self.done - self.done % _REPORT_EVERY + _REPORT_EVERY
            self.take_steps(min(to, next_report), _REPORT_SECONDS)
            yield self.done

    def take_steps(self, to: int, seconds: float = math.inf) -> None:
        """Takes the steps up to number `to`, at least one, and no more after so many seconds."""
        end = time.monotonic() + seconds
        while self.done < to:
            self.batches.prepare(self.done)
            is_probed = self.done + 1 in self.plan.probes
            self.before = self.pack.parameters.clone() if is_probed else None
            self.captured_update()
            self.done += 1
            self.losses += 1
            if time.monotonic() > end:
                break

    def mean_loss(self) -> Tensor:
        """Returns the mean training loss since the last call, (trials,); NaN without a step."""
        if self.losses:
            mean = self.loss_sum / self.losses
        else:
            mean = torch.full_like(self.loss_sum, torch.nan)
        self.loss_sum.zero_()
        self.losses = 0
        return mean

    def _feed(self, done: int) -> Feed:
        return feed(self._data.source, [trial.seed for trial in self.pack.trials], self.plan, done)

    def _update(self) -> None:
        images, labels = self.batches.take()
        self.pack.step.add_(1)
        images = self.augment(images, self.pack.step)
        with self.autocast:
            logits = self.pack.program(self.pack.state, self.pack.buffers, images, TRAIN)
        loss = trial_losses(logits, labels)
        # The gradient of a sum over trials is each trial's own gradient.
        gradients = torch.autograd.grad(loss.sum(), list(self.pack.state.values()))
        loss = loss.detach()
        self.divergence.note(loss, self.pack.step)
        self.loss_sum.add_(loss)
        self.optimizer.step(gradients, self.multipliers.index_select(0, self.position)[0])
        self.position.add_(1)
