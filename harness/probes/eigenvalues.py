"""Eigenvalues of many small symmetric matrices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from harness.cores import cores


def eigenvalues(matrices: Tensor) -> Tensor:
    """Returns the eigenvalues of symmetric matrices (count, n, n), ascending, (count, n).

    Those that lie on a GPU are solved by the host's cores: the GPU would take one matrix after the
    other, each longer than a core does. Torch's solvers on a GPU also fail when two threads call
    them for the first time at the same moment.
    """
    if matrices.device.type == "cpu":
        return torch.linalg.eigvalsh(matrices)
    workers = min(cores(), len(matrices))
    parts = matrices.cpu().tensor_split(workers)
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, "eigenvalues", torch.set_num_threads, (1,)) as pool:
            solved = list(pool.map(torch.linalg.eigvalsh, parts))
    finally:
        torch.set_num_threads(threads)
    return torch.cat(solved).to(matrices.device)
