"""The statistics of a layer, each a small function from a `LayerReading` to named columns of shape (trials,), and how to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import torch
from torch import Tensor

from harness.probes.bootstrap import bands
from harness.probes.columns import Columns
from harness.probes.contraction import contraction, empirical_slope
from harness.probes.dependence import correlations, variance_law
from harness.probes.gaussianity import pooled_gaussianity, unit_gaussianity
from harness.probes.gradients import finish, gradients, learning, saturation
from harness.probes.moments import between_unit_share, edges, inputs, lengths, moments
from harness.probes.readings import LayerReading
from harness.probes.weights import mean_drive, theorem, theorem_shares, weights

Statistic = Callable[[LayerReading], Columns]

# What every probe measures; what takes longer: Gaussianity, dependence, contraction; and their intervals, which take as long again.
QUICK: tuple[Statistic, ...] = (
    moments,
    weights,
    gradients,
    learning,
    saturation,
    inputs,
    lengths,
    between_unit_share,
    edges,
    theorem_shares,
    theorem,
    mean_drive,
)
STANDARD: tuple[Statistic, ...] = QUICK + (
    unit_gaussianity,
    pooled_gaussianity,
    correlations,
    variance_law,
    contraction,
    empirical_slope,
)
FULL: tuple[Statistic, ...] = STANDARD + (bands,)


def chosen(statistics: str, first_or_last: bool) -> tuple[Statistic, ...]:
    """The statistics of a probe: "full" takes all at every probe, "standard" all but the intervals at the first and the last one only."""
    if statistics == "full":
        return FULL
    return STANDARD if first_or_last else QUICK


# Layers of one shape are measured as one while what they hold stays below so many numbers: small layers cost calls, not work.
_STACKED_NUMBERS = 2**22


def measure(readings: Sequence[LayerReading], statistics: Sequence[Statistic]) -> list[Columns]:
    """All columns of each layer of one network, in order; those that need neighbours (`finish`) included."""
    found: list[Columns] = [{} for _ in readings]
    groups = _alike(readings)
    measured = _side_by_side(
        lambda group: _measured([readings[index] for index in group], statistics),
        groups,
        readings[0].pre_activation.device,
    )
    for group, columns in zip(groups, measured):
        for position, index in enumerate(group):
            found[index] = {name: values[position] for name, values in columns.items()}
    finish(found)
    return found


@torch.no_grad()
def _measured(readings: list[LayerReading], statistics: Sequence[Statistic]) -> Columns:
    """Columns (layers, trials) of layers that are alike."""
    merged = _merged(readings)
    return {
        name: values.unflatten(0, (len(readings), -1))
        for statistic in statistics
        for name, values in statistic(merged).items()
    }


def _side_by_side(
    function: Callable[[list[int]], Columns], groups: list[list[int]], device: torch.device
) -> list[Columns]:
    """The function of every group; on a CPU each core takes groups of its own, as sorts and small operations do not share one out."""
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


def _alike(readings: Sequence[LayerReading]) -> list[list[int]]:
    """Indices of readings that can be measured as one, because only their numbers differ."""
    groups: dict[object, list[list[int]]] = {}
    for index, reading in enumerate(readings):
        entries = reading.pre_activation.numel() + reading.inputs.numel() + reading.weight.numel()
        most = max(1, _STACKED_NUMBERS // entries)
        batches = groups.setdefault(_form(reading), [[]])
        if len(batches[-1]) == most:
            batches.append([])
        batches[-1].append(index)
    return [batch for batches in groups.values() for batch in batches]


def _form(reading: LayerReading) -> object:
    module, activation = reading.weights_module, reading.activation_module
    walk = [
        getattr(module, name, None)
        for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode", "groups")
    ]
    shapes = [
        (one.name, value.shape if isinstance(value, Tensor) else value is None)
        for one in fields(reading)
        for value in [getattr(reading, one.name)]
        if one.name not in ("name", "activation_module", "weights_module")
    ]
    own = id(activation) if list(activation.parameters()) else None
    return str((reading.kind, type(module), walk, shapes, type(activation), repr(activation), own))


def _merged(readings: list[LayerReading]) -> LayerReading:
    """Layers as further trials of one layer."""
    if len(readings) == 1:
        return readings[0]
    values = {
        one.name: [getattr(reading, one.name) for reading in readings]
        for one in fields(LayerReading)
    }
    return LayerReading(
        **{
            name: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]
            for name, parts in values.items()
        }
    )
