"""A figure inside an HTML page."""

from __future__ import annotations

import base64
import io
from html import escape

from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 120


def picture(figure: Figure | None, caption: str, missing: str = "") -> str:
    """The figure, which is closed, with its caption as an HTML element that holds its pixels; `missing`, also HTML, where there is none."""
    if figure is None:
        return missing
    buffer = io.BytesIO()
    figure.set_dpi(_DPI)
    # Straight to the canvas: `savefig` would draw a figure whose layout was adjusted once more, for nothing.
    FigureCanvasAgg(figure).print_png(buffer)
    pyplot.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
