"""Random command lines over every axis of `conf`, with values that are right, odd and wrong.

Axes, names and options are read from the files, so that a new one is tried without a change here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from harness.configuration.options import CONF_DIR, defaults, known_names, options

# One trial of two steps. What is chosen comes after it and wins.
TINY = {
    "depth": "2",
    "width": "6",
    "seeds": "1",
    "budget.epochs": "null",
    "budget.steps": "2",
    "budget.evaluations": "1",
    "budget.probes": "2",
    "probe.samples": "16",
    "device": "cpu",
    "tracking": "none",
    "runs": "results",
}
# Named sweeps need --multirun and train for minutes; tests of their own run them. What is tracked
# has tests of its own too, as making a tracking store takes seconds.
_LEFT_OUT = ("experiment", "hydra", "tracking", "budget", "probe")
AXES = sorted(
    path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name not in _LEFT_OUT
)
_SINGLE_VALUES = {
    "depth": ["1", "3", "4"],
    "width": ["1", "2", "4", "8", "16", "input", "[8,4]", "[4]"],
    "seeds": ["2", "[3,7]", "[2147483647]"],
    "repair": ["center_rows", "rescale_tau", "lsuv", "zero_bias", "per_sample", "neutral_dropout"],
    "precision": ["float32", "float32", "float32", "tf32"],
    "keep_weights": ["last", "best"],
    "checkpoint_minutes": ["0", "1e-9"],
    "budget.batch_size": ["1", "2", "3", "7", "5000"],
    "budget.steps": ["0", "1", "3"],
    "budget.evaluations": ["2", "100000"],
    "budget.probes": ["0", "1", "3", "100000"],
    "probe.samples": ["2", "3", "33", "1000000000"],
    "probe.statistics": ["full", "standard"],
}
_OTHER_OPTIONS = (
    *("device", "runs", "budget.epochs", "nothing", "dataset.nothing", "preprocessing.shift"),
    *("dataset.validation_share", "dataset.test_share", "dataset.training_samples"),
    *("dataset.split_seed", "dataset.residency"),
)
# Values that somebody may type, for whatever option.
_ODD = [
    *("-1", "0", "1", "2", "3", "7", "-0.0", "0.5", "1.5", "1e-300", "1e-45", "-1e300", "1e300"),
    *("nan", "inf", "-inf", "true", "false", "null", "''", "' '", "[]", "{}", "[1,2]", "{a:1}"),
    *("[[1]]", "[null]", "text", "none", "auto", "input", "ü", "'a b'", "a=b", "a:b", "../up"),
    *("/", "~", "~nobody/x", "${depth}", "${nothing}", "${oc.env:NOTHING}", "${", "]", "'", '"'),
    *("%", "\\", "\n", "0x10", "1_000", "01", "1e", ".", "-", "+", "x" * 300),
    *(str(2**31), str(2**63), str(10**30)),
]
# A whole number that is large and possible would train for days.
_POSSIBLE_FOR_DAYS = ("budget.steps", "budget.epochs", "search.draws", "search.seeds")
_DAYS = {str(2**31), "1e300"}
_COMMENTED = re.compile(r"^(\w+): .*?  # (.*)$", re.MULTILINE)


def command_lines(folder_of_images: str) -> SearchStrategy[list[str]]:
    """Returns the strategy of lists of overrides, some of them with `--multirun`.

    Args:
        folder_of_images: a folder that `dataset=image_folder` can read.
    """

    def build(chance: Random) -> list[str]:
        return _command_line(chance, folder_of_images)

    # One seed for each, so that examples have little in common.
    return st.randoms(use_true_random=True).map(build)


def _command_line(chance: Random, folder_of_images: str) -> list[str]:
    words = dict(TINY)
    for axis in chance.sample(AXES, chance.randrange(6)):
        words |= _choice(chance, axis, folder_of_images)
    for name in chance.sample(sorted(_SINGLE_VALUES), chance.randrange(4)):
        words[name] = chance.choice(_SINGLE_VALUES[name])
    if chance.random() < 0.4:
        words |= _odd_word(chance)
    listed = [f"{name}={value}" for name, value in words.items()]
    if chance.random() < 0.2:
        return ["--multirun", *listed, _several(chance, words)]
    return listed


def _choice(chance: Random, axis: str, folder_of_images: str) -> dict[str, str]:
    """A name of an axis, with values that its file makes plausible for some of its options."""
    names = known_names(axis)
    if axis == "dataset" and chance.random() < 0.7:
        # Those that are here: the published ones would have to be downloaded.
        names = [name for name in names if "download" not in options(axis, name)]
    name = chance.choice(names)
    words = {axis: name}
    taken = options(axis, name)
    if axis == "arm":
        return words
    for option in chance.sample(taken, chance.randrange(min(len(taken), 2) + 1)):
        default = defaults(axis, name)[option]
        words[f"{axis}.{option}"] = _plausible(chance, axis, option, default)
    if axis == "dataset" and "root" in taken:
        words["dataset.root"] = chance.choice([folder_of_images, folder_of_images, ".", "nowhere"])
        if "download" in taken:
            words["dataset.download"] = "false"
    if axis == "search" and name != "none":
        words = {"search.draws": "2", "search.seeds": "1"} | words
    return words


def _plausible(chance: Random, axis: str, option: str, default: Any) -> str:
    """A value of the default's kind, or a word of the comment that documents the option."""
    if f"{axis}.{option}" == "architecture.layers":
        return _layers(chance)
    values = [_written(default)]
    if isinstance(default, bool):
        values = ["true", "false"]
    elif isinstance(default, int):
        values += ["1", "2", "3", "4", "8"]
    elif isinstance(default, float):
        values += [str(default / 2), str(default * 2), "0", "0.1", "0.5", "1", "3"]
    words = _documented_words(axis, option)
    return chance.choice(words if words and chance.random() < 0.3 else values)


@cache
def _documented_words(axis: str, option: str) -> list[str]:
    """The words up to the first bracket or semicolon of an option's comments."""
    words: set[str] = set()
    for path in sorted((CONF_DIR / axis).glob("*.yaml")):
        for name, comment in _COMMENTED.findall(path.read_text(encoding="utf-8")):
            if name == option:
                words.update(re.findall(r"[a-z_]{3,}", re.split(r"[(;]", comment)[0]))
    return sorted(words)


def _layers(chance: Random) -> str:
    """A list of convolutions and dense layers, with options of their own; not always possible."""
    usual = {
        name: default
        for name, default in defaults("architecture", "stack").items()
        if not isinstance(default, list)
    }
    layers = []
    for number in range(chance.randrange(4)):
        kind = chance.choice(["conv", "conv" if number == 0 else "dense"])
        entry = [f"{kind}:{chance.choice([1, 2, 4, 8])}"]
        for name in chance.sample(sorted(usual), chance.randrange(3)):
            entry.append(f"{name}:{_plausible(chance, 'architecture', name, usual[name])}")
        layers.append("{" + ",".join(entry) + "}")
    return f"[{','.join(layers)}]"


def _odd_word(chance: Random) -> dict[str, str]:
    """An odd value for any axis, any option of any axis, any single value, or no option at all."""
    axis = chance.choice(AXES)
    of_axis = {option for name in known_names(axis) for option in options(axis, name)}
    names = [axis, *(f"{axis}.{option}" for option in sorted(of_axis))]
    name = chance.choice([*names, *_SINGLE_VALUES, *_OTHER_OPTIONS])
    value = chance.choice(_ODD)
    if name in _POSSIBLE_FOR_DAYS and value in _DAYS:
        value = "-7"
    return {chance.choice(["", "", "", "", "+", "++", "~"]) + name: value}


def _several(chance: Random, words: Mapping[str, str]) -> str:
    """Two values of one axis that the words leave alone, or an odd range."""
    values = {"activation": "selu,relu", "initializer": "he_normal,orthogonal", "depth": "1,2"}
    texts = [f"{axis}={text}" for axis, text in values.items() if axis not in words]
    odd = ["depth=range(0)", "depth=choice(1,0)", "activation=glob(s*)", "activation=range(2)"]
    return chance.choice([*texts, *odd, "hydra.launcher.pack=0", "hydra.launcher.workers=2"])


def _written(value: Any) -> str:
    """Returns a value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        inner = [f"{key}:{_written(item)}" for key, item in value.items()]
        return "{" + ",".join(inner) + "}"
    return str(value)
