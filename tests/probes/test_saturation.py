"""Flat parts of activations, saturated entries and dead units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from harness.probes.measurement import FULL, measure
from harness.probes.statistics.gradients import flat_parts, saturation

CPU = torch.device("cpu")


def test_flat_parts_are_where_the_slope_is_below_a_tenth():
    assert flat_parts(nn.ReLU(), CPU) == (True, (0.0,))
    assert flat_parts(nn.Identity(), CPU) == (False, ())
    selu_starts_flat, (point,) = flat_parts(nn.SELU(), CPU)
    assert selu_starts_flat
    assert point == pytest.approx(np.log(0.1), abs=2e-7)
    tanh_starts_flat, points = flat_parts(nn.Tanh(), CPU)
    assert tanh_starts_flat
    crossing = np.arctanh(0.9**0.5)
    assert points == pytest.approx((-crossing, crossing), abs=2e-7)


def test_an_activation_with_parameters_is_measured_as_it_is_now(dense, normal):
    """PReLU takes float32 alone, and may have learned since its last call."""
    module = nn.PReLU(init=0.5)
    reading = dense(normal(1, 300, 20), normal(1, 30, 20, seed=1) / 20**0.5, module)
    with torch.no_grad():
        reading = dataclasses.replace(reading, activation=module(reading.pre_activation))
    equal = dense(
        reading.inputs,
        reading.weight,
        nn.LeakyReLU(0.5),
        gradient=reading.gradient,
        weight_gradient=reading.weight_gradient,
    )
    learned = measure([reading], FULL)[0]
    fixed = measure([equal], FULL)[0]
    for name in learned:
        torch.testing.assert_close(learned[name], fixed[name], equal_nan=True, rtol=1e-5, atol=1e-6)
    assert float(learned["saturated_share"]) == 0.0
    nn.init.constant_(module.weight, 0.01)
    assert float(saturation(reading)["saturated_share"]) > 0.4


def test_dead_units_are_those_whose_every_sample_is_flat(dense, normal):
    bias = torch.zeros(1, 10)
    bias[0, :3] = -100.0
    weight = normal(1, 10, 5, seed=1)
    columns = saturation(dense(normal(1, 100, 5), weight, nn.ReLU(), bias))
    assert float(columns["dead_share"]) == pytest.approx(0.3)
    assert 0.5 < float(columns["saturated_share"]) < 0.8
    # The slope of ReLU at 0 is 0.
    silent = saturation(dense(torch.zeros(1, 100, 5), weight, nn.ReLU()))
    assert float(silent["dead_share"]) == 1.0


def test_an_activation_that_is_flat_on_either_side_saturates_on_both(dense, normal):
    """Tanh is flat where |phi| > sqrt(0.9): left of the first crossing, right of the second."""
    bias = 3.0 * normal(2, 10, seed=2)
    reading = dense(3.0 * normal(2, 200, 5), normal(2, 10, 5, seed=1), nn.Tanh(), bias)
    flat = reading.activation.double().abs() > 0.9**0.5
    columns = saturation(reading)
    expected = {
        "saturated_share": flat.double().mean((1, 2)),
        "dead_share": flat.all(1).double().mean(1),
    }
    for name, values in expected.items():
        torch.testing.assert_close(columns[name], values, rtol=0.0, atol=1e-12)
