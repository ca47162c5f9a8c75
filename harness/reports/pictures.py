"""Figures inside an HTML page, which then needs no file beside it."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.reports.figure_style import BLACK, THEMED_COLOURS

_DPI = 120
# Text stays text, which a page can enlarge and search, and identifiers are the same in every run.
_SVG_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "harness"}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_NOT_FOR_PAGES = re.compile(
    r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->", re.DOTALL
)
_GROUP_NAME = re.compile(r"<g id=\"[^\"]*\"")
_OUTLINE = re.compile(r" d=\"[^\"]*\"")
_LONG_NUMBER = re.compile(r"(\.\d\d)\d+")
_SPACES = re.compile(r"\n\s*")


def data_uri(figure: Figure | None) -> str | None:
    """Returns the figure as the `data:` address of a PNG."""
    if figure is None:
        return None
    buffer = io.BytesIO()
    figure.set_dpi(_DPI)
    # Straight to the canvas: `savefig` would draw a figure with an adjusted layout once more.
    FigureCanvasAgg(figure).print_png(buffer)
    pixels = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/png;base64,{pixels}"


def inline_svg(figure: Figure, description: str) -> Markup:
    """Returns the figure as an SVG element whose colours follow the page's theme.

    Equal figures give equal bytes. The background is transparent, and each colour of
    `THEMED_COLOURS` is a variable of the page.

    Args:
        figure: the figure; its backgrounds are switched off.
        description: the text that stands for the figure where it cannot be seen.
    """
    figure.patch.set_visible(False)
    for panel in figure.axes:
        panel.patch.set_visible(False)
    buffer = io.StringIO()
    with rc_context(_SVG_SETTINGS):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = _NOT_FOR_PAGES.sub("", text[text.index("<svg") :])
    text = _GROUP_NAME.sub("<g", text)
    text = _OUTLINE.sub(lambda found: _LONG_NUMBER.sub(r"\1", found.group()), text)
    text = _SPACES.sub("\n", _themed(text))
    label = f'<svg role="img" aria-label="{escape(description)}" '
    return Markup(text.replace("<svg ", label, 1))


def _themed(text: str) -> str:
    """Returns SVG text in which colours are variables of the page."""
    for variable, light, _ in THEMED_COLOURS:
        drawn = BLACK if variable == "--text" else light
        text = re.sub(f"(fill|stroke): {drawn}", rf"\1: var({variable})", text)
    return text
