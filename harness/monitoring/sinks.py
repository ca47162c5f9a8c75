"""The places that a monitor writes to: a folder, and the user's active MLflow run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas

from harness.configuration.result_folder import absolute
from harness.errors import RequestError
from harness.monitoring.monitor_report import MonitorReport
from harness.store import writes

# Columns that say which layer and probe a row is, and words.
_NO_METRICS = ("step", "layer", "units", "fan_in")


class FolderSink:
    """Writes `layers.parquet` after every probe and `summary.json` at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = absolute(folder, "folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"folder={folder} cannot be made: {error.strerror}") from error

    def add(self, table: pandas.DataFrame, tables: Sequence[pandas.DataFrame]) -> None:
        """Writes all probes so far; NotStored where that is not possible."""
        with writes.storing(self.folder):
            everything = pandas.concat(tables, ignore_index=True)
            writes.write_parquet(self.folder / "layers.parquet", everything, sync=False)

    def finish(self, report: MonitorReport) -> None:
        """Writes the summary; NotStored where that is not possible."""
        with writes.storing(self.folder):
            writes.write_json(self.folder / "summary.json", report.summary(), sync=False)


class ActiveRunSink:
    """Sends every probe to the MLflow run that is active, as metrics `layers/NAME/COLUMN`."""

    def __init__(self) -> None:
        # MLflow takes seconds to import.
        from harness.tracking.active_run import ActiveRun

        self._run = ActiveRun()

    def add(self, table: pandas.DataFrame, tables: Sequence[pandas.DataFrame]) -> None:
        """Sends the numbers of the newest probe."""
        numbers = table.select_dtypes("number").drop(columns=list(_NO_METRICS), errors="ignore")
        metrics = {
            f"layers/{name}/{column}": float(value)
            for name, row in zip(table["name"], numbers.to_dict("records"), strict=True)
            for column, value in row.items()
        }
        self._run.log_metrics(metrics, int(table["step"].iloc[0]))

    def finish(self, report: MonitorReport) -> None:
        """Sends sharpness and margin as metrics, and the summary as a file."""
        stability = report.stability
        metrics = {"sharpness": stability.sharpness, "stability_margin": stability.margin}
        self._run.log_metrics(metrics, report.steps)
        self._run.log_summary(writes.plain(report.summary()))
