"""The records of searches: `runs/searches/KEY.json`, and what trials are for them.

A record is written before its first tuning trial, so that no tuning trial is ever taken for an
ordinary one, and again when a draw is chosen.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas

from harness.errors import RequestError
from harness.store import writes

TUNING = "tuning"
CONFIRMATION = "confirmation"
COLUMNS = ("search_role", "search", "search_draw")


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
    """The part that a trial has in a search: `tuning` or `confirmation`, of which draw."""

    role: str
    search: str
    draw: int


def write(runs: Path, record: SearchRecord) -> None:
    """Writes a record in one step, unless its file holds just that already.

    Raises:
        NotStored: the file cannot be written.
    """
    path = _path(runs, record.key)
    if _read_or_none(path) == record:
        return
    with writes.storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        writes.write_json(path, asdict(record))


def earlier(runs: Path, key: str) -> SearchRecord | None:
    """Returns the record of an earlier run; None where it is missing or damaged.

    A search writes it anew.
    """
    return _read_or_none(_path(runs, key))


def read_all(runs: Path) -> list[SearchRecord]:
    """Returns the records of all searches, in the order of their keys.

    Raises:
        RequestError: a record is damaged; the message says how to mend it.
    """
    records = []
    for path in sorted((runs / "searches").glob("[!.]*.json")):
        try:
            records.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(
                f"{path} is damaged ({reason}); delete it, and the command that made the search "
                "writes it again without training"
            ) from None
    return records


def roles(runs: Path) -> dict[str, Role]:
    """Returns the role of every trial that has one, by trial id.

    Where a trial is in several searches, confirmation goes before tuning, then the first key.

    Raises:
        RequestError: a record is damaged.
    """
    records = read_all(runs)
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
    return found


def tags(runs: Path, trial_id: str) -> dict[str, str]:
    """Returns the tags of a trial that is in a search; none for other trials.

    A damaged record gives no tags: a tracker is for looking, and `collect` reports the damage.
    """
    folder = runs / "searches"
    try:
        # An atomic write changes the time of its folder.
        role = _roles_at(runs, folder.stat().st_mtime_ns).get(trial_id)
    except (FileNotFoundError, RequestError):
        return {}
    if role is None:
        return {}
    return dict(zip(COLUMNS, (role.role, role.search, str(role.draw)), strict=True))


def with_searches(trials: pandas.DataFrame, runs: Path) -> pandas.DataFrame:
    """Returns the table of trials with `COLUMNS` as its last columns.

    `search_role` is "tuning", "confirmation" or "", `search` the key of the search or "", and
    `search_draw` the number of the draw or NaN.

    Raises:
        RequestError: a record is damaged.
    """
    of_trials = roles(runs)
    ids = trials.get("trial_id", ())
    nothing = Role("", "", -1)
    rows = [of_trials.get(trial_id, nothing) for trial_id in ids]
    draws = [float(row.draw) if row.role else math.nan for row in rows]
    added = {
        "search_role": pandas.Series([row.role for row in rows], trials.index, dtype="str"),
        "search": pandas.Series([row.search for row in rows], trials.index, dtype="str"),
        "search_draw": pandas.Series(draws, trials.index, dtype="float64"),
    }
    return trials.assign(**added)


@functools.lru_cache(maxsize=2)
def _roles_at(runs: Path, modified: int) -> Mapping[str, Role]:
    """Returns `roles`; `modified` is when the folder of the records last changed."""
    return roles(runs)


def _path(runs: Path, key: str) -> Path:
    return runs / "searches" / f"{key}.json"


def _read_or_none(path: Path) -> SearchRecord | None:
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> SearchRecord:
    content = json.loads(path.read_bytes())
    draws = [DrawRecord(**draw) for draw in content.pop("draws")]
    record = SearchRecord(**content, draws=())
    return replace(
        record,
        tuning_seeds=tuple(record.tuning_seeds),
        confirmation=tuple(record.confirmation),
        draws=tuple(
            replace(draw, trials=tuple(draw.trials), scores=tuple(draw.scores)) for draw in draws
        ),
    )
