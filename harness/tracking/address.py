"""The address of a tracking store: where it comes from, what it may be, and how it is printed."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError

if TYPE_CHECKING:
    from sqlalchemy import URL

EXPERIMENT = "selu"
_DATABASES = ("postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")
_ALLOWED = ", ".join(f"{name}:" for name in ("sqlite", *_SERVERS, *_DATABASES))
# Characters of a path that have a meaning in an address.
_ODD = re.compile(r"[%?#]")
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
# The package that brings each driver of SQLAlchemy.
_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
}


@dataclass(frozen=True)
class Address:
    """A tracking store and the name of an experiment in it.

    Attributes:
        uri: the address as MLflow takes it, with its password.
        experiment: the name of the experiment.
        file: the SQLite file; None for a server or another database.
        variables: the environment variables that were used.
    """

    uri: str
    experiment: str
    file: Path | None = None
    variables: tuple[str, ...] = ()

    @property
    def is_server(self) -> bool:
        """True for a tracking server, False for a database."""
        return urlsplit(self.uri).scheme in _SERVERS

    @property
    def shown(self) -> str:
        """The address without its password, for messages and files."""
        return masked(self.uri)

    @property
    def origin(self) -> str:
        """A phrase that names the environment variables used, or nothing."""
        return f" (from {' and '.join(self.variables)})" if self.variables else ""

    def sync_command(self, runs: Path) -> str:
        """Returns the command that sends what is missing, quoted for a shell."""
        words = ["python", "scripts/sync_mlflow.py", "--runs", str(runs)]
        words += ["--uri", self.shown, "--experiment", self.experiment]
        return shlex.join(words)

    def interface_command(self) -> str:
        """Returns the command that serves a database's interface, quoted for a shell."""
        return shlex.join(["mlflow", "ui", "--backend-store-uri", self.shown])

    def without_password(self, text: str) -> str:
        """Returns a text in which the password, if the address has one, is masked."""
        password = urlsplit(self.uri).password if self.file is None else None
        return text.replace(password, "***") if password else text


def resolve(settings: TrackingConfig, runs: Path) -> Address:
    """Returns the address that the settings mean.

    What the settings leave open is taken from MLflow's environment variables, and then the address
    is `mlflow.db` in the runs folder.

    Raises:
        RequestError: MLflow could not use the address.
    """
    uri, experiment, variables = settings.uri, settings.experiment, []
    if uri is None and os.environ.get(_URI_VARIABLE):
        uri = os.environ[_URI_VARIABLE]
        variables.append(_URI_VARIABLE)
    if experiment is None and os.environ.get(_EXPERIMENT_VARIABLE):
        experiment = os.environ[_EXPERIMENT_VARIABLE]
        variables.append(_EXPERIMENT_VARIABLE)
    experiment = experiment or EXPERIMENT
    if uri is None:
        file = Path(runs).resolve() / "mlflow.db"
        return Address(file_uri(file), experiment, file, tuple(variables))
    name = _URI_VARIABLE if _URI_VARIABLE in variables else "tracking.uri"
    file = _checked(uri, f"{name}={masked(uri)}")
    return Address(file_uri(file) if file else uri, experiment, file, tuple(variables))


def file_uri(file: Path) -> str:
    """Returns the address of an SQLite file, whatever characters its path has.

    Raises:
        RequestError: this SQLAlchemy has no address for such a path.
    """
    if not _ODD.search(str(file)):
        return f"sqlite:///{file}"
    from sqlalchemy import URL, make_url

    # MLflow makes the parent folders of `sqlite:///...` from the text as it is, that is, encoded.
    uri = URL.create("sqlite+pysqlite", database=str(file)).render_as_string()
    if make_url(uri).database != str(file):
        raise RequestError(
            f"MLflow's database cannot be named {file}: this SQLAlchemy takes no %, ? or # in a"
            " path; give another folder with runs=, another address with tracking.uri=, or"
            " tracking=none"
        )
    return uri


def masked(uri: str) -> str:
    """Returns an address in which *** stands for the password."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))


def _checked(uri: str, shown: str) -> Path | None:
    """Returns the file of an SQLite address, None for any other that can be used.

    Raises:
        RequestError: the address cannot be used.
    """
    scheme = urlsplit(uri).scheme
    database = scheme.partition("+")[0]
    if scheme in _SERVERS:
        if not urlsplit(uri).hostname:
            raise RequestError(f"{shown}: the name of the server is missing")
        return None
    if scheme == "file":
        return _refuse_folder(shown)
    if database != "sqlite" and database not in _DATABASES:
        raise RequestError(f"{shown}: expected an address that begins with one of {_ALLOWED}")
    url = _parsed(uri, shown)
    if database == "sqlite":
        return _sqlite_file(url, shown)
    _check_driver(url, shown)
    return None


def _parsed(uri: str, shown: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri)
    except (ArgumentError, ValueError):
        raise RequestError(
            f"{shown}: expected DATABASE://USER:PASSWORD@HOST:PORT/NAME or sqlite:////PATH"
        ) from None


def _sqlite_file(url: URL, shown: str) -> Path:
    path = url.database or ":memory:"
    if ":memory:" in path or url.query.get("mode") == "memory":
        raise RequestError(
            f"{shown}: a database in memory loses its runs; give a file as sqlite:////PATH"
        )
    if path.startswith("file:"):
        raise RequestError(f"{shown}: give the file plainly, as sqlite:////PATH")
    return Path(path).resolve()


def _check_driver(url: URL, shown: str) -> None:
    from sqlalchemy.exc import NoSuchModuleError

    try:
        url.get_dialect().import_dbapi()
    except NoSuchModuleError:
        raise RequestError(f"{shown}: SQLAlchemy knows no driver {url.drivername}") from None
    except ImportError as error:
        module = str(error.name)
        database = url.get_backend_name()
        if database == "postgresql" and importlib.util.find_spec("psycopg2"):
            advice = "write postgresql+psycopg2:// for the one that is installed"
        else:
            advice = f"pip install {_PACKAGES.get(module, module)}"
        raise RequestError(f"{shown}: the driver {module} is not installed; {advice}") from None


def _refuse_folder(shown: str) -> None:
    """Refuses a folder of files, unless this MLflow still serves it.

    Raises:
        RequestError: it does not.
    """
    # MLflow takes seconds to import, for such an address alone.
    from mlflow import environment_variables

    switch = getattr(environment_variables, "MLFLOW_ALLOW_FILE_STORE", None)
    if switch is not None and not switch.get():
        raise RequestError(
            f"{shown}: this MLflow keeps no runs in plain folders; give sqlite:////PATH/mlflow.db"
            " (mlflow migrate-filestore copies the runs that are there)"
        )
