"""Tracking: finished trials go from the store to MLflow, for review.

The store is the truth: an outage of MLflow fails no trial and loses nothing. This is the only
package that imports MLflow, and it does so when the first trial is sent.

- `tracker` is what a sweep uses: it sends trials and reports a failure once.
- `connection` opens a tracking store and sends each trial as one flat run.
- `bulk` writes many runs in one transaction; it alone knows MLflow's private names.
- `contents` describes a run: tags, params, metrics. `run_files` writes its files, among them the
  page of `trial_page` and the figure of `profile_figure`. `views` saves views of the experiment.
"""

from harness.tracking.tracker import Tracker, check, open

__all__ = ["Tracker", "check", "open"]
