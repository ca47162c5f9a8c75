"""A trained store, and a real MLflow server on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from harness.store.trials import Store
from harness.sweeps import sweep

TINY = {
    "depth": 3,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 4,
    "budget.evaluations": 2,
    "budget.probes": 3,
    "seeds": 2,
}


@pytest.fixture
def tiny() -> dict[str, object]:
    """The choices of a request that trains in a moment."""
    return TINY


@pytest.fixture
def trained(make_config):
    config = make_config(**TINY)
    sweep.prefetch([config])
    return Store(config.runs)


@pytest.fixture(scope="session")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def server(port, tmp_path_factory) -> Iterator[str]:
    """A real `mlflow server` on loopback."""
    folder = tmp_path_factory.mktemp("server")
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,
        )
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.25)
    yield address
    os.killpg(process.pid, 15)
    process.wait(30)
