"""The boundary between Hydra and the harness: errors of Hydra become errors of the harness.

Hydra has no error of its own for flags that do not go together (it raises ValueError) and none for
files that it cannot write (OSError). The boundary knows which errors left the harness's own code;
all others of these kinds are Hydra's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.configuration.composing import explain, first_line
from harness.errors import NotStored, RequestError


class HydraBoundary:
    """Runs a Hydra application whose task function enters `own_code`."""

    def __init__(self) -> None:
        self._entered = False
        self._own_errors: list[Exception] = []
        self._refused: RequestError | NotStored | None = None

    @contextlib.contextmanager
    def own_code(self) -> Iterator[None]:
        """Marks the harness's code within Hydra: an error that leaves it is not Hydra's."""
        self._entered = True
        try:
            yield
        except Exception as error:
            self._own_errors.append(error)
            raise

    @property
    def entered(self) -> bool:
        """True once the harness's code ran within Hydra."""
        return self._entered

    def refuse(self, error: RequestError | NotStored) -> None:
        """Keeps an error for the end of `run`; Hydra would add a line of its own to it."""
        self._refused = error

    def run(self, application: Callable[[], object], sweeps: Path) -> None:
        """Runs the application.

        Args:
            application: the function that `hydra.main` makes.
            sweeps: the folder below which Hydra writes its files, for messages.

        Raises:
            RequestError: the request was wrong, or Hydra could not write before the first job.
            NotStored: a file could not be written after that.
            BrokenPipeError: nobody reads what Hydra prints, such as its help.
        """
        self._entered = False
        self._own_errors.clear()
        self._refused = None
        try:
            application()
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            raise RequestError(_request_message(error)) from error
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            if self._is_own(error):
                raise
            raise self._error_of_hydra(error, sweeps) from error
        if self._refused is not None:
            raise self._refused

    def _is_own(self, error: Exception) -> bool:
        if isinstance(error, (RequestError, NotStored)):
            return True
        return any(error is own for own in self._own_errors)

    def _error_of_hydra(
        self, error: ValueError | OSError, sweeps: Path
    ) -> RequestError | NotStored:
        if isinstance(error, ValueError):
            return RequestError(first_line(error))
        # Where the disk is full, writing fails with an error that names no file.
        path = error.filename or f"a file below {sweeps}"
        reason = error.strerror or str(error)
        if self._entered:
            return NotStored(f"cannot write {path}: {reason}")
        return RequestError(
            f"runs: {path} cannot be made ({reason}); choose another folder with runs=FOLDER"
        )


def _request_message(error: Exception) -> str:
    """Returns the message of the RequestError that Hydra wrapped, or an explanation of Hydra's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RequestError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return explain(error)
