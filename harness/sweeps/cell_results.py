"""The stored result of a cell: the trials that make it, and its score. Imports no torch."""

from __future__ import annotations

from harness.configuration.schema import Config
from harness.store.records import Record
from harness.store.trials import Store
from harness.sweeps import search
from harness.sweeps.cells import Cell, Job, cell


def jobs_of_result(store: Store, request: Cell) -> list[Job]:
    """Returns the jobs that make a cell's result: its own, or those that confirm its search.

    Empty while the search has chosen nothing.
    """
    if not search.is_searched(request):
        return request.jobs
    return search.chosen_jobs(store, search.search_of(request))


def was_tried(store: Store, job: Job) -> bool:
    """Returns whether a trial is done, with the weights that it has to keep, or has failed."""
    return has_result(store, job) or store.has_failed(job.trial_id)


def has_result(store: Store, job: Job) -> bool:
    """Returns whether a trial is done, with the weights that it has to keep."""
    return store.is_done(job.trial_id, job.config.keep_weights)


def mean_score(request: Cell, records: list[Record]) -> float:
    """Returns the mean validation accuracy of a cell's trials; a diverged one scores chance."""
    scores = [search.validation_score(record, request.info.classes) for record in records]
    return sum(scores) / len(scores)


def score_if_done(config: Config) -> float | None:
    """Returns the score of a cell all of whose trials are done, None for every other one.

    None also for a cell that asks for a search.

    Raises:
        RequestError: the request is impossible.
    """
    request, store = cell(config), Store(config.runs)
    if search.is_searched(request) or not all(has_result(store, job) for job in request.jobs):
        return None
    return mean_score(request, [store.read(job.trial_id) for job in request.jobs])
