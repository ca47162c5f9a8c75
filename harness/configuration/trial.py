"""A trial: one training with one seed and one set of settings, and the id that stands for its numbers.

The id is a hash of what can change a number and of nothing else: no path, device, tracking, pack size or
folder. Bump `RULES_VERSION` when the code changes a number for an unchanged specification.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from dataclasses import asdict, dataclass
from typing import Any

from harness.configuration.schema import Config, options, seed_list
from harness.registry import load_callable

RULES_VERSION = 1

_ID_LENGTH = 16
# What says where the data are or how they are moved, not what they are.
_PLACES = ("root", "download", "residency")


@dataclass(frozen=True)
class Trial:
    """One seed of one cell. `text` is the canonical specification of the cell as JSON, `seed` the seed."""

    text: str
    seed: int

    @functools.cached_property
    def spec(self) -> dict[str, Any]:
        """The canonical specification of the cell, as a nested dict."""
        return json.loads(self.text)

    @functools.cached_property
    def cell_id(self) -> str:
        """16 hexadecimal digits for everything but the seed."""
        return _hash(self.text)

    @functools.cached_property
    def trial_id(self) -> str:
        """16 hexadecimal digits for everything that can change a number."""
        return _hash(f"{self.text} seed={self.seed}")

    def with_spec(self, spec: dict[str, Any]) -> Trial:
        """The same seed under another specification."""
        return Trial(_text(spec), self.seed)

    @functools.cached_property
    def axes(self) -> dict[str, Any]:
        """The headline axes as a flat dict, then every option that differs from its default, dotted."""
        return _axes(self.spec)


def trials(config: Config, fingerprint: str | None = None) -> list[Trial]:
    """The trials of a validated cell, one per seed. `fingerprint` identifies the content of a user's own data."""
    text = _text(canonical(config, fingerprint))
    return [Trial(text, seed) for seed in seed_list(config.seeds)]


def canonical(config: Config, fingerprint: str | None = None) -> dict[str, Any]:
    """The specification of a cell: every number that matters, and no default that a name would ignore."""
    dataset = {
        key: value
        for key, value in asdict(config.dataset).items()
        if key not in _PLACES and value is not None
    }
    if fingerprint is not None:
        dataset["fingerprint"] = fingerprint
    spec: dict[str, Any] = {"rules_version": RULES_VERSION, "dataset": dataset}
    for group in (
        "preprocessing",
        "architecture",
        "activation",
        "initializer",
        "normalization",
        "dropout",
        "optimizer",
        "schedule",
    ):
        section = getattr(config, group)
        spec[group] = {"name": section.name} | {
            option: getattr(section, option) for option in options(group, section.name)
        }
    if config.normalization.name in ("none", "weight_standardization"):
        del spec["normalization"]["position"]  # nothing stands before or after
    if ":" in config.activation.name:
        spec["activation"]["source"] = source_digest(config.activation.name)
    spec["budget"] = {
        key: value for key, value in asdict(config.budget).items() if value is not None
    }
    spec["probe"] = {"samples": config.probe.samples, "statistics": config.probe.statistics}
    spec |= {"depth": config.depth, "width": config.width, "precision": config.precision}
    if config.repair != "none":
        spec["repair"] = config.repair
    return spec


def source_digest(path: str) -> str | None:
    """A digest of the source of a user's callable, so that an edited function is a new trial; None where there is no source."""
    try:
        return _hash(inspect.getsource(load_callable(path, "activation")))
    except (OSError, TypeError):
        return None


def _axes(spec: dict[str, Any]) -> dict[str, Any]:
    normalization, dropout = spec["normalization"], spec["dropout"]
    after = "_after" if normalization.get("position") == "after" else ""
    axes = {
        "dataset": spec["dataset"]["name"],
        "preprocessing": spec["preprocessing"]["name"],
        "architecture": spec["architecture"]["name"],
        "depth": spec["depth"],
        "width": spec["width"],
        "activation": spec["activation"]["name"],
        "initializer": spec["initializer"]["name"],
        "normalization": normalization["name"] + after,
        "dropout": dropout["name"]
        if dropout["name"] == "none"
        else f"{dropout['name']}_{dropout['rate']:g}",
        "optimizer": spec["optimizer"]["name"],
        "learning_rate": spec["optimizer"]["learning_rate"],
        "schedule": spec["schedule"]["name"],
        "precision": spec["precision"],
        "repair": spec.get("repair", "none"),
    }
    told = {"name", "position", "rate", "learning_rate", "source", "fingerprint"}
    for group in (
        "dataset",
        "preprocessing",
        "architecture",
        "activation",
        "initializer",
        "optimizer",
        "schedule",
        "budget",
    ):
        for key, value in spec[group].items():
            if key not in told and value != _DEFAULTS.get((group, key)):
                axes[f"{group}.{key}"] = value
    return axes


# Values so usual that naming them in every table would hide what differs.
_DEFAULTS: dict[tuple[str, str], Any] = {
    ("dataset", "split_seed"): 0,
    ("dataset", "validation_share"): 0.2,
    ("dataset", "test_share"): 0.2,
    ("preprocessing", "shift"): 0.0,
    ("preprocessing", "scale"): 1.0,
    ("preprocessing", "epsilon"): 0.01,
    ("architecture", "kernel_size"): 3,
    ("architecture", "padding"): "zeros",
    ("architecture", "pool"): "none",
    ("architecture", "pool_every"): 2,
    ("architecture", "head"): "flatten",
    ("initializer", "bias"): "zeros",
    ("activation", "alpha"): 1.0,
    ("activation", "negative_slope"): 0.01,
    ("optimizer", "momentum"): 0.9,
    ("optimizer", "beta1"): 0.9,
    ("optimizer", "beta2"): 0.999,
    ("optimizer", "epsilon"): 1e-8,
    ("optimizer", "weight_decay"): 0.0,
    ("schedule", "warmup_share"): 0.1,
    ("schedule", "final_share"): 0.0,
    ("budget", "evaluations"): 10,
    ("budget", "probes"): 5,
}


def _text(spec: dict[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
