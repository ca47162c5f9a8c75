"""All statistics, those that a probe measures, and how they are run on a network's layers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import torch
from torch import Tensor

from harness.probes import statistics as statistics_folder
from harness.probes.columns import Columns
from harness.probes.readings import LayerReading
from harness.probes.statistic import Statistic, StatisticSpec, specs
from harness.probes.statistics.gradients import add_gradient_ratios

# The order of the layer table's columns, by statistic. Statistics that are not listed follow, in
# alphabetical order; listing them is needed only to keep the order of tables that exist.
_TABLE_ORDER = (
    "moments",
    "weights",
    "gradients",
    "learning",
    "saturation",
    "inputs",
    "lengths",
    "between_unit_share",
    "edges",
    "theorem_shares",
    "theorem",
    "mean_drive",
    "unit_gaussianity",
    "pooled_gaussianity",
    "correlations",
    "variance_law",
    "contraction",
    "empirical_slope",
    "intervals",
)
# Layers of one shape are measured as one while they hold at most this many numbers: the cost of
# small layers is calls, not work.
_STACKED_NUMBERS = 2**22
_WINDOW_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "padding_mode", "groups")


def declared_statistics() -> tuple[StatisticSpec, ...]:
    """Returns all statistics of the folder `statistics`, in the order of the layer table."""
    for module in pkgutil.iter_modules(statistics_folder.__path__):
        importlib.import_module(f"{statistics_folder.__name__}.{module.name}")
    unlisted = [name for name in specs if name not in _TABLE_ORDER]
    return tuple(specs[name] for name in (*_TABLE_ORDER, *unlisted))


def _of_cost(*costs: str) -> tuple[Statistic, ...]:
    """The statistics of these costs, cost after cost."""
    return tuple(
        spec.function for cost in costs for spec in declared_statistics() if spec.cost == cost
    )


QUICK: tuple[Statistic, ...] = _of_cost("quick")
STANDARD: tuple[Statistic, ...] = _of_cost("quick", "slow")
FULL: tuple[Statistic, ...] = _of_cost("quick", "slow", "intervals")


def statistics_for(setting: str, first_or_last: bool) -> tuple[Statistic, ...]:
    """Returns the statistics of one probe.

    Args:
        setting: `probe.statistics`. "full" measures all at every probe; "standard" all but the
            intervals at the first and the last probe, and what is quick in between.
        first_or_last: whether the probe is the first or the last one of the training.
    """
    if setting == "full":
        return FULL
    return STANDARD if first_or_last else QUICK


def measure(readings: Sequence[LayerReading], statistics: Sequence[Statistic]) -> list[Columns]:
    """Returns all columns of each layer of one network, in the order of the layers.

    Those that need neighbouring layers (`add_gradient_ratios`) are included.
    """
    by_layer: list[Columns] = [{} for _ in readings]
    groups = _mergeable_groups(readings)
    measured = _side_by_side(
        lambda group: _measured([readings[index] for index in group], statistics),
        groups,
        readings[0].pre_activation.device,
    )
    for group, columns in zip(groups, measured, strict=True):
        for position, index in enumerate(group):
            by_layer[index] = {name: values[position] for name, values in columns.items()}
    add_gradient_ratios(by_layer)
    return by_layer


@torch.no_grad()
def _measured(readings: list[LayerReading], statistics: Sequence[Statistic]) -> Columns:
    """Columns (layers, trials) of layers that differ in their numbers only."""
    merged = _merged(readings)
    columns: Columns = {}
    for statistic in statistics:
        for name, values in statistic(merged).items():
            columns[name] = values.unflatten(0, (len(readings), -1))
    return columns


def _side_by_side(
    function: Callable[[list[int]], Columns], groups: list[list[int]], device: torch.device
) -> list[Columns]:
    """Calls the function for every group; on a CPU each core takes groups of its own.

    Sorts and small operations do not share one group out among cores.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(groups)) if device.type == "cpu" else 1
    if workers == 1:
        return [function(group) for group in groups]
    torch.set_num_threads(threads // workers)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(function, groups))
    finally:
        torch.set_num_threads(threads)


def _mergeable_groups(readings: Sequence[LayerReading]) -> list[list[int]]:
    """Groups the indices of readings that can be measured as one: only their numbers differ."""
    batches_by_form: dict[str, list[list[int]]] = {}
    for index, reading in enumerate(readings):
        numbers = reading.pre_activation.numel() + reading.inputs.numel() + reading.weight.numel()
        most = max(1, _STACKED_NUMBERS // numbers)
        batches = batches_by_form.setdefault(_form(reading), [[]])
        if len(batches[-1]) == most:
            batches.append([])
        batches[-1].append(index)
    return [batch for batches in batches_by_form.values() for batch in batches]


def _form(reading: LayerReading) -> str:
    """Everything about a reading but its name and its numbers."""
    module = reading.weights_module
    activation = reading.activation_module
    window = [getattr(module, name, None) for name in _WINDOW_SETTINGS]
    shapes = []
    for field in fields(reading):
        if field.name not in ("name", "activation_module", "weights_module"):
            value = getattr(reading, field.name)
            shapes.append((field.name, value.shape if isinstance(value, Tensor) else value is None))
    # An activation with parameters is like no other.
    identity = id(activation) if list(activation.parameters()) else None
    return str(
        (reading.kind, type(module), window, shapes, type(activation), repr(activation), identity)
    )


def _merged(readings: list[LayerReading]) -> LayerReading:
    """Layers as further trials of one layer."""
    if len(readings) == 1:
        return readings[0]
    values = {}
    for field in fields(LayerReading):
        parts = [getattr(reading, field.name) for reading in readings]
        values[field.name] = torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]
    return LayerReading(**values)
