"""Cells and their trials before training: checked, without duplicates, grouped by program.

Imports no torch, so that a wrong request is refused at once.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from harness.configuration.result_folder import expanded, writable_folder
from harness.configuration.schema import Config
from harness.configuration.trial import Trial, canonical, trials
from harness.configuration.validation import validate
from harness.data import catalog
from harness.errors import RequestError
from harness.networks.architectures import architecture_of
from harness.networks.layout import check_layout, layer_sizes
from harness.training import schedules
from harness.training.schedules import Plan

# Kinds of program that a pack may be trained as; see `harness.training.programs`.
PROGRAMS = ("auto", "batched", "stacked", "looped")
# Where packs are trained: in this process, or as jobs; see `harness.sweeps.cluster`.
EXECUTORS = ("none", "slurm", "local", "debug")

_FLOAT_BYTES = 4

# Parts of a specification that may differ between the trials of one pack.
_FREE_WITHIN_PACK = ("activation", "initializer", "preprocessing", "schedule", "repair")


@dataclass(frozen=True)
class Job:
    """One trial on its way to training.

    `config` says where its data and its device are, which the trial's id does not; `info` describes
    its data set.
    """

    trial: Trial
    config: Config
    info: catalog.DatasetInfo

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self.trial.trial_id

    @property
    def plan(self) -> Plan:
        """The steps of the trial, and those after which it is evaluated and probed."""
        return _plan(json.dumps(self.trial.spec["budget"]), self.info.training_samples)

    @property
    def steps(self) -> int:
        """Number of updates of the trial."""
        return self.plan.steps


# Few budgets occur in a sweep of thousands of trials.
@functools.lru_cache(maxsize=64)
def _plan(budget: str, training_samples: int) -> Plan:
    return schedules.plan({"budget": json.loads(budget)}, training_samples)


@dataclass(frozen=True)
class Cell:
    """One validated request and its trials, one for each seed."""

    config: Config
    info: catalog.DatasetInfo
    jobs: list[Job]

    @property
    def runs(self) -> Path:
        """Absolute folder for results."""
        return Path(self.config.runs).expanduser().resolve()


def check(config: Config) -> catalog.DatasetInfo:
    """Checks a request as far as that needs no pixels, and returns the description of its data.

    Raises:
        RequestError: the request is impossible.
    """
    return _checked(config)[0]


def _checked(config: Config) -> tuple[catalog.DatasetInfo, Config]:
    """Returns the description of a request's data, and the request with its network's size.

    The depth and the width of a named network are its own.
    """
    validate(config)
    writable_folder(config.runs)
    info = catalog.dataset_info(config.dataset)
    spec = canonical(config)
    check_layout(spec, info.shape, info.classes)
    _check_augmentation(config, info)
    _check_activation(spec["activation"])
    _check_memory(spec, info)
    size = architecture_of(spec).depth_and_width(spec, info.shape, info.classes)
    if size is not None and size != (config.depth, config.width):
        depth, width = size
        config = replace(config, depth=depth, width=width)
    return info, config


def _check_activation(activation: dict[str, Any]) -> None:
    """Refuses constants that an activation cannot have, or that have no solution.

    Raises:
        RequestError: a number out of range, or an unknown base.
    """
    options = {name: value for name, value in activation.items() if name not in ("name", "source")}
    if options:
        # Theory's functions take long to load, and most activations have no options.
        from harness.theory.activations.functions import specification

        specification(activation["name"]).build(**options)


def _check_augmentation(config: Config, info: catalog.DatasetInfo) -> None:
    """Refuses crops in which nothing of the image may be left.

    Raises:
        RequestError: the padding is as large as the smaller side.
    """
    side = min(info.shape[1:])
    padding = config.augmentation.padding
    if padding is not None and padding >= side:
        raise RequestError(
            f"augmentation.padding={padding}: images of dataset={info.name} have a side of {side}; "
            f"expected an integer from 0 to {side - 1}"
        )


def _check_memory(spec: dict[str, Any], info: catalog.DatasetInfo) -> None:
    """Refuses what cannot be held by this machine, whatever is done.

    Images are held as float32, as they are and preprocessed; weights have gradients beside them.

    Raises:
        RequestError: the images or the weights alone take more than the whole memory.
    """
    pixels = math.prod(info.shape)
    images = 2 * _FLOAT_BYTES * (info.training_samples + info.classes) * pixels
    _require_memory(
        images, f"dataset={info.name}: {info.training_samples:,} samples of {pixels:.3g} numbers"
    )
    sizes = layer_sizes(spec, info.shape, info.classes)
    weights = sum(size.fan_in * size.units for size in sizes)
    size = f"depth={spec['depth']} width={spec['width']}: a network of {weights:.3g} weights"
    if "library" in spec["architecture"]:
        size = f"architecture={spec['architecture']['name']}: a network of {weights:.3g} weights"
    _require_memory(2 * _FLOAT_BYTES * weights, size)


def _require_memory(needed: int, what: str) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise RequestError(
            f"{what} needs {needed / 2**30:.3g} GiB and this machine has {memory / 2**30:.3g}; "
            "choose a smaller size"
        )


def cell(config: Config) -> Cell:
    """Returns a checked request with its trials.

    Raises:
        RequestError: the request is impossible.
    """
    info, config = _checked(config)
    fingerprint = catalog.fingerprint(config.dataset)
    jobs = [Job(trial, config, info) for trial in trials(config, fingerprint)]
    return Cell(config, info, jobs)


def with_paths_from(config: Config, folder: str | Path) -> Config:
    """Returns the request with its relative paths taken from `folder`."""
    runs = config.runs
    if runs.strip():
        runs = str(Path(folder) / expanded(runs, "runs"))
    dataset = config.dataset
    if dataset.root is not None:
        root = str(Path(folder) / expanded(dataset.root, "dataset.root"))
        dataset = replace(dataset, root=root)
    return replace(config, runs=runs, dataset=dataset)


def with_shared_sections(config: Config, sections: dict[str, Any]) -> Config:
    """Returns a request that has its sections in common with those before it.

    Only a few sections differ between the thousands of cells of a sweep, all of which are in
    memory.

    Args:
        config: the request.
        sections: the sections of the requests before it, by their text; it takes those of this one.
    """
    shared = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            shared[entry.name] = sections.setdefault(repr(value), value)
    return replace(config, **shared)


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Returns the jobs in order, every trial once."""
    by_id: dict[str, Job] = {}
    for job in jobs:
        by_id.setdefault(job.trial_id, job)
    return list(by_id.values())


def program_key(job: Job, trained_as: Trial) -> str:
    """Returns a key that is equal for jobs that can train as one program.

    `trained_as` is the job's trial with its repair applied.
    """
    plan = job.plan
    spec = dict(trained_as.spec)
    dataset = dict(spec["dataset"])
    dataset.pop("training_samples", None)
    spec["dataset"] = dataset
    spec["budget"] = [plan.batch_size, plan.steps, sorted(plan.evaluations), sorted(plan.probes)]
    spec["optimizer"] = spec["optimizer"]["name"]
    spec["dropout"] = spec["dropout"]["name"]
    for group in _FREE_WITHIN_PACK:
        spec.pop(group, None)
    place = {
        "device": job.config.device,
        "root": job.config.dataset.root,
        "residency": job.config.dataset.residency,
    }
    return json.dumps([spec, place], sort_keys=True)


def check_options(pack: int | str, program: str, workers: int | str) -> None:
    """Refuses launcher options that have no meaning.

    Raises:
        RequestError: `pack` or `workers` is no count, or `program` is unknown.
    """
    for name, value in (("pack", pack), ("workers", workers)):
        if value != "auto" and not _is_count(value):
            raise RequestError(
                f"hydra.launcher.{name}={value}: expected auto or an integer of at least 1"
            )
    if program not in PROGRAMS:
        raise RequestError(
            f"hydra.launcher.program={program}: expected one of {', '.join(PROGRAMS)}"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
