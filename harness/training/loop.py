"""The training loop of one pack, as a stream of events.

It knows no configuration files, no store and no tracker: whoever iterates over the events decides
what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.training import devices
from harness.training.events import Evaluated, Event, Finished, PackData, Stepped
from harness.training.packs import Pack
from harness.training.probing import probe
from harness.training.schedules import Plan
from harness.training.scores import best_scores, evaluate, final_scores
from harness.training.stepper import Stepper


def train(
    pack: Pack, data: PackData, plan: Plan, stepper: Stepper | None = None
) -> Iterator[Event]:
    """Trains all trials of a pack by the plan, and yields what happens.

    Nothing waits for the device between two evaluations. Training ends early only when every
    trial has diverged. `Finished` is the last event.

    Args:
        pack: the pack.
        data: its data.
        plan: its plan.
        stepper: takes the steps of the pack; one that was restored from a checkpoint goes on from
            there. Whenever `Stepped` is yielded, it may be captured (`checkpoints`).
    """
    stepper = stepper or Stepper(pack, data, plan)
    precision = pack.trials[0].spec["precision"]
    while True:
        step = stepper.done
        with devices.exact_products(pack.device, precision):
            if step in plan.probes:
                yield probe(pack, data.probe, step, plan, stepper.before)
            if step in plan.evaluations:
                validation_loss, validation_accuracy = evaluate(pack, data.validation)
                stepper.divergence.note(validation_loss, step)
                if stepper.best is not None:
                    stepper.best.note(validation_accuracy, step, stepper.divergence.step)
                yield Evaluated(step, stepper.mean_loss(), validation_loss, validation_accuracy)
                if stepper.divergence.all_diverged():
                    break
        if step == plan.steps:
            break
        next_stop = min(stop for stop in plan.stops if stop > step)
        for done in stepper.advance(next_stop):
            yield Stepped(done)
    with devices.exact_products(pack.device, precision):
        scores = final_scores(pack, data)
        if stepper.best is not None:
            scores |= best_scores(pack, data, stepper.best)
        yield Finished(step, stepper.divergence.step, scores)
