"""A real `mlflow server` on a port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

# A server imports for seconds, and for minutes on a machine that is busy otherwise.
_PATIENCE_SECONDS = 300
# Jobs of its own, which only MLflow's evaluations ask for, are seven more processes.
_SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port() -> int:
    """Returns a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port: int) -> bool:
    """True when a server on this port of this machine says that it is well."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=20).ok
    except requests.RequestException:
        return False


class MlflowServer:
    """A server that can be killed and started again.

    Args:
        folder: holds its log, its artifacts, and its database where it is SQLite.
        database: the address of the database; None for an SQLite file in the folder.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._database = database or f"sqlite:///{folder / 'mlflow.db'}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", self._database),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        log = self._folder / "log"
        with open(log, "a") as file:
            self._process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                env=os.environ | _SETTINGS,
                start_new_session=True,
            )
        end = time.monotonic() + _PATIENCE_SECONDS
        while not answers(self.port):
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no server within {_PATIENCE_SECONDS} seconds"
            time.sleep(0.25)

    def ensure(self) -> None:
        """Starts the server unless it is running."""
        if self._process is None:
            self.start()

    def kill(self) -> None:
        """Kills the server with all its processes, whatever they are doing."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
