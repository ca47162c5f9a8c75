"""Runs one pack from its jobs to their results: data, initial weights, training, tables.

Knows no store and no tracker.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from harness.configuration.trial import Trial
from harness.data.catalog import DatasetInfo
from harness.networks.trial_prediction import Prediction, predict
from harness.sweeps.cells import Job
from harness.sweeps.inputs import Prepared, View, pack_data
from harness.sweeps.results import Result, add_prediction, add_verdicts, results
from harness.training import devices, repairs
from harness.training.events import Event, PackData, Stepped
from harness.training.kept_weights import Origin, weights_file
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan
from harness.training.stepper import Stepper
from harness.training.unit_variance import initialize_on_first_batch

if TYPE_CHECKING:
    from harness.sweeps.pack_checkpoints import Keeper


def trained_as(job: Job) -> Trial:
    """Returns the trial with its repair applied as far as that changes the specification.

    It equals the trial where there is no repair.
    """
    return job.trial.with_spec(repairs.transform_spec(job.trial.spec))


def view_of(job: Job) -> View:
    """Returns the images that a job sees, its repair included."""
    return View.of(job.config.dataset, trained_as(job).spec["preprocessing"])


def prediction_of(
    spec: dict[str, Any], prepared: Prepared, info: DatasetInfo, probe_samples: int
) -> Prediction:
    """Returns what theory predicts for a specification as trained, on these images.

    The seeds of a cell share one prediction.
    """
    samples = min(probe_samples, len(prepared.validation.labels))
    return predict(spec, info.shape, info.classes, prepared.representatives, samples)


def run_pack(
    jobs: Sequence[Job],
    program: str,
    on_steps: Callable[[int], None],
    keeper: Keeper | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Trains jobs side by side and returns their results in the jobs' order.

    Args:
        jobs: jobs that one program can run; see `harness.sweeps.cells.program_key`.
        program: one of `harness.sweeps.cells.PROGRAMS`.
        on_steps: called every few steps with the number of trial-steps done since its last call.
        keeper: reads and writes the pack's checkpoints; None trains without them.
        check: called every few steps; raises where training is to end. It is not called once the
            last step is reported, as what is trained by then can be stored at once.
    """
    config = jobs[0].config
    device = devices.resolve(config.device, config.precision)
    devices.prepare(device, config.precision)
    with devices.on_thread_stream(device):
        return _run_pack_on(device, jobs, program, _Listener(on_steps, check), keeper)


def _run_pack_on(
    device: torch.device,
    jobs: Sequence[Job],
    program: str,
    listener: _Listener,
    keeper: Keeper | None,
) -> list[Result]:
    started = time.perf_counter()
    config, info = jobs[0].config, jobs[0].info
    specified = [trained_as(job) for job in jobs]
    pack = Pack(specified, info.shape, info.classes, device, program)
    ordered = [jobs[index] for index in pack.order]
    prepared = _prepared_images(ordered)
    data = pack_data(prepared, config.probe.samples, device, config.dataset.residency)
    schedule = plan(pack.trials[0].spec, data.source.samples[0])
    initialize_on_first_batch(pack, data.source, schedule)
    repairs.apply(pack, [job.trial.spec.get("repair", "none") for job in ordered], data.training)
    stepper = Stepper(pack, data, schedule, keep_best=config.keep_weights == "best")
    trial_ids = [job.trial_id for job in ordered]
    events = _train(_Course(stepper, data, trial_ids, keeper), listener)
    outcome = results(events, pack.trials, schedule, data.source.samples)
    shared = {
        "seconds": (keeper.seconds if keeper else time.perf_counter() - started) / len(jobs),
        "pack_id": uuid.uuid4().hex[:8],
        "pack_size": len(jobs),
        "device": devices.describe(device),
        "parameters": pack.parameter_count(),
        "classes": info.classes,
    }
    for result, images, job, trial in zip(outcome, prepared, ordered, pack.trials, strict=True):
        result.summary.update(shared | images.report | _test_split(images))
        prediction = prediction_of(trial.spec, images, info, job.config.probe.samples)
        add_prediction(result, prediction)
    add_verdicts(outcome, schedule.steps)
    outcome = _with_weights(outcome, stepper, ordered)
    return [outcome[pack.order.index(index)] for index in range(len(jobs))]


def _prepared_images(jobs: Sequence[Job]) -> list[Prepared]:
    """Returns the images of every job.

    Each view is prepared once: a pack may have more views than the cache of `View.prepared` keeps.
    """
    views = [view_of(job) for job in jobs]
    prepared_of = {view: view.prepared for view in dict.fromkeys(views)}
    return [prepared_of[view] for view in views]


def _test_split(images: Prepared) -> dict[str, float]:
    """Returns the size of the test split and the share of its most frequent class."""
    labels = images.test.labels
    return {
        "test_samples": len(labels),
        "majority_share": float(labels.bincount().max()) / len(labels),
    }


def _with_weights(results: Sequence[Result], stepper: Stepper, jobs: Sequence[Job]) -> list[Result]:
    """Returns the results, in the pack's order, with the weights that their jobs ask for.

    A diverged trial keeps none: how far its numbers went depends on how long its companions
    trained.
    """
    kept = jobs[0].config.keep_weights
    if kept == "none":
        return list(results)
    pack = stepper.pack
    with stepper.best.swapped_in() if stepper.best else nullcontext():
        completed = []
        for index, (result, job) in enumerate(zip(results, jobs, strict=True)):
            weights = None
            if result.diverged_step is None:
                step = int(pack.step[index])
                origin = Origin(job.trial_id, kept, job.info.shape, job.info.classes, step)
                weights = (kept, weights_file(pack, index, origin))
            completed.append(replace(result, weights=weights))
    return completed


@dataclass(frozen=True)
class _Course:
    """A pack on its way, with the keeper of its checkpoints."""

    stepper: Stepper
    data: PackData
    trial_ids: list[str]
    keeper: Keeper | None


@dataclass(frozen=True)
class _Listener:
    """The one who trains a pack, as `on_steps` and `check` of `run_pack`."""

    on_steps: Callable[[int], None]
    check: Callable[[], None]


def _train(course: _Course, listener: _Listener) -> list[Event]:
    """Trains a pack and returns its events other than plain steps."""
    stepper, keeper = course.stepper, course.keeper
    trials = len(course.trial_ids)
    events = keeper.restore(stepper, course.trial_ids) if keeper else []
    reported = stepper.done
    for event in train(stepper.pack, course.data, stepper.plan, stepper):
        if isinstance(event, Stepped):
            # First, as the check may end the training.
            if keeper is not None:
                keeper.save_if_due(stepper, course.trial_ids, events)
            listener.check()
            listener.on_steps((event.step - reported) * trials)
            reported = event.step
        else:
            events.append(event)
    # Without a check: nobody has written a checkpoint of what came behind the last step, and the
    # results are about to be stored.
    listener.on_steps((stepper.plan.steps - reported) * trials)
    return events
