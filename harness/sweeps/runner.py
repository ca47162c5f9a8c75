"""Run one pack from its members to their results: data, initial weights, training, tables. Knows no store and no tracker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from harness.configuration.trial import Trial
from harness.data.catalog import DatasetInfo
from harness.networks.trial_prediction import Prediction, predict
from harness.sweeps.cells import Member
from harness.sweeps.inputs import Prepared, View, pack_data
from harness.sweeps.results import Result, add_prediction, add_verdicts, results
from harness.training import devices, repairs
from harness.training.events import Event, Stepped
from harness.training.loop import train
from harness.training.packs import Pack
from harness.training.schedules import plan


def trained_as(member: Member) -> Trial:
    """The trial with its repair applied as far as that changes the specification; equal to the trial when there is none."""
    return member.trial.with_spec(repairs.transform_spec(member.trial.spec))


def view_of(member: Member) -> View:
    """The images a member sees, its repair included."""
    return View.of(member.config.dataset, trained_as(member).spec["preprocessing"])


def prediction_of(
    spec: dict[str, Any], prepared: Prepared, facts: DatasetInfo, probe_samples: int
) -> Prediction:
    """What theory says of a specification as trained, for these images; seeds of a cell share one prediction."""
    return predict(
        spec,
        facts.shape,
        facts.classes,
        prepared.representatives,
        min(probe_samples, len(prepared.validation.labels)),
    )


def run_pack(
    members: Sequence[Member], facts: DatasetInfo, program: str, on_steps: Callable[[int], None]
) -> list[Result]:
    """Train members side by side; `on_steps` hears of every few trial-steps done. Results are in the members' order."""
    started = time.perf_counter()
    config = members[0].config
    device = devices.resolve(config.device, config.precision)
    devices.prepare(device, config.precision)
    pack = Pack(
        [trained_as(member) for member in members], facts.shape, facts.classes, device, program
    )
    members = [members[index] for index in pack.order]
    views = [view_of(member) for member in members]
    made = {
        view: view.prepared for view in dict.fromkeys(views)
    }  # held here: a pack may have more views than are kept for the next
    prepared = [made[view] for view in views]
    data = pack_data(prepared, config.probe.samples, device, config.dataset.residency)
    repairs.apply(
        pack, [member.trial.spec.get("repair", "none") for member in members], data.training
    )
    schedule = plan(pack.trials[0].spec, data.source.samples[0])
    events: list[Event] = []
    reported = 0
    for event in train(pack, data, schedule):
        if isinstance(event, Stepped):
            on_steps((event.step - reported) * len(members))
            reported = event.step
        else:
            events.append(event)
    on_steps((schedule.steps - reported) * len(members))
    outcome = results(events, pack.trials, schedule, data.source.samples)
    shared = {
        "seconds": (time.perf_counter() - started) / len(members),
        "pack_id": uuid.uuid4().hex[:8],
        "pack_size": len(members),
        "device": devices.describe(device),
        "parameters": pack.parameter_count(),
    }
    for result, images, member, trial in zip(outcome, prepared, members, pack.trials):
        result.summary.update(shared | images.report)
        add_prediction(
            result, prediction_of(trial.spec, images, facts, member.config.probe.samples)
        )
        add_verdicts(result)
    return [outcome[pack.order.index(index)] for index in range(len(members))]
