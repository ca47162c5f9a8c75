"""Pages with a part that is written by a script, between two lines of its own.

The part called `answer` stands between `<!-- answer:begin -->` and `<!-- answer:end -->`, which a
browser does not show.
"""

from __future__ import annotations

import re

from harness.errors import RequestError


def with_part(page: str, name: str, text: str) -> str:
    """Returns a page whose part of that name is the text.

    Args:
        page: Markdown or HTML.
        name: the name of the part.
        text: what stands between the two lines afterwards.

    Raises:
        RequestError: the page has no such part.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(page):
        raise RequestError(f"the page has no lines {begin} and {end} to write the {name} between")
    return pattern.sub(lambda marks: f"{marks[1]}{text}\n{marks[2]}", page, count=1)
