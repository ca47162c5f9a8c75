"""The checks of a request that need no data, no torch and no network.

Options that only one architecture or initializer takes are checked by its declaration in
`harness.networks`, when the sizes of the data are known.
"""

from __future__ import annotations

import math
from typing import Any

from harness.configuration.layer_lists import canonical_width, check_layers, listed_widths
from harness.configuration.named_networks import check_named, is_named
from harness.configuration.number_ranges import check_numbers, require
from harness.configuration.options import defaults, known_names, options, options_file
from harness.configuration.schema import Config, SearchConfig, shared_defaults
from harness.errors import RequestError
from harness.registry import unknown

PROBE_STATISTICS = ("standard", "full")
READOUT_BIASES = ("same", "zeros", "uniform", "none")
KEPT_WEIGHTS = ("none", "best", "last")
PRECISIONS = ("float32", "tf32", "bfloat16")
REPAIRS = (
    "none",
    "center_rows",
    "rescale_tau",
    "lsuv",
    "zero_bias",
    "per_sample",
    "neutral_dropout",
)

# Sections whose `name` is the name of a file in conf.
_NAMED_GROUPS = (
    "dataset",
    "preprocessing",
    "augmentation",
    "architecture",
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "readout",
    "optimizer",
    "schedule",
    "probe",
    "search",
)
# Repairs of weights that forms of weights would undo at once, and what these forms do.
_REPAIRS_OF_ROWS = ("center_rows", "rescale_tau", "lsuv")
_WEIGHT_FORMS = {
    "weight_standardization": "gives every unit's weights sum 0 and length 1 whatever they are",
    "weight_norm": "gives every unit's weights the length that it learns",
    "spectral_norm": "divides the weights of a layer by their largest singular value",
}
_LARGEST_SEED = 2**31
# Bounds that no study meets, so that a slip of the pen is told before it fills the memory.
_MOST_SEEDS = 100_000
_MOST_LAYERS = 10_000
_MOST_TUNING = 1_000
# Tuning seeds are counted from here, far from the seeds that people write.
FIRST_TUNING_SEED = 1_000_000


def validate(config: Config) -> None:
    """Checks everything that can be checked without reading data.

    Raises:
        RequestError: one line that says what is wrong, where, and what is allowed.
    """
    for group in _NAMED_GROUPS:
        check_section(group, getattr(config, group))
    seed_list(config.seeds)
    if is_named(config.architecture):
        check_named(config)
    else:
        _check_size(config)
    _check_choices(config)
    check_numbers(config)
    _check_device(config.device)
    require(
        0 <= config.checkpoint_minutes < math.inf,
        f"checkpoint_minutes={config.checkpoint_minutes}: expected a number of at least 0 "
        "(0: only when a signal asks for one)",
    )
    _check_combinations(config)
    if config.search.name != "none":
        _check_search(config)


def seed_list(seeds: Any) -> list[int]:
    """Returns the seeds that `seeds=5` (0 to 4) or `seeds=[3,7]` stands for.

    Raises:
        RequestError: neither a count of at least 1 nor a list of distinct integers in [0, 2^31).
    """
    if _is_integer(seeds):
        require(
            seeds >= 1,
            f"seeds={seeds}: at least one seed is needed, or a list such as seeds=[3,7]",
        )
        require(seeds <= _MOST_SEEDS, f"seeds={seeds}: expected at most {_MOST_SEEDS:,} seeds")
        return list(range(seeds))
    try:
        values = [] if isinstance(seeds, str) else list(seeds)
    except TypeError:
        values = []
    valid = all(_is_integer(value) and 0 <= value < _LARGEST_SEED for value in values)
    require(
        valid and len(values) > 0,
        f"seeds={seeds}: expected a count or a list of integers in [0, 2^31), "
        "such as seeds=5 or seeds=[3,7]",
    )
    require(len(set(values)) == len(values), f"seeds={values}: a seed is listed twice")
    return values


def tuning_seeds(search: SearchConfig) -> list[int]:
    """Returns the seeds on which a search is tuned."""
    return list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + search.seeds))


def check_section(group: str, section: Any) -> None:
    """Refuses an unknown name, an option that it would ignore, and a missing one that it needs.

    The name of a named network is checked when its library is asked, and the options of a data set
    by the catalogue of data sets.

    Raises:
        RequestError: one line that says what is wrong and what is allowed.
    """
    users_own = group == "activation" and ":" in section.name
    file = options_file(section)
    if not users_own and file not in known_names(group):
        raise unknown(group, file, known_names(group))
    if group != "dataset":
        _check_options(group, section)


def _check_options(group: str, section: Any) -> None:
    """Refuses an option that the chosen name would ignore, and a missing one that it needs."""
    taken = defaults(group, options_file(section))
    shared = shared_defaults(group)
    for option, value in vars(section).items():
        if option == "name" or option in shared:
            continue
        if value is not None and option not in taken:
            takers = [name for name in known_names(group) if option in options(group, name)]
            raise RequestError(
                f"{group}.{option}={value}: {group}={section.name} takes no such option; "
                f"it belongs to {', '.join(takers)}"
            )
        if value is None and taken.get(option) is not None:
            raise RequestError(f"{group}.{option} is missing: {group}={section.name} needs it")


def _check_size(config: Config) -> None:
    require(
        _is_integer(config.depth) and config.depth >= 1,
        f"depth={config.depth}: expected an integer of at least 1 (hidden layers)",
    )
    require(
        config.depth <= _MOST_LAYERS,
        f"depth={config.depth}: expected at most {_MOST_LAYERS:,} hidden layers",
    )
    if config.architecture.layers is not None:
        _check_listed_size(config)
        return
    listed = isinstance(config.width, (list, tuple))
    widths = list(config.width) if listed else [config.width]
    require(
        config.width == "input"
        or (len(widths) > 0 and all(_is_integer(width) and width >= 1 for width in widths)),
        f"width={config.width}: expected an integer of at least 1, or 'input' (as wide as the "
        "input), or a list of integers such as [512,256]",
    )
    require(
        not listed or len(widths) == config.depth,
        f"depth={config.depth} and width={config.width}: the list has {len(widths)} widths, "
        "which are the depth; leave depth out",
    )


def _check_listed_size(config: Config) -> None:
    """Refuses a list of layers that is none, and sizes that contradict it."""
    check_layers(config.architecture, config.dropout.name)
    layers = config.architecture.layers
    require(
        config.depth == len(layers),
        f"depth={config.depth}: architecture.layers has {len(layers)} layers, which are the depth; "
        "leave depth out",
    )
    require(
        canonical_width(config.width) == canonical_width(listed_widths(layers)),
        f"width={config.width}: architecture.layers has the widths; leave width out",
    )


def _check_choices(config: Config) -> None:
    _check_choice("precision", config.precision, PRECISIONS)
    _check_choice("repair", config.repair, REPAIRS)
    _check_choice("keep_weights", config.keep_weights, KEPT_WEIGHTS)
    _check_choice("normalization.position", config.normalization.position, ("before", "after"))
    _check_choice("dataset.residency", config.dataset.residency, ("auto", "resident", "streamed"))
    _check_choice("probe.statistics", config.probe.statistics, PROBE_STATISTICS)
    # The edge of chaos belongs to an activation, which the readout has not. Unit variance is for
    # hidden layers.
    hidden_only = {"edge_of_chaos", "lsuv"}
    initializers = ("same", *sorted({*known_names("initializer")} - hidden_only))
    _check_choice("readout.initializer", config.readout.initializer, initializers)
    _check_choice("readout.bias", config.readout.bias, READOUT_BIASES)


def _check_device(device: str) -> None:
    kind = device.split(":")[0]
    require(
        device in ("auto", "cpu") or kind == "cuda",
        f"device={device}: expected auto, cpu, cuda or cuda:N",
    )


def _check_combinations(config: Config) -> None:
    """Refuses settings that are possible alone and mean nothing together."""
    normalization, repair = config.normalization.name, config.repair
    require(
        normalization != "batch" or config.budget.batch_size > 1,
        "normalization=batch with budget.batch_size=1: a batch of one has no variance; "
        "use at least 2, or normalization=layer",
    )
    if normalization in _WEIGHT_FORMS:
        require(
            repair not in _REPAIRS_OF_ROWS,
            f"repair={repair}: normalization={normalization} {_WEIGHT_FORMS[normalization]}; "
            "the repair would be undone",
        )
        require(
            config.initializer.name != "lsuv",
            f"initializer=lsuv: normalization={normalization} {_WEIGHT_FORMS[normalization]}; "
            "a scale from data would be undone; use initializer=orthogonal",
        )
    require(
        config.initializer.name != "lsuv" or repair not in _REPAIRS_OF_ROWS,
        f"repair={repair}: initializer=lsuv scales the same weights on the first batch; "
        "use initializer=orthogonal to repair them",
    )
    require(
        repair != "neutral_dropout" or config.dropout.name != "none",
        "repair=neutral_dropout: there is no dropout to repair; "
        "give dropout=alpha or dropout=standard",
    )


def _check_search(config: Config) -> None:
    """Refuses a search that has nothing to choose from, or that chooses by a cell's own seeds."""
    search, optimizer = config.search, config.optimizer.name
    require(
        _is_integer(search.draws) and search.draws >= 2,
        f"search.draws={search.draws}: expected an integer of at least 2 (learning rates tried)",
    )
    require(
        0 < search.low < search.high < math.inf,
        f"search.low={search.low} and search.high={search.high}: "
        "expected 0 < search.low < search.high",
    )
    require(
        _is_integer(search.seeds) and search.seeds >= 1,
        f"search.seeds={search.seeds}: expected an integer of at least 1 (tuning seeds)",
    )
    for option, count in (("draws", search.draws), ("seeds", search.seeds)):
        require(
            count <= _MOST_TUNING, f"search.{option}={count}: expected at most {_MOST_TUNING:,}"
        )
    require(
        search.name in options("optimizer", optimizer),
        f"search={search.name}: optimizer={optimizer} has no {search.name} to search",
    )
    require(
        config.budget.steps != 0,
        f"search={search.name}: a budget of no steps has no {search.name} to search; "
        "give search=none or budget.steps of at least 1",
    )
    shared = sorted(set(tuning_seeds(search)) & set(seed_list(config.seeds)))
    require(
        not shared,
        f"seeds={config.seeds}: seed {shared[:1]} is a tuning seed of search={search.name}, "
        f"which confirms on other seeds; choose seeds below {FIRST_TUNING_SEED}",
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    require(value in allowed, f"{key}={value}: expected one of {', '.join(allowed)}")
