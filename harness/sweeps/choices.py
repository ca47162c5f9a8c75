"""What was measured to be fastest, kept in `runs/packs/choices.json` by machine and kind of trial; delete the file to measure anew."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from harness.data.catalog import DatasetInfo
from harness.networks.architectures import build_network
from harness.store import writes
from harness.sweeps.cells import Member
from harness.sweeps.inputs import pack_data
from harness.sweeps.progress import say
from harness.sweeps.runner import trained_as, view_of
from harness.training import devices
from harness.training import arrangements
from harness.training.arrangements import Arrangement, SpeedMeasurement
from harness.training.memory import largest_pack
from harness.training.batched import is_sequential
from harness.training.schedules import plan
from harness.training.workers import cores, most_workers

# Measuring takes a few seconds: it has to be a small part of the sweep.
_WORTH_MEASURING_SECONDS = 60.0
# Below this nothing is worth sharing out: one pack, and one thread, which no busy neighbour can keep waiting for another.
_BRIEF_SECONDS = 2.0


def choose(
    members: Sequence[Member],
    facts: DatasetInfo,
    runs: Path,
    program: str = "auto",
    pack: int | None = None,
    workers: int | None = None,
) -> Arrangement:
    """How to train trials of one shape. `program`, `pack` and `workers` are fixed where the user fixed them.

    Measured once for a machine and a kind of trial, if the trials are long enough to be worth it.
    """
    config, trial = members[0].config, trained_as(members[0])
    device = devices.resolve(config.device, config.precision)
    at_most = min(workers or most_workers(device), len(members))
    room = max(
        1,
        largest_pack(trial.spec, facts.shape, facts.classes, devices.free_memory(device))
        // at_most,
    )
    schedule = plan(trial.spec, facts.training_samples)
    default = Arrangement(
        _unmeasured_program(trial, facts, program),
        min(arrangements.UNMEASURED_PACK_SIZE[device.type], room),
        at_most,
    )
    expected = arrangements.expected_seconds(
        trial, facts.shape, facts.classes, schedule.steps * len(members), device
    )
    if expected < _BRIEF_SECONDS:
        chosen = replace(default, workers=1 if workers is None else at_most, brief=True)
    elif expected < _WORTH_MEASURING_SECONDS:
        chosen = default
    else:
        key = json.dumps(
            {
                "machine": _machine(device),
                "asked": [program, pack, workers],
                "kind": arrangements.speed_settings(trial, facts.shape, facts.classes),
            },
            sort_keys=True,
        )
        chosen = _read(runs).get(key) or _measure(
            members, facts, device, program, pack, workers, at_most, room
        )
        _keep(runs, key, chosen)
    return replace(
        chosen, pack=min(pack or chosen.pack, room), workers=min(chosen.workers, at_most)
    )


def _unmeasured_program(trial, facts: DatasetInfo, program: str) -> str:
    if program != "auto":
        return program
    with torch.device("meta"):
        return (
            "batched"
            if is_sequential(build_network(trial.spec, facts.shape, facts.classes))
            else "stacked"
        )


def _measure(
    members: Sequence[Member],
    facts: DatasetInfo,
    device: torch.device,
    program: str,
    pack: int | None,
    workers: int | None,
    at_most: int,
    room: int,
) -> Arrangement:
    trial, prepared = trained_as(members[0]), view_of(members[0]).prepared
    programs = (
        [program]
        if program != "auto"
        else list(dict.fromkeys([_unmeasured_program(trial, facts, program), "stacked"]))
    )
    counts = [at_most] if workers is not None else list(dict.fromkeys([at_most, 1]))
    measure = SpeedMeasurement(
        trial,
        facts.shape,
        facts.classes,
        device,
        lambda size: pack_data([prepared] * size, 2, device, members[0].config.dataset.residency),
        plan(trial.spec, facts.training_samples),
    )
    largest = min(room, len(members))
    sizes = (
        [min(pack, largest)]
        if pack is not None
        else [2**power for power in range(largest.bit_length())]
    )
    chosen = arrangements.fastest_arrangement(
        [Arrangement(one, 1, count) for one in programs for count in counts], measure, sizes
    )
    say(
        f"fastest here for {_in_words(trial.spec)}: {chosen.program}, packs of {chosen.pack}, {chosen.workers} at a time ({chosen.rate:,.0f} trial-steps/s)\n",
        sys.stderr,
    )
    return chosen


def _in_words(spec: dict[str, Any]) -> str:
    return f"{spec['architecture']['name']} depth {spec['depth']} width {spec['width']} batch {spec['budget']['batch_size']}"


def _machine(device: torch.device) -> list[Any]:
    return [
        platform.node(),
        platform.machine(),
        cores(),
        torch.get_num_threads(),
        devices.describe(device),
        torch.__version__,
    ]


def _path(runs: Path) -> Path:
    return runs / "packs" / "choices.json"


def _read(runs: Path) -> dict[str, Arrangement]:
    """What was measured before; nothing where the file is missing or damaged."""
    try:
        return {key: Arrangement(**value) for key, value in json.loads(_path(runs).read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(runs: Path, key: str, choice: Arrangement) -> None:
    known = _read(runs)
    if key not in known:
        path = _path(runs)
        with writes.storing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            writes.write_json(
                path,
                {name: asdict(value) for name, value in (known | {key: choice}).items()},
                sync=False,
            )
