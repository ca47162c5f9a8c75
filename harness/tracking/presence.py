"""The runs that a tracking store has of given trials.

The store itself is asked, by the tag `trial_id`: whatever was moved, copied, deleted or sent under
another name of the same address, a trial's run is there or it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mlflow.entities import Run as RunOfMlflow
from mlflow.entities import RunStatus
from mlflow.tracking import MlflowClient

FINISHED = RunStatus.to_string(RunStatus.FINISHED)
# A server answers for one trial in 15 milliseconds, and lists 1,000 runs in some seconds.
_MOST_SINGLE_QUESTIONS = 200
_PAGE = 1000


class Run(NamedTuple):
    """A run; `status` is MLflow's word, FINISHED for a complete run.

    `ended` is when it ended, in milliseconds since 1970, or None.
    """

    run_id: str
    status: str
    ended: int | None = None


def ask(
    client: MlflowClient, experiment_id: str, tag: str, values: Sequence[str]
) -> dict[str, list[Run]]:
    """Returns the runs of an experiment whose tag has one of these values, by value.

    Deleted runs are left out.
    """
    wanted = set(values)
    runs: dict[str, list[Run]] = {}
    for run in _candidates(client, experiment_id, tag, values):
        value = run.data.tags.get(tag)
        if value in wanted:
            info = run.info
            runs.setdefault(value, []).append(Run(info.run_id, info.status, info.end_time))
    return runs


def complete(runs: Iterable[Run]) -> str | None:
    """Returns the id of the run that stands for a trial: the first of its finished ones, or None.

    Everybody who asks takes the same one and deletes the others, so that one remains.
    """
    return min((run.run_id for run in runs if run.status == FINISHED), default=None)


def all_runs(client: MlflowClient, experiment_id: str, search: str = "") -> Iterator[RunOfMlflow]:
    """Gives every run of an experiment that a search finds, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment_id], search, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _candidates(
    client: MlflowClient, experiment_id: str, tag: str, values: Sequence[str]
) -> Iterator[RunOfMlflow]:
    if len(values) > _MOST_SINGLE_QUESTIONS:
        yield from all_runs(client, experiment_id)
        return
    for value in values:
        yield from all_runs(client, experiment_id, f"tags.{tag} = '{value}'")
