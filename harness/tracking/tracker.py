"""The tracker of a sweep: it sends finished trials."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.trials import Store
from harness.tracking.failures import first_line

if TYPE_CHECKING:
    from harness.tracking.connection import Connection

_LOGGER = logging.getLogger(__name__)
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "file")


class Tracker:
    """Sends finished trials to MLflow; without a connection (tracking=none) it sends nothing."""

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection = connection

    @property
    def connected(self) -> bool:
        """True while trials can be sent: a failure ends the connection."""
        return self._connection is not None

    @property
    def in_bulk(self) -> bool:
        """True while many trials are sent in one transaction."""
        return self._connection is not None and self._connection.in_bulk

    def log(self, store: Store, trial_ids: Sequence[str]) -> int:
        """Sends those finished trials that were not sent before, and returns their number.

        A failure of MLflow is logged as one warning, which names the trial that was not sent.
        """
        if self._connection is None:
            return 0
        sent: list[bool] = []
        try:
            for is_new in self._connection.send(map(store.read, trial_ids)):
                sent.append(is_new)
        except Exception as error:  # of any kind: the trial is in the store and can be sent later
            _LOGGER.warning(
                "MLflow did not take trial %s (%s); send what is missing with: %s",
                trial_ids[len(sent)],
                first_line(error),
                _sync_command(store.runs),
            )
            self._connection = None
        return sum(sent)

    def links(self) -> list[str]:
        """Returns lines that say where to look at the trials."""
        return self._connection.links() if self._connection is not None else []


def check(settings: TrackingConfig) -> None:
    """Refuses an address that MLflow could not understand.

    Raises:
        RequestError: the scheme of `tracking.uri` is none of MLflow's.
    """
    if settings.uri is None:
        return
    scheme = urlsplit(settings.uri).scheme.partition("+")[0]
    if scheme not in _SCHEMES:
        allowed = ", ".join(f"{name}:" for name in _SCHEMES)
        raise RequestError(
            f"tracking.uri={settings.uri}: expected an address that begins with one of {allowed}"
        )


def open(settings: TrackingConfig, runs: Path, *, bulk: bool = True) -> Tracker:
    """Returns a tracker for the trials of `runs`.

    A server that does not answer costs one warning; the sweep goes on without it.

    Args:
        settings: the address, and whether trials are sent at all.
        runs: the folder of the store.
        bulk: allows to send many trials in one transaction, where the tracking store permits it.

    Raises:
        RequestError: the address is nonsense.
    """
    check(settings)
    if not settings.enabled:
        return Tracker()
    # MLflow takes seconds to import, which a sweep without tracking need not wait for.
    from harness.tracking.connection import Connection

    try:
        return Tracker(Connection(settings, Path(runs), bulk=bulk))
    except Exception as error:  # of any kind: the trials are in the store and can be sent later
        _LOGGER.warning(
            "MLflow cannot be reached (%s); results are kept in %s, send them later with: %s",
            first_line(error),
            runs,
            _sync_command(runs),
        )
        return Tracker()


def _sync_command(runs: Path) -> str:
    return f"python scripts/sync_mlflow.py --runs {runs}"
