"""One call of a torch function, with uniform access to its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# Names that torch has for one function.
_SYNONYMS = {
    "log_sigmoid": "logsigmoid",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "negative": "neg",
    "rtruediv": "rdiv",
    "absolute": "abs",
    "special_expit": "sigmoid",
    "special_erf": "erf",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "moveaxis": "movedim",
    "concat": "cat",
    "concatenate": "cat",
}


@dataclass(frozen=True)
class Call:
    """A torch function and the arguments that it is called with."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """Torch's name of the function, "" where it has none."""
        return getattr(self.function, "__name__", "")

    @property
    def base(self) -> str:
        """The name without the underscore of the version that works in place."""
        name = self.name
        if name.startswith("__"):
            name = name.strip("_")
        name = name.rstrip("_").removeprefix("_")
        return _SYNONYMS.get(name, name)

    @property
    def in_place(self) -> bool:
        """True where the first argument is overwritten."""
        named = self.name.endswith("_") and not self.name.endswith("__")
        return named or bool(self.kwargs.get("inplace", False))

    @property
    def input(self) -> Any:
        """The first argument."""
        return self.args[0] if self.args else self.kwargs["input"]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments and in lists of them."""
        return tensors_in((*self.args, *self.kwargs.values()))

    def run(self) -> Any:
        """Calls the function."""
        return self.function(*self.args, **self.kwargs)

    def named(self, names: Sequence[str]) -> dict[str, Any]:
        """Returns the arguments by name; `names` are those of the leading parameters."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Returns an argument that may be given by name or by position."""
        by_position = self.args[position] if len(self.args) > position else default
        return self.kwargs.get(name, by_position)


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Returns the tensors among values and in lists of them, in order."""
    tensors: list[Tensor] = []
    for value in values:
        members = value if isinstance(value, (tuple, list)) else [value]
        tensors += [member for member in members if isinstance(member, Tensor)]
    return tensors
