"""The source of a user's functions and classes as it was when it was first asked for."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from typing import Any

# Sources by the id of the object, which is kept so that no other object gets its id.
_sources: dict[int, tuple[Any, str | None]] = {}


def source_of(target: Any) -> str | None:
    """Returns the source of a function or class, or None where Python has none.

    A file that is edited after it was imported changes nothing: the answer stays the first one, as
    the code that runs stays the same.
    """
    key = getattr(target, "__code__", target)
    if id(key) not in _sources:
        _sources[id(key)] = (key, _read_source(key))
    return _sources[id(key)][1]


def values_beyond_source(target: types.FunctionType | type) -> dict[str, Any]:
    """Returns values that a function or class was given when it was defined, by their names.

    They are a function's defaults, and a class's attributes but its functions. Those that the
    source spells out as literals are left out.
    """
    if isinstance(target, types.FunctionType):
        values = _defaults(target)
    else:
        values = {
            name: value
            for name, value in vars(target).items()
            if not _is_pythons(name) and not _is_function(value)
        }
    if not values:
        return {}
    literals = _literals(source_of(target))
    return {name: value for name, value in values.items() if name not in literals}


def _read_source(target: Any) -> str | None:
    try:
        # A code object and not the function, whose `__wrapped__` would be read instead.
        return inspect.getsource(target)
    except (OSError, TypeError):
        return None


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    values = function.__defaults__ or ()
    defaults = dict(zip(positional[len(positional) - len(values) :], values, strict=True))
    return defaults | (function.__kwdefaults__ or {})


def _is_pythons(name: str) -> bool:
    """Returns whether Python itself, or `abc`, keeps something in a class under this name."""
    return name.startswith("__") or name == "_abc_impl"


def _is_function(value: Any) -> bool:
    kinds = (types.FunctionType, staticmethod, classmethod, property, types.MemberDescriptorType)
    return isinstance(value, (*kinds, types.GetSetDescriptorType))


def _literals(source: str | None) -> set[str]:
    """Returns the names that a definition's source gives a literal value."""
    try:
        definition: Any = ast.parse(textwrap.dedent(source or "")).body[0]
    except (SyntaxError, IndexError):  # A lambda in the middle of an expression, for example.
        return set()
    given: list[tuple[str, ast.expr | None]] = []
    if isinstance(definition, ast.FunctionDef):
        arguments = definition.args
        positional = [*arguments.posonlyargs, *arguments.args]
        with_default = positional[len(positional) - len(arguments.defaults) :]
        given += [
            (argument.arg, default)
            for argument, default in zip(with_default, arguments.defaults, strict=True)
        ]
        given += [
            (argument.arg, default)
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
    elif isinstance(definition, ast.ClassDef):
        for statement in definition.body:
            if isinstance(statement, ast.Assign):
                given += [
                    (target.id, statement.value)
                    for target in statement.targets
                    if isinstance(target, ast.Name)
                ]
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                given.append((statement.target.id, statement.value))
    return {name for name, value in given if value is not None and _is_literal(value)}


def _is_literal(expression: ast.expr) -> bool:
    try:
        ast.literal_eval(expression)
    except (ValueError, TypeError):
        return False
    return True
