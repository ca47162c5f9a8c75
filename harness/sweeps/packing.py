"""Cuts jobs into packs: groups of one program, in even parts, long ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from harness.store import claims
from harness.sweeps.cells import Job, program_key
from harness.sweeps.choices import choose
from harness.sweeps.pack_checkpoints import PackCheckpoints, matching
from harness.sweeps.runner import trained_as
from harness.training.arrangements import UNMEASURED_PACK_SIZE, Arrangement
from harness.training.packs import activation_key, neighbour_key


@dataclass(frozen=True)
class PackOptions:
    """Options that the user fixed; "auto" and None leave the choice to the harness."""

    program: str = "auto"
    pack: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class WorkerLayout:
    """Number of packs that train at the same time, and threads for each of them."""

    workers: int
    threads: int


@dataclass(frozen=True)
class PlannedPack:
    """Jobs to train side by side by a program; packs of equal `key` need equal memory per trial."""

    jobs: list[Job]
    program: str
    key: str

    @property
    def trial_steps(self) -> int:
        """Steps of all trials together."""
        return sum(job.steps for job in self.jobs)

    def with_jobs(self, jobs: list[Job]) -> PlannedPack:
        """Returns the pack with other jobs of the same key."""
        return replace(self, jobs=jobs)


def plan_packs(
    jobs: Sequence[Job], runs: Path, options: PackOptions
) -> dict[WorkerLayout, list[PlannedPack]]:
    """Returns packs of jobs that one program can run, by layout; the longest come first.

    Jobs that a checkpoint holds stay together, as that one goes on with the very numbers.
    """
    saved = [
        checkpoint
        for checkpoint in PackCheckpoints(runs).saved()
        if options.program in ("auto", checkpoint.program)
    ]
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(program_key(job, trained_as(job)), []).append(job)
    plans: dict[WorkerLayout, list[PlannedPack]] = {}
    for key, group in groups.items():
        choice = choose(group, runs, options.program, options.pack, options.workers)
        # All claims of a pack are held while it trains, and each keeps a file open.
        claimable = claims.most_held() // choice.workers
        choice = replace(choice, pack=max(1, min(choice.pack, claimable)))
        packs = plans.setdefault(WorkerLayout(choice.workers, choice.threads), [])
        by_id = {job.trial_id: job for job in group}
        for checkpoint, trial_ids in matching(saved, by_id):
            checkpointed = [by_id.pop(trial_id) for trial_id in trial_ids]
            packs.append(PlannedPack(checkpointed, checkpoint.program, key))
        for part in _parts_of_one_program(list(by_id.values()), choice):
            packs += [PlannedPack(even, choice.program, key) for even in even_parts(part, choice)]
    for packs in plans.values():
        packs.sort(key=lambda pack: -pack.trial_steps)
    return plans


def cut_into_jobs(
    jobs: Sequence[Job], runs: Path, options: PackOptions, device_type: str
) -> list[list[Job]]:
    """Returns jobs in parts, each of which one job of a cluster trains.

    This machine says nothing about the one that trains, so nothing is measured: a part is a pack of
    the usual size, or of the size that the user fixed.

    Args:
        jobs: the jobs to train.
        runs: the folder of results; jobs that a checkpoint holds stay together.
        options: the options that the user fixed.
        device_type: `cpu` or `cuda`, where the packs will be trained.
    """
    size = options.pack or UNMEASURED_PACK_SIZE[device_type]
    left = {job.trial_id: job for job in jobs}
    parts = []
    for _, trial_ids in matching(PackCheckpoints(runs).saved(), left):
        parts.append([left.pop(trial_id) for trial_id in trial_ids])
    groups: dict[str, list[Job]] = {}
    for job in left.values():
        groups.setdefault(program_key(job, trained_as(job)), []).append(job)
    choice = Arrangement(options.program, size, 1)
    for group in groups.values():
        for part in _parts_of_one_program(group, choice):
            parts += even_parts(part, choice)
    return parts


def even_parts(jobs: list[Job], choice: Arrangement) -> list[list[Job]]:
    """Cuts jobs into packs of even size, and into enough of them to keep all workers busy.

    65 trials with room for 64 make packs of 33 and 32.
    """
    total = len(jobs)
    count = -(-total // choice.pack)
    whole_rounds = -(-count // choice.workers) * choice.workers
    count = min(total, whole_rounds)
    bounds = [total * index // count for index in range(count + 1)]
    return [jobs[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]


def _parts_of_one_program(group: list[Job], choice: Arrangement) -> list[list[Job]]:
    """Returns a group in the order in which packs are cut, so that neighbours have most in common.

    A stacked program runs one activation only, so there the group falls into one part for each.
    """
    if not group:
        return []
    ordered = sorted(group, key=lambda job: neighbour_key(trained_as(job)))
    if choice.program != "stacked":
        return [ordered]
    by_activation = groupby(ordered, key=lambda job: activation_key(trained_as(job)))
    return [list(part) for _, part in by_activation]
