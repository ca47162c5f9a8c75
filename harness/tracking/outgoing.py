"""A trial on its way to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from numpy.typing import NDArray

from harness.store.records import Record
from harness.tracking.contents import Contents


@dataclass(frozen=True)
class Outgoing:
    """A trial on its way to MLflow, with its run so far.

    Attributes:
        record: the trial in the store.
        layers: the columns of its layer table that its run needs.
        contents: the description of its run.
        judged: its verdicts; None where its run gets no figure and no page.
        run_id: the id of its run; empty before the run was begun.
        place: the address at which its run keeps files; empty before the run was begun.
        fault: the reason why this trial cannot be sent; empty where it can.
    """

    record: Record
    layers: Mapping[str, NDArray]
    contents: Contents
    judged: Mapping[str, NDArray] | None = None
    run_id: str = ""
    place: str = ""
    fault: str = ""


class Outcome(NamedTuple):
    """The end of the attempt to send a trial.

    `sent` is False for a trial that was there already, and for one with a `fault`.
    """

    trial_id: str
    sent: bool
    fault: str = ""
