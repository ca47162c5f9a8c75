"""The trained network of a stored trial that keeps its weights, as an ordinary module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.configuration.trial import edited_callable
from harness.errors import RequestError
from harness.networks.architectures import build_network
from harness.store import wholeness
from harness.store.records import Record, read_record
from harness.training import repairs
from harness.training.kept_weights import read_weights


def trained_network(folder: Path | str) -> nn.Module:
    """Returns the network of a trial with its trained weights, on the CPU, ready to be used.

    It is in evaluation mode and maps images (samples, channels, height, width), preprocessed as the
    trial's were, to logits (samples, classes). Its weights are those that `keep_weights` asked for.

    Args:
        folder: the folder of a done trial, `runs/trials/ID`.

    Raises:
        RequestError: there is no such trial, it is damaged, it keeps no weights, or its user's own
            activation or network was edited since.
    """
    record = _kept_record(Path(folder))
    path = record.folder / wholeness.WEIGHTS
    spec = _as_trained(record)
    edited = edited_callable(spec)
    if edited is not None:
        raise RequestError(f"{edited} was edited after trial {record.trial_id}")
    try:
        tensors, origin = read_weights(path)
        # On the meta device torch draws nothing, so that no global random state is touched.
        with torch.device("meta"):
            network = build_network(spec, origin.shape, origin.classes)
        _load(network, tensors)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"{path} does not fit its trial's network: {reason}") from None
    return network.eval()


def _load(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives a network its parameters and buffers by name.

    Raises:
        ValueError: one is missing, or there is one too many.
        RuntimeError: one has another shape.
    """
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    if set(own) != set(tensors):
        raise ValueError(f"other tensors: {', '.join(sorted(set(own) ^ set(tensors))[:3])}")
    # What the network's state leaves out is computed when it is made. A tensor that stands at two
    # places is stored once.
    stored = network.state_dict()
    loaded = {name: tensor for name, tensor in tensors.items() if name in stored}
    network.load_state_dict(loaded, assign=True, strict=False)


def trained_specification(folder: Path | str) -> dict[str, Any]:
    """Returns the specification of a trial with kept weights, its repair applied.

    Args:
        folder: as in `trained_network`.

    Raises:
        RequestError: as in `trained_network`.
    """
    return _as_trained(_kept_record(Path(folder)))


def _as_trained(record: Record) -> dict[str, Any]:
    return repairs.transform_spec(record.spec)


def _kept_record(folder: Path) -> Record:
    """Returns the record of a done trial that keeps weights, every file of which is whole.

    Raises:
        RequestError: it is no such trial.
    """
    if not (folder / wholeness.MARKER).is_file():
        raise RequestError(f"{folder} is no folder of a done trial; expected runs/trials/ID")
    # `runs/trials/ID/` and `.` name the folder as well.
    folder = folder.resolve()
    wholeness.check(folder, thorough=True)
    record = read_record(folder)
    if wholeness.kept_weights(folder) == "none":
        if record.status == "diverged":
            reason = f"it diverged at step {record.diverged_step}"
        else:
            reason = "the same sweep with keep_weights=best or keep_weights=last trains it again"
        raise RequestError(f"trial {record.trial_id} keeps no weights: {reason}")
    return record
