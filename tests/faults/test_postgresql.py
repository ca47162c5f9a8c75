"""MLflow on PostgreSQL: server or database end in the middle, and every trial is there once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import tracking
from harness.configuration.schema import TrackingConfig
from harness.store.trials import Store
from harness.sweeps import sweep
from harness.tracking.run_verification import Runs, missing
from tests.faults import endurance
from tests.faults.test_unreliable_tracking import (
    TINY,
    assert_nothing_is_lost,
    at_trial,
    impatient,
    run,
    undisturbed,
)
from tests.tracking.mlflow_server import MlflowServer
from tests.tracking.postgresql import PostgreSQL, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
]
# Fixtures of the tests with SQLite, which hold here too.
__all__ = ["impatient", "undisturbed"]


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg2", reason="no driver: pip install psycopg2-binary")
    database = PostgreSQL()
    yield database
    database.remove()


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), database.address)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("what", ["server", "database", "both"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_restart_in_the_middle_loses_and_doubles_nothing(
    make_config, database, server, undisturbed, what, number
):
    name = f"{what} {number}"
    config = make_config(**TINY, **{"tracking.uri": server.address, "tracking.experiment": name})

    def restart() -> None:
        if what != "database":
            server.kill()
        if what != "server":
            database.crash()
            database.start()
        if what != "database":
            server.start()

    with pytest.MonkeyPatch.context() as patch:
        at_trial(patch, number, restart)
        run(config)
    run(config)
    assert_nothing_is_lost(config, server.address, undisturbed)
    store = Store(config.runs)
    assert missing(Runs(config.tracking, store.runs), list(store.records())) == {}
    cells = endurance.runs_by_trial(server.address, f"{name} cells", tag="cell")
    assert set(cells.values()) == {("FINISHED",)}
    assert len(cells) == 1


def test_several_writers_at_once_send_every_trial_once(make_config, server, tmp_path):
    """Two stores share two trials, and each has two of its own."""
    settings = TrackingConfig(uri=server.address, experiment="writers", figures=False)
    stores = []
    for name, seeds in (("first", [0, 1, 2, 3]), ("second", [2, 3, 4, 5])):
        choices = TINY | {"seeds": seeds, "tracking": "none"}
        config = make_config(**choices, runs=str(tmp_path / name))
        sweep.prefetch([config])
        stores.append(Store(config.runs))

    def send(store: Store) -> int:
        return tracking.open(settings, store.runs).log(store, store.trial_ids(), last=True)

    with ThreadPoolExecutor(2) as both:
        sent = list(both.map(send, stores))
    assert sum(sent) == 6
    runs = endurance.runs_by_trial(server.address, "writers")
    assert sorted(runs) == sorted({*stores[0].trial_ids(), *stores[1].trial_ids()})
    assert set(runs.values()) == {("FINISHED",)}
