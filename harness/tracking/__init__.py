"""From the store to MLflow, for review. The store is the truth: an outage here fails no trial and loses nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store.trials import Store

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "file")


class Tracker:
    """Sends finished trials; one that does not (tracking=none) has no connection."""

    def __init__(self, connection: Any = None) -> None:
        self._connection = connection

    @property
    def connected(self) -> bool:
        """Whether trials can be sent."""
        return self._connection is not None

    def log(self, store: Store, trial_ids: Sequence[str]) -> int:
        """Send the finished trials that were not sent before; returns how many. Warns once when the server is away."""
        taken: list[bool] = []
        if self._connection is not None:
            try:
                for new in self._connection.send(map(store.read, trial_ids)):
                    taken.append(new)
            except Exception as error:  # any failure of the tracker: the trial is safe in the store and can be sent later
                print(
                    f"warning: MLflow did not take trial {trial_ids[len(taken)]} ({reason(error)}); send what is missing with: python scripts/sync_mlflow.py --runs {store.runs}",
                    file=sys.stderr,
                )
                self._connection = None
        return sum(taken)

    def links(self) -> list[str]:
        """Lines that say where to look."""
        return self._connection.links() if self._connection is not None else []


def check(settings: TrackingConfig) -> None:
    """Refuse a tracking address that MLflow could not understand; RequestError."""
    if settings.uri is not None and urlsplit(settings.uri).scheme.split("+")[0] not in _SCHEMES:
        raise RequestError(
            f"tracking.uri={settings.uri}: expected an address that begins with one of {', '.join(scheme + ':' for scheme in _SCHEMES)}"
        )


def open(settings: TrackingConfig, runs: Path) -> Tracker:
    """A tracker for the trials of `runs`. A server that does not answer costs one warning; the sweep goes on without it."""
    check(settings)
    if not settings.enabled:
        return Tracker()
    from harness.tracking.connection import Connection  # mlflow takes seconds to import

    try:
        return Tracker(Connection(settings, Path(runs)))
    except Exception as error:  # see Tracker.log
        print(
            f"warning: MLflow cannot be reached ({reason(error)}); results are kept in {runs}, send them later with: python scripts/sync_mlflow.py --runs {runs}",
            file=sys.stderr,
        )
        return Tracker()


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
