"""The identity of a user's own callable: its source, and everything that it reads.

A function's values depend on more than its source: on the module's constants, helper functions,
arguments kept by `functools.partial`, variables of an enclosing function, a class's parents and an
instance's attributes. All of these are followed and hashed by value, as far as they are the user's
own. What a library provides counts by its name. Nothing here imports torch.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.configuration.source_text import source_of, values_beyond_source
from harness.errors import RequestError

# Modules that are read under these names are not recorded: the source says all.
_USUAL_ALIASES = {"np": "numpy", "F": "torch.nn.functional"}
_SCALARS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
# Libraries that are never the user's own, wherever they are installed.
_LIBRARIES = ("harness", "numpy", "scipy", "torch", "torchvision")
_READ_GLOBALLY = ("LOAD_GLOBAL", "LOAD_NAME")


def callable_digest(target: Callable[..., Any], path: str, kind: str = "activation") -> str | None:
    """Returns a digest of a callable's source and of everything that it reads.

    A callable that reads nothing of the user's own has the digest of its source alone.

    Args:
        target: a function, class, partial or instance with `__call__`.
        path: where it is, `package.module:function`.
        kind: what it is, for messages.

    Returns:
        Hexadecimal digits, or None for a library's callable without source.

    Raises:
        RequestError: it reads a value that cannot be recorded, such as an open file.
    """
    walk = _Walk(path, kind)
    record = walk.record(target)
    if walk.reads:
        return record
    source = source_of(target)
    return None if source is None else _digest(source)


class _Walk:
    """Follows what one callable reads. `reads` says whether that is more than its source."""

    def __init__(self, path: str, kind: str) -> None:
        self.reads = False
        self._path = path
        self._kind = kind
        self._users_package = path.partition(":")[0].partition(".")[0]
        # Records by the id of their object, which is kept so that no other object gets its id.
        self._records: dict[int, tuple[Any, str]] = {}
        self._modules: list[types.ModuleType] = []  # on the way to the attribute that is read

    def record(self, value: Any) -> str:
        """Returns a text that is equal for equal values."""
        if isinstance(value, _SCALARS):
            return repr(value)
        if id(value) not in self._records:
            self._records[id(value)] = (value, "itself")  # for a value that contains itself
            parts = self._parts(value)
            self._records[id(value)] = (value, _digest(json.dumps(parts, sort_keys=True)))
        return self._records[id(value)][1]

    def _parts(self, value: Any) -> list[Any]:
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, types.BuiltinFunctionType):
            return self._built_in(value)
        if type(value) in (list, tuple):
            return [type(value).__name__, [self.record(entry) for entry in value]]
        if type(value) in (dict, types.MappingProxyType):
            return ["dict", [[self.record(key), self.record(value[key])] for key in value]]
        if type(value) in (set, frozenset):
            return ["set", sorted(self.record(entry) for entry in value)]
        if isinstance(value, types.MethodType):
            self.reads = True
            return ["method", self.record(value.__func__), self.record(value.__self__)]
        if callable(value) and hasattr(value, "__wrapped__"):
            self.reads = True
            return ["wrapper", type(value).__qualname__, self.record(value.__wrapped__)]
        if hasattr(value, "detach") and hasattr(value, "tolist"):  # a tensor of torch
            return ["tensor", str(value.dtype), str(value.detach().tolist())]
        return self._instance(value)

    def _function(self, function: types.FunctionType) -> list[Any]:
        if not self._is_own(function):
            return ["library", *_name(function), self._users_functions(function)]
        reads = self._reads_of(function)
        source = source_of(function)
        if source is None:
            self.reads = True
            source = _code_record(function.__code__)
        return ["function", source, reads]

    def _users_functions(self, function: types.FunctionType) -> list[str]:
        """Returns the records of the functions and numbers that a library's decorator holds."""
        if hasattr(function, "__wrapped__"):
            self.reads = True
            return [self.record(function.__wrapped__)]
        kinds = (*_SCALARS, types.FunctionType, functools.partial)
        held = [value for value in _closure(function).values() if isinstance(value, kinds)]
        self.reads |= bool(held)
        return [self.record(value) for value in held]

    def _reads_of(self, function: types.FunctionType) -> dict[str, str]:
        """Returns the records of what a function reads besides its arguments."""
        closure = _closure(function).items()
        defaults = values_beyond_source(function).items()
        values = [(f"closure {name}", value) for name, value in closure]
        values += [(f"default {name}", value) for name, value in defaults]
        return self._recorded(values) | dict(self._globals(function))

    def _class(self, kind: type) -> list[Any]:
        if not self._is_own(kind):
            return ["library", *_name(kind)]
        values: list[tuple[str, Any]] = [
            (f"base {base.__qualname__}", base) for base in kind.__bases__ if self._is_own(base)
        ]
        attributes = values_beyond_source(kind).items()
        values += [(f"attribute {name}", value) for name, value in attributes]
        reads: dict[str, str] = {}
        for name, member in vars(kind).items():
            for function in _functions_of(member):
                if function.__qualname__ == f"{kind.__qualname__}.{function.__name__}":
                    # Its text is part of the class's; only what it reads is new.
                    of_function = self._reads_of(function).items()
                    reads |= {f"{name} {read}": record for read, record in of_function}
                else:
                    values.append((f"method {name}", function))
        return ["class", source_of(kind) or kind.__qualname__, self._recorded(values) | reads]

    def _built_in(self, function: types.BuiltinFunctionType) -> list[Any]:
        """Returns the record of a function written in C, which may be the method of an object."""
        owner = function.__self__
        is_function = owner is None or isinstance(owner, types.ModuleType)
        if is_function or not self._is_own(owner if isinstance(owner, type) else type(owner)):
            return ["built-in", *_name(function)]
        return ["built-in", *_name(function), self.record(owner)]

    def _instance(self, value: Any) -> list[Any]:
        """Returns the record of an object by what a copy of it is made from."""
        if isinstance(getattr(value, "code", None), str):  # a function compiled by torch.jit
            return ["compiled", value.code]
        try:
            reducer = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        except Exception as error:  # Any object of the user's may raise anything here.
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise RequestError(
                f"{self._kind} {self._path!r} reads an object of type {kind}, whose value cannot "
                "be recorded, so that its results could not be told from those of another value; "
                "let it read numbers, arrays or functions"
            ) from error
        if isinstance(reduced, str):
            return ["named", *_name(type(value)), reduced]
        self.reads = True
        contents = [list(part) if isinstance(part, Iterator) else part for part in reduced]
        return ["instance", self.record(type(value)), [self.record(part) for part in contents]]

    def _recorded(self, values: Iterable[tuple[str, Any]]) -> dict[str, str]:
        records = {name: self.record(value) for name, value in values}
        self.reads |= bool(records)
        return records

    def _globals(self, function: types.FunctionType) -> Iterator[tuple[str, str]]:
        """Yields the records of what a function's code reads from its module and from others."""
        for code in _codes(function.__code__):
            for name in _names_read(code):
                if name in function.__globals__:
                    value = function.__globals__[name]
                    yield from self._read(name, value, code.co_names)
            for module in _imported(code, function.__globals__):
                yield from self._read(module.__name__, module, code.co_names)

    def _read(self, name: str, value: Any, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yields the record of a name, and those of a module's attributes that the code names."""
        if not isinstance(value, types.ModuleType):
            self.reads = True
            yield f"global {name}", self.record(value)
        elif self._is_own(value):
            if value in self._modules:
                return
            self._modules.append(value)
            for attribute in sorted(set(names) & set(vars(value))):
                yield from self._read(f"{name}.{attribute}", vars(value)[attribute], names)
            self._modules.pop()
        elif _USUAL_ALIASES.get(name, name) not in (value.__name__, value.__name__.split(".")[-1]):
            self.reads = True
            yield f"global {name}", value.__name__

    def _is_own(self, value: types.ModuleType | types.FunctionType | type) -> bool:
        """Returns whether something is the user's own, and not a library's."""
        package = _module_name(value).partition(".")[0]
        if package in _LIBRARIES:
            return False
        return package == self._users_package or not _is_library(package)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _module_name(value: Any) -> str:
    """Returns the module in which a function, class or module was written."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, types.FunctionType):
        # A decorator may have given the function another `__module__`.
        return str(value.__globals__.get("__name__"))
    return str(getattr(value, "__module__", None))


def _name(value: Any) -> list[str]:
    return [_module_name(value), value.__qualname__]


@functools.cache
def _is_library(package: str) -> bool:
    """Returns whether a top-level package is Python's or was installed as a distribution."""
    if package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return False
    path = Path(file)
    folder = path.parents[1] if path.stem == "__init__" else path.parent
    return any(folder.glob("*.dist-info"))


def _functions_of(member: Any) -> list[types.FunctionType]:
    """Returns the functions behind a class's entry: itself, or those of a property or wrapper."""
    if isinstance(member, property):
        candidates = [member.fget, member.fset, member.fdel]
    else:
        candidates = [getattr(member, "__func__", member)]
    return [entry for entry in candidates if isinstance(entry, types.FunctionType)]


def _closure(function: types.FunctionType) -> dict[str, Any]:
    """Returns the variables of enclosing functions that a function reads."""
    values = {}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            contents = cell.cell_contents
        except ValueError:  # The enclosing function has not assigned it.
            continue
        if name != "__class__":  # what a method that calls super() refers to
            values[name] = contents
    return values


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yields the code of a function and of all functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _names_read(code: types.CodeType) -> list[str]:
    instructions = dis.get_instructions(code)
    return sorted({entry.argval for entry in instructions if entry.opname in _READ_GLOBALLY})


def _imported(code: types.CodeType, names: dict[str, Any]) -> Iterator[types.ModuleType]:
    """Yields the modules that code imports itself."""
    earlier: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            relative = "." * int(earlier[-2] or 0) + instruction.argval
            name = importlib.util.resolve_name(relative, names.get("__package__"))
            yield importlib.import_module(name)
        earlier.append(instruction.argval)


def _code_record(code: types.CodeType) -> str:
    """Returns what a function without source does: its instructions with their constants."""
    lines = []
    for part in _codes(code):
        lines += [f"{entry.opname} {entry.argrepr}" for entry in dis.get_instructions(part)]
    # A code object among the constants is listed by itself; its address says nothing.
    return "\n".join(line.partition("<code object")[0] for line in lines)
