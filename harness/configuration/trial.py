"""A trial: one training with one seed and one set of settings, and the id that stands for it.

The id is a hash of what can change a number and of nothing else: no path, device, tracking, pack
size or folder. Bump `RULES_VERSION` when the code changes a number for an unchanged specification.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from harness.configuration.callable_identity import callable_digest
from harness.configuration.layer_lists import (
    canonical_layers,
    canonical_width,
    layers_text,
    width_text,
)
from harness.configuration.named_networks import OWN, canonical_architecture, is_named, own_parts
from harness.configuration.options import defaults, options
from harness.configuration.schema import Config, ReadoutConfig, shared_defaults
from harness.configuration.validation import seed_list
from harness.errors import RequestError
from harness.registry import load_callable

RULES_VERSION = 1

_ID_LENGTH = 16
# Cells whose specification and axes are kept as dicts.
_CELLS_IN_MEMORY = 256
# Options that say where the data are or how they are moved, not what they are.
_PLACES = ("root", "download", "residency")
# Groups of which a specification keeps the name and every option that the name takes.
_GROUPS = (
    "preprocessing",
    "architecture",
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "optimizer",
    "schedule",
)
# Groups of which the axes list the options that differ from their defaults.
_GROUPS_WITH_AXES = (
    "dataset",
    "preprocessing",
    "architecture",
    "activation",
    "initializer",
    "optimizer",
    "schedule",
    "budget",
)
# Groups that take a user's own code, `module:function`.
_CALLABLE_GROUPS = ("activation", "architecture")
# Keys that other axes show already, or that only identify content.
_NO_AXES = ("name", "position", "rate", "learning_rate", "source", "fingerprint")
# Options that are axes even at their defaults, because the name alone does not say what it is.
_ALWAYS_AXES = {
    ("dataset", "samples"),
    ("dataset", "shape"),
    ("dataset", "classes"),
    ("architecture", "residual"),
    ("architecture", "library"),
    ("activation", "base"),
    ("initializer", "sigma_w2"),
    ("initializer", "sigma_b2"),
    ("budget", "batch_size"),
}


@dataclass(frozen=True)
class Trial:
    """One seed of one cell. `text` is the canonical specification of the cell as JSON.

    A sweep holds thousands of them, so that what is read from the text is kept for a few cells.
    """

    text: str
    seed: int

    @property
    def spec(self) -> dict[str, Any]:
        """The canonical specification of the cell, as a nested dict; trials of a cell share it."""
        return _spec(self.text)

    @property
    def cell_id(self) -> str:
        """16 hexadecimal digits for everything but the seed."""
        return _hash(self.text)

    @functools.cached_property
    def trial_id(self) -> str:
        """16 hexadecimal digits for everything that can change a number."""
        return _hash(f"{self.text} seed={self.seed}")

    def with_spec(self, spec: dict[str, Any]) -> Trial:
        """Returns the same seed under another specification."""
        return Trial(_canonical_json(spec), self.seed)

    @property
    def axes(self) -> dict[str, Any]:
        """The headline axes, then every option that differs from its default, as `group.option`."""
        return _axes(self.text)


@functools.lru_cache(maxsize=_CELLS_IN_MEMORY)
def _spec(text: str) -> dict[str, Any]:
    return json.loads(text)


@functools.lru_cache(maxsize=_CELLS_IN_MEMORY)
def _axes(text: str) -> dict[str, Any]:
    spec = _spec(text)
    return _headline_axes(spec) | _option_axes(spec)


def trials(config: Config, fingerprint: str | None = None) -> list[Trial]:
    """Returns the trials of a validated cell, one per seed.

    Args:
        config: a request that passed `validate`.
        fingerprint: a digest of the content of a user's own data.
    """
    text = _canonical_json(canonical(config, fingerprint))
    return [Trial(text, seed) for seed in seed_list(config.seeds)]


def canonical(config: Config, fingerprint: str | None = None) -> dict[str, Any]:
    """Returns the specification of a cell: every setting that can change a number, and no other."""
    dataset = {
        key: value
        for key, value in asdict(config.dataset).items()
        if key not in _PLACES and value is not None
    }
    if config.dataset.label_noise == 0:
        del dataset["label_noise"], dataset["label_noise_seed"]
    if fingerprint is not None:
        dataset["fingerprint"] = fingerprint
    spec: dict[str, Any] = {"rules_version": RULES_VERSION, "dataset": dataset}
    for group in _GROUPS:
        section = getattr(config, group)
        spec[group] = {"name": section.name}
        for option in options(group, section.name):
            spec[group][option] = getattr(section, option)
    spec["activation"] |= _activation_options(config)
    if is_named(config.architecture):
        spec |= _named(config)
    if spec["initializer"]["name"] == "edge_of_chaos":
        spec["initializer"] |= critical_variances(config)
    if config.architecture.layers is not None:
        spec["architecture"] = {
            "name": config.architecture.name,
            "head": config.architecture.head,
            "layers": canonical_layers(config.architecture),
        }
    if config.augmentation.name != "none":
        name = config.augmentation.name
        spec["augmentation"] = {"name": name} | {
            option: getattr(config.augmentation, option) for option in options("augmentation", name)
        }
    readout = _readout(config.readout)
    if readout:
        spec["readout"] = readout
    for group in _CALLABLE_GROUPS:
        if ":" in spec[group]["name"]:
            spec[group]["source"] = source_digest(spec[group]["name"], group)
    spec["budget"] = {
        key: value for key, value in asdict(config.budget).items() if value is not None
    }
    spec["probe"] = {"samples": config.probe.samples, "statistics": config.probe.statistics}
    width = canonical_width(config.width)
    spec |= {"depth": config.depth, "width": width, "precision": config.precision}
    if config.repair != "none":
        spec["repair"] = config.repair
    return spec


def _named(config: Config) -> dict[str, Any]:
    """Returns the groups of a named network that are not what their sections say."""
    own = {part: {"name": OWN} for part in own_parts(config.architecture)}
    return {"architecture": canonical_architecture(config.architecture)} | own


def critical_variances(config: Config) -> dict[str, float]:
    """Returns sigma_w2 and sigma_b2 of the edge of chaos of a request's activation at its q*.

    They are rounded to six digits, so that a trial has one id on all machines.

    Raises:
        RequestError: a length that is not above 0, no such point, or an activation that is not
            built in.
    """
    # Only this initializer needs theory here.
    from harness.theory.activations.functions import activation
    from harness.theory.mean_field.phases import edge_of_chaos

    name = config.activation.name
    if is_named(config.architecture) and "activation" not in config.architecture.replace:
        raise RequestError(
            "initializer=edge_of_chaos: it is computed for the swept activation; add activation to "
            "architecture.replace"
        )
    if ":" in name:
        raise RequestError(
            f"initializer=edge_of_chaos with activation={name}: only for built-in activations; "
            "give initializer=gaussian with variances of your own"
        )
    q = config.initializer.q
    if not 0 < q < math.inf:
        raise RequestError(f"initializer.q={q:g}: expected a number above 0")
    phi = activation(name, **_activation_options(config))
    points = edge_of_chaos(phi, q_star=q)
    if not points:
        raise RequestError(
            f"initializer.q={q:g}: activation={name} has no edge of chaos "
            "there, because its biases would need a negative variance; choose another q"
        )
    return {
        "sigma_w2": float(f"{points[0].sigma_w2:.6g}"),
        "sigma_b2": float(f"{points[0].sigma_b2:.6g}"),
    }


def _activation_options(config: Config) -> dict[str, Any]:
    """Returns the options of a request's activation; the layers in a row default to the depth."""
    settings = {
        option: getattr(config.activation, option)
        for option in options("activation", config.activation.name)
    }
    if "layers" in settings and settings["layers"] is None:
        settings["layers"] = config.depth
    return settings


def _readout(readout: ReadoutConfig) -> dict[str, Any]:
    """Returns what the readout has of its own: an initializer, and the law of its biases."""
    spec: dict[str, Any] = {}
    if readout.initializer != "same":
        name = readout.initializer
        spec["initializer"] = {"name": name, **defaults("initializer", name)}
    if readout.bias != "same":
        spec["bias"] = readout.bias
    return spec


def source_digest(path: str, kind: str = "activation") -> str | None:
    """Returns a digest of a user's callable and of what it reads, so that an edit is a new trial.

    None where Python has no source, as for a built-in function. `kind` says in messages what the
    callable is.
    """
    digest = callable_digest(load_callable(path, kind), path, kind)
    return None if digest is None else digest[:_ID_LENGTH]


def edited_callable(spec: dict[str, Any]) -> str | None:
    """Returns the name of a user's callable that was edited since a specification was made.

    None where none was.
    """
    for group in _CALLABLE_GROUPS:
        name, source = spec[group]["name"], spec[group].get("source")
        if source is not None and source_digest(name, group) != source:
            return name
    return None


def _headline_axes(spec: dict[str, Any]) -> dict[str, Any]:
    normalization = spec["normalization"]["name"]
    if spec["normalization"].get("position") == "after":
        normalization += "_after"
    dropout = spec["dropout"]["name"]
    if "rate" in spec["dropout"]:
        dropout += f"_{spec['dropout']['rate']:g}"
    return {
        "dataset": spec["dataset"]["name"],
        "preprocessing": spec["preprocessing"]["name"],
        "architecture": spec["architecture"]["name"],
        "depth": spec["depth"],
        "width": width_text(spec["width"]),
        "activation": spec["activation"]["name"],
        "initializer": spec["initializer"]["name"],
        "normalization": normalization,
        "dropout": dropout,
        "optimizer": spec["optimizer"]["name"],
        "learning_rate": spec["optimizer"]["learning_rate"],
        "schedule": spec["schedule"]["name"],
        "precision": spec["precision"],
        "repair": spec.get("repair", "none"),
    }


def _option_axes(spec: dict[str, Any]) -> dict[str, Any]:
    axes = {}
    for group in _GROUPS_WITH_AXES:
        file = spec[group].get("library", spec[group].get("name", ""))
        usual = _usual_values(group, file)
        for option, value in spec[group].items():
            if option in _NO_AXES or _is_depth(group, option, spec):
                continue
            if (group, option) in _ALWAYS_AXES or value != usual.get(option):
                axes[f"{group}.{option}"] = _option_text(group, option, value)
    augmentation = spec.get("augmentation")
    if augmentation is not None:
        axes["augmentation"] = augmentation["name"]
        standard = defaults("augmentation", augmentation["name"])
        for option, value in augmentation.items():
            if option != "name" and value != standard.get(option):
                axes[f"augmentation.{option}"] = value
    for option, value in spec.get("readout", {}).items():
        axes[f"readout.{option}"] = value["name"] if option == "initializer" else value
    return axes


def _option_text(group: str, option: str, value: Any) -> Any:
    """Returns an option as an axis shows it."""
    if (group, option) == ("architecture", "layers"):
        return layers_text(value)
    return ", ".join(value) if option == "replace" else value


def _is_depth(group: str, option: str, spec: dict[str, Any]) -> bool:
    """Returns True for the layers in a row of an activation where they are the depth."""
    return (group, option) == ("activation", "layers") and spec[group][option] == spec["depth"]


@functools.cache
def _usual_values(group: str, name: str) -> dict[str, Any]:
    """Returns the values that axes leave out.

    What a whole group shares counts against the group's default, so that axes of different names
    compare: AdamW's own weight decay is an axis, because the other optimizers have none.
    """
    return dict(defaults(group, name)) | shared_defaults(group)


def _canonical_json(spec: dict[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
