"""Memory of a GPU that is free for new tensors."""

from __future__ import annotations

import torch


def free_gpu_memory(device: torch.device) -> int:
    """Returns free bytes: those of the driver, and those that torch keeps of deleted tensors."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
