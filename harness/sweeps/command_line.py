"""The command line of a sweep: exit codes, and one line for every mistake.

Imports no torch, so that a mistake is answered at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from omegaconf import DictConfig

from harness.configuration.composing import compose, register_callables, to_config
from harness.configuration.overrides import check_cells, ready
from harness.errors import NotStored, RequestError, TrialsFailed
from harness.sweeps.cells import check, check_options, with_shared_sections
from harness.sweeps.leftovers import Leftovers
from harness.sweeps.progress import (
    PLAIN_SECONDS,
    complain,
    forget_reader,
    say,
    settle_errors,
)
from harness.sweeps.signal_requests import Terminated, requests

_GOES_ON = "finished trials are kept, and the same command goes on from here"


def prefetch(jobs: Iterable[DictConfig], **options: Any) -> list[float | None]:
    """Entry point of the packed launcher: checks all jobs, then trains those that are not done.

    Loads torch only after the check.

    Args:
        jobs: all composed jobs of a sweep.
        **options: the launcher's options; see `harness.sweeps.sweep.prefetch`.

    Returns:
        The score of each cell that was done before, None for every other one.

    Raises:
        RequestError: a job or an option is impossible.
        NotStored: a result could not be written.
    """
    check_options(options["pack"], options["program"], options["workers"])
    configs = []
    sections: dict[str, Any] = {}
    told = time.monotonic()
    for job in jobs:
        configs.append(with_shared_sections(to_config(job), sections))
        check(configs[-1])
        if time.monotonic() - told > PLAIN_SECONDS:
            told = time.monotonic()
            say(f"cells checked: {len(configs)}", sys.stderr)
    sections.clear()
    if not configs:
        raise no_cells()
    from harness.sweeps.cell_results import score_if_done
    from harness.sweeps.cluster import Cluster
    from harness.sweeps.sweep import prefetch as train

    scores = [score_if_done(config) for config in configs]
    where = Cluster.of(options.pop("executor", "none"), options.pop("cluster", {}))
    train(configs, cluster=where, **options)
    return scores


def no_cells() -> RequestError:
    """Returns the error for a sweep of no cells."""
    return RequestError("the sweep has no cells: one of its ranges holds no value")


def run(main: Callable[[], object]) -> int:
    """Runs a Hydra application on `sys.argv` and returns its exit code.

    An unexpected error keeps its traceback. So does every error where the user asked for
    tracebacks with HYDRA_FULL_ERROR.
    """
    tracebacks_wanted = "HYDRA_FULL_ERROR" in os.environ
    # Hydra then raises its errors instead of printing them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    leftovers = None
    try:
        sys.argv[1:] = ready(sys.argv[1:])
        leftovers = Leftovers(sys.argv[1:])
        check_cells(sys.argv[1:])
        register_callables(sys.argv[1:])
        _check_single_run(sys.argv[1:])
        with requests.handled():
            main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except Terminated:
        return _ended_by_signal()
    except BrokenPipeError:
        forget_reader()
    except Exception as error:
        if requests.ending is not None:
            return _ended_by_signal()
        if isinstance(error, RequestError) and leftovers is not None:
            leftovers.remove()
        if tracebacks_wanted and not isinstance(error, TrialsFailed):
            raise
        if _hides_interrupt(error):
            return _interrupted()
        code = _explained(error)
        if code is None:
            raise
        return code
    finally:
        # Also what progress could not write.
        settle_errors()
    return 0


def _check_single_run(arguments: list[str]) -> None:
    """Refuses a wrong request for one cell before Hydra makes its folder.

    A sweep is checked whole by its launcher.
    """
    if not any(argument.startswith("-") for argument in arguments):
        check(compose(arguments))


def _explained(error: Exception) -> int | None:
    """Explains an expected error and returns its exit code; None for an unexpected one."""
    if isinstance(error, RequestError):
        complain(f"error: {error}")
        return 2
    if isinstance(error, NotStored):
        complain(f"error: {error}; {_GOES_ON}")
        return 1
    if isinstance(error, TrialsFailed):
        complain(
            f"error: {len(error.failures)} trial(s) failed; the others are done; "
            "trials/ID/status.json in the folder for results has the traceback of each"
        )
        for trial_id, text in error.failures.items():
            complain(f"  {trial_id}: {text}")
        return 1
    return None


def _interrupted() -> int:
    complain(f"interrupted: {_GOES_ON}")
    return 130


def _ended_by_signal() -> int:
    name = requests.ending.name if requests.ending is not None else "a signal"
    complain(f"ended by {name}: {_GOES_ON}")
    return requests.exit_code


def _hides_interrupt(error: BaseException) -> bool:
    """Returns whether Ctrl-C fell into code that met it with an error of its own.

    OmegaConf's code, for example, may do so.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
