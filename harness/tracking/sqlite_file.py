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

# Tables that have rows once somebody has used the store, and what is counted in each.
_USED = {"runs": "runs", "experiments": "experiments WHERE name != 'Default'"}
# What names of tables begin with that SQLite and the tool of migrations make for themselves.
_INTERNAL = ("sqlite_", "alembic_", "_alembic_")
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
        _check_readable(file, address.shown)
        return MlflowClient(address.uri)
    except RequestError:
        raise
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


def _check_readable(file: Path, shown: str) -> None:
    """Opens the file once: MLflow would try for minutes what cannot be opened.

    Raises:
        RequestError: it is another program's database, to which MLflow would add its tables.
        sqlite3.Error: it cannot be read.
    """
    names = _tables(file)
    if "experiments" not in names and not _all_known(names):
        raise RequestError(
            f"{shown} is a database of another program ({', '.join(names)}); give another address"
        )


def _holds_nothing(file: Path) -> bool:
    """Returns whether a file that MLflow cannot open has tables of MLflow alone and no run."""
    try:
        names = _tables(file)
        if not names or not _all_known(names):
            return False
        with contextlib.closing(sqlite3.connect(file)) as database:
            counts = [
                database.execute(f"SELECT count(*) FROM {source}").fetchone()[0]
                for name, source in _USED.items()
                if name in names
            ]
        return not any(counts)
    except sqlite3.Error:
        return False


def _tables(file: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        return [name for (name,) in database.execute(query)]


def _all_known(names: Iterable[str]) -> bool:
    """Returns whether all these tables are MLflow's."""
    from mlflow.store.tracking.dbmodels.models import Base

    known = {*Base.metadata.tables, *_USED}
    return all(name in known or name.startswith(_INTERNAL) for name in names)


def _remove(file: Path) -> None:
    for ending in _JOURNALS:
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)
