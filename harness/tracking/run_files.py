"""The files of a run: its record and tables, from which `downloads` reads it back, and figures."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.tracking import MlflowClient

from harness.store import writes
from harness.tracking import histogram_figure, profile_figure, trial_page
from harness.tracking.outgoing import Outgoing

# The file that has the specification and the summary of a trial, and its tables.
RECORD = "config.json"
PARTS = ("status", "summary")
TABLES = ("curves.parquet", "layers.parquet")


def write(folder: Path, trial: Outgoing) -> None:
    """Writes the files of a trial's run into `folder`.

    Raises:
        OSError: a file cannot be written, or the trial's layer table cannot be read.
    """
    record = trial.record
    writes.write_json(folder / RECORD, dict(_parts(record.folder)), sync=False)
    for name in TABLES:
        shutil.copy(record.folder / name, folder)
    if trial.judged is None:
        return
    title = trial.contents.name
    profile = profile_figure.layer_profile(trial.layers, title)
    (folder / "layers.svg").write_text(profile)
    figures = [profile]
    histograms = histogram_figure.histograms(trial.layers, title)
    if histograms:
        (folder / "histograms.svg").write_text(histograms)
        figures.append(histograms)
    page = trial_page.diagnosis(record, trial.layers, trial.judged, title, figures)
    (folder / "diagnosis.html").write_text(page, encoding="utf-8")


def _parts(folder: Path) -> Iterator[tuple[str, Any]]:
    """Gives the contents of `config.json`: those of `trial.json`, then the other two files."""
    yield from json.loads((folder / "trial.json").read_text()).items()
    for name in PARTS:
        yield name, json.loads((folder / f"{name}.json").read_text())


@contextlib.contextmanager
def folder_of(client: MlflowClient, trial: Outgoing) -> Iterator[Path]:
    """Gives a folder whose files become those of the trial's run.

    It is the run's own folder where that is on this machine. Otherwise it is a temporary one, whose
    files are sent at the end.
    """
    folder = local_folder(trial.place)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        client.log_artifacts(trial.run_id, name)


def local_folder(place: str) -> Path | None:
    """Returns the folder of a path or a `file:` address, or None for any other address."""
    address = urlsplit(place)
    if address.scheme == "file":
        return Path(url2pathname(address.path))
    return None if address.scheme else Path(place)
