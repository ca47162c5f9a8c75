"""Random damage to the content of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# Values where JSON has others.
_ODD_VALUES = (
    *(None, True, -1, 0, 2**70, 1.5, 1e400, float("nan"), "", "x", "../../up", "\n", [], [[]], {}),
    {"a": 1},
    [None],
    ["a", 1],
)


@st.composite
def cut(draw: DrawFn, content: bytes) -> bytes:
    """The beginning of the content."""
    return content[: draw(st.integers(0, max(0, len(content) - 1)))]


@st.composite
def bits_flipped(draw: DrawFn, content: bytes) -> bytes:
    """The content with one to three bits changed."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3)) if content else 0):
        position = draw(st.integers(0, len(content) - 1))
        changed[position] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@st.composite
def tail_of_zeros(draw: DrawFn, content: bytes) -> bytes:
    """Zeros from somewhere on, as a power failure leaves them."""
    length = draw(st.integers(0, max(0, len(content) - 1)))
    return content[:length] + bytes(len(content) - length)


def junk(content: bytes) -> SearchStrategy[bytes]:
    """Something else altogether, nothing included."""
    return st.one_of(st.just(b""), st.binary(max_size=200), st.just(content * 2))


@st.composite
def odd_json(draw: DrawFn, content: bytes) -> bytes:
    """JSON whose structure is damaged; the content itself where it is no JSON object."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    if not isinstance(value, dict):
        return content
    holder: Any = value
    key = draw(st.sampled_from(sorted(holder))) if holder else ""
    while isinstance(holder.get(key), dict) and holder[key] and draw(st.booleans()):
        holder = holder[key]
        key = draw(st.sampled_from(sorted(holder)))
    if draw(st.booleans()):
        holder[key] = draw(st.sampled_from(_ODD_VALUES))
    else:
        holder.pop(key, None)
    return json.dumps(value).encode()


_KINDS: tuple[Callable[[bytes], SearchStrategy[bytes]], ...] = (
    *(cut, bits_flipped, tail_of_zeros, junk, odd_json),
)


@st.composite
def damaged(draw: DrawFn, content: bytes) -> bytes:
    """The content after damage of a random kind; by chance it may be what it was."""
    kind = draw(st.sampled_from(_KINDS))
    return draw(kind(content))
