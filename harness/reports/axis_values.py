"""Values of axes as text, and in the order that readers expect."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy

# Names that come before all others on their axis; the rest follow in alphabetical order.
_PLACES = {
    "default": 0,
    "none": 1,
    "selu": 2,
    "lecun_normal": 2,
    "relu": 3,
    "he_normal": 3,
}
_LAST_PLACE = 9
# Larger whole floats are written as floats, because not every one of them is exact.
_LARGEST_WHOLE = 1e15


def plain_value(value: Any) -> Any:
    """Returns an axis value as a plain Python value.

    Whole floats become integers, and an option that a trial does not have becomes `default`.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "default"
    if _is_whole_float(value):
        return int(value)
    if isinstance(value, numpy.generic):
        return value.item()
    return value


def number_or_text(value: Any) -> Any:
    """Returns a number that is written as text as a number, and anything else as a plain value.

    An axis is a column of text where one of its values is, such as a width of `512-256`.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = float(value)
            return int(value) if number.is_integer() and value.lstrip("-").isdigit() else number
        return value
    return plain_value(value)


def value_label(axis: str, value: Any) -> str:
    """Returns an axis value as text that can stand alone.

    Names stand as they are; numbers, `none`, `own` and `default` are given with the name of their
    axis.
    """
    value = plain_value(value)
    short = axis.rpartition(".")[2]
    if _is_number(value):
        return f"{short} {value:g}"
    if value == "none":
        return f"no {short}"
    if value in ("default", "own"):
        return f"{value} {short}"
    if axis == "repair":
        return f"{short} {value}"
    return str(value)


def label_words(axes: Iterable[str], row: Mapping[Any, Any]) -> list[str]:
    """Returns the values of some axes as texts; an option that the row does not have is left out.

    It tells the row from others by its absence.
    """
    has = [axis for axis in axes if plain_value(row[axis]) != "default"]
    return [value_label(axis, row[axis]) for axis in has]


def ordered(values: Iterable[Any]) -> list[Any]:
    """Returns numbers in order, then names: `none` and SELU's settings first, then alphabetical."""
    return sorted(values, key=_sort_key)


def _sort_key(value: Any) -> tuple[int, float, str]:
    if _is_number(value):
        return (0, float(value), "")
    return (1, _PLACES.get(value, _LAST_PLACE), str(value))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole_float(value: Any) -> bool:
    if not isinstance(value, (float, numpy.floating)):
        return False
    return float(value).is_integer() and abs(float(value)) < _LARGEST_WHOLE
