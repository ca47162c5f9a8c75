"""A subcommand of `selu-theory`: its type, and the arguments and number format they share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.theory import selu

Options = argparse.Namespace

# Smaller numbers are rounding errors of 0.
_SHOWN_AS_ZERO = 1e-15


@dataclass(frozen=True)
class Answer:
    """The answer of a subcommand: `data` for `--json`, and `lines` in words."""

    data: Any
    lines: list[str]


@dataclass(frozen=True)
class Command:
    """A subcommand of `selu-theory`.

    Attributes:
        name: the word that selects it.
        help: one line of help.
        add_arguments: adds its arguments to its parser.
        answer: answers a request with these arguments.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    answer: Callable[[Options], Answer]


def add_number(
    parser: argparse.ArgumentParser, flag: str, help: str, default: float | None = None
) -> None:
    """Adds an option that takes a number; it is required when it has no default."""
    if default is None:
        parser.add_argument(flag, type=float, help=help, required=True)
    else:
        parser.add_argument(
            flag, type=float, help=f"{help} (default: %(default)g)", default=default
        )


def add_weight_sums(parser: argparse.ArgumentParser) -> None:
    """Adds the required options --omega and --tau."""
    add_number(parser, "--omega", "sum of a unit's weights")
    add_number(parser, "--tau", "sum of the squares of a unit's weights")


def add_selu_parameters(parser: argparse.ArgumentParser) -> None:
    """Adds the options --alpha and --lam, whose defaults are SELU's own."""
    add_number(parser, "--alpha", "SELU's alpha", default=selu.ALPHA)
    add_number(parser, "--lam", "SELU's lambda", default=selu.LAMBDA)


def show(value: float | None) -> str:
    """Returns a number with ten digits, or `none`."""
    if value is None:
        return "none"
    return "0" if abs(value) < _SHOWN_AS_ZERO else f"{value:.10g}"
