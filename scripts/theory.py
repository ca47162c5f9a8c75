#!/usr/bin/env python
"""What theory predicts: `python scripts/theory.py COMMAND [--json]`; `python scripts/theory.py --help` lists the commands.

Exit code 0 with an answer, "there is none" included; 2 when the request was wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RequestError
from harness.networks.trial_prediction import own_activation
from harness.sweeps.progress import answer
from harness.theory.activations import parameters
from harness.theory.activations.functions import NAMES, ActivationFunction, activation
from harness.theory.mean_field import cards, phases
from harness.theory.mean_field import maps as mean_field
from harness.theory.networks import dropout
from harness.theory.selu import moment_map as selu

Options = argparse.Namespace
Answer = tuple[Any, list[str]]  # what --json prints, and the lines that are printed otherwise


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> None:
        raise RequestError(f"{self.prog}: {message}")


@dataclass(frozen=True)
class Command:
    """A subcommand: its name, one line of help, the arguments it adds, and the function that answers."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    answer: Callable[[Options], Answer]


def _number(parser: argparse.ArgumentParser, name: str, help: str, **more: Any) -> None:
    parser.add_argument(
        name,
        type=float,
        help=help
        + (" (default: %(default)g)" if "default" in more and more["default"] is not None else ""),
        **more,
    )


def _selu_arguments(parser: argparse.ArgumentParser) -> None:
    _number(parser, "--alpha", "SELU's alpha", default=selu.ALPHA)
    _number(parser, "--lam", "SELU's lambda", default=selu.LAMBDA)


def _weight_arguments(parser: argparse.ArgumentParser, **more: Any) -> None:
    _number(
        parser,
        "--omega",
        "sum of a unit's weights",
        **(more and {"default": 0.0}),
        required=not more,
    )
    _number(
        parser,
        "--tau",
        "sum of the squares of a unit's weights",
        **(more and {"default": 1.0}),
        required=not more,
    )


def _map_arguments(parser: argparse.ArgumentParser) -> None:
    _number(parser, "--mu", "mean of the unit's inputs", required=True)
    _number(parser, "--nu", "variance of the unit's inputs, above 0", required=True)
    _weight_arguments(parser)
    _selu_arguments(parser)


def _map(options: Options) -> Answer:
    point = (options.mu, options.nu, options.omega, options.tau)
    mean, variance = (
        float(value) for value in selu.map_moments(*point, options.alpha, options.lam)
    )
    matrix = selu.jacobian(*point, options.alpha, options.lam)
    norm = float(selu.spectral_norm(matrix))
    published = options.alpha == selu.ALPHA and options.lam == selu.LAMBDA
    number = selu.theorem(*point) if published else None
    claim = next(
        (f"{number}: {theorem.claim}" for theorem in selu.THEOREMS if theorem.number == number),
        "none covers this point"
        if published
        else "none: they are about SELU's own alpha and lambda",
    )
    rows = matrix.tolist()
    return {
        "mean": mean,
        "variance": variance,
        "jacobian": rows,
        "spectral_norm": norm,
        "theorem": number,
    }, [
        f"mean           {_show(mean)}",
        f"variance       {_show(variance)}",
        f"Jacobian       d mean / d (mu, nu)      {_show(rows[0][0])}  {_show(rows[0][1])}",
        f"               d variance / d (mu, nu)  {_show(rows[1][0])}  {_show(rows[1][1])}",
        f"spectral norm  {_show(norm)}  ({'contracts' if norm < 1 else 'does not contract'} here in the Euclidean norm)",
        f"theorem        {claim}",
    ]


def _fixed_points_arguments(parser: argparse.ArgumentParser) -> None:
    _weight_arguments(parser)
    _selu_arguments(parser)


def _fixed_points(options: Options) -> Answer:
    points = selu.fixed_points(options.omega, options.tau, options.alpha, options.lam)
    lines = [
        f"mean {_show(point.mean)}  variance {_show(point.variance)}  {'stable' if point.stable else 'unstable'}"
        for point in points
    ]
    return [
        {"mean": point.mean, "variance": point.variance, "stable": point.stable} for point in points
    ], lines or ["no fixed point with a variance between 1e-12 and 1e12"]


def _parameters_arguments(parser: argparse.ArgumentParser) -> None:
    _number(parser, "--mean", "mean of the fixed point", required=True)
    _number(parser, "--variance", "variance of the fixed point, above 0", required=True)
    _weight_arguments(parser, optional=True)


def _parameters(options: Options) -> Answer:
    found = parameters.for_fixed_point(options.mean, options.variance, options.omega, options.tau)
    return {"alpha": found.alpha, "lam": found.lam}, [
        f"alpha   {_show(found.alpha)}",
        f"lambda  {_show(found.lam)}",
    ]


def _activation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "activation",
        metavar="NAME|module:function",
        help=f"{', '.join(NAMES)}; or a function of a NumPy array or a torch tensor, or a torch module class",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of a built-in activation, such as negative_slope=0.2; may be repeated",
    )
    parser.add_argument(
        "--kink",
        action="append",
        type=float,
        metavar="X",
        help="where module:function has a kink; may be repeated (default: they are looked for within +-40)",
    )


def _card_arguments(parser: argparse.ArgumentParser) -> None:
    _activation_arguments(parser)
    _number(parser, "--sigma-w2", "fan_in times the variance of a weight", default=1.0)
    _number(parser, "--sigma-b2", "variance of a bias", default=0.0)


def _card(options: Options) -> Answer:
    phi = _activation(options)
    card = cards.card(phi, options.sigma_w2, options.sigma_b2)
    field = card.field
    schools = {school: card.meets(school) for school in ("DKS", "TAT", "bidirectional")}
    result = {
        "activation": card.name,
        "sigma_w2": field.sigma_w2,
        "sigma_b2": field.sigma_b2,
        "status": field.status,
        "q_star": field.q_star,
        "c_star": field.c_star,
        "chi_1": field.chi_1,
        "chi_q": field.chi_q,
        "chi_c": field.chi_c,
        "xi_q": field.xi_q,
        "xi_c": field.xi_c,
        "c_map": {f"{c:g}": value for c, value in card.c_map.items()},
        "vanish_sigma_w2": card.vanish_sigma_w2,
        "diverge_sigma_w2": card.diverge_sigma_w2,
        "conditions": {
            item.name: {
                "value": item.value,
                "target": item.target,
                "bound": item.bound,
                "holds": item.holds,
                "asked_by": list(item.asked_by),
            }
            for item in card.conditions
        },
        "meets": schools,
        "dks_depth": card.dks_depth,
        "tat_depth": card.tat_depth,
        "numbers": vars(card.numbers),
        "fixed_points": [
            {"q": point.q, "chi_q": point.chi_q, "stable": point.stable} for point in field.lengths
        ],
        "kinks": list(phi.kinks),
    }
    return result, _card_lines(phi, card, schools)


def _card_lines(phi: ActivationFunction, card: cards.Card, schools: dict[str, bool]) -> list[str]:
    field, numbers = card.field, card.numbers
    lines = [
        f"{card.name} at sigma_w2 = {field.sigma_w2:g}, sigma_b2 = {field.sigma_b2:g}",
        "",
        *_fixed_point_lines(phi, card),
    ]
    lines += [
        "",
        f"without bias, short vectors vanish below sigma_w2 = {_show(card.vanish_sigma_w2)}, long ones diverge from {_show(card.diverge_sigma_w2)} on",
        f"correlation map at q = {_show(1.0 if field.q_star is None else field.q_star)}:  "
        + "  ".join(f"C({c:g}) = {_show(round(value, 8))}" for c, value in card.c_map.items()),
        f"under N(0, 1): mean {_show(numbers.mean)}, second moment {_show(numbers.second_moment)}, mean slope {_show(numbers.slope_mean)}, kurtosis {_show(numbers.kurtosis)}",
        "",
        "condition                 value          asked    holds  by",
    ]
    for item in card.conditions:
        asked = f"{'<=' if item.bound else '='} {item.target:g}"
        lines.append(
            f"{item.symbol:<16}{_show(item.value):>22}  {asked:>8}    {'yes' if item.holds else 'no':<5}  {', '.join(item.asked_by)}"
        )
    deepest = "any depth" if math.isinf(card.dks_depth) else f"at most {card.dks_depth:.2f} layers"
    return lines + [
        "",
        f"keeps DKS's C'_f(1) <= {cards.DKS_SLOPE:g} for a chain of {deepest}",
        "meets: "
        + (
            ", ".join(school for school, met in schools.items() if met)
            or "none of DKS, TAT, bidirectional"
        ),
    ]


def _fixed_point_lines(phi: ActivationFunction, card: cards.Card) -> list[str]:
    field = card.field
    others = [point for point in field.lengths if point.q != field.q_star]
    also = (
        [
            "also q = "
            + ", ".join(
                f"{_show(point.q)} ({'stable' if point.stable else 'unstable'})" for point in others
            )
        ]
        if others
        else []
    )
    if field.q_star is None:
        word, way = ("diverge", "up") if field.status == "diverges" else ("vanish", "down")
        sign = ">" if way == "up" else "<"
        step = float(mean_field.length_map(phi, 1.0, field.sigma_w2, field.sigma_b2))
        return [
            f"no fixed point from q = 1 {way}: lengths {word}, because V(q) {sign} q all the way (V(1) = {_show(step)})",
            *also,
        ]
    kind = {
        "preserved": "every length is a fixed point; at",
        "unstable": "lengths leave the fixed point",
        "converges": "lengths approach",
    }[field.status]
    chaos = (
        "critical"
        if abs(field.chi_1 - 1) < 1e-12
        else "chaotic: gradients grow"
        if field.chi_1 > 1
        else "ordered: gradients vanish"
    )
    return [
        f"{kind} q* = {_show(field.q_star)}, correlations c* = {_show(field.c_star)}",
        *also,
        f"chi_1  {_show(field.chi_1)}  ({chaos})",
        f"chi_q  {_show(field.chi_q)}  xi_q {_show(field.xi_q)} layers",
        f"chi_c  {_show(field.chi_c)}  xi_c {_show(field.xi_c)} layers",
    ]


def _edge_arguments(parser: argparse.ArgumentParser) -> None:
    _activation_arguments(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--sigma-b2", type=float, help="variance of a bias")
    given.add_argument("--sigma-w2", type=float, help="fan_in times the variance of a weight")
    given.add_argument("--q-star", type=float, help="the fixed point of the length map, above 0")


def _edge_of_chaos(options: Options) -> Answer:
    phi = _activation(options)
    given = {name: getattr(options, name) for name in ("sigma_b2", "sigma_w2", "q_star")}
    points = phases.edge_of_chaos(phi, **given)
    # A stable fixed point before one that is none, then the shortest.
    ordered = [vars(point) for point in sorted(points, key=lambda point: not point.stable)]
    lines = [
        f"sigma_w2 {_show(point['sigma_w2'])}  sigma_b2 {_show(point['sigma_b2'])}  q* {_show(point['q_star'])}  {'stable' if point['stable'] else 'not stable'}"
        for point in ordered
    ]
    first = ordered[0] if ordered else given | {"stable": None}
    name, value = next((name, value) for name, value in given.items() if value is not None)
    return first | {"others": ordered[1:]}, lines or [
        f"{phi.name} has no edge of chaos at {name} = {value:g}: chi_1 = 1 and q = V(q) hold together nowhere for q between 1e-10 and 1e10"
    ]


def _dropout_arguments(parser: argparse.ArgumentParser) -> None:
    _number(parser, "--rate", "share of entries dropped, in [0, 1)", required=True)
    _number(parser, "--mean", "mean to preserve", default=0.0)
    _number(parser, "--variance", "variance to preserve", default=1.0)
    _selu_arguments(parser)


def _dropout(options: Options) -> Answer:
    found = dropout.alpha_dropout(
        options.rate, options.mean, options.variance, options.alpha, options.lam
    )
    neutral = dropout.neutral_rate(options.alpha, options.lam)
    chi_1 = (
        float(
            mean_field.gradient_gain(
                activation("selu", alpha=options.alpha, lam=options.lam), 1.0, 1.0
            )
        )
        * found.backward_factor
    )
    result = {
        "a": found.a,
        "b": found.b,
        "forward_factor": found.forward_factor,
        "backward_factor": found.backward_factor,
        "chi_1": chi_1,
        "neutral_rate": neutral,
    }
    return result, [
        f"a                {_show(found.a)}",
        f"b                {_show(found.b)}",
        f"forward factor   {_show(found.forward_factor)}  (covariance of two inputs under independent masks, per layer)",
        f"backward factor  {_show(found.backward_factor)}  (mean squared gradient, and a deviation of the variance, per layer)",
        f"SELU's chi_1     {_show(chi_1)}  with this dropout at (0, 1): gradients {'vanish' if chi_1 < 1 else 'grow'}",
        f"neutral rate     {'none' if neutral is None else _show(neutral)}  (chi_1 = 1)",
    ]


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="the words of a sweep for one cell: activation=selu initializer=he_normal depth=32 preprocessing=global dataset=digits",
    )


def _predict(options: Options) -> Answer:
    from harness.configuration.composing import compose
    from harness.sweeps.cells import (
        cell,
    )  # this command alone needs configurations, and for a right request data, and with them torch

    try:
        one = cell(compose(options.overrides))
    except RequestError as error:
        if "Ambiguous value" in str(error):
            raise RequestError(
                f"{error}: predict takes one cell, so one value for each axis"
            ) from None
        raise
    from harness.sweeps.runner import prediction_of, trained_as, view_of

    member = one.jobs[0]
    prediction = prediction_of(
        trained_as(member).spec, view_of(member).prepared, one.info, member.config.probe.samples
    )
    moments = view_of(member).prepared.moments
    variance_depth, cosine_depth = prediction.recovery
    result = {
        "sentence": prediction.sentence,
        "inputs": vars(moments),
        "layers": prediction.rows(),
        "variance_recovery_depth": variance_depth,
        "cosine_recovery_depth": cosine_depth,
        "training_gradient_product": prediction.training[0]["gradient_product"],
    }
    lines = [
        " ".join(
            f"{name}={value}"
            for name, value in member.trial.axes.items()
            if name
            in (
                "dataset",
                "preprocessing",
                "architecture",
                "depth",
                "width",
                "activation",
                "initializer",
                "normalization",
                "dropout",
                "repair",
            )
        ),
        f"inputs: q {moments.q:.4g}, CV of q over samples {moments.cv_q:.3g}, mean cosine {moments.c:.3g}, participation ratio {moments.participation_ratio:.3g}",
        "",
        *_prediction_table(result["layers"]),
        "",
        prediction.sentence,
        "Variance of activations inside [0.8, 1.5]: "
        + ("at no layer" if variance_depth is None else f"first at layer {variance_depth}"),
        "Cosine at half the inputs': "
        + ("at no layer" if cosine_depth is None else f"first at layer {cosine_depth}"),
    ]
    return result, lines


def _prediction_table(rows: list[dict[str, Any]]) -> list[str]:
    """The layers, each number with its 99 % band for one network of this width."""
    names = ("q", "mean", "variance", "c", "gradient_product")
    cells = [[_with_band(row, name) for name in names] for row in rows]
    widths = [
        max(len(name), *(len(line[column]) for line in cells)) + 2
        for column, name in enumerate(names)
    ]
    lines = ["layer  " + "".join(name.ljust(width) for name, width in zip(names, widths)).rstrip()]
    for row, line in zip(rows, cells):
        said = (
            "".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            if row["reason"] is None
            else f"unknown: {row['reason']}"
        )
        lines.append(f"{row['layer']:>5}  {said}")
    return lines


def _with_band(row: dict[str, Any], name: str) -> str:
    band = (
        f" [{row[name + '_low']:.3g}, {row[name + '_high']:.3g}]"
        if math.isfinite(row[f"{name}_low"])
        else ""
    )
    return f"{row[name]:.4g}{band}"


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/theory"),
        help="the folder to write (default: %(default)s)",
    )


def _figures(options: Options) -> Answer:
    from harness.reports import (
        theory_figures,
    )  # matplotlib takes a second, which the other commands need not wait for

    try:
        paths = [str(path.resolve()) for path in theory_figures.write(options.out)]
    except OSError as error:
        raise RequestError(
            f"--out {options.out} cannot be written: {error.strerror or error}; give a writable folder"
        ) from None
    return {"figures": paths}, paths


COMMANDS = (
    Command(
        "map",
        "SELU's map g at one point: mean, variance, Jacobian, spectral norm, theorem",
        _map_arguments,
        _map,
    ),
    Command(
        "fixed-points",
        "all fixed points of g for one sum and one sum of squares of the weights",
        _fixed_points_arguments,
        _fixed_points,
    ),
    Command(
        "parameters",
        "SELU's alpha and lambda for another fixed point",
        _parameters_arguments,
        _parameters,
    ),
    Command(
        "card",
        "fixed points, gains, depth scales and conditions of an activation",
        _card_arguments,
        _card,
    ),
    Command(
        "edge-of-chaos",
        "weights and biases for which gradients neither grow nor vanish",
        _edge_arguments,
        _edge_of_chaos,
    ),
    Command("dropout", "constants and factors of alpha dropout", _dropout_arguments, _dropout),
    Command(
        "predict",
        "what theory predicts for a cell of a sweep before it trains, layer by layer",
        _predict_arguments,
        _predict,
    ),
    Command(
        "figures",
        "phase portrait of g, phase diagram, depth against dropout rate, as PNG and SVG",
        _figures_arguments,
        _figures,
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Print the answer of one subcommand."""
    parser = Parser(
        prog="theory.py",
        description=__doc__.splitlines()[0],
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=24, width=120),
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(sub)
        sub.add_argument(
            "--json", action="store_true", help="JSON; null stands for none and for infinity"
        )
        sub.set_defaults(answer=command.answer)
    try:
        options = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
        result, lines = options.answer(options)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    answer(
        json.dumps(_plain(result), indent=1, allow_nan=False) if options.json else "\n".join(lines)
    )
    return 0


def _joined(arguments: list[str]) -> list[str]:
    """`--mu -1e-3` as `--mu=-1e-3`: argparse takes a negative number with an exponent for an option."""
    result: list[str] = []
    for word in arguments:
        if (
            word.startswith("-")
            and not word.startswith("--")
            and _is_number(word)
            and result
            and result[-1].startswith("--")
            and "=" not in result[-1]
        ):
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


def _activation(options: Options) -> ActivationFunction:
    """The activation that was named: a built-in one with its options, or the user's own."""
    if ":" in options.activation:
        if options.option:
            raise RequestError(
                f"--option is for built-in activations; {options.activation} takes none"
            )
        sys.path.insert(0, os.getcwd())
        return own_activation(
            options.activation, None if options.kink is None else tuple(options.kink)
        )
    if options.kink is not None:
        raise RequestError(
            f"--kink is for module:function; the kinks of {options.activation} are known"
        )
    chosen = {}
    for text in options.option:
        name, equals, value = text.partition("=")
        if not equals or not _is_number(value):
            raise RequestError(
                f"--option {text}: expected NAME=VALUE with a number, such as negative_slope=0.2"
            )
        chosen[name] = float(value)
    return activation(options.activation, **chosen)


def _show(value: float) -> str:
    return "0" if abs(value) < 1e-15 else f"{value:.10g}"  # rounding of what is 0


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    sys.exit(main())
