"""Chooses program, pack size and number of workers, and remembers what was measured to be fastest.

Measurements are kept in `runs/packs/choices.json` by machine and kind of trial; delete the file to
measure again.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.cores import cores
from harness.data.catalog import DatasetInfo
from harness.store import writes
from harness.sweeps.cells import Job
from harness.sweeps.inputs import pack_data
from harness.sweeps.progress import say
from harness.sweeps.runner import trained_as, view_of
from harness.training import arrangements, devices
from harness.training.arrangements import Arrangement, SpeedMeasurement
from harness.training.events import PackData
from harness.training.memory import largest_pack
from harness.training.program_choice import check_program, programs_for
from harness.training.schedules import plan
from harness.training.workers import most_workers

# Measuring takes a few seconds, so it is done only for sweeps that are expected to take longer.
_WORTH_MEASURING_SECONDS = 60.0
# A sweep expected to be shorter than this runs as one pack on one thread; starting workers would
# cost more than it saves.
_BRIEF_SECONDS = 2.0
# Probe samples of a pack whose speed is measured: it takes steps only.
_PROBE_SAMPLES = 2


def choose(
    jobs: Sequence[Job],
    runs: Path,
    program: str = "auto",
    pack: int | None = None,
    workers: int | None = None,
) -> Arrangement:
    """Returns how to train jobs whose networks have one shape.

    Long sweeps are measured once for a machine and a kind of trial.

    Args:
        jobs: the jobs, all of one program key.
        runs: the folder for results, which also keeps the measurements.
        program: the program that the user fixed, or "auto".
        pack: the pack size that the user fixed.
        workers: the number of workers that the user fixed.

    Raises:
        NotStored: the measurement could not be written.
        RequestError: the program cannot run these networks.
    """
    case = _Case(jobs, program, pack, workers)
    check_program(program, case.trial, case.info.shape, case.info.classes)
    expected = case.expected_seconds()
    if expected < _BRIEF_SECONDS:
        brief_workers = 1 if workers is None else case.most_workers
        choice = replace(case.unmeasured(), workers=brief_workers, brief=True)
    elif expected < _WORTH_MEASURING_SECONDS or case.is_fixed():
        choice = case.unmeasured()
    else:
        key = case.key()
        choice = _read(runs).get(key) or case.measure()
        keep(runs, key, choice)
    size = min(pack or choice.pack, case.largest_pack)
    return replace(choice, pack=size, workers=min(choice.workers, case.most_workers))


def keep(runs: Path, key: str, choice: Arrangement) -> None:
    """Adds a measured choice to the file, unless it has one under this key.

    Raises:
        NotStored: the file could not be written.
    """
    kept = _read(runs)
    if key in kept:
        return
    kept[key] = choice
    path = _path(runs)
    with writes.storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {name: asdict(value) for name, value in kept.items()}
        writes.write_json(path, content, sync=False)


@dataclass
class _Case:
    """Jobs of one shape on this machine, with what the user fixed; None or "auto" is left open."""

    jobs: Sequence[Job]
    program: str
    pack: int | None
    workers: int | None

    def __post_init__(self) -> None:
        config = self.jobs[0].config
        self.info: DatasetInfo = self.jobs[0].info
        self.trial = trained_as(self.jobs[0])
        self.plan = plan(self.trial.spec, self.info.training_samples)
        self.device = devices.resolve(config.device, config.precision)
        self.most_workers = self._most_workers(config.precision)
        trials_in_memory = largest_pack(
            self.trial.spec,
            self.info.shape,
            self.info.classes,
            devices.free_memory(self.device),
            kept_copies=int(config.keep_weights == "best"),
        )
        self.largest_pack = max(1, trials_in_memory // self.most_workers)

    def _most_workers(self, precision: str) -> int:
        """Returns the packs that may train at the same time."""
        wanted = self.workers or most_workers(self.device)
        if precision == "tf32":
            # The switch between float32 in probes and TF32 in training is the whole process's.
            return 1
        if self.device.type == "cuda":
            # Packs of other shapes train beside a single one of this shape.
            return wanted
        return min(wanted, len(self.jobs))

    def expected_seconds(self) -> float:
        """Returns a guess of how long all jobs take."""
        trial_steps = self.plan.steps * len(self.jobs)
        return arrangements.expected_seconds(
            self.trial, self.info.shape, self.info.classes, trial_steps, self.device
        )

    def unmeasured(self) -> Arrangement:
        """Returns the choice without a measurement."""
        size = min(arrangements.UNMEASURED_PACK_SIZE[self.device.type], self.largest_pack)
        return Arrangement(self._unmeasured_program(), size, self.most_workers)

    def measure(self) -> Arrangement:
        """Measures programs, pack sizes and numbers of workers, and returns the fastest choice."""
        candidates = [
            Arrangement(program, 1, workers)
            for program in self._programs()
            for workers in self._worker_counts()
        ]
        measurement = SpeedMeasurement(
            self.trial, self.info.shape, self.info.classes, self.device, self._data(), self.plan
        )
        choice = arrangements.fastest_arrangement(candidates, measurement, self._sizes())
        say(
            f"fastest here for {_in_words(self.trial.spec)}: {_choice_in_words(choice)}", sys.stderr
        )
        return choice

    def is_fixed(self) -> bool:
        """Returns whether the user has left nothing to choose."""
        return self.program != "auto" and None not in (self.pack, self.workers)

    def key(self) -> str:
        """Returns the name under which the measurement is kept."""
        parts = {
            "machine": _machine(self.device),
            "asked": [self.program, self.pack, self.workers],
            "kind": arrangements.speed_settings(self.trial, self.info.shape, self.info.classes),
        }
        return json.dumps(parts, sort_keys=True)

    def _unmeasured_program(self) -> str:
        if self.program != "auto":
            return self.program
        return self._programs()[0]

    def _programs(self) -> list[str]:
        """Returns the programs that can run the trials, the one to use without measuring first."""
        if self.program != "auto":
            return [self.program]
        return programs_for(self.trial, self.info.shape, self.info.classes, self.device)

    def _worker_counts(self) -> list[int]:
        if self.workers is not None:
            return [self.most_workers]
        return list(dict.fromkeys([self.most_workers, 1]))

    def _sizes(self) -> list[int]:
        largest = min(self.largest_pack, len(self.jobs))
        if self.pack is not None:
            return [min(self.pack, largest)]
        return [2**power for power in range(largest.bit_length())]

    def _data(self) -> Callable[[int], PackData]:
        """Returns a function from a pack size to the data of such a pack."""
        prepared = view_of(self.jobs[0]).prepared
        residency = self.jobs[0].config.dataset.residency
        return lambda size: pack_data([prepared] * size, _PROBE_SAMPLES, self.device, residency)


def _in_words(spec: dict[str, Any]) -> str:
    architecture, batch_size = spec["architecture"]["name"], spec["budget"]["batch_size"]
    if "library" in spec["architecture"]:
        return f"{architecture} batch {batch_size}"
    return f"{architecture} depth {spec['depth']} width {spec['width']} batch {batch_size}"


def _choice_in_words(choice: Arrangement) -> str:
    rate = f"{choice.rate:,.0f} trial-steps/s"
    return f"{choice.program}, packs of {choice.pack}, {choice.workers} at a time ({rate})"


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
    """Returns the kept choices by key; none where the file is missing or damaged."""
    try:
        content = json.loads(_path(runs).read_text())
        return {key: Arrangement(**value) for key, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
