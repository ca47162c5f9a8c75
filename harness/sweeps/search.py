"""Fair tuning of the learning rate: tune on some seeds, confirm on others.

Every arm gets the same draws, so that none has more chances than another. Draw 0 is the configured
rate, the others are log-spaced over one range. The draw with the best mean validation accuracy at
the last evaluation is chosen and trained again with the cell's own seeds, which no choice has seen.
Only these confirmation seeds enter an interval.

All draws are ordinary trials: they share packs, they are stored once, and a search that is run
again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy

from harness.configuration.schema import SearchConfig
from harness.configuration.trial import Trial
from harness.configuration.validation import tuning_seeds
from harness.store import searches
from harness.store.records import Record
from harness.store.searches import DrawRecord, SearchRecord
from harness.store.status import distinguishing
from harness.store.trials import Store
from harness.sweeps.cells import Cell, Job

# A table of more cells than this is no table to read; the rates are counted instead.
_MOST_LINES = 40


@dataclass(frozen=True)
class Draw:
    """One point of a search: its number, its learning rate and its tuning trials."""

    number: int
    learning_rate: float
    jobs: list[Job]

    @property
    def trial_ids(self) -> tuple[str, ...]:
        """Ids of the tuning trials."""
        return tuple(job.trial_id for job in self.jobs)


@dataclass(frozen=True)
class Search:
    """The search of one cell."""

    cell: Cell
    key: str
    draws: list[Draw]

    @property
    def jobs(self) -> list[Job]:
        """The tuning trials of all draws."""
        return [job for draw in self.draws for job in draw.jobs]

    def confirmation(self, chosen: DrawRecord) -> list[Job]:
        """Returns the cell's own trials at the chosen learning rate."""
        seeds = [job.trial.seed for job in self.cell.jobs]
        jobs = _jobs(self.cell, chosen.learning_rate, seeds)
        kept = self.cell.config.keep_weights
        return [replace(job, config=replace(job.config, keep_weights=kept)) for job in jobs]


def is_searched(cell: Cell) -> bool:
    """Returns whether a cell asks for a search."""
    return cell.config.search.name != "none"


def search_of(cell: Cell) -> Search:
    """Returns the search that a cell asks for."""
    settings = cell.config.search
    configured = cell.config.optimizer.learning_rate
    seeds = tuning_seeds(settings)
    draws = [
        Draw(number, rate, _jobs(cell, rate, seeds))
        for number, rate in learning_rates(settings, configured).items()
    ]
    return Search(cell, _key(cell), draws)


def learning_rates(search: SearchConfig, configured: float) -> dict[int, float]:
    """Returns the learning rates of a search by the number of their draw.

    Draw 0 is the configured rate. The others are log-spaced from `low` to `high` and rounded to
    three digits, so that they read well and are the same number everywhere; with two draws the
    other one is the middle of the range. A rate that an earlier draw has is left out, which changes
    no other number.
    """
    if search.draws == 2:
        spaced = numpy.sqrt([search.low * search.high])
    else:
        spaced = numpy.geomspace(search.low, search.high, search.draws - 1)
    rates = {0: float(configured)}
    for number, rate in enumerate(spaced, start=1):
        rounded = float(f"{rate:.3g}")
        if rounded not in rates.values():
            rates[number] = rounded
    return rates


def begin(store: Store, asked: Sequence[Search]) -> None:
    """Writes the record of every search that has none yet, before its first trial.

    Raises:
        NotStored: a record cannot be written.
    """
    for search in asked:
        if searches.earlier(store.runs, search.key) is None:
            draws = [
                DrawRecord(draw.number, draw.learning_rate, draw.trial_ids) for draw in search.draws
            ]
            searches.write(store.runs, _record(search, tuple(draws)))


def choose(store: Store, asked: Sequence[Search]) -> list[SearchRecord]:
    """Writes and returns the records of the searches whose tuning trials all have a result.

    Raises:
        NotStored: a record cannot be written.
    """
    records = []
    for search in asked:
        if all(store.is_done(job.trial_id) for job in search.jobs):
            record = _chosen(store, search)
            searches.write(store.runs, record)
            records.append(record)
    return records


def chosen_jobs(store: Store, search: Search) -> list[Job]:
    """Returns the jobs that confirm a search, as its record says; none while that is incomplete.

    A record is incomplete where tuning trials have no result (any more), and where it does not name
    all seeds of the cell.
    """
    record = searches.earlier(store.runs, search.key)
    if record is None or record.chosen_draw is None:
        return []
    if not all(store.is_done(job.trial_id) for job in search.jobs):
        return []
    jobs = search.confirmation(record.chosen_draw)
    named = {job.trial_id for job in jobs} <= set(record.confirmation)
    return jobs if named else []


def best_draw(draws: Sequence[DrawRecord]) -> DrawRecord:
    """Returns the draw with the best mean score, of equal ones that of the smaller learning rate.

    A draw all of whose trials diverged is chosen only where all draws are so: its chance level may
    exceed the score of a network that trains slowly.
    """
    trained = [draw for draw in draws if draw.diverged < len(draw.trials)]
    return min(trained or draws, key=lambda draw: (-draw.score, draw.learning_rate))


def validation_score(record: Record, classes: int) -> float:
    """Returns a trial's validation accuracy at the last evaluation; a diverged one's is chance."""
    if record.status == "diverged":
        return 1.0 / classes
    return record.summary["validation_accuracy"]


def chosen_rates(records: Sequence[SearchRecord]) -> list[str]:
    """Returns lines that say which learning rates were chosen.

    One line for each cell, or for each rate where there are too many cells; then how many lie at an
    end of the range, where a wider one might have a better rate.
    """
    if not records:
        return []
    chosen = [(record, record.chosen_draw) for record in records]
    rates = [(record, draw) for record, draw in chosen if draw is not None]
    if len(rates) <= _MOST_LINES:
        lines = _lines_of_cells(rates)
    else:
        lines = _lines_of_rates([draw.learning_rate for _, draw in rates])
    for end, option, extreme in (("largest", "high", max), ("smallest", "low", min)):
        at_end = 0
        for record, draw in rates:
            tried = [each.learning_rate for each in record.draws]
            at_end += draw.learning_rate == extreme(tried)
        if at_end:
            lines.append(
                f"{at_end} of {len(rates)} chose the {end} rate tried: "
                f"search.{option} widens the range"
            )
    diverged = sum(draw.diverged == len(draw.trials) for _, draw in rates)
    if diverged:
        lines.append(f"{diverged} of {len(rates)} diverged at every rate tried")
    return lines


def _chosen(store: Store, search: Search) -> SearchRecord:
    """Returns the record of a search that names the chosen draw and the trials that confirm it.

    Those of earlier runs with other seeds are among them.
    """
    draws = tuple([_scored(store, draw) for draw in search.draws])
    chosen = best_draw(draws)
    confirmation = {job.trial_id: None for job in search.confirmation(chosen)}
    before = searches.earlier(store.runs, search.key)
    if before is not None and before.chosen == chosen.number:
        confirmation |= dict.fromkeys(before.confirmation)
    return replace(
        _record(search, draws), chosen=chosen.number, confirmation=tuple(sorted(confirmation))
    )


def _lines_of_cells(rates: Sequence[tuple[SearchRecord, DrawRecord]]) -> list[str]:
    labels = distinguishing([record.axes for record, _ in rates])
    lines = ["chosen rate  validation  cell"]
    for label, (_, draw) in zip(labels, rates, strict=True):
        lines.append(f"{draw.learning_rate:<11g}  {draw.score:<10.4f}  {label}")
    return lines


def _lines_of_rates(rates: Sequence[float]) -> list[str]:
    lines = ["chosen rate  cells"]
    for rate in sorted(set(rates)):
        lines.append(f"{rate:<11g}  {rates.count(rate)}")
    return lines


def _scored(store: Store, draw: Draw) -> DrawRecord:
    records = [store.read(job.trial_id) for job in draw.jobs]
    scores = [
        validation_score(record, job.info.classes)
        for record, job in zip(records, draw.jobs, strict=True)
    ]
    diverged = sum(record.status == "diverged" for record in records)
    return DrawRecord(draw.number, draw.learning_rate, draw.trial_ids, tuple(scores), diverged)


def _record(search: Search, draws: tuple[DrawRecord, ...]) -> SearchRecord:
    """Returns the record of a search in which nothing is chosen yet."""
    trial = search.cell.jobs[0].trial
    return SearchRecord(
        key=search.key,
        axes=trial.axes,
        spec=trial.spec,
        search=_settings(search.cell.config.search),
        tuning_seeds=tuple(tuning_seeds(search.cell.config.search)),
        draws=draws,
    )


def _key(cell: Cell) -> str:
    """Returns 16 hexadecimal digits for a cell and its search, apart from the cell's seeds."""
    settings = json.dumps(_settings(cell.config.search), sort_keys=True)
    text = f"{cell.jobs[0].trial.text} {settings}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _settings(search: SearchConfig) -> dict[str, object]:
    return {name: value for name, value in asdict(search).items() if value is not None}


def _jobs(cell: Cell, learning_rate: float, seeds: Sequence[int]) -> list[Job]:
    """Returns ordinary trials of a cell at another learning rate, one for each seed.

    They keep no trained weights.
    """
    spec = cell.jobs[0].trial.spec
    at_rate = cell.jobs[0].trial.with_spec(
        spec | {"optimizer": spec["optimizer"] | {"learning_rate": learning_rate}}
    )
    optimizer = replace(cell.config.optimizer, learning_rate=learning_rate)
    config = replace(
        cell.config,
        optimizer=optimizer,
        seeds=list(seeds),
        search=SearchConfig(name="none"),
        keep_weights="none",
    )
    return [Job(Trial(at_rate.text, seed), config, cell.info) for seed in seeds]
