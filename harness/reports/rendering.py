"""Rendering of HTML and SVG from Jinja2 templates.

All pages share `templates/page.html.j2`, which holds the style for light and dark screens, paper
and phones. Values are escaped, and a name that a template misses is an error, not an empty text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.reports.figure_style import THEMED_COLOURS, VERDICT_COLOURS, VERDICT_SIGNS

TEMPLATES = Path(__file__).with_name("templates")


@functools.cache
def environment(folder: Path = TEMPLATES) -> Environment:
    """Returns the Jinja2 environment of the templates in `folder`.

    A template is looked for in `folder` first and among the shared templates next.
    """
    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    made.globals["verdict_colours"] = VERDICT_COLOURS
    made.globals["verdict_signs"] = VERDICT_SIGNS
    made.globals["themed_colours"] = THEMED_COLOURS
    return made


def render(template: str, folder: Path = TEMPLATES, **values: object) -> str:
    """Returns a template filled with values.

    Args:
        template: the name of the template's file.
        folder: the folder of the page's own templates.
        values: the names that the template uses. Text is escaped unless it is `Markup`.
    """
    return environment(folder).get_template(template).render(values)


def table_html(table: pandas.DataFrame, *, index: bool = False) -> Markup:
    """Returns a table as HTML: text is escaped, and a missing value is an empty cell."""
    return Markup(table.to_html(index=index, border=0, na_rep=""))


def linked_table_html(
    table: pandas.DataFrame, links: Mapping[str, Sequence[str]], *, wrapped: bool = True
) -> Markup:
    """Returns a table as HTML in which the texts of some columns are links.

    Args:
        table: texts and numbers.
        links: by column, the addresses of its rows. One that is neither of the web nor a relative
            path, such as `javascript:`, is left out.
        wrapped: allows lines to break inside cells.
    """
    shown = table.map(lambda value: "" if pandas.isna(value) else escape(value))
    shown.columns = [escape(name) for name in table.columns]
    for name, addresses in links.items():
        texts = shown[escape(name)]
        shown[escape(name)] = [
            _link(text, address) for text, address in zip(texts, addresses, strict=False)
        ]
    classes = None if wrapped else "nowrap"
    return Markup(shown.to_html(index=False, border=0, escape=False, classes=classes))


def _link(text: Markup, address: str) -> Markup:
    if not address or (":" in address and not address.startswith(("http://", "https://"))):
        return text
    return Markup('<a href="{}">{}</a>').format(address, text)
