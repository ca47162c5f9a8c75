"""Tracking: finished trials go from the store to MLflow, for review.

The store is the truth: an outage of MLflow fails no trial and loses nothing. This is the only
package that imports MLflow, and it does so when the first trial is sent.

- `tracker` is what a sweep uses: it sends trials, and tries again after an outage.
- `address` knows what an address may be; `reachability` looks whether a store answers.
- `connection` opens a store, asks what it has (`presence`) and sends the rest: trials by
  `trial_sender`, cells by `cell_runs`. `experiments` and `sqlite_file` make what they need.
- `run_writer` begins and ends runs, through MLflow's client or many at once by `bulk`.
- `contents` describes a run: tags, params, metrics; `run_names` names it. `run_files` writes its
  files, among them the page of `trial_page` with `profile_figure` and `histogram_figure`. `views`
  saves views of the experiments.
- `run_verification` compares trials with their runs.
- `downloads` goes the other way: it makes tables from a tracking store alone.
"""

from harness.tracking.downloads import tables_from_mlflow
from harness.tracking.tracker import Tracker, check, open

__all__ = ["Tracker", "check", "open", "tables_from_mlflow"]
