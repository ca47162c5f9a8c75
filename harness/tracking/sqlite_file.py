"""The SQLite file of a tracking store: made whole or not at all.

MLflow makes its tables in some forty steps, which take seconds. A process that is killed meanwhile,
or a full disk, would leave a file that MLflow can never open again. So a new store is made under
another name and gets its own when it is whole; a file that was torn before and holds no run is put
aside and made anew.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import uuid
from collections.abc import Iterable
from pathlib import Path

from mlflow.tracking import MlflowClient

from harness.errors import RequestError
from harness.tracking.address import Address, file_uri
from harness.tracking.failures import cause

_JOURNALS = ("", "-journal", "-wal", "-shm")


def opened(address: Address) -> MlflowClient:
    """Returns a client of the store, which is made where there is none.

    To be called under a lock that all openers of the file share.

    Raises:
        RequestError: the file is no tracking store, or one of another version.
        OSError, MlflowException, SQLAlchemyError: the file cannot be made or opened.
    """
    file = address.file
    if file is None:
        raise TypeError(f"{address.shown} is no SQLite file")
    if not file.exists() or not file.stat().st_size:
        _make(file)
    forget(address.uri)
    try:
        _check_readable(file)
        return MlflowClient(address.uri)
    except Exception as error:
        forget(address.uri)
        if _holds_nothing(file):
            # Its tables were never completed.
            os.replace(file, file.with_name(f"{file.name}.torn"))
            _make(file)
            return MlflowClient(address.uri)
        raise explained(error, address) from error


def forget(uri: str) -> None:
    """Closes the connections that MLflow keeps to a file, which may be another by now."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = getattr(SqlAlchemyStore, "_engine_map", {}).get(uri)
    if engine is not None:
        engine.dispose()


def explained(error: Exception, address: Address) -> Exception:
    """Returns a request error that says what to do where MLflow refuses a schema."""
    message = str(error)
    place = f"MLflow's database {address.shown}"
    if "out-of-date database schema" in message or "already exists" in message:
        return RequestError(
            f"{place} was made by an older MLflow; take a copy of it, then run:"
            f" mlflow db upgrade {shlex.quote(address.shown)}"
        )
    if "Can't locate revision" in message:
        return RequestError(
            f"{place} was made by a newer MLflow; install that one, or give another address"
        )
    if "file is not a database" in message:
        return RequestError(f"{place} is no SQLite file; give another address")
    return error


def identity(file: Path) -> tuple[int, int] | None:
    """Returns what tells a file from another that took its name, None where there is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _make(file: Path) -> None:
    """Makes the tables of a store under another name, and then gives them the file's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{file.name}.*.new*"):
        left.unlink(missing_ok=True)
    # MLflow keeps every store that it has opened by its address: a name that was never used.
    new = file.with_name(f".{file.name}.{uuid.uuid4().hex}.new")
    uri = file_uri(new)
    try:
        MlflowClient(uri)
        forget(uri)
        _check_whole(new)
        os.replace(new, file)
    except BaseException as error:
        forget(uri)
        _remove(new)
        if isinstance(error, Exception):
            raise OSError(f"{file} cannot be made: {cause(error)}") from error
        raise


def _check_whole(new: Path) -> None:
    """Refuses a file whose pages did not all reach the disk."""
    with contextlib.closing(sqlite3.connect(new)) as database:
        (answer,) = database.execute("PRAGMA quick_check").fetchone()
        if answer != "ok":
            raise OSError(f"the new database is damaged: {answer}")


def _check_readable(file: Path) -> None:
    """Opens the file once: MLflow would try for minutes what cannot be opened."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("SELECT name FROM sqlite_master").fetchall()


def _holds_nothing(file: Path) -> bool:
    """Returns whether a file that MLflow cannot open has tables of MLflow alone and no run."""
    from mlflow.store.db.base_sql_model import Base

    try:
        with contextlib.closing(sqlite3.connect(file)) as database:
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            names = [name for (name,) in database.execute(query)]
            known = {*Base.metadata.tables, "metrics", "runs", "experiments"}
            if not names or not all(_is_known(name, known) for name in names):
                return False
            own = "experiments WHERE name != 'Default'"
            counts = [
                database.execute(f"SELECT count(*) FROM {source}").fetchone()[0]
                for source in _sources(names, own)
            ]
            return not any(counts)
    except sqlite3.Error:
        return False


def _sources(names: Iterable[str], experiments: str) -> list[str]:
    """Returns what to count: runs and experiments of a user, as far as there are such tables."""
    sources = {"runs": "runs", "experiments": experiments}
    return [source for name, source in sources.items() if name in names]


def _is_known(name: str, known: set[str]) -> bool:
    return name in known or name.startswith(("alembic_", "_alembic_", "sqlite_"))


def _remove(file: Path) -> None:
    for ending in _JOURNALS:
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)
