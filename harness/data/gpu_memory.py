"""How much memory of a GPU is there for new tensors."""

from __future__ import annotations

import torch


def free_gpu_memory(device: torch.device) -> int:
    """Bytes: what the driver calls free, and what torch keeps of tensors that are gone, such as those of the pack before."""
    return (
        torch.cuda.mem_get_info(device)[0]
        + torch.cuda.memory_reserved(device)
        - torch.cuda.memory_allocated(device)
    )
