"""Subcommands on SELU: its map g, fixed points, parameters, and alpha dropout."""

from __future__ import annotations

import argparse

from harness.commands.theory_command import (
    Answer,
    Command,
    Options,
    add_number,
    add_selu_parameters,
    add_weight_sums,
    show,
)
from harness.theory import selu
from harness.theory.activations import parameters
from harness.theory.activations.functions import activation
from harness.theory.mean_field.maps import gradient_gain
from harness.theory.networks import dropout


def _add_map_arguments(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--mu", "mean of the unit's inputs")
    add_number(parser, "--nu", "variance of the unit's inputs, above 0")
    add_weight_sums(parser)
    add_selu_parameters(parser)


def _map(options: Options) -> Answer:
    point = (options.mu, options.nu, options.omega, options.tau)
    mean, variance = selu.map_moments(*point, options.alpha, options.lam)
    matrix = selu.jacobian(*point, options.alpha, options.lam)
    norm = float(selu.spectral_norm(matrix))
    # The theorems are about SELU's own alpha and lambda.
    published = options.alpha == selu.ALPHA and options.lam == selu.LAMBDA
    number = selu.theorem(*point) if published else None
    data = {
        "mean": float(mean),
        "variance": float(variance),
        "jacobian": matrix.tolist(),
        "spectral_norm": norm,
        "theorem": number,
    }
    mean_row, variance_row = data["jacobian"]
    contracts = "contracts" if norm < 1 else "does not contract"
    lines = [
        f"mean           {show(data['mean'])}",
        f"variance       {show(data['variance'])}",
        f"Jacobian       d mean / d (mu, nu)      {show(mean_row[0])}  {show(mean_row[1])}",
        f"               d variance / d (mu, nu)  {show(variance_row[0])}  {show(variance_row[1])}",
        f"spectral norm  {show(norm)}  ({contracts} here in the Euclidean norm)",
        f"theorem        {_theorem_claim(number, published)}",
    ]
    return Answer(data, lines)


def _theorem_claim(number: int | None, published: bool) -> str:
    if not published:
        return "none: they are about SELU's own alpha and lambda"
    for theorem in selu.THEOREMS:
        if theorem.number == number:
            return f"{number}: {theorem.claim}"
    return "none covers this point"


def _add_fixed_points_arguments(parser: argparse.ArgumentParser) -> None:
    add_weight_sums(parser)
    add_selu_parameters(parser)


def _fixed_points(options: Options) -> Answer:
    points = selu.fixed_points(options.omega, options.tau, options.alpha, options.lam)
    data = [
        {"mean": point.mean, "variance": point.variance, "stable": point.stable} for point in points
    ]
    lines = []
    for point in points:
        stability = "stable" if point.stable else "unstable"
        lines.append(f"mean {show(point.mean)}  variance {show(point.variance)}  {stability}")
    return Answer(data, lines or ["no fixed point with a variance between 1e-12 and 1e12"])


def _add_parameters_arguments(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--mean", "mean of the fixed point")
    add_number(parser, "--variance", "variance of the fixed point, above 0")
    add_number(parser, "--omega", "sum of a unit's weights", default=0.0)
    add_number(parser, "--tau", "sum of the squares of a unit's weights", default=1.0)


def _parameters(options: Options) -> Answer:
    solution = parameters.for_fixed_point(
        options.mean, options.variance, options.omega, options.tau
    )
    data = {"alpha": solution.alpha, "lam": solution.lam}
    return Answer(data, [f"alpha   {show(solution.alpha)}", f"lambda  {show(solution.lam)}"])


def _add_dropout_arguments(parser: argparse.ArgumentParser) -> None:
    add_number(parser, "--rate", "share of entries dropped, in [0, 1)")
    add_number(parser, "--mean", "mean to preserve", default=0.0)
    add_number(parser, "--variance", "variance to preserve", default=1.0)
    add_selu_parameters(parser)


def _dropout(options: Options) -> Answer:
    constants = dropout.alpha_dropout(
        options.rate, options.mean, options.variance, options.alpha, options.lam
    )
    neutral_rate = dropout.neutral_rate(options.alpha, options.lam)
    phi = activation("selu", alpha=options.alpha, lam=options.lam)
    chi_1 = float(gradient_gain(phi, 1.0, 1.0)) * constants.backward_factor
    data = {
        "a": constants.a,
        "b": constants.b,
        "forward_factor": constants.forward_factor,
        "backward_factor": constants.backward_factor,
        "chi_1": chi_1,
        "neutral_rate": neutral_rate,
    }
    gradients = "vanish" if chi_1 < 1 else "grow"
    neutral = "none" if neutral_rate is None else show(neutral_rate)
    lines = [
        f"a                {show(constants.a)}",
        f"b                {show(constants.b)}",
        f"forward factor   {show(constants.forward_factor)}"
        "  (covariance of two inputs under independent masks, per layer)",
        f"backward factor  {show(constants.backward_factor)}"
        "  (mean squared gradient, and a deviation of the variance, per layer)",
        f"SELU's chi_1     {show(chi_1)}  with this dropout at (0, 1): gradients {gradients}",
        f"neutral rate     {neutral}  (chi_1 = 1)",
    ]
    return Answer(data, lines)


MAP = Command(
    "map",
    "SELU's map g at one point: mean, variance, Jacobian, spectral norm, theorem",
    _add_map_arguments,
    _map,
)
FIXED_POINTS = Command(
    "fixed-points",
    "all fixed points of g for one sum and one sum of squares of the weights",
    _add_fixed_points_arguments,
    _fixed_points,
)
PARAMETERS = Command(
    "parameters",
    "SELU's alpha and lambda for another fixed point",
    _add_parameters_arguments,
    _parameters,
)
DROPOUT = Command(
    "dropout", "constants and factors of alpha dropout", _add_dropout_arguments, _dropout
)
