"""Evidence made of numbers that a test chooses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy
import pandas
import pyarrow
import pytest

from harness.reports.claims.claim import Decision, claims, decided
from harness.reports.evidence import Evidence, gather
from harness.store.tables import Tables
from harness.verdicts.criteria import VERSION, load

AXES = {
    "dataset": "digits",
    "preprocessing": "global",
    "architecture": "mlp",
    "depth": 8,
    "width": 64,
    "activation": "selu",
    "initializer": "lecun_normal",
    "normalization": "none",
    "dropout": "none",
    "optimizer": "momentum",
    "learning_rate": 0.01,
    "schedule": "constant",
    "repair": "none",
}
SUMMARY = {
    "steps": 500.0,
    "train_loss": 0.1,
    "train_accuracy": 0.98,
    "test_accuracy": 0.95,
    "validation_accuracy": 0.95,
    "seconds": 1.0,
    "criteria_version": float(VERSION),
    "classes": 10.0,
    "test_samples": 360.0,
    "majority_share": 0.1,
    "search_role": "",
    "search": "",
    "search_draw": numpy.nan,
}


class Sweep:
    """Trials under construction, with the columns that a store's tables have."""

    def __init__(self) -> None:
        self.trials: list[dict[str, Any]] = []
        self.layers: list[dict[str, Any]] = []
        self.noise = numpy.random.default_rng(20170608)

    def add(
        self,
        seeds: Iterable[int] = range(5),
        layer: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Sweep:
        """Adds the trials of every combination of listed axes.

        A setting that is a function is called with the trial so far, whose axes and seed it may
        read. `layer` has the columns of each layer at initialisation; functions get the trial and
        the number of the layer.
        """
        axes = {name: settings.pop(name) for name in list(settings) if name in AXES}
        for name in [name for name in settings if "." in name]:
            axes[name] = settings.pop(name)
        lists = {
            name: value if isinstance(value, list) else [value] for name, value in axes.items()
        }
        for values in itertools.product(*lists.values()):
            for seed in seeds:
                self._add(dict(zip(lists, values, strict=True)), seed, settings, layer or {})
        return self

    def _add(
        self, axes: dict[str, Any], seed: int, settings: dict[str, Any], layer: dict[str, Any]
    ) -> None:
        levels = {**AXES, **axes}
        cell_id = "/".join(str(value) for value in levels.values())
        trial = {
            "trial_id": f"t{len(self.trials):06d}",
            "cell_id": cell_id,
            "seed": seed,
            "status": "done",
            "diverged_step": numpy.nan,
            "error": None,
            "started": "2026-01-01",
            "ended": "2026-01-01",
            **levels,
            "spec.depth": levels["depth"],
            "spec.dataset.name": levels["dataset"],
            **SUMMARY,
        }
        for name, value in settings.items():
            trial[name] = value(trial) if callable(value) else value
        self.trials.append(trial)
        for number in range(1, levels["depth"] + 1) if layer else ():
            row = {"trial_id": trial["trial_id"], "step": 0, "phase": "init", "layer": number}
            row |= dict.fromkeys((f"score_{name}" for name in load().names), numpy.nan)
            for name, value in layer.items():
                row[name] = value(trial, number) if callable(value) else value
            self.layers.append(row)

    def near(self, value: float, spread: float = 0.002) -> Callable[[dict[str, Any]], float]:
        """Returns a setting that is drawn around a value for each trial."""
        return lambda trial: float(value + spread * self.noise.standard_normal())

    def tables(self) -> Tables:
        trials = pandas.DataFrame(self.trials)
        # The axes stand between the identity and the settings, also those of a later cell.
        options = [name for name in trials if "." in name and not name.startswith("spec.")]
        first = list(trials)[: list(trials).index("ended") + 1]
        axes = [*AXES, *options]
        rest = [name for name in trials if name not in {*first, *axes}]
        specs = [name for name in rest if name.startswith("spec.")]
        others = [name for name in rest if not name.startswith("spec.")]
        layers = pandas.DataFrame(self.layers or {"trial_id": pandas.Series(dtype="str")})
        curves = pandas.DataFrame({"trial_id": pandas.Series(dtype="str")})
        histograms = pyarrow.table({"trial_id": pyarrow.array([], pyarrow.string())})
        return Tables(trials[[*first, *axes, *specs, *others]], curves, layers, histograms)

    def evidence(self) -> Evidence:
        return gather(self.tables())


@pytest.fixture
def sweep() -> Sweep:
    """An empty sweep to add trials to."""
    return Sweep()


@pytest.fixture
def decide(sweep) -> Callable[[str], Decision]:
    """Decides one claim by the trials that were added to the sweep."""

    def answer(name: str) -> Decision:
        declared = {claim.name: claim for claim in claims()}
        return decided(declared[name], sweep.evidence())

    return answer
