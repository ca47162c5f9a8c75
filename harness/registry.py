"""Registries, which map names to declarations, and the loading of a user's own callable."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from harness.errors import RequestError


class Registry:
    """A map from the names of one kind of thing to their declarations."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Returns a decorator that files its target under `name`.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")

        def file(entry: Any) -> Any:
            self._entries[name] = entry
            return entry

        return file

    def __getitem__(self, name: str) -> Any:
        """Returns the declaration of a name.

        Raises:
            RequestError: unknown name; the message lists the names.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self.names()) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Returns all names, sorted."""
        return sorted(self._entries)


def unknown(kind: str, name: object, known: list[str]) -> RequestError:
    """Returns the error for a name that is not in a list of names, with the list."""
    return RequestError(f"unknown {kind} {str(name)!r}; known: {', '.join(known)}")


def load_callable(path: str, kind: str) -> Callable[..., Any]:
    """Returns the callable that a user named as `package.module:function`.

    Args:
        path: where the callable is.
        kind: what it is, for messages.

    Raises:
        RequestError: the module cannot be imported, lacks the name, or the name is not callable.
    """
    module_name, _, attribute = path.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError(
            f"{kind} {path!r} cannot be loaded: {error}; "
            "expected module:function on the Python path"
        ) from error
    except Exception as error:
        # A user's module may raise anything while it is imported; the message names it.
        raise RequestError(
            f"{kind} {path!r} cannot be loaded: importing {module_name} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(target):
        raise RequestError(f"{kind} {path!r} is not callable")
    return target
