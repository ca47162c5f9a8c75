"""The README of the theory: its numbers, its theorems and its list of modules."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2, norm

from harness import theory
from harness.theory.activations import parameters, quadrature
from harness.theory.activations.functions import activation
from harness.theory.mean_field import cards, maps, phases
from harness.theory.networks import dropout, identities, pooling
from harness.theory.selu import moment_map, theorems

FOLDER = Path(theory.__file__).parent
LINES = (FOLDER / "README.md").read_text().splitlines()
NUMBER = r"-?\d+(?:\.\d+)?"
NAMES = {
    "activation": activation,
    "cards": cards,
    "chi2": chi2,
    "dropout": dropout,
    "identities": identities,
    "len": len,
    "maps": maps,
    "math": math,
    "moment_map": moment_map,
    "norm": norm,
    "np": np,
    "parameters": parameters,
    "phases": phases,
    "pooling": pooling,
    "quadrature": quadrature,
    "relu": activation("relu"),
    "selu": activation("selu"),
    "sum": sum,
}


def rows(header: str) -> list[list[str]]:
    """Returns the cells of all rows of all tables with this header line."""
    found = []
    inside = False
    for line in LINES:
        if line == header:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| ---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


VALUES = rows("| quantity | value | computed by |")
THEOREM_ROWS = rows("| theorem | mu | nu | omega | tau | claim |")


def formulas() -> dict[str, str]:
    """Returns the right sides of the equations of g and its Jacobian by their left sides."""
    equations = {}
    for line in LINES:
        if line.startswith("    ") and "lambda" in line:
            left, right, *_ = line.split(" = ")
            equations[left.strip()] = right
    return equations


def python(formula: str) -> str:
    """Returns a formula of the README as a Python expression."""
    formula = formula.replace("lambda", "lambda_").replace("^", "**").strip()
    factor = r"(?<=[\w)]) (?=[\w(])"
    return re.sub(factor, " * ", formula)


def prose() -> list[str]:
    """Returns the lines that are neither tables nor formulas nor addresses."""
    return [line for line in LINES if not line.startswith(("|", "    ", "[arXiv"))]


def published_bounds() -> list[str]:
    """Returns the two numbers that the README quotes from Eq. 335 of the paper."""
    (line,) = (line for line in LINES if line.startswith("  Eq. 335"))
    return re.findall(r"-\d\.\d+", line)


@pytest.mark.parametrize("quantity, printed, expression", VALUES)
def test_a_printed_number_is_what_the_code_returns(quantity, printed, expression):
    computed = np.atleast_1d(eval(expression.strip("`"), dict(NAMES)))
    digits = re.findall(NUMBER, printed)
    assert len(digits) == len(computed), quantity
    for text, value in zip(digits, computed, strict=True):
        last_digit = 10.0 ** Decimal(text).as_tuple().exponent
        assert float(value) == pytest.approx(float(text), abs=0.5001 * last_digit, rel=0), quantity


def test_the_tables_hold_the_numbers():
    assert len(VALUES) >= 60
    assert all(len(row) == 3 for row in VALUES)


def test_the_table_of_theorems_has_the_domains_of_the_code():
    boxes = [(theorem.number, box) for theorem in theorems.THEOREMS for box in theorem.boxes]
    assert len(THEOREM_ROWS) == len(boxes)
    for row, (number, box) in zip(THEOREM_ROWS, boxes, strict=True):
        assert int(row[0]) == number
        for cell, interval in zip(row[1:5], (box.mu, box.nu, box.omega, box.tau), strict=True):
            assert tuple(float(end) for end in re.findall(NUMBER, cell)) == interval


def test_the_equations_of_g_and_its_jacobian_are_those_of_the_code():
    """Evaluates the README's indented formulas, with its symbols replaced by Python names."""
    mu, nu, omega, tau = 0.3, 1.4, -0.6, 0.9
    m, v = mu * omega, nu * tau
    s = math.sqrt(v)
    symbols = {
        "lambda_": moment_map.LAMBDA,
        "alpha": moment_map.ALPHA,
        "omega": omega,
        "tau": tau,
        "m": m,
        "v": v,
        "s": s,
        "pi": math.pi,
        "sqrt": math.sqrt,
        "G": math.exp(-m * m / (2 * v)),
        "E_0": math.erfc(m / (math.sqrt(2) * s)),
    }
    for k in (1, 2):
        tail = math.erfc((m + k * v) / (math.sqrt(2) * s))
        symbols[f"E_{k}"] = math.exp(k * m + k * k * v / 2) * tail
    values = {left: eval(python(right), symbols) for left, right in formulas().items()}
    mean, second_moment = values["mu~"], values["xi~"]
    expected_mean, expected_variance = moment_map.map_moments(mu, nu, omega, tau)
    assert mean == pytest.approx(expected_mean, rel=1e-12)
    assert second_moment - mean**2 == pytest.approx(expected_variance, rel=1e-12)
    jacobian = moment_map.jacobian(mu, nu, omega, tau)
    for column, variable in enumerate(("mu", "nu")):
        mean_slope = values[f"d mu~ / d {variable}"]
        variance_slope = values[f"d xi~ / d {variable}"] - 2 * mean * mean_slope
        assert mean_slope == pytest.approx(jacobian[0, column], rel=1e-12)
        assert variance_slope == pytest.approx(jacobian[1, column], rel=1e-12)


def test_long_numbers_in_the_prose_stand_in_a_table():
    printed = {text for _, value, _ in VALUES for text in re.findall(NUMBER, value)}
    printed |= set(published_bounds())
    for line in prose():
        without_papers = re.sub(r"\d{4}\.\d{5}", "", line)
        for text in re.findall(r"-?\d+\.\d{3,}", without_papers):
            assert text in printed, line


def test_the_gaps_between_the_theorems_are_those_of_the_prose():
    (line,) = (line for line in LINES if line.startswith("- No theorem covers"))
    ends = [float(text) for text in re.findall(NUMBER, line.rstrip("."))]
    nu = [box.nu for theorem in theorems.THEOREMS for box in theorem.boxes]
    highest_rise = max(high for low, high in nu if high < 0.5)
    (first_low, first_high), (second_low, second_high) = nu[0], nu[1]
    assert ends == [highest_rise, first_low, first_high, second_low, second_high]


def test_the_derivative_bound_that_the_text_corrects():
    """Eq. 335 of the paper, which the README quotes, holds for d J22 / d nu on a grid."""
    low, high = (float(text) for text in published_bounds())
    (box,) = theorems.THEOREM_1.boxes
    grids = [np.linspace(*interval, 9) for interval in (box.mu, box.nu, box.omega, box.tau)]
    mu, nu, omega, tau = np.meshgrid(*grids, indexing="ij")
    step = 1e-5
    above = moment_map.jacobian(mu, nu + step, omega, tau)[..., 1, 1]
    below = moment_map.jacobian(mu, nu - step, omega, tau)[..., 1, 1]
    slope = (above - below) / (2 * step)
    assert low <= slope.min() < low + 0.01
    assert high - 0.05 < slope.max() <= high


def test_the_corner_of_a_kernel_is_below_the_limit():
    corner = identities.live_taps(8, 8, 3)[0, 0] / 9
    assert corner < maps.vanish_limit(activation("selu"))


def test_every_module_is_listed():
    groups = "selu|activations|mean_field|networks"
    listed = re.findall(rf"`((?:{groups})/\w+\.py)`", "\n".join(LINES))
    modules = [
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.glob("*/*.py")
        if path.name != "__init__.py"
    ]
    assert sorted(listed) == sorted(modules)
