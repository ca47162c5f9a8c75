"""Sharpness: the top eigenvalue of the loss's Gauss-Newton matrix, for all trials of a pack.

Gradient descent with learning rate eta and momentum beta is stable on a quadratic of curvature
lambda while eta * lambda < 2 (1 + beta). `stability_margin` is the share of that limit which is
used up (Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of
Stability").

The Gauss-Newton matrix of the mean cross-entropy is G = (1/n) sum_s J_s' H_s J_s, with the
Jacobian J_s of sample s's logits by the parameters and H_s = diag(p_s) - p_s p_s'. It is positive
semi-definite, and equals the Hessian where every sample is fitted.

With H_s = B_s B_s', B_s = diag(sqrt p_s) - p_s (sqrt p_s)', the matrix (1/n) B' J J' B over samples
and classes has the same eigenvalues other than 0, and vectors of samples x classes instead of
parameters. Its top eigenvalue is found by Lanczos' method (Golub and Van Loan 2013, section 10.1)
from products with vectors; no matrix is ever formed.

Late in training few samples curve the loss: the first 64 of 359 digits then give twice the
eigenvalue of all. So the samples are drawn in proportion to trace H_s and weighted by its inverse,
which leaves the expectation of G as it is (Horvitz and Thompson 1952).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from harness.probes.eigenvalues import eigenvalues
from harness.seeding import purpose_seed
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE

# The sum over samples is estimated from so many of them, or from more where the samples of a batch
# normalization act on each other and cannot be drawn by their curvature.
SAMPLES = 64
SAMPLES_OF_BATCH_STATISTICS = 128
# Lanczos steps. Eight leave an error below 2 % in most networks, and of a few percent where many
# eigenvalues lie close to the largest.
STEPS = 8
# Below this share of the first step's length, what is left of a Lanczos vector is rounding.
_ROUNDING = 1e-5
# Traces of H_s below this are rounding; it keeps weights finite where no sample curves the loss.
_SMALLEST_TRACE = 1e-30


def sharpness(
    pack: Pack,
    start: int,
    stop: int,
    samples: Samples,
    steps: int = STEPS,
    logits: Tensor | None = None,
) -> Tensor:
    """Returns the top Gauss-Newton eigenvalue of each trial, (stop - start,) float64.

    The loss is the mean cross-entropy on the samples, estimated from `SAMPLES` of them; batch
    statistics as in a probe, without dropout and weight decay. NaN where a network is not finite.

    Args:
        pack: the trials; `start:stop` must share one activation and one number of samples.
        start: the first trial.
        stop: the trial after the last.
        samples: the probe set.
        steps: products with the Gauss-Newton matrix.
        logits: those of the probe set where they are known, (trials, samples, classes).
    """
    program, parameters, buffers = pack.part(start, stop)
    images = samples.images_of(start, stop)
    if logits is None:
        with torch.no_grad():
            logits = program(parameters, buffers, images, PROBE)
    has_batch_statistics = any(name.endswith("running_mean") for name in buffers)
    drawn, weights = _draw(logits, has_batch_statistics)
    trials = torch.arange(stop - start, device=pack.device).unsqueeze(1)
    leaves = {name: tensor.requires_grad_() for name, tensor in parameters.items()}
    with torch.enable_grad():
        # A recorder keeps the program from overwriting an activation's input.
        drawn_logits = program(leaves, buffers, images[trials, drawn], PROBE, _ignore)
        multiply = _kernel(drawn_logits, list(leaves.values()), weights)
    first = _start_vectors(pack, start, stop, drawn_logits)
    return _top_eigenvalue(multiply, first, steps)


def sharpness_of_module(
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    inputs: Tensor,
    steps: int = STEPS,
) -> float:
    """Returns the top Gauss-Newton eigenvalue of one ordinary module, as `sharpness` of a trial.

    Args:
        logits_of: maps inputs (samples, ...) to logits (samples, classes), each sample by itself.
        parameters: leaves that require gradients; those that do not act are left out.
        inputs: (samples, ...).
        steps: products with the Gauss-Newton matrix.

    Raises:
        RuntimeError: the module has no second derivatives that autograd knows.
    """
    with torch.no_grad():
        drawn, weights = _draw(logits_of(inputs).float().unsqueeze(0), False)
    with torch.enable_grad():
        logits = logits_of(inputs[drawn[0]]).float().unsqueeze(0)
        first_pass = torch.autograd.grad(
            logits.sum(), list(parameters), retain_graph=True, allow_unused=True
        )
        pairs = zip(parameters, first_pass, strict=True)
        multiply = _kernel(logits, [leaf for leaf, used in pairs if used is not None], weights)
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(1, 1, logits.shape[2], generator=generator)
    first = shared + torch.randn(logits.shape, generator=generator)
    return float(_top_eigenvalue(multiply, first.to(logits.device), steps)[0])


def _draw(logits: Tensor, has_batch_statistics: bool) -> tuple[Tensor, Tensor]:
    """Draws samples of each trial, systematically in proportion to trace H_s = 1 - |p_s|^2.

    Evenly where a batch's samples act on each other, so that the batch stays like all samples.

    Returns:
        Indices of the samples and the weights of their terms in G, each (trials, drawn).
    """
    trials, count, _ = logits.shape
    size = min(count, SAMPLES_OF_BATCH_STATISTICS if has_batch_statistics else SAMPLES)
    if size == count or has_batch_statistics:
        every = torch.linspace(0, count - 1, size, device=logits.device).round().long()
        drawn = every.expand(trials, size)
        return drawn, torch.full(drawn.shape, 1.0 / size, device=logits.device)
    probabilities = functional.softmax(logits.double(), dim=-1)
    traces = (1.0 - probabilities.square().sum(-1)).clamp_min(_SMALLEST_TRACE)
    reached = traces.cumsum(1)
    total = reached[:, -1:]
    middles = (torch.arange(size, dtype=torch.float64, device=logits.device) + 0.5) / size
    drawn = torch.searchsorted(reached, total * middles).clamp_max(count - 1)
    weights = total / (size * count * traces.gather(1, drawn))
    return drawn, weights.float()


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


def _start_vectors(pack: Pack, start: int, stop: int, like: Tensor) -> Tensor:
    """Returns normal numbers, keyed by each trial's seed: companions change nothing.

    Each is the sum of one that all samples share and one of its own, because the top eigenvector
    of a deep network is nearly the same in all samples at first, and in few of them later.

    `like` has their shape, (trials, samples, classes).
    """
    _, samples, classes = like.shape
    rows = []
    for trial in pack.trials[start:stop]:
        generator = torch.Generator().manual_seed(purpose_seed(trial.seed, "sharpness"))
        shared = torch.randn(1, classes, generator=generator)
        rows.append(shared + torch.randn(samples, classes, generator=generator))
    return torch.stack(rows).to(pack.device)


def _kernel(logits: Tensor, leaves: list[Tensor], weights: Tensor) -> Callable[[Tensor], Tensor]:
    """Returns the function u -> B' J J' B u of trials that stand side by side.

    J' u is linear in u, so its derivative by u in direction v is J v: two backward passes through
    one graph, which is built once, instead of a forward pass for every product.

    Args:
        logits: (trials, samples, classes), with the graph that leads to the leaves.
        leaves: the parameters, each (trials, ...).
        weights: the samples' weights, (trials, samples), whose roots are factors of B_s.
    """
    cotangent = torch.zeros_like(logits, requires_grad=True)
    pulled_back = torch.autograd.grad(logits, leaves, cotangent, create_graph=True)
    probabilities = functional.softmax(logits.detach().float(), dim=-1)
    roots = probabilities.sqrt()
    factors = weights.sqrt().unsqueeze(2)

    def multiply(vector: Tensor) -> Tensor:
        weighted = factors * roots * vector
        curved = weighted - probabilities * weighted.sum(-1, keepdim=True)
        gradients = torch.autograd.grad(logits, leaves, curved, retain_graph=True)
        (moved,) = torch.autograd.grad(pulled_back, cotangent, gradients, retain_graph=True)
        centred = moved - (probabilities * moved).sum(-1, keepdim=True)
        return factors * roots * centred

    return multiply


def _top_eigenvalue(multiply: Callable[[Tensor], Tensor], first: Tensor, steps: int) -> Tensor:
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
                image = image - _scaled(vector, _product(image, vector))
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
    return torch.where(finite, eigenvalues(safe)[:, -1], torch.nan)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Inner products (trials,) in float64."""
    return (left * right).flatten(1).sum(1, dtype=torch.float64)


def _length(vector: Tensor) -> Tensor:
    return _product(vector, vector).sqrt()


def _scaled(vector: Tensor, factor: Tensor) -> Tensor:
    """(trials, samples, classes) times (trials,), in the precision of the first."""
    return vector * factor.to(vector.dtype).view(-1, 1, 1)
