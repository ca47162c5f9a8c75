"""The command line's manners: a user's mistake is one line and exit code 2, with nothing left behind; no torch for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.configuration.composing import compose, register_callables, to_config
from harness.configuration.messages import explain, first_line
from harness.configuration.schema import Config
from harness.errors import NotStored, RequestError, TrialsFailed
from harness.sweeps.cells import check, check_options

_HYDRA, _HARNESS = Path(hydra.__file__).parent, Path(__file__).parents[1]

_GOES_ON = "finished trials are kept, and the same command goes on from here"


def prefetch(jobs: Sequence[DictConfig], **options: Any) -> None:
    """What the packed launcher shows all jobs of a sweep to: checks them, and loads torch only for those that can be trained.

    `options` are the launcher's; see `harness.sweeps.sweep.prefetch`. RequestError for an impossible job.
    """
    check_options(options["pack"], options["program"], options["workers"])
    configs = [to_config(job) for job in jobs]
    for config in configs:
        check(config)
    from harness.sweeps.sweep import prefetch as train

    train(configs, **options)


def run(main: Callable[[], None]) -> int:
    """Run a Hydra app and return its exit code; an unexpected error keeps its traceback."""
    asked_for_everything = "HYDRA_FULL_ERROR" in os.environ
    os.environ.setdefault(
        "HYDRA_FULL_ERROR", "1"
    )  # Hydra then raises instead of printing, and we speak
    register_callables(sys.argv[1:])
    leftovers = _Leftovers(sys.argv[1:])
    try:
        _check_single_run(sys.argv[1:])
        main()
        if _refused:
            raise _refused[0]
        return 0
    except (RequestError, HydraException, OmegaConfBaseException) as error:
        leftovers.remove()
        if asked_for_everything:
            raise
        if _hides_interrupt(error):
            return _interrupted()
        cause = _request_error(error)
        print(f"error: {cause if cause is not None else explain(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if asked_for_everything or not _made_by_hydra(error):
            raise
        path = (
            error.filename or f"a file below {leftovers.sweeps}"
        )  # where the disk is full, writing fails, which names no file
        if _within_jobs(error):
            return _not_stored(f"cannot write {path}: {error.strerror}")
        leftovers.remove(torn=True)
        print(
            f"error: runs: {path} cannot be made ({error.strerror}); choose another folder with runs=FOLDER",
            file=sys.stderr,
        )
        return 2
    except NotStored as error:
        if asked_for_everything:
            raise
        return _not_stored(str(error))
    except TrialsFailed as error:
        print(
            f"error: {len(error.failures)} trial(s) failed; the others are done. Their tracebacks are in runs/trials/ID/status.json",
            file=sys.stderr,
        )
        for trial_id, text in error.failures.items():
            print(f"  {trial_id}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        if not asked_for_everything and _hides_interrupt(error):
            return _interrupted()
        if asked_for_everything or not _refused_by_hydra(error):
            raise
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2


def _interrupted() -> int:
    print(f"interrupted: {_GOES_ON}", file=sys.stderr)
    return 130


def _not_stored(what: str) -> int:
    print(f"error: {what}; {_GOES_ON}", file=sys.stderr)
    return 1


def _within_jobs(error: OSError) -> bool:
    """Whether Hydra was at the jobs of a sweep, whose trials are stored by then."""
    return any(frame.name == "launch" for frame in traceback.extract_tb(error.__traceback__))


def _made_by_hydra(error: OSError) -> bool:
    """Whether it was Hydra, or the launcher on its behalf, that could not make a folder or a file."""
    for frame in reversed(
        traceback.extract_tb(error.__traceback__)
    ):  # beyond these are libraries that either may have called
        path = Path(frame.filename)
        if _HYDRA in path.parents or path.parent.name == "harness_packed":
            return True
        if _HARNESS in path.parents:
            return False
    return False


def _refused_by_hydra(error: Exception) -> bool:
    """Whether Hydra itself refused the flags of the command line, for which it has no error of its own."""
    return (
        isinstance(error, ValueError)
        and _HYDRA in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parents
    )


def _hides_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C fell into code that met it with an error of its own, as OmegaConf's may."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


_refused: list[RequestError | NotStored] = []


def refuse(error: RequestError | NotStored) -> None:
    """Let `run` report what a job cannot go on from, where Hydra would add a line of its own."""
    _refused.append(error)


def _check_single_run(arguments: list[str]) -> None:
    """Refuse a wrong request for one cell before Hydra makes its folder; a sweep is checked whole by its launcher."""
    if not any(argument.startswith("-") for argument in arguments):
        check(compose(arguments))


def _request_error(error: BaseException | None) -> RequestError | None:
    while error is not None:
        if isinstance(error, RequestError):
            return error
        error = error.__cause__ or error.__context__
    return None


class _Leftovers:
    """What Hydra writes below `runs` before a request is known to be wrong; `remove` restores what was there."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        told = [
            argument.removeprefix("runs=") for argument in arguments if argument.startswith("runs=")
        ]
        self.sweeps = Path(told[-1] if told else Config.runs).expanduser().absolute() / "sweeps"
        self.made = [
            folder for folder in (self.sweeps, *self.sweeps.parents) if not folder.exists()
        ]
        self.known = set(self.sweeps.glob("*"))

    def remove(self, *, torn: bool = False) -> None:
        """Delete new job folders that hold nothing but Hydra's own files, then the folders made for them; with `torn` also where these are no whole ones."""
        for folder in set(self.sweeps.glob("*")) - self.known:
            if {path.name for path in folder.glob("*")} <= {
                "multirun.yaml",
                ".hydra",
                "train.log",
            } and self._asked_for(folder, torn):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self.made:
            with contextlib.suppress(
                OSError
            ):  # not there, or somebody else has written into it meanwhile
                folder.rmdir()

    def _asked_for(self, folder: Path, torn: bool) -> bool:
        """Whether this command line made the folder, and not another one that started meanwhile; `torn` where its files do not say."""
        single = folder / ".hydra" / "overrides.yaml"
        with contextlib.suppress(OSError, OmegaConfBaseException, YAMLError):
            overrides = (
                OmegaConf.load(single)
                if single.exists()
                else OmegaConf.load(folder / "multirun.yaml").hydra.overrides.task
            )
            return set(overrides) <= set(self.arguments)
        return torn
