"""Verification of a store: every done trial whole, and the trial that its folder's name says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from harness.configuration.trial import Trial
from harness.errors import RequestError
from harness.store import claims, searches, writes
from harness.store.records import Record
from harness.store.trials import Store

# The folder beside `trials` to which a repair moves what is damaged.
_SET_ASIDE = "set_aside"


class RepairedMeanwhile(Exception):
    """A named problem is none any more: a sweep has made the thing again, or it is gone."""


def problems(store: Store) -> tuple[list[Record], dict[str, str]]:
    """Reads everything about every trial, its tables included.

    Returns:
        The records of sound trials, unfinished ones among them, and the problem of every other
        folder by its name. A damaged record of a search is a problem too, by its name below `runs`.
    """
    sound = []
    found: dict[str, str] = {}
    for trial_id in store.trial_ids():
        try:
            sound.append(_sound(store, trial_id))
        except RequestError as error:
            found[trial_id] = str(error)
    return sound, found | searches.read_all(store.runs)[1]


def _sound(store: Store, trial_id: str) -> Record:
    """Returns the record of a trial, with everything about it read.

    Raises:
        RequestError: the trial has a problem.
    """
    reason = store.damage(trial_id, thorough=True)
    if reason is not None:
        raise RequestError(reason)
    record = store.read(trial_id)
    _check_identity(record)
    return record


def set_aside(store: Store, name: str) -> Path | None:
    """Moves what `problems` named out of the way, so that the next sweep makes it again.

    Nothing is deleted. It is looked at once more before, while no sweep can train the trial.

    Args:
        store: the store.
        name: the name of a folder of a trial, or of a record of a search below `runs`.

    Returns:
        Its new place, or None while a sweep is training the trial.

    Raises:
        NotStored: it cannot be moved.
        RepairedMeanwhile: it is whole by now.
    """
    place = store.runs / _SET_ASIDE
    if name.startswith(f"{searches.FOLDER}/"):
        record = store.runs / name
        with writes.storing(record):
            if name not in searches.read_all(store.runs)[1]:
                raise RepairedMeanwhile
            place.mkdir(exist_ok=True)
            return _moved(record, place)
    folder = store.folder(name)
    with writes.storing(folder):
        if not folder.is_dir():
            raise RepairedMeanwhile
        place.mkdir(exist_ok=True)
        claim = claims.take(folder / "lock")
        if claim is None:
            return None
        with claim:
            if _is_sound(store, name):
                raise RepairedMeanwhile
            return _moved(folder, place)


def _is_sound(store: Store, trial_id: str) -> bool:
    try:
        _sound(store, trial_id)
    except RequestError:
        return False
    return True


def _moved(path: Path, place: Path) -> Path:
    """Moves a file or folder to a free name in another folder, and returns its new place."""
    for target in _free_names(place / path.name):
        with contextlib.suppress(FileExistsError):
            os.rename(path, _reserved(target, path.is_dir()))
            return target
    raise AssertionError("there is always a free name")


def _check_identity(record: Record) -> None:
    """Refuses a trial whose id is not that of its specification and seed.

    Raises:
        RequestError: the id, or that of the cell, is another.
    """
    trial = Trial("{}", record.seed).with_spec(record.spec)
    if (trial.trial_id, trial.cell_id) != (record.trial_id, record.cell_id):
        raise RequestError(
            f"{record.folder / 'trial.json'} describes trial {trial.trial_id} of cell "
            f"{trial.cell_id}, not {record.trial_id} of cell {record.cell_id}"
        )


def _free_names(path: Path) -> Iterator[Path]:
    """Gives the path, then numbered ones."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}.{number}")
        number += 1


def _reserved(path: Path, is_folder: bool) -> Path:
    """Makes an empty folder or file, onto which one can be moved; fails where there is one."""
    if is_folder:
        path.mkdir()
    else:
        path.touch(exist_ok=False)
    return path
