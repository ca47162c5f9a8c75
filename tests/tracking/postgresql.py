"""A PostgreSQL of its own on a port of this machine, from Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.tracking.mlflow_server import free_port

_DEBIAN = Path("/usr/lib/postgresql")
# PostgreSQL refuses to run as root.
_USER = "postgres"


def why_not() -> str | None:
    """Returns the reason why no PostgreSQL can be started here, or None."""
    if _programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if os.getuid() == 0 and _USER not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no user {_USER}"
    return None


class PostgreSQL:
    """A database server with an empty database `mlflow`, which can crash and start again."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            self._as_user = {"user": _USER, "group": _USER, "extra_groups": []}
            shutil.chown(self._folder, _USER, _USER)
        self._port = free_port()
        self.address = f"postgresql+psycopg2://mlflow@127.0.0.1:{self._port}/mlflow"
        self._data = self._folder / "data"
        self._run("initdb", "-D", self._data, "-U", "mlflow", "-A", "trust", "--no-sync")
        self.start()
        host = ("-h", "127.0.0.1", "-p", str(self._port), "-U", "mlflow")
        self._run("createdb", *host, "mlflow")

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder}"
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-o", options, "-w", "start")

    def crash(self) -> None:
        """Ends the server without letting it write or answer anything."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        """Ends the server and deletes its files."""
        self.crash()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(_programs() / program), *map(str, arguments)]
        # The server keeps the pipes of the command that starts it, so there are none.
        said = self._folder / "said"
        with open(said, "w") as file:
            code = subprocess.run(
                command, cwd=self._folder, stdout=file, stderr=file, **self._as_user
            ).returncode
        assert code == 0, said.read_text()


def _programs() -> Path | None:
    """Returns the folder of PostgreSQL's programs, of the newest version that Debian has."""
    folders = [path for path in _DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    if folders:
        return max(folders, key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    return Path(found).parent if found else None
