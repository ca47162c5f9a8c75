"""A sweep: cells go in, finished trials in the store and in the tracker come out.

`prefetch` takes all cells of a multirun at once and trains pack by pack what is not done yet;
`run_cell` then reads the result of one cell, or trains it when it was never prefetched. Cells that
ask for a search are tuned together first, then confirmed together.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from harness import tracking
from harness.configuration.composing import to_config
from harness.configuration.named_networks import OWN
from harness.configuration.schema import Config
from harness.data.folder_listing import listed_once
from harness.errors import RequestError, TrialsFailed
from harness.networks.activations import build_activation
from harness.store.trials import Store
from harness.sweeps import search
from harness.sweeps.attempts import Attempts
from harness.sweeps.cell_results import has_result, jobs_of_result, mean_score, was_tried
from harness.sweeps.cells import Cell, Job, cell, check_options, unique
from harness.sweeps.cluster import Cluster
from harness.sweeps.cluster_jobs import ClusterJobs
from harness.sweeps.pack_checkpoints import PackCheckpoints
from harness.sweeps.packing import PackOptions, PlannedPack, plan_packs
from harness.sweeps.progress import Progress, say
from harness.sweeps.runner import view_of
from harness.sweeps.signal_requests import requests
from harness.training import devices
from harness.training.workers import Workers

_WAIT_SECONDS = 0.5


@listed_once()
def prefetch(
    configs: Iterable[Config | DictConfig],
    *,
    pack: int | str = "auto",
    program: str = "auto",
    workers: int | str = "auto",
    retry: bool = True,
    cluster: Cluster | None = None,
) -> None:
    """Trains every trial of these cells that is not done yet.

    Failures are kept in the store; `run_cell` reports them.

    Args:
        configs: one request for each cell, as Hydra composed it or as a Config.
        pack: the most trials side by side, or "auto" for what is fastest and fits into memory.
        program: the kind of program, one of `harness.sweeps.cells.PROGRAMS`.
        workers: packs trained at the same time, or "auto" for what is fastest.
        retry: whether trials that failed before are tried again. A failure that another sweep
            causes meanwhile is the trial's outcome and is not tried again.
        cluster: where packs are trained as jobs; None trains them in this process.

    Raises:
        RequestError: a cell is impossible, or data cannot be read; nothing has been written then.
        NotStored: a result could not be written, as on a full disk.
        TrialsFailed: jobs of a cluster ended without an outcome for some trials.
    """
    cells = _checked(
        [request if isinstance(request, Config) else to_config(request) for request in configs],
        on_cluster=cluster is not None,
    )
    check_options(pack, program, workers)
    options = PackOptions(program, pack=_fixed(pack), workers=_fixed(workers))
    cells_by_folder: dict[Path, list[Cell]] = {}
    for request in cells:
        cells_by_folder.setdefault(request.runs, []).append(request)
    for runs, members in cells_by_folder.items():
        _Sweep(Store(runs), members, options, retry, cluster).run()


@listed_once()
def run_cell(config: Config) -> float:
    """Returns a cell's mean validation accuracy, and trains the cell if that was not tried.

    A diverged trial scores chance level. The score of a cell that asks for a search is that of the
    confirmation.

    Raises:
        RequestError: the request is impossible; nothing has been written then.
        NotStored: a result could not be written, as on a full disk.
        TrialsFailed: some seeds failed.
    """
    request = cell(config)
    store = Store(request.runs)
    jobs = jobs_of_result(store, request)
    if not jobs or not all(was_tried(store, job) for job in jobs):
        prefetch([config])
        # A search that still has chosen nothing has tuning trials that failed.
        jobs = jobs_of_result(store, request) or search.search_of(request).jobs
    records = [store.read(job.trial_id) for job in jobs]
    failures = {
        record.trial_id: record.error or "no result" for record in records if not record.finished
    }
    if failures:
        raise TrialsFailed(failures)
    return mean_score(request, records)


def _fixed(count: int | str) -> int | None:
    """Returns a checked launcher option, or None for "auto"."""
    return None if isinstance(count, str) else count


def _checked(configs: Sequence[Config], *, on_cluster: bool) -> list[Cell]:
    """Returns all cells, with everything checked that can be checked without pixels."""
    cells = [cell(config) for config in configs]
    kept = sorted({config.keep_weights for config in configs})
    if len(kept) > 1:
        # A trial of two cells would keep those of one, and the next sweep would train it again.
        raise RequestError(
            f"keep_weights={','.join(kept)}: all cells of a sweep keep the same weights; choose one"
        )
    devices_of_cells = {(config.device, config.precision) for config in configs}
    for device, precision in sorted(devices_of_cells):
        # The nodes of a cluster have other devices than the machine that submits.
        if not on_cluster:
            devices.resolve(device, precision)
    activations = {}
    trackings = {}
    for request in cells:
        activation = request.jobs[0].trial.spec["activation"]
        activations[str(activation)] = activation
        key = (str(request.config.tracking), request.runs)
        trackings[key] = (request.config.tracking, request.runs)
    for activation in activations.values():
        if activation["name"] != OWN:
            build_activation(activation)
    for settings, runs in trackings.values():
        tracking.check(settings, runs)
    return cells


@dataclass
class _Sweep:
    """The cells whose results go to one `runs` folder.

    `done` counts the trials that had a result before this sweep. `failed` holds when each trial
    failed before this sweep; see `Attempts`.
    """

    store: Store
    cells: list[Cell]
    options: PackOptions
    retry: bool
    cluster: Cluster | None = None
    lost: dict[str, str] = field(default_factory=dict, init=False)
    done: int = field(default=0, init=False)
    failed: dict[str, str] = field(default_factory=dict, init=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._attempts = Attempts(
            self.store, self.failed, self.progressed, self.skipped, lambda: self.workers.check()
        )

    def run(self) -> None:
        """Trains what is left of all cells: tuning first, then confirmations and other trials."""
        plain = [job for cell in self.cells if not search.is_searched(cell) for job in cell.jobs]
        asked = [search.search_of(cell) for cell in self.cells if search.is_searched(cell)]
        if asked:
            # Before anything is tuned, everything that can be refused is.
            self._check_data([job for job in plain if not has_result(self.store, job)])
        confirmation = self._tune(asked) if asked else []
        if plain or confirmation:
            self._run_pool(unique(plain + confirmation))
        tuning = [job for each in asked for job in each.jobs]
        self._send(unique(plain + tuning + confirmation), last=True)
        for line in self.tracker.links():
            _say(line)
        if self.lost:
            raise TrialsFailed(self.lost)

    def _tune(self, asked: list[search.Search]) -> list[Job]:
        """Trains all tuning trials and returns those that confirm what was chosen.

        A cell with a failed tuning trial is not confirmed, as its draws cannot be compared.
        """
        jobs = unique(job for each in asked for job in each.jobs)
        cell_word = "cell" if len(asked) == 1 else "cells"
        heading = f"tuning: {len(jobs)} trials of {len(asked)} {cell_word}"
        self._run_pool(jobs, functools.partial(search.begin, self.store, asked), heading)
        records = search.choose(self.store, asked)
        for line in search.chosen_rates(records):
            _say(line)
        if len(records) < len(asked):
            missing = len(asked) - len(records)
            _say(f"not confirmed, as tuning trials failed: {missing} of {len(asked)} {cell_word}")
        confirmation = unique(job for each in asked for job in search.chosen_jobs(self.store, each))
        _say(f"confirming: {len(confirmation)} trials at the chosen rates")
        return confirmation

    def _run_pool(
        self, jobs: list[Job], begin: Callable[[], None] | None = None, heading: str | None = None
    ) -> None:
        """Trains what is left, then waits for what another sweep on the same folder is training.

        Says the heading and calls `begin` when everything that can be refused was checked.
        """
        waiting = self._jobs_to_run(jobs)
        self._check_data(waiting)
        if heading is not None:
            _say(heading)
        # One may have been left where a sweep was killed behind its last result.
        PackCheckpoints(self.store.runs).clean(self.store.is_done)
        if self.cluster is not None:
            self._run_on_cluster(jobs, waiting, begin)
            return
        plans = plan_packs(waiting, self.store.runs, self.options)
        packs_word = _counted(sum(len(packs) for packs in plans.values()), "pack")
        _say(f"{self._counts(len(jobs), len(waiting))}, in {packs_word}")
        self.store.check_writable()
        if begin is not None:
            begin()
        self.progress = Progress(len(waiting), sum(job.steps for job in waiting))
        held_by_others: list[Job] = []
        try:
            for layout, packs in plans.items():
                self.workers = Workers(layout.workers, layout.threads)
                for trained, held in self.workers.map(self._attempts.train, packs):
                    self._note(trained)
                    held_by_others += held
            self._finish_held_by_others(held_by_others)
        finally:
            self.progress.close()

    def _check_data(self, jobs: list[Job]) -> None:
        """Reads the data of jobs; RequestError where that is not possible."""
        for view in dict.fromkeys(view_of(job) for job in jobs):
            view.check()

    @functools.cached_property
    def tracker(self) -> tracking.Tracker:
        """The tracker, opened once there is something to send.

        MLflow's imports and the making of its store take seconds, in which the workers train.
        """
        axes = [request.jobs[0].trial.axes for request in self.cells]
        for request in self.cells:
            if search.is_searched(request):
                axes += [job.trial.axes for job in search.search_of(request).jobs]
        return tracking.open(self.cells[0].config.tracking, self.store.runs, cells=axes)

    def _jobs_to_run(self, jobs: list[Job]) -> list[Job]:
        """Returns the jobs without a result; notes which of them failed before."""
        unfinished = [job for job in jobs if not has_result(self.store, job)]
        self.done = len(jobs) - len(unfinished)
        self.failed.clear()
        without = [job for job in unfinished if self.store.is_done(job.trial_id)]
        if without:
            kept = without[0].config.keep_weights
            trials_word = _counted(len(without), "done trial")
            _say(f"{trials_word} without {kept} weights, which are to be kept: trained again")
        for job in unfinished:
            damage = self.store.damage(job.trial_id)
            if damage is not None:
                _say(f"set aside: {damage}")
            failed_at = self.store.failed_at(job.trial_id)
            if failed_at is not None:
                self.failed[job.trial_id] = failed_at
        if self.retry:
            return unfinished
        return [job for job in unfinished if job.trial_id not in self.failed]

    def _counts(self, trials: int, to_run: int) -> str:
        return f"{trials} trials: {self.done} done, {len(self.failed)} failed, {to_run} to run"

    def _run_on_cluster(
        self, jobs: list[Job], waiting: list[Job], begin: Callable[[], None] | None
    ) -> None:
        """Trains what is left as jobs of the cluster; notes which trials they lost."""
        assert self.cluster is not None
        _say(self._counts(len(jobs), len(waiting)))
        self.store.check_writable()
        if begin is not None:
            begin()
        self.progress = Progress(len(waiting), sum(job.steps for job in waiting))
        cluster_jobs = ClusterJobs(self.store, self.cluster, self.options, dict(self.failed))
        try:
            for finished in cluster_jobs.train(waiting):
                self.progressed(sum(job.steps for job in finished))
                self._note(finished)
        finally:
            self.progress.close()
        self.lost |= cluster_jobs.lost

    def progressed(self, trial_steps: int) -> None:
        """Counts trial-steps of any pack."""
        with self.lock:  # several workers report
            self.progress.stepped(trial_steps)

    def skipped(self, trial_steps: int) -> None:
        """Leaves out trial-steps of any pack that a checkpoint has already."""
        with self.lock:
            self.progress.skipped(trial_steps)

    def _finish_held_by_others(self, jobs: list[Job]) -> None:
        """Waits for trials that another process holds; trains those that it leaves behind."""
        unfinished = [job for job in jobs if not has_result(self.store, job)]
        self._note([job for job in jobs if job not in unfinished])
        if not unfinished:
            return
        self.workers = Workers(1, 1)
        _say(
            f"{len(unfinished)} trials are being trained by another sweep on {self.store.runs}; "
            "waiting for them"
        )
        waiting: list[PlannedPack] = []
        for packs in plan_packs(unfinished, self.store.runs, self.options).values():
            waiting += packs
        while waiting:
            time.sleep(_WAIT_SECONDS)
            still_waiting = []
            for pack in waiting:
                trained, held = self._attempts.train(pack)
                self._note(trained)
                if held:
                    still_waiting.append(pack.with_jobs(held))
            waiting = still_waiting

    def _note(self, jobs: list[Job]) -> None:
        """Counts jobs that have an outcome, and sends those that have a result to the tracker.

        The sweep ends before it sends where a signal came while they were being stored.
        """
        self.progress.trials_finished(len(jobs))
        requests.check()
        self._send(jobs)

    def _send(self, jobs: list[Job], *, last: bool = False) -> None:
        done = [job.trial_id for job in jobs if self.store.is_done(job.trial_id)]
        self.tracker.log(self.store, done, last=last)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _say(line: str) -> None:
    say(line, sys.stderr)
