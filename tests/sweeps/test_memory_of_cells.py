"""A sweep has all its cells in memory, so that one of them takes little."""

from __future__ import annotations

import copy
import dataclasses
import tracemalloc

import pytest

from harness.configuration.schema import Config
from harness.sweeps.cells import Cell, cell, with_shared_sections

MOST_BYTES = 2048


def requests(request: Config, count: int) -> list[Config]:
    """Returns requests like this one that differ in the learning rate."""
    sections: dict = {}
    made = []
    for index in range(count):
        config = copy.deepcopy(request)
        config.optimizer.learning_rate = 0.001 * (1 + index)
        made.append(with_shared_sections(config, sections))
    return made


def used(request: Config) -> Cell:
    """Returns the cell of a request after everything was asked of it that a sweep asks."""
    made = cell(request)
    for job in made.jobs:
        assert job.trial.spec["optimizer"]["learning_rate"] == request.optimizer.learning_rate
        assert job.trial.axes["learning_rate"] == request.optimizer.learning_rate
        assert job.trial_id != job.trial.cell_id
        assert job.steps > 0
    return made


def bytes_of_cells(request: Config, count: int) -> int:
    tracemalloc.start()
    try:
        kept = [used(request) for request in requests(request, count)]
        assert len(kept) == count
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_cell_of_one_trial_takes_two_kilobytes_at_most(make_config):
    request = make_config(seeds=1)
    used(request)
    few, many = (bytes_of_cells(request, count) for count in (300, 600))
    assert (many - few) / 300 < MOST_BYTES


@pytest.mark.parametrize("changed", [1, 1.0, True, "1"])
def test_only_equal_sections_are_shared(make_config, changed):
    sections: dict = {}
    first, second, third = make_config(), make_config(), make_config()
    third.activation.alpha = changed
    expected = dataclasses.replace(third)
    shared = [with_shared_sections(each, sections) for each in (first, second, third)]
    assert shared[0].activation is shared[1].activation
    assert shared[2].activation is not shared[0].activation
    assert shared[2] == expected
    assert type(shared[2].activation.alpha) is type(changed)
