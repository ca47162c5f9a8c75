"""Declarations of statistics: patterns, costs, discovery, and columns against what is returned."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from torch import nn

from harness.probes import measurement
from harness.probes.measurement import (
    FULL,
    QUICK,
    STANDARD,
    declared_statistics,
    statistics_for,
)
from harness.probes.statistic import expand, expand_all, specs, statistic
from harness.probes.statistics.dependence import variance_law
from harness.probes.statistics.gaussianity import pooled_gaussianity
from harness.probes.statistics.intervals import intervals
from harness.probes.statistics.moments import between_unit_share
from harness.probes.statistics.weights import theorem, theorem_shares
from harness.registry import Registry


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("q", ("q",)),
        ("tau_{mean,sd}", ("tau_mean", "tau_sd")),
        ("{a,b}_{c,d}", ("a_c", "a_d", "b_c", "b_d")),
        ("q{,_low,_high}", ("q", "q_low", "q_high")),
    ],
)
def test_a_pattern_stands_for_every_combination(pattern, names):
    assert expand(pattern) == names


def test_patterns_of_a_declaration_keep_their_order():
    assert expand_all({"b_{x,y}": "", "a": ""}) == ("b_x", "b_y", "a")


def test_cost_decides_which_probes_measure_a_statistic():
    assert statistics_for("full", False) == FULL
    assert statistics_for("standard", True) == STANDARD
    assert statistics_for("standard", False) == QUICK
    assert set(FULL) - set(STANDARD) == {intervals}
    assert set(QUICK) < set(STANDARD)
    assert {theorem, theorem_shares, between_unit_share} < set(QUICK)
    assert variance_law in FULL
    assert pooled_gaussianity in FULL


def test_every_statistic_of_the_folder_is_measured():
    assert {spec.name for spec in declared_statistics()} == set(specs)
    # A full probe has them cost by cost, each once.
    assert Counter(spec.function for spec in declared_statistics()) == Counter(FULL)


def test_every_statistic_has_a_summary_and_meanings():
    for spec in declared_statistics():
        assert spec.summary.startswith("Returns "), spec.name
        for pattern, meaning in spec.columns.items():
            assert meaning.endswith("."), pattern


@pytest.fixture
def empty_registry(monkeypatch):
    """A registry of statistics of its own, so that a test's declarations do not stay."""
    registry = Registry("statistic")
    monkeypatch.setattr("harness.probes.statistic.specs", registry)
    return registry


def test_a_declaration_leaves_the_function_as_it_is(empty_registry):
    def maximum(reading):
        """Returns the largest pre-activation."""
        return {"maximum": reading.pre_activation.flatten(1).amax(1)}

    assert statistic(cost="quick", columns={"maximum": "Largest z."})(maximum) is maximum
    assert empty_registry["maximum"].summary == "Returns the largest pre-activation."
    assert empty_registry["maximum"].column_names == ("maximum",)


def test_an_unknown_cost_is_refused():
    with pytest.raises(ValueError, match="cost 'cheap' of a statistic: expected one of quick"):
        statistic(cost="cheap", columns={})


def test_a_column_has_one_statistic(empty_registry):
    @statistic(cost="quick", columns={"largest_{z,y}": "Largest value."})
    def first(reading):
        return {}

    def second(reading):
        return {}

    with pytest.raises(ValueError, match="'largest_y' is declared by both 'first' and 'second'"):
        statistic(cost="quick", columns={"largest_y": "Largest y."})(second)


def test_a_statistic_that_the_table_order_does_not_list_comes_last(monkeypatch):
    def unlisted(reading):
        """Returns nothing."""
        return {}

    registry = Registry("statistic")
    known = [spec.name for spec in declared_statistics()]
    for name in known:
        registry.register(name)(specs[name])
    added = dataclasses.replace(specs["moments"], function=unlisted)
    registry.register("unlisted")(added)
    monkeypatch.setattr(measurement, "specs", registry)
    names = [spec.name for spec in declared_statistics()]
    assert names == [*known, "unlisted"]


@pytest.fixture
def kinds_of_readings(dense, convolution, normal):
    """Readings that together make every column: a dense layer and a padded convolution."""
    torch.manual_seed(0)
    weight = normal(1, 20, 12, seed=1)
    plain = dense(normal(1, 60, 12), weight, nn.SELU(), update=0.01 * weight)
    maps = convolution(normal(1, 60, 8, 5, 5), nn.Conv2d(8, 10, 3, padding=1), nn.SELU())
    return plain, maps


def test_a_statistic_returns_the_columns_that_it_declares(kinds_of_readings):
    for spec in declared_statistics():
        returned = set()
        for reading in kinds_of_readings:
            columns = spec.function(reading)
            assert all(values.shape == (1,) for values in columns.values()), spec.name
            returned |= columns.keys()
        assert returned == set(spec.column_names), spec.name
