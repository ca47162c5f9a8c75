"""Errors of Hydra become errors of the harness; the harness's own errors stay as they are."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hydra.errors import HydraException

from harness.errors import NotStored, RequestError
from harness.sweeps.hydra_boundary import HydraBoundary

SWEEPS = Path("runs") / "sweeps"


def application(boundary: HydraBoundary, own: Exception | None, of_hydra: Exception | None):
    """Returns an application in which the harness's code, or Hydra, raises an error."""

    def run() -> None:
        with boundary.own_code():
            if own is not None:
                raise own
        if of_hydra is not None:
            raise of_hydra

    return run


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError(errno.EIO, "broken")])
def test_an_error_of_the_harness_stays_as_it_is(error):
    boundary = HydraBoundary()
    with pytest.raises(type(error)) as raised:
        boundary.run(application(boundary, error, None), SWEEPS)
    assert raised.value is error


@pytest.mark.parametrize("error", [ValueError("flags clash"), HydraException("flags clash")])
def test_a_refusal_by_hydra_is_a_wrong_request(error):
    boundary = HydraBoundary()
    with pytest.raises(RequestError, match="^flags clash$") as raised:
        boundary.run(application(boundary, None, error), SWEEPS)
    assert raised.value.__cause__ is error


def test_a_request_error_inside_an_error_of_hydra_speaks_for_itself():
    boundary = HydraBoundary()

    def wrapped() -> None:
        try:
            raise RequestError("depth=0: expected more")
        except RequestError as error:
            raise HydraException("Error in job") from error

    with pytest.raises(RequestError, match="^depth=0: expected more$"):
        boundary.run(wrapped, SWEEPS)


def test_a_folder_that_hydra_cannot_make_before_the_first_job_is_a_wrong_request():
    def refuse() -> None:
        raise OSError(errno.EACCES, "Permission denied", "/proc/runs")

    with pytest.raises(RequestError, match="runs: /proc/runs cannot be made \\(Permission denied"):
        HydraBoundary().run(refuse, SWEEPS)


def test_a_file_that_hydra_cannot_write_after_training_is_a_result_not_stored():
    boundary = HydraBoundary()
    error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(NotStored, match="cannot write a file below runs/sweeps: No space left"):
        boundary.run(application(boundary, None, error), SWEEPS)


def test_a_kept_error_is_raised_at_the_end_and_once():
    boundary = HydraBoundary()
    kept = NotStored("cannot write summary.json: No space left on device")
    with pytest.raises(NotStored) as raised:
        boundary.run(lambda: boundary.refuse(kept), SWEEPS)
    assert raised.value is kept
    boundary.run(lambda: None, SWEEPS)
