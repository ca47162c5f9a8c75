"""A trained store, and a real MLflow server on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.benchmark import synthetic_trials
from harness.configuration.trial import trials
from harness.store.trials import Store
from harness.sweeps import sweep
from tests.tracking.gate import Gate
from tests.tracking.mlflow_server import MlflowServer

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
def warnings_of_harness(caplog) -> Callable[[], str]:
    """The messages that the harness has logged in this test, one a line."""

    def messages() -> str:
        records = [record for record in caplog.records if record.name.startswith("harness")]
        return "\n".join(record.getMessage() for record in records)

    return messages


@pytest.fixture
def trained(make_config):
    config = make_config(**TINY)
    sweep.prefetch([config])
    return Store(config.runs)


@pytest.fixture(scope="session")
def tables_of_mlflow(tmp_path_factory) -> Path:
    """A store that its own client made, without runs: making it takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory) -> Iterator[MlflowServer]:
    """A real `mlflow server` on loopback."""
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def server(mlflow_server) -> str:
    """The address of the server."""
    return mlflow_server.address


@pytest.fixture
def gate(mlflow_server) -> Iterator[Gate]:
    """A gate before the server."""
    gate = Gate(mlflow_server.port)
    yield gate
    gate.close()


@pytest.fixture
def synthetic(tmp_path, tables_of_mlflow) -> Store:
    """A store of four made-up trials in two cells, beside an empty `mlflow.db`."""
    return made_up(tmp_path / "runs", tables_of_mlflow)


def unseal(folder: Path) -> None:
    """Lets a trial's marker vouch for nothing, so that a test may change its files."""
    (folder / "done").write_bytes(b"")


def made_up(runs: Path, tables: Path | None) -> Store:
    """A store of four made-up trials, with an empty `mlflow.db` where its tables are given."""
    store = Store(runs, sync=False)
    configs = synthetic_trials.cell_configs(2, Path("runs"))
    cells = [trial for config in configs for trial in trials(config)[:2]]
    synthetic_trials.store_results(store, cells)
    if tables is not None:
        shutil.copy(tables, runs / "mlflow.db")
    return store
