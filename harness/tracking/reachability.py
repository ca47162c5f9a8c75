"""A quick look whether a tracking store answers.

MLflow waits long for a server that accepts a connection and says nothing, and it tries for minutes
to open a database that is not there. So this asks first, and briefly.
"""

from __future__ import annotations

import contextlib

from harness.tracking.address import Address

# A server on a busy machine answers within this time, and a sweep can wait for it at its end.
SECONDS = 5


def check(address: Address) -> None:
    """Returns when a tracking store answers; an SQLite file is not looked at.

    Raises:
        OSError, SQLAlchemyError: it does not answer.
    """
    if address.is_server:
        _check_server(address.uri)
    elif address.file is None:
        _check_database(address.uri)


def _check_server(uri: str) -> None:
    """Asks for any answer at all: a proxy may not know MLflow's page of health."""
    import requests

    # What MLflow itself is told about certificates is left to MLflow.
    with contextlib.suppress(requests.exceptions.SSLError):
        requests.get(f"{uri.rstrip('/')}/health", timeout=SECONDS, allow_redirects=False).close()


def _check_database(uri: str) -> None:
    from sqlalchemy import create_engine, make_url

    options = {}
    if make_url(uri).get_backend_name() in ("postgresql", "mysql"):
        options["connect_timeout"] = SECONDS
    engine = create_engine(uri, connect_args=options)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
