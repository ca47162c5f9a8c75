"""MLflow fails while a sweep sends to it: the same command then sends every trial exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from harness.configuration.schema import Config
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.tracking import reachability, tracker
from tests.faults import endurance
from tests.faults.unreliable import MODES, Unreliable
from tests.tracking.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

TINY = {
    "depth": 2,
    "width": 4,
    "budget.epochs": None,
    "budget.steps": 6,
    "budget.evaluations": 2,
    "budget.probes": 2,
    "probe.samples": 16,
    "seeds": 4,
    "tracking": "mlflow",
    "tracking.figures": False,
}


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory) -> Iterator[MlflowServer]:
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def proxy(mlflow_server) -> Iterator[Unreliable]:
    proxy = Unreliable(mlflow_server.port)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """An outage costs moments, as the server comes back within a test."""
    monkeypatch.setattr(tracker, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(tracker, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(reachability, "SECONDS", 2)


@pytest.fixture
def undisturbed(make_config, tmp_path):
    config = make_config(**TINY | {"tracking": "none"}, runs=str(tmp_path / "undisturbed"))
    sweep.prefetch([config], pack=1, workers=1)
    return collect(Store(config.runs))


def run(config: Config) -> None:
    sweep.prefetch([config], pack=1, workers=1)


def assert_nothing_is_lost(config: Config, server: str, undisturbed) -> None:
    """The tables are those of an undisturbed sweep, and every trial has one finished run."""
    outcome = endurance.compare(endurance.Outcome("", 1), undisturbed, Store(config.runs).runs)
    assert outcome.is_clean, outcome
    runs = endurance.runs_by_trial(server, config.tracking.experiment)
    assert sorted(runs) == Store(config.runs).trial_ids()
    assert set(runs.values()) == {("FINISHED",)}


def at_trial(monkeypatch, number: int, act: Callable[[], None]) -> None:
    """Acts once so many trials have been stored."""
    ordinary = Store.finish
    finished = []

    def finish(self, trial_id, **result):
        ordinary(self, trial_id, **result)
        finished.append(trial_id)
        if len(finished) == number:
            act()

    monkeypatch.setattr(Store, "finish", finish)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["throughout", "at the start", "in the middle", "at the end"])
def test_a_failing_server_loses_and_doubles_nothing(
    make_config, mlflow_server, proxy, undisturbed, mode, when
):
    name = f"{mode} {when}"
    config = make_config(**TINY, **{"tracking.uri": proxy.address, "tracking.experiment": name})

    def switch(to: str) -> None:
        # A trial is sent after it is stored, so that pauses pass here.
        time.sleep(0.15)
        proxy.mode = to

    with pytest.MonkeyPatch.context() as patch:
        if when in ("throughout", "at the start"):
            proxy.mode = mode
        if when == "at the start":
            at_trial(patch, 2, lambda: switch("open"))
        elif when == "in the middle":
            at_trial(patch, 2, lambda: switch(mode))
            at_trial(patch, 3, lambda: switch("open"))
        elif when == "at the end":
            at_trial(patch, 3, lambda: switch(mode))
        run(config)
    proxy.mode = "open"
    run(config)
    assert proxy.requests > 0
    assert proxy.failed > 0 or mode == "slow"
    assert_nothing_is_lost(config, mlflow_server.address, undisturbed)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_server_that_is_killed_and_started_again_loses_and_doubles_nothing(
    make_config, tmp_path, undisturbed, monkeypatch, number
):
    server = MlflowServer(tmp_path)
    server.start()

    def restart() -> None:
        server.kill()
        server.start()

    try:
        config = make_config(
            **TINY, **{"tracking.uri": server.address, "tracking.experiment": "killed"}
        )
        at_trial(monkeypatch, number, restart)
        run(config)
        monkeypatch.undo()
        run(config)
        assert_nothing_is_lost(config, server.address, undisturbed)
    finally:
        server.kill()
