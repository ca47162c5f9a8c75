"""Eigenvalues are those of NumPy in float64, wherever the matrices lie."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from harness.probes.eigenvalues import eigenvalues


def symmetric(count: int, size: int) -> torch.Tensor:
    drawn = torch.randn(count, size, size, generator=torch.Generator().manual_seed(1))
    return drawn + drawn.transpose(1, 2)


@pytest.mark.parametrize("size", [1, 8, 65])
def test_eigenvalues_are_those_of_numpy(size):
    matrices = symmetric(5, size)
    expected = np.linalg.eigvalsh(matrices.double().numpy())
    np.testing.assert_allclose(eigenvalues(matrices), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_threads_may_ask_for_eigenvalues_of_a_gpu_at_the_same_time():
    matrices = symmetric(40, 16)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(eigenvalues(matrices.cuda())))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for values in found:
        assert values.is_cuda
        torch.testing.assert_close(values.cpu(), eigenvalues(matrices), rtol=1e-4, atol=1e-4)
