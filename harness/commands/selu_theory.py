"""Command `selu-theory`: answers questions about theory, in words or as JSON.

    selu-theory COMMAND [--json]
    selu-theory --help              # the list of commands

Exit code 0 with an answer, also where the answer is that there is none; 2 when the request was
wrong, with one line that says why.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any, NoReturn

from harness.commands.activation_answers import CARD, EDGE_OF_CHAOS
from harness.commands.prediction_answers import FIGURES, PREDICT
from harness.commands.selu_answers import DROPOUT, FIXED_POINTS, MAP, PARAMETERS
from harness.commands.theory_command import Command
from harness.errors import RequestError
from harness.sweeps.progress import answer as print_answer

_COMMANDS: tuple[Command, ...] = (
    MAP,
    FIXED_POINTS,
    PARAMETERS,
    CARD,
    EDGE_OF_CHAOS,
    DROPOUT,
    PREDICT,
    FIGURES,
)


class _Parser(argparse.ArgumentParser):
    """A parser that reports a wrong argument as a RequestError."""

    def error(self, message: str) -> NoReturn:
        """Raises the error, so that it is printed in one line like all others."""
        raise RequestError(f"{self.prog}: {message}")


def main(argv: list[str] | None = None) -> int:
    """Prints the answer of one subcommand; returns the exit code.

    Args:
        argv: the arguments; those of the process when None.
    """
    try:
        options = _parser().parse_args(
            _attach_negative_numbers(sys.argv[1:] if argv is None else argv)
        )
        answer = options.command.answer(options)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print_answer(json.dumps(_as_json(answer.data), indent=1, allow_nan=False))
    else:
        print_answer("\n".join(answer.lines))
    return 0


def _parser() -> _Parser:
    parser = _Parser(
        description="What theory predicts, in words or as JSON; COMMAND --help explains a command.",
        formatter_class=_wide_help,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.add_argument(
            "--json", action="store_true", help="JSON; null stands for none and for infinity"
        )
        subparser.set_defaults(command=command)
    return parser


def _wide_help(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=24, width=120)


def _attach_negative_numbers(arguments: list[str]) -> list[str]:
    """Returns the arguments with `--mu -1e-3` written as `--mu=-1e-3`.

    argparse takes a negative number with an exponent for an option.
    """
    result: list[str] = []
    for word in arguments:
        is_negative_number = word.startswith("-") and not word.startswith("--") and _is_number(word)
        follows_an_option = bool(result) and result[-1].startswith("--") and "=" not in result[-1]
        if is_negative_number and follows_an_option:
            result[-1] += f"={word}"
        else:
            result.append(word)
    return result


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _as_json(value: Any) -> Any:
    """Returns the value in JSON's own types, with null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    sys.exit(main())
