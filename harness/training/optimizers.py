"""torch's own fused optimizers on a pack's parameters, with a learning rate and a weight decay for every trial.

All are elementwise, so that a parameter of a run of trials with equal settings is one tensor to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from harness.registry import Registry
from harness.training.packs import Pack, update_settings

optimizers: Registry = Registry("optimizer")

Groups = list[dict]

# On a GPU the whole step may be replayed as a graph, which Adam's counters must be told.
optimizers.register("sgd")(lambda groups, spec, on_gpu: torch.optim.SGD(groups, fused=True))
optimizers.register("momentum")(lambda groups, spec, on_gpu: torch.optim.SGD(groups, momentum=spec["momentum"], fused=True))
optimizers.register("adam")(lambda groups, spec, on_gpu: torch.optim.Adam(groups, betas=(spec["beta1"], spec["beta2"]), eps=spec["epsilon"], fused=True, capturable=on_gpu))
optimizers.register("adamw")(lambda groups, spec, on_gpu: torch.optim.AdamW(groups, betas=(spec["beta1"], spec["beta2"]), eps=spec["epsilon"], fused=True, capturable=on_gpu))


class PackOptimizer:
    """Updates a pack's parameters; a run of neighbouring trials with equal settings is one parameter group.

    Learning rates are a tensor on the device, so that a schedule can change them inside a replayed step.
    """

    def __init__(self, pack: Pack) -> None:
        spec = pack.trials[0].spec["optimizer"]
        build: Callable[[Groups, dict, bool], torch.optim.Optimizer] = optimizers[spec["name"]]
        self.pack = pack
        runs = _runs(pack)
        self.runs = [run for run, _ in runs]
        # Fused kernels take a rate from a GPU as float32 and from the host as float64.
        kind = torch.float64 if pack.device.type == "cpu" else torch.float32
        self.base_rates = torch.tensor([learning_rate for _, (learning_rate, _) in runs], dtype=kind, device=pack.device)
        self.rates = self.base_rates.clone()
        stored = [span.stored(tensor.detach()) for span, tensor in zip(pack.spans.values(), pack.state.values())]
        groups = [
            {"params": [tensor[start:stop] for tensor in stored], "lr": rate, "weight_decay": weight_decay}
            for ((start, stop), (_, weight_decay)), rate in zip(runs, self.rates)
        ]
        self.optimizer = build(groups, spec, pack.device.type == "cuda")

    def step(self, gradients: Sequence[Tensor], multiplier: Tensor) -> None:
        """Update the parameters from the gradients of `pack.state`'s tensors; a trial's learning rate is its own times `multiplier`."""
        torch.mul(self.base_rates, multiplier, out=self.rates)
        stored = self.pack.stored_gradients(gradients)
        for (start, stop), group in zip(self.runs, self.optimizer.param_groups):
            for parameter, gradient in zip(group["params"], stored):
                parameter.grad = gradient[start:stop]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # or the next step would hold two sets of gradients


def _runs(pack: Pack) -> list[tuple[tuple[int, int], tuple[float, float]]]:
    """(start, stop) of every run of neighbouring trials with the same (learning rate, weight decay), and these."""
    settings = [update_settings(trial) for trial in pack.trials]
    runs, start = [], 0
    for values, members in groupby(settings):
        stop = start + len(list(members))
        runs.append(((start, stop), values))
        start = stop
    return runs
