"""Cells and their trials on the way to training: checked, deduplicated, and grouped by program. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.configuration.result_folder import writable_folder
from harness.configuration.schema import Config
from harness.configuration.trial import Trial, canonical, trials
from harness.configuration.validation import validate
from harness.data import catalog
from harness.errors import RequestError
from harness.networks.layout import check_layout
from harness.training.schedules import Plan

# Kinds of program that a pack may be trained as; see `harness.training.programs`.
PROGRAMS = ("auto", "batched", "stacked")


@dataclass(frozen=True)
class Member:
    """A trial on its way: `config` says where its data and device are, which its id does not."""

    trial: Trial
    config: Config


@dataclass(frozen=True)
class Cell:
    """One validated request and its trials."""

    config: Config
    facts: catalog.DatasetInfo
    members: list[Member]

    @property
    def runs(self) -> Path:
        """Where results go."""
        return Path(self.config.runs).expanduser().resolve()


def check(config: Config) -> catalog.DatasetInfo:
    """Check a request as far as that needs no pixels; returns what is known of its data.

    Raises:
        RequestError: one line on what is wrong.
    """
    validate(config)
    writable_folder(config.runs)
    facts = catalog.dataset_info(config.dataset)
    check_layout(canonical(config), facts.shape, facts.classes)
    return facts


def cell(config: Config) -> Cell:
    """A checked request with its trials; RequestError as `check`."""
    facts = check(config)
    return Cell(
        config,
        facts,
        [Member(trial, config) for trial in trials(config, catalog.fingerprint(config.dataset))],
    )


def unique(cells: Iterable[Cell]) -> list[tuple[Member, catalog.DatasetInfo]]:
    """The members of all cells, every trial once, in order."""
    found: dict[str, tuple[Member, catalog.DatasetInfo]] = {}
    for one in cells:
        for member in one.members:
            found.setdefault(member.trial.trial_id, (member, one.facts))
    return list(found.values())


def program_key(member: Member, trained_as: Trial, plan: Plan, mixed_activations: bool) -> str:
    """Members with equal keys can run as one program: what is left out may differ within a pack.

    `trained_as` is the member's trial with its repair applied, `plan` when it steps and is looked at; `mixed_activations`
    says whether activations may differ.
    """
    spec = dict(trained_as.spec)
    spec["dataset"] = {
        key: value for key, value in spec["dataset"].items() if key != "training_samples"
    }
    spec["budget"] = [plan.batch_size, plan.steps, sorted(plan.evaluations), sorted(plan.probes)]
    spec["optimizer"], spec["dropout"] = spec["optimizer"]["name"], spec["dropout"]["name"]
    for group in ("initializer", "preprocessing", "schedule", "repair") + (
        "activation",
    ) * mixed_activations:
        spec.pop(group, None)
    config = member.config
    place: dict[str, Any] = {
        "device": config.device,
        "root": config.dataset.root,
        "residency": config.dataset.residency,
    }
    return json.dumps([spec, place], sort_keys=True)


def check_options(pack: int | str, program: str, workers: int | str) -> None:
    """Refuse launcher options that mean nothing; RequestError."""
    for name, value in (("pack", pack), ("workers", workers)):
        if value != "auto" and not (
            isinstance(value, int) and not isinstance(value, bool) and value >= 1
        ):
            raise RequestError(
                f"hydra.launcher.{name}={value}: expected auto or an integer of at least 1"
            )
    if program not in PROGRAMS:
        raise RequestError(
            f"hydra.launcher.program={program}: expected one of {', '.join(PROGRAMS)}"
        )
