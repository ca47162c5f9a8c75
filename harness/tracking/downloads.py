"""Tables from a tracking store alone: what was sent there is read back."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from harness.configuration.schema import TrackingConfig
from harness.errors import RequestError
from harness.store import writes
from harness.store.searches import COLUMNS
from harness.store.tables import Tables, collect
from harness.store.trials import Store
from harness.tracking import address
from harness.tracking.contents import TRIAL_TAG
from harness.tracking.failures import cause

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_LOGGER = logging.getLogger(__name__)
# A server needs some milliseconds for each file; several are fetched at a time.
_READERS = 8


def tables_from_mlflow(uri: str, experiment: str | None = None) -> Tables:
    """Returns the tables of all trials that an experiment has, as `collect` returns them.

    Trials without a result are not sent, and so have no row here.

    Args:
        uri: the tracking server or database.
        experiment: the name of the experiment; None stands for the usual one.

    Raises:
        RequestError: there is no such store or experiment, or it has no complete trial.
    """
    place = address.resolve(TrackingConfig(uri=uri, experiment=experiment), Path())
    if place.file is not None and not place.file.exists():
        raise RequestError(f"there is no tracking store {place.shown}")
    # MLflow takes seconds to import, which a wrong request need not wait for.
    from harness.tracking.connection import client_of

    try:
        client = client_of(place)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder, sync=False)
            runs = _fetch_all(client, place, store)
            tables = collect(store)
            for reason in tables.set_aside.values():
                _LOGGER.warning("set aside: %s", reason)
            return _with_searches(tables, runs)
    except RequestError:
        raise
    except Exception as error:  # of any kind: all of them are the store's
        reason = place.without_password(cause(error))
        raise RequestError(f"cannot read from MLflow at {place.shown}: {reason}") from error


def _with_searches(tables: Tables, runs: Mapping[str, Run]) -> Tables:
    """Returns the tables with the parts that trials have in searches, which tags of runs say."""
    trials = tables.trials
    tags = [runs[trial_id].data.tags for trial_id in trials["trial_id"]]
    role, key, draw = COLUMNS
    draws = pandas.to_numeric(pandas.Series([tag.get(draw) for tag in tags]), errors="coerce")
    added = {
        role: pandas.Series([tag.get(role, "") for tag in tags], trials.index, dtype="str"),
        key: pandas.Series([tag.get(key, "") for tag in tags], trials.index, dtype="str"),
        draw: pandas.Series(draws.to_numpy(float), trials.index, dtype="float64"),
    }
    return replace(tables, trials=trials.assign(**added))


def _fetch_all(client: MlflowClient, place: address.Address, store: Store) -> dict[str, Run]:
    """Writes the trials of an experiment into an empty store; returns their runs by trial."""
    from harness.tracking import presence

    found = client.get_experiment_by_name(place.experiment)
    if found is None:
        names = sorted(entry.name for entry in client.search_experiments())
        raise RequestError(
            f"MLflow at {place.shown} has no experiment {place.experiment!r};"
            f" it has: {', '.join(names)}"
        )
    runs: dict[str, Run] = {}
    for run in presence.all_runs(client, found.experiment_id, "attributes.status = 'FINISHED'"):
        trial_id = run.data.tags.get(TRIAL_TAG)
        if trial_id is not None:
            # Of two runs of a trial the same one stands for it everywhere.
            runs[trial_id] = min(runs.get(trial_id, run), run, key=lambda one: one.info.run_id)
    with ThreadPoolExecutor(_READERS) as readers:
        problems = list(readers.map(lambda item: _fetch(client, store, *item), runs.items()))
    missing = [problem for problem in problems if problem]
    if missing:
        _LOGGER.warning("%s of %s runs are left out: %s", len(missing), len(runs), missing[0])
    if len(missing) == len(runs):
        raise RequestError(
            f"the experiment {place.experiment!r} at {place.shown} has no trial that can be read"
            + (f": {missing[0]}" if missing else "")
        )
    return runs


def _fetch(client: MlflowClient, store: Store, trial_id: str, run: Run) -> str:
    """Writes the folder of one trial; returns why that is not possible, or nothing."""
    from mlflow.exceptions import MlflowException

    from harness.tracking import run_files

    names = (run_files.RECORD, *run_files.TABLES)
    try:
        # Whoever can write to the server has chosen the id.
        folder = store.folder(trial_id)
        folder.mkdir(parents=True)
    except (OSError, RequestError) as error:
        return f"run {run.info.run_id}: {cause(error)}"
    try:
        here = run_files.local_folder(run.info.artifact_uri)
        for name in names:
            if here is not None:
                shutil.copy(here / name, folder / name)
            else:
                client.download_artifacts(run.info.run_id, name, str(folder))
        record: dict[str, Any] = json.loads((folder / run_files.RECORD).read_text())
        for part in run_files.PARTS:
            writes.write_json(folder / f"{part}.json", record.pop(part), sync=False)
        writes.write_json(folder / "trial.json", record, sync=False)
        writes.write_bytes(folder / "done", b"", sync=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MlflowException) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = f"its file {error} is missing" if isinstance(error, KeyError) else cause(error)
        return (
            f"trial {trial_id}: {reason} (runs of an earlier version lack files:"
            " delete them in MLflow and send the trials again)"
        )
    return ""
