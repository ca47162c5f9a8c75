"""The tracker of a sweep: it sends finished trials, and tries again after an outage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.trials import Store
from harness.tracking import address, run_names
from harness.tracking.address import Address
from harness.tracking.failures import cause

if TYPE_CHECKING:
    from harness.tracking.connection import Connection

_LOGGER = logging.getLogger(__name__)
# Seconds between two attempts while the store does not answer: doubled each time, up to the last.
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0

Connect = Callable[[], "Connection"]


class Tracker:
    """Sends finished trials to MLflow.

    While the tracking store does not answer, trials wait for the next attempt; what is missing in
    the end can be sent later with the command that the last warning names.

    Attributes:
        faults: the reason for each trial that cannot be sent, by its id.
        refusal: what the user has to mend before anything can be sent, or None.
        missing: the trials that are not in MLflow, faults excluded.
        sent: the number of trials sent.
    """

    def __init__(self, place: Address | None = None, connect: Connect | None = None) -> None:
        self.faults: dict[str, str] = {}
        self.refusal: str | None = None
        self.missing: dict[str, None] = {}
        self.sent = 0
        self._place = place
        self._connect = connect
        self._connection: Connection | None = None
        self._cause = ""
        self._warned = False
        self._pause = _FIRST_PAUSE
        self._next_attempt = 0.0

    @property
    def connected(self) -> bool:
        """True while the tracking store answers."""
        return self._connection is not None

    @property
    def in_bulk(self) -> bool:
        """True while many trials are sent in one transaction."""
        return self._connection is not None and self._connection.in_bulk

    def open(self, runs: Path) -> None:
        """Opens the tracking store; a failure is one warning."""
        if self._connect is None:
            return
        try:
            self._connection = self._connect()
        except Exception as error:  # of any kind: the trials are in the store
            self._failed(error, runs)

    def log(
        self,
        store: Store,
        trial_ids: Sequence[str],
        *,
        last: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """Sends those of these trials, and of those that wait, that MLflow does not have.

        Args:
            store: the trials.
            trial_ids: finished trials.
            last: the sweep is done: tries once more, makes the runs of cells, and says what is
                missing.
            progress: is told the number of trials that were dealt with since it was told before.

        Returns:
            The number of trials sent.
        """
        if self._connect is None or self.refusal is not None:
            return 0
        self.missing |= dict.fromkeys(name for name in trial_ids if name not in self.faults)
        if not last and time.monotonic() < self._next_attempt:
            return 0
        sent_before = self.sent
        while True:
            before = len(self.missing)
            try:
                self._send(store, progress)
                if last and self._connection is not None:
                    self._connection.send_cells(store, trial_ids)
            except Exception as error:  # of any kind: the trials are in the store
                self._failed(error, store.runs, next(iter(self.missing), ""), last=last)
                # What stopped it may be over: as long as it goes on, it is tried at once.
                if len(self.missing) < before and self.refusal is None:
                    continue
            break
        if last and self.refusal is None and not self.connected:
            self._say_what_is_missing(store.runs)
        return self.sent - sent_before

    def links(self) -> list[str]:
        """Returns lines that say where to look at the trials."""
        return self._connection.links() if self._connection is not None else []

    def _send(self, store: Store, progress: Callable[[int], object] | None) -> None:
        if not self.missing:
            return
        if self._connection is None and self._connect is not None:
            self._connection = self._connect()
        if self._connection is None:
            return
        for outcome in self._connection.send(store, list(self.missing)):
            del self.missing[outcome.trial_id]
            self.sent += outcome.sent
            if outcome.fault:
                self.faults[outcome.trial_id] = outcome.fault
                _LOGGER.warning(
                    "trial %s cannot be sent to MLflow: %s", outcome.trial_id, outcome.fault
                )
            if progress is not None:
                progress(1)
        self._warned = False
        self._pause = _FIRST_PAUSE
        self._next_attempt = 0.0

    def _failed(
        self, error: Exception, runs: Path, trial_id: str = "", *, last: bool = False
    ) -> None:
        """Notes a failure; the first one of an outage is a warning, unless a last one follows."""
        was_open = self._connection is not None
        self._connection = None
        self._next_attempt = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        reason = self._reason(error)
        if isinstance(error, RequestError):
            self.refusal = reason
            _LOGGER.warning(
                "nothing is sent to MLflow: %s; results are kept in %s, send them later with: %s",
                reason,
                runs,
                self._sync_command(runs),
            )
        elif not self._warned and not last:
            self._warned = True
            subject = (
                f"MLflow did not take trial {trial_id} ({reason})"
                if was_open and trial_id
                else f"MLflow cannot be reached at {self._shown} ({reason})"
            )
            _LOGGER.warning("%s; results are kept in %s, and it is tried again", subject, runs)
        self._cause = reason

    def _say_what_is_missing(self, runs: Path) -> None:
        _LOGGER.warning(
            "%s not in MLflow at %s (%s); send what is missing with: %s",
            f"{len(self.missing)} trials are" if self.missing else "the means of cells are",
            self._shown,
            self._cause,
            self._sync_command(runs),
        )

    def _reason(self, error: Exception) -> str:
        text = cause(error)
        return self._place.without_password(text) if self._place is not None else text

    @property
    def _shown(self) -> str:
        return f"{self._place.shown}{self._place.origin}" if self._place is not None else ""

    def _sync_command(self, runs: Path) -> str:
        return self._place.sync_command(runs) if self._place is not None else ""


def check(settings: TrackingConfig, runs: Path) -> None:
    """Refuses an address that MLflow could not use.

    Raises:
        RequestError: the address is nonsense, or what it needs is not installed.
    """
    if settings.enabled or settings.uri is not None:
        address.resolve(settings, runs)


def open(
    settings: TrackingConfig,
    runs: Path,
    *,
    bulk: bool = True,
    cells: Iterable[Mapping[str, Any]] = (),
    at_once: bool = True,
) -> Tracker:
    """Returns a tracker for the trials of `runs`.

    A server that does not answer costs one warning; the sweep goes on, and it is tried again.

    Args:
        settings: the address, and whether trials are sent at all.
        runs: the folder of the store.
        bulk: allows to send many trials in one transaction, where the tracking store permits it.
        cells: the axes of every cell of the sweep; names of runs begin with what differs.
        at_once: opens the tracking store now, and not when the first trials are sent.

    Raises:
        RequestError: the address is nonsense.
    """
    if not settings.enabled:
        check(settings, runs)
        return Tracker()
    place = address.resolve(settings, runs)
    differing = run_names.differing(cells)

    def connect() -> Connection:
        # MLflow takes seconds to import, which a sweep without tracking need not wait for.
        from harness.tracking.connection import Connection

        return Connection(place, settings, Path(runs), bulk=bulk, differing=differing)

    tracker = Tracker(place, connect)
    if at_once:
        tracker.open(Path(runs))
    return tracker
