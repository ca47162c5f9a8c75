"""Subcommands on any activation: its card, and its edge of chaos."""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import Any

from harness.commands.theory_command import Answer, Command, Options, add_number, show
from harness.errors import RequestError
from harness.networks.users_activation import own_activation
from harness.theory.activations.functions import NAMES, ActivationFunction, activation
from harness.theory.mean_field import cards, phases
from harness.theory.mean_field import maps as mean_field

_SCHOOLS = ("DKS", "TAT", "bidirectional")
# Closer to 1 than this, chi_1 counts as critical.
_CRITICAL = 1e-12

_CONDITIONS_HEADER = "condition                 value          asked    holds  by"


def _add_activation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "activation",
        metavar="NAME|module:function",
        help=f"{', '.join(NAMES)}; or a function of a NumPy array or a torch tensor, "
        "or a torch module class",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of a built-in activation, such as negative_slope=0.2 or base=gelu; "
        "may be repeated",
    )
    parser.add_argument(
        "--kink",
        action="append",
        type=float,
        metavar="X",
        help="where module:function has a kink; may be repeated "
        "(default: they are looked for within +-40)",
    )


def _requested_activation(options: Options) -> ActivationFunction:
    """Returns the requested activation: a built-in one with its options, or the user's own.

    Raises:
        RequestError: the activation or an option is wrong.
    """
    if ":" in options.activation:
        return _user_activation(options)
    if options.kink is not None:
        raise RequestError(
            f"--kink is for module:function; the kinks of {options.activation} are known"
        )
    values = dict(_option(text) for text in options.option)
    return activation(options.activation, **values)


def _user_activation(options: Options) -> ActivationFunction:
    if options.option:
        raise RequestError(f"--option is for built-in activations; {options.activation} takes none")
    # A script's own folder is on the path, but not the folder in which it is started.
    sys.path.insert(0, os.getcwd())
    kinks = None if options.kink is None else tuple(options.kink)
    return own_activation(options.activation, kinks)


def _option(text: str) -> tuple[str, float | str]:
    """Returns name and value of an argument `NAME=VALUE`; the value is a number or a name."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise RequestError(
            f"--option {text}: expected NAME=VALUE, such as negative_slope=0.2 or base=gelu"
        )
    try:
        return name, float(value)
    except ValueError:
        return name, value


def _add_card_arguments(parser: argparse.ArgumentParser) -> None:
    _add_activation_arguments(parser)
    add_number(parser, "--sigma-w2", "fan_in times the variance of a weight", default=1.0)
    add_number(parser, "--sigma-b2", "variance of a bias", default=0.0)


def _card(options: Options) -> Answer:
    phi = _requested_activation(options)
    card = cards.card(phi, options.sigma_w2, options.sigma_b2)
    meets = {school: card.meets(school) for school in _SCHOOLS}
    return Answer(_card_data(phi, card, meets), _card_lines(phi, card, meets))


def _card_data(phi: ActivationFunction, card: cards.Card, meets: dict[str, bool]) -> dict[str, Any]:
    field = card.field
    conditions = {}
    for condition in card.conditions:
        conditions[condition.name] = {
            "value": condition.value,
            "target": condition.target,
            "bound": condition.bound,
            "holds": condition.holds,
            "asked_by": list(condition.asked_by),
        }
    return {
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
        "conditions": conditions,
        "meets": meets,
        "dks_depth": card.dks_depth,
        "tat_depth": card.tat_depth,
        "numbers": vars(card.numbers),
        "fixed_points": [
            {"q": point.q, "chi_q": point.chi_q, "stable": point.stable} for point in field.lengths
        ],
        "kinks": list(phi.kinks),
    }


def _card_lines(phi: ActivationFunction, card: cards.Card, meets: dict[str, bool]) -> list[str]:
    field = card.field
    numbers = card.numbers
    q = 1.0 if field.q_star is None else field.q_star
    c_map = "  ".join(f"C({c:g}) = {show(round(value, 8))}" for c, value in card.c_map.items())
    deepest = "any depth" if math.isinf(card.dks_depth) else f"at most {card.dks_depth:.2f} layers"
    met = [school for school, holds in meets.items() if holds]
    return [
        f"{card.name} at sigma_w2 = {field.sigma_w2:g}, sigma_b2 = {field.sigma_b2:g}",
        "",
        *_length_lines(phi, field),
        "",
        f"without bias, short vectors vanish below sigma_w2 = {show(card.vanish_sigma_w2)}, "
        f"long ones diverge from {show(card.diverge_sigma_w2)} on",
        f"correlation map at q = {show(q)}:  {c_map}",
        f"under N(0, 1): mean {show(numbers.mean)}, second moment {show(numbers.second_moment)}, "
        f"mean slope {show(numbers.slope_mean)}, kurtosis {show(numbers.kurtosis)}",
        "",
        _CONDITIONS_HEADER,
        *(_condition_line(condition) for condition in card.conditions),
        "",
        f"keeps DKS's C'_f(1) <= {cards.DKS_SLOPE:g} for a chain of {deepest}",
        f"meets: {', '.join(met) or 'none of DKS, TAT, bidirectional'}",
    ]


def _condition_line(condition: cards.Condition) -> str:
    asked = f"{'<=' if condition.bound else '='} {condition.target:g}"
    holds = "yes" if condition.holds else "no"
    asked_by = ", ".join(condition.asked_by)
    return (
        f"{condition.symbol:<16}{show(condition.value):>22}  {asked:>8}    {holds:<5}  {asked_by}"
    )


def _length_lines(phi: ActivationFunction, field: mean_field.MeanField) -> list[str]:
    """Returns the lines on fixed points of the length map, and on the gains there."""
    if field.q_star is None or field.chi_1 is None:
        return [_no_fixed_point_line(phi, field), *_other_fixed_points(field)]
    approach = {
        "preserved": "every length is a fixed point; at",
        "unstable": "lengths leave the fixed point",
        "converges": "lengths approach",
    }[field.status]
    return [
        f"{approach} q* = {show(field.q_star)}, correlations c* = {show(field.c_star)}",
        *_other_fixed_points(field),
        f"chi_1  {show(field.chi_1)}  ({_phase(field.chi_1)})",
        f"chi_q  {show(field.chi_q)}  xi_q {show(field.xi_q)} layers",
        f"chi_c  {show(field.chi_c)}  xi_c {show(field.xi_c)} layers",
    ]


def _no_fixed_point_line(phi: ActivationFunction, field: mean_field.MeanField) -> str:
    if field.status == "diverges":
        verb, direction, sign = "diverge", "up", ">"
    else:
        verb, direction, sign = "vanish", "down", "<"
    step = float(mean_field.length_map(phi, 1.0, field.sigma_w2, field.sigma_b2))
    return (
        f"no fixed point from q = 1 {direction}: lengths {verb}, because V(q) {sign} q all the way "
        f"(V(1) = {show(step)})"
    )


def _other_fixed_points(field: mean_field.MeanField) -> list[str]:
    """Returns a line with the fixed points other than q*, or no line where there is none."""
    others = []
    for point in field.lengths:
        if point.q != field.q_star:
            others.append(f"{show(point.q)} ({'stable' if point.stable else 'unstable'})")
    return [f"also q = {', '.join(others)}"] if others else []


def _phase(chi_1: float) -> str:
    if abs(chi_1 - 1) < _CRITICAL:
        return "critical"
    if chi_1 > 1:
        return "chaotic: gradients grow"
    return "ordered: gradients vanish"


def _add_edge_arguments(parser: argparse.ArgumentParser) -> None:
    _add_activation_arguments(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--sigma-b2", type=float, help="variance of a bias")
    given.add_argument("--sigma-w2", type=float, help="fan_in times the variance of a weight")
    given.add_argument("--q-star", type=float, help="the fixed point of the length map, above 0")


def _edge_of_chaos(options: Options) -> Answer:
    phi = _requested_activation(options)
    given = {
        "sigma_b2": options.sigma_b2,
        "sigma_w2": options.sigma_w2,
        "q_star": options.q_star,
    }
    points = phases.edge_of_chaos(phi, **given)
    if not points:
        data = given | {"stable": None, "others": []}
        return Answer(data, [_no_edge_line(phi, given)])
    # Stable fixed points first, and within either group the shortest lengths first.
    ordered = sorted(points, key=lambda point: not point.stable)
    first, *others = [vars(point) for point in ordered]
    return Answer(first | {"others": others}, [_edge_line(point) for point in ordered])


def _edge_line(point: phases.CriticalPoint) -> str:
    stability = "stable" if point.stable else "not stable"
    return (
        f"sigma_w2 {show(point.sigma_w2)}  sigma_b2 {show(point.sigma_b2)}  "
        f"q* {show(point.q_star)}  {stability}"
    )


def _no_edge_line(phi: ActivationFunction, given: dict[str, float | None]) -> str:
    ((name, value),) = ((name, value) for name, value in given.items() if value is not None)
    return (
        f"{phi.name} has no edge of chaos at {name} = {value:g}: chi_1 = 1 and q = V(q) hold "
        "together nowhere for q between 1e-10 and 1e10"
    )


CARD = Command(
    "card",
    "fixed points, gains, depth scales and conditions of an activation",
    _add_card_arguments,
    _card,
)
EDGE_OF_CHAOS = Command(
    "edge-of-chaos",
    "weights and biases for which gradients neither grow nor vanish",
    _add_edge_arguments,
    _edge_of_chaos,
)
