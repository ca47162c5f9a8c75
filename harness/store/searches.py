"""The records of searches: `runs/searches/KEY.json`, and what trials are for them.

A record is written before its first tuning trial, so that no tuning trial is ever taken for an
ordinary one, and again when a draw is chosen.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas

from harness.configuration.validation import FIRST_TUNING_SEED
from harness.store import writes
from harness.store.records import read_object

TUNING = "tuning"
CONFIRMATION = "confirmation"
COLUMNS = ("search_role", "search", "search_draw")
# The folder of the records below `runs`.
FOLDER = "searches"
_DIGEST = "sha256"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True)
class DrawRecord:
    """One draw: its number, its learning rate, and its tuning trials.

    `scores` are their validation accuracies, chance level for diverged ones; empty before tuning
    has ended.
    """

    number: int
    learning_rate: float
    trials: tuple[str, ...]
    scores: tuple[float, ...] = ()
    diverged: int = 0

    @property
    def score(self) -> float:
        """Mean of the scores; NaN where there are none."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else math.nan


@dataclass(frozen=True)
class SearchRecord:
    """One search of one cell.

    Attributes:
        key: 16 hexadecimal digits for the cell, apart from its seeds, and the search's settings.
        axes: the cell's axes, at the configured learning rate.
        spec: the cell's specification, at the configured learning rate.
        search: the search's settings.
        tuning_seeds: the seeds of every draw.
        draws: the draws by number.
        chosen: the number of the chosen draw; None before tuning has ended.
        confirmation: ids of the trials that confirm the chosen draw.
    """

    key: str
    axes: dict[str, Any]
    spec: dict[str, Any]
    search: dict[str, Any]
    tuning_seeds: tuple[int, ...]
    draws: tuple[DrawRecord, ...]
    chosen: int | None = None
    confirmation: tuple[str, ...] = ()

    @property
    def chosen_draw(self) -> DrawRecord | None:
        """The chosen draw; None before tuning has ended."""
        return next((draw for draw in self.draws if draw.number == self.chosen), None)


@dataclass(frozen=True)
class Role:
    """The part that a trial has in a search: `tuning` or `confirmation`, of which draw.

    A trial whose record is damaged has neither the key of the search nor the draw.
    """

    role: str
    search: str = ""
    draw: int | None = None


def write(runs: Path, record: SearchRecord) -> None:
    """Writes a record in one step, unless its file holds just that already.

    Raises:
        NotStored: the file cannot be written.
    """
    path = _path(runs, record.key)
    if _read_or_none(path) == record:
        return
    # As it is read: tuples are lists, and NaN is None.
    content = json.loads(json.dumps(writes.plain(asdict(record))))
    with writes.storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        writes.write_json(path, content | {_DIGEST: _digest(content)})


def earlier(runs: Path, key: str) -> SearchRecord | None:
    """Returns the record of an earlier run; None where it is missing or damaged.

    A search writes it anew.
    """
    return _read_or_none(_path(runs, key))


def read_all(runs: Path) -> tuple[list[SearchRecord], dict[str, str]]:
    """Reads the records of all searches.

    Returns:
        The records in the order of their keys, and the reason for each file that is set aside
        because it is damaged, by its name below `runs`.
    """
    records = []
    set_aside = {}
    for path in sorted((runs / FOLDER).glob("[!.]*.json")):
        try:
            records.append(_read(path))
        except _UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            set_aside[f"{FOLDER}/{path.name}"] = (
                f"{path} is damaged ({reason}); the command that made the search writes it again "
                "without training, and until then its confirmations read as ordinary trials"
            )
    return records, set_aside


@dataclass(frozen=True)
class Roles:
    """The roles of trials in the searches of one `runs` folder.

    Attributes:
        of_trials: the roles that sound records give, by trial id.
        set_aside: the reason for every damaged record, by its name below `runs`.
    """

    of_trials: Mapping[str, Role]
    set_aside: Mapping[str, str]

    def of(self, trial_id: str, seed: Callable[[], int]) -> Role | None:
        """Returns the role of a trial, or None.

        While a record is damaged, a trial that no other record names and that has a tuning seed
        counts as tuning: it must never be taken for a result.

        Args:
            trial_id: the trial.
            seed: returns its seed; called only where that matters.
        """
        role = self.of_trials.get(trial_id)
        if role is None and self.set_aside and seed() >= FIRST_TUNING_SEED:
            return Role(TUNING)
        return role


def roles(runs: Path) -> Roles:
    """Returns the roles of all trials.

    Where a trial is in several searches, confirmation goes before tuning, then the first key.
    """
    records, set_aside = read_all(runs)
    found: dict[str, Role] = {}
    for record in records:
        if record.chosen is not None:
            confirmed = Role(CONFIRMATION, record.key, record.chosen)
            for trial_id in record.confirmation:
                found.setdefault(trial_id, confirmed)
    for record in records:
        for draw in record.draws:
            tuned = Role(TUNING, record.key, draw.number)
            for trial_id in draw.trials:
                found.setdefault(trial_id, tuned)
    return Roles(found, set_aside)


def tags(runs: Path, trial_id: str) -> dict[str, str]:
    """Returns the tags of a trial that is in a search; none for other trials."""
    folder = runs / FOLDER
    try:
        # An atomic write changes the time of its folder.
        of_all = _roles_at(runs, folder.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}
    role = of_all.of(trial_id, lambda: _seed(runs, trial_id))
    if role is None:
        return {}
    values = (role.role, role.search, "" if role.draw is None else str(role.draw))
    return {name: value for name, value in zip(COLUMNS, values, strict=True) if value}


def with_searches(
    trials: pandas.DataFrame, runs: Path
) -> tuple[pandas.DataFrame, Mapping[str, str]]:
    """Returns the table of trials with `COLUMNS` as its last columns, and the damaged records.

    `search_role` is "tuning", "confirmation" or "", `search` the key of the search or "", and
    `search_draw` the number of the draw or NaN. The damaged records are as in `read_all`.
    """
    of_all = roles(runs)
    nothing = Role("")
    rows = []
    for trial_id, seed in zip(trials.get("trial_id", ()), trials.get("seed", ()), strict=True):
        rows.append(of_all.of(trial_id, functools.partial(int, seed)) or nothing)
    draws = [math.nan if row.draw is None else float(row.draw) for row in rows]
    added = {
        "search_role": pandas.Series([row.role for row in rows], trials.index, dtype="str"),
        "search": pandas.Series([row.search for row in rows], trials.index, dtype="str"),
        "search_draw": pandas.Series(draws, trials.index, dtype="float64"),
    }
    return trials.assign(**added), of_all.set_aside


@functools.lru_cache(maxsize=2)
def _roles_at(runs: Path, modified: int) -> Roles:
    """Returns `roles`; `modified` is when the folder of the records last changed."""
    return roles(runs)


def _seed(runs: Path, trial_id: str) -> int:
    """Returns the seed of a trial, -1 where it cannot be read."""
    try:
        return int(read_object(runs / "trials" / trial_id / "trial.json")["seed"])
    except _UNREADABLE:
        return -1


def _path(runs: Path, key: str) -> Path:
    return runs / FOLDER / f"{key}.json"


def _read_or_none(path: Path) -> SearchRecord | None:
    try:
        return _read(path)
    except _UNREADABLE:
        return None


def _read(path: Path) -> SearchRecord:
    """Reads a record; any of `_UNREADABLE` where it is damaged or not that of its file's name."""
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__} where an object belongs")
    # Earlier versions wrote none.
    digest = content.pop(_DIGEST, None)
    if digest is not None and digest != _digest(content):
        raise ValueError("its content is not what was written")
    draws = [DrawRecord(**draw) for draw in content.pop("draws")]
    record = SearchRecord(**content, draws=())
    record = replace(
        record,
        tuning_seeds=tuple(record.tuning_seeds),
        confirmation=tuple(record.confirmation),
        draws=tuple(
            replace(draw, trials=tuple(draw.trials), scores=tuple(draw.scores)) for draw in draws
        ),
    )
    if record.key != path.stem:
        raise ValueError(f"holds the search {record.key}")
    _check_types(record)
    return record


def _check_types(record: SearchRecord) -> None:
    """Refuses a record whose numbers and ids are none; TypeError."""
    numbers = [draw.number for draw in record.draws]
    if record.chosen is not None:
        numbers.append(record.chosen)
    names = [*record.confirmation]
    for draw in record.draws:
        names += draw.trials
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError("a number of a draw is no whole number")
    if not all(isinstance(name, str) for name in names):
        raise TypeError("an id of a trial is no text")


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
