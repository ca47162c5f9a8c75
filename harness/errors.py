"""The ways in which a command can end other than well.

The command line turns them into exit codes 2 (`RequestError`) and 1 (the others).
"""


class _OneLine(Exception):
    """An error whose text is one line, whatever the names and values in it have in them."""

    def __str__(self) -> str:
        return "\\n".join(super().__str__().splitlines())


class RequestError(_OneLine, ValueError):
    """A wrong request: one line says what is wrong, where, and which values are allowed.

    Raised before anything is written; exit code 2.
    """


class NotStored(_OneLine, OSError):
    """A result that could not be written, as on a full disk; one line names file and reason.

    What was stored before is whole, and no unfinished trial reads as done. Exit code 1.
    """


class TrialsFailed(Exception):
    """Failed trials of a sweep that is otherwise done. Exit code 1.

    `failures` maps a trial id to the last line of its error.
    """

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = dict(failures)
        listing = "; ".join(f"{trial_id}: {error}" for trial_id, error in self.failures.items())
        super().__init__(f"{len(self.failures)} trial(s) failed: {listing}")

    def __reduce__(self):
        return type(self), (self.failures,)
