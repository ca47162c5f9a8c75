"""Errors of the harness are errors that users of Python already catch."""

from __future__ import annotations

import pickle

import pytest

from harness.errors import NotStored, RequestError, TrialsFailed


def test_a_wrong_request_is_a_value_error():
    assert issubclass(RequestError, ValueError)


def test_a_result_that_is_not_stored_is_an_error_of_the_system():
    assert issubclass(NotStored, OSError)


@pytest.mark.parametrize(
    "error",
    [
        RequestError("depth=0: expected an integer of at least 1"),
        NotStored("cannot write summary.json: No space left on device"),
        TrialsFailed({"0123456789abcdef": "ValueError: no"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_message_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_failed_trials_are_listed_by_id():
    error = TrialsFailed({"a": "ValueError: no", "b": "MemoryError"})
    assert error.failures == {"a": "ValueError: no", "b": "MemoryError"}
    assert str(error) == "2 trial(s) failed: a: ValueError: no; b: MemoryError"
