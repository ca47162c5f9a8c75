"""The ways a command can end other than well; the command line turns them into exit codes 2 and 1."""


class RequestError(Exception):
    """The request was wrong: the message is one line that says what, where, and which values are allowed.

    Raised before anything is written; exit code 2.
    """


class NotStored(Exception):
    """A result could not be written, as on a full disk: the message is one line that says which file, and why.

    What was stored before is whole, and no trial reads as done that is not. Exit code 1.
    """


class TrialsFailed(Exception):
    """Some trials of a finished sweep failed; the others are done. Exit code 1.

    `failures` maps a trial id to the last line of its error.
    """

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = dict(failures)
        listing = "; ".join(f"{trial_id}: {error}" for trial_id, error in self.failures.items())
        super().__init__(f"{len(self.failures)} trial(s) failed: {listing}")

    def __reduce__(self):
        return type(self), (self.failures,)
