"""Verification of a store: every done trial whole, and the trial that its folder's name says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from harness.configuration.trial import Trial
from harness.errors import RequestError
from harness.store import claims, writes
from harness.store.records import Record
from harness.store.trials import Store

# The folder beside `trials` to which a repair moves what is damaged.
_SET_ASIDE = "set_aside"


def problems(store: Store) -> tuple[list[Record], dict[str, str]]:
    """Reads everything about every trial, its tables included.

    Returns:
        The records of sound trials, unfinished ones among them, and the problem of every other
        folder by its name.
    """
    sound = []
    found: dict[str, str] = {}
    for trial_id in store.trial_ids():
        reason = store.damage(trial_id, thorough=True)
        if reason is None:
            try:
                record = store.read(trial_id)
                _check_identity(record)
                sound.append(record)
                continue
            except RequestError as error:
                reason = str(error)
        found[trial_id] = reason
    return sound, found


def set_aside(store: Store, name: str) -> Path | None:
    """Moves a folder out of the trials, so that the next sweep trains that trial again.

    Nothing is deleted.

    Returns:
        The folder's new place, or None while a sweep is training the trial.

    Raises:
        NotStored: the folder cannot be moved.
    """
    folder = store.folder(name)
    place = store.runs / _SET_ASIDE
    with writes.storing(folder):
        place.mkdir(exist_ok=True)
        claim = claims.take(folder / "lock")
        if claim is None:
            return None
        with claim:
            for target in _free_names(place / name):
                with contextlib.suppress(FileExistsError):
                    os.rename(folder, _reserved(target))
                    return target
    return None


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


def _reserved(path: Path) -> Path:
    """Makes an empty folder, onto which a folder can be moved; fails where there is one."""
    path.mkdir()
    return path
