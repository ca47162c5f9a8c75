"""Figures inside an HTML page, which then needs no file beside it."""

from __future__ import annotations

import base64
import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 120


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
