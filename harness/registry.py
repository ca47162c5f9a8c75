"""Names instead of dotted paths: flat, listable registries, and the one plug point for a user's own callable."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from harness.errors import RequestError


class Registry:
    """Maps the names of one kind of thing to what they stand for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that files its target under `name`; a name can be taken once only."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")

        def file(entry: Any) -> Any:
            self._entries[name] = entry
            return entry

        return file

    def __getitem__(self, name: str) -> Any:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self.names()) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)


def unknown(kind: str, name: object, known: list[str]) -> RequestError:
    """The error for a name that is not in a list of names, with the list."""
    return RequestError(f"unknown {kind} {str(name)!r}; known: {', '.join(known)}")


def load_callable(path: str, kind: str) -> Callable[..., Any]:
    """The callable that a user named as `package.module:function`.

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
            f"{kind} {path!r} cannot be loaded: {error}; expected module:function on the Python path"
        ) from error
    except (
        Exception
    ) as error:  # a user's module may raise anything while it is imported; the message names it
        raise RequestError(
            f"{kind} {path!r} cannot be loaded: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    if not callable(target):
        raise RequestError(f"{kind} {path!r} is not callable")
    return target
