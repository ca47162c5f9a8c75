"""Sharpness: the top eigenvalue of the loss's Gauss-Newton matrix, for all trials of a pack.

Gradient descent with learning rate eta and momentum beta is stable on a quadratic of curvature
lambda while eta * lambda < 2 (1 + beta). `stability_margin` is the share of that limit which is
used up (Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of
Stability").

The Gauss-Newton matrix of the mean cross-entropy is G = (1/n) sum_s J_s' H_s J_s, with the
Jacobian J_s of sample s's logits by the parameters and H_s = diag(p_s) - p_s p_s'. It is positive
semi-definite, and equals the Hessian where every sample is fitted. Its top eigenvalue is found by
Lanczos' method (Golub and Van Loan 2013, section 10.1) from products G v; the matrix itself is
never formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from harness.seeding import purpose_seed
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE, State

# The eigenvalue is measured on at most so many samples of the probe set.
SAMPLES = 128
# Lanczos steps. Eight leave an error below 2 % (tests compare with eigenvalues of dense matrices).
STEPS = 8
# Below this share of the first step's length, what is left of a Lanczos vector is rounding.
_ROUNDING = 1e-5

# A vector of the parameters of several trials: by parameter name a tensor (trials, ...).
Vector = State


def sharpness(pack: Pack, start: int, stop: int, samples: Samples, steps: int = STEPS) -> Tensor:
    """Returns the top Gauss-Newton eigenvalue of each trial, (stop - start,) float64.

    The loss is the mean cross-entropy on the first `SAMPLES` samples, batch statistics as in a
    probe, without dropout and weight decay. NaN where a trial's network is not finite.

    Args:
        pack: the trials; `start:stop` must share one activation and one number of samples.
        start: the first trial.
        stop: the trial after the last.
        samples: the probe set.
        steps: products with the Gauss-Newton matrix.
    """
    program, parameters, buffers = pack.part(start, stop)
    images = samples.images_of(start, stop)[:, :SAMPLES]

    def logits_of(weights: State) -> Tensor:
        # A recorder keeps the program from overwriting an activation's input.
        return program(weights, buffers, images, PROBE, _ignore)

    multiply = _gauss_newton(logits_of, parameters)
    first = _start_vector(pack, start, stop, parameters)
    return _top_eigenvalue(multiply, first, steps)


def stability_margin(sharpness: float, learning_rate: float, optimizer: dict) -> float:
    """Returns learning_rate * sharpness / (2 (1 + momentum)); 1 is the limit of stability.

    NaN for optimizers that precondition the gradient (Adam): their limit is that of the
    preconditioned matrix (Cohen et al. 2022), which is not measured.
    """
    if optimizer["name"] not in ("sgd", "momentum"):
        return math.nan
    return learning_rate * sharpness / (2.0 * (1.0 + optimizer.get("momentum", 0.0)))


def _ignore(*tap: object) -> None:
    """Record nothing."""


def _start_vector(pack: Pack, start: int, stop: int, parameters: State) -> Vector:
    """Standard normal numbers, keyed by each trial's seed: companions change nothing."""
    device = pack.device
    generators = [
        torch.Generator().manual_seed(purpose_seed(trial.seed, "sharpness"))
        for trial in pack.trials[start:stop]
    ]
    vector = {}
    for name, tensor in parameters.items():
        rows = [torch.randn(tensor.shape[1:], generator=generator) for generator in generators]
        vector[name] = torch.stack(rows).to(device)
    return vector


def _gauss_newton(
    logits_of: Callable[[State], Tensor], parameters: State
) -> Callable[[Vector], Vector]:
    """Returns the function v -> G v of trials that stand side by side.

    J' u is linear in u, so its derivative by u in direction v is J v: two backward passes through
    one graph, which is built once, instead of a forward pass for every product.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    tensors = list(leaves.values())
    with torch.enable_grad():
        logits = logits_of(leaves)
        cotangent = torch.zeros_like(logits, requires_grad=True)
        pulled_back = torch.autograd.grad(logits, tensors, cotangent, create_graph=True)
    probabilities = functional.softmax(logits.detach().float(), dim=-1)
    samples = logits.shape[1]

    def multiply(vector: Vector) -> Vector:
        directions = [vector[name] for name in leaves]
        (moved,) = torch.autograd.grad(pulled_back, cotangent, directions, retain_graph=True)
        weighted = probabilities * moved
        curved = weighted - probabilities * weighted.sum(-1, keepdim=True)
        gradients = torch.autograd.grad(logits, tensors, curved / samples, retain_graph=True)
        return dict(zip(leaves, gradients, strict=True))

    return multiply


def _top_eigenvalue(multiply: Callable[[Vector], Vector], first: Vector, steps: int) -> Tensor:
    """The largest Ritz value of `steps` Lanczos steps with full reorthogonalisation."""
    basis = [_scaled(first, 1.0 / _length(first))]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    scale: Tensor | None = None
    for step in range(steps):
        image = multiply(basis[-1])
        diagonal.append(_product(image, basis[-1]))
        for _ in range(2):  # once leaves rounding errors that grow
            for vector in basis:
                image = _less(image, _product(image, vector), vector)
        length = _length(image)
        scale = length if scale is None else torch.maximum(scale, length)
        if step + 1 == steps:
            break
        # An exhausted Krylov space: zeros, which add eigenvalues 0 to a positive matrix.
        alive = length > _ROUNDING * scale.clamp_min(torch.finfo(torch.float32).tiny)
        beside.append(torch.where(alive, length, 0.0))
        basis.append(_scaled(image, torch.where(alive, 1.0 / length, 0.0)))
    return _largest(torch.stack(diagonal, 1), torch.stack(beside, 1) if beside else None)


def _largest(diagonal: Tensor, beside: Tensor | None) -> Tensor:
    """The largest eigenvalue of each tridiagonal matrix; NaN where it is not finite.

    `diagonal` is (trials, steps), `beside` (trials, steps - 1).
    """
    matrix = torch.diag_embed(diagonal)
    if beside is not None:
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    finite = torch.isfinite(matrix).flatten(1).all(1)
    safe = torch.where(finite[:, None, None], matrix, 0.0)
    return torch.where(finite, torch.linalg.eigvalsh(safe)[:, -1], torch.nan)


def _product(left: Vector, right: Vector) -> Tensor:
    """Inner products (trials,) in float64."""
    parts = [(left[name] * right[name]).flatten(1).sum(1, dtype=torch.float64) for name in left]
    return torch.stack(parts).sum(0)


def _length(vector: Vector) -> Tensor:
    return _product(vector, vector).sqrt()


def _scaled(vector: Vector, factor: Tensor) -> Vector:
    return {name: tensor * _shaped(factor, tensor) for name, tensor in vector.items()}


def _less(vector: Vector, factor: Tensor, other: Vector) -> Vector:
    return {
        name: torch.addcmul(tensor, _shaped(factor, tensor), other[name], value=-1)
        for name, tensor in vector.items()
    }


def _shaped(factor: Tensor, tensor: Tensor) -> Tensor:
    """(trials,) factors in the form and precision of (trials, ...)."""
    return factor.to(tensor.dtype).view(-1, *(1,) * (tensor.dim() - 1))
