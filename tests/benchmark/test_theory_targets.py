"""The benchmark of theory knows every built-in activation as a function of its own."""

from __future__ import annotations

import mpmath
import numpy
import pytest

from harness.benchmark.theory_targets import EXACT
from harness.theory.activations.functions import NAMES, activation


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_has_its_exact_function(name):
    points = numpy.linspace(-4.0, 4.0, 17)
    exact = [float(EXACT[name](mpmath.mpf(point))) for point in points]
    assert activation(name).value(points) == pytest.approx(exact, rel=1e-12, abs=1e-15)
