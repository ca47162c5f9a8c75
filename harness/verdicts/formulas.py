"""Formulas over the columns of a table, as the criteria are written: arithmetic and a few functions, nothing else."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType

import numpy
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[numpy.float64]

FUNCTIONS = {
    "sqrt": numpy.sqrt,
    "abs": numpy.abs,
    "log": numpy.log,
    "max": numpy.maximum,
    "min": numpy.minimum,
    "normal_cdf": ndtr,
}
_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Pow,
    ast.USub,
)


@dataclass(frozen=True)
class Formula:
    """A parsed formula; `columns` are the names it reads, in alphabetical order."""

    text: str
    columns: tuple[str, ...]
    code: CodeType

    def __call__(self, values: Mapping[str, Array]) -> Array:
        """The value for columns of equal length; NaN or infinite where the arithmetic is."""
        with numpy.errstate(all="ignore"):
            return eval(
                self.code,
                {"__builtins__": {}},
                {**FUNCTIONS, **{name: values[name] for name in self.columns}},
            )  # noqa: S307 - the names are checked in `parse`


@functools.cache
def parse(text: str) -> Formula:
    """The formula of a text such as `3 * input_q_cv ** 2`.

    Raises:
        ValueError: anything but arithmetic over names, numbers and `FUNCTIONS`.
    """
    tree = ast.parse(text, mode="eval")
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    for node in ast.walk(tree):
        text_constant = isinstance(node, ast.Constant) and not isinstance(node.value, (int, float))
        if (
            not isinstance(node, _ALLOWED)
            or text_constant
            or (isinstance(node, ast.Call) and not isinstance(node.func, ast.Name))
        ):
            raise ValueError(f"formula {text!r}: {type(node).__name__} is not allowed")
    if called - set(FUNCTIONS):
        raise ValueError(
            f"formula {text!r}: unknown function {sorted(called - set(FUNCTIONS))}; known: {', '.join(FUNCTIONS)}"
        )
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return Formula(text, tuple(sorted(names - set(FUNCTIONS))), compile(tree, text, "eval"))
