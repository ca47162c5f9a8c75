"""Figures inside pages."""

from __future__ import annotations

import base64
import io

from matplotlib import get_backend, pyplot
from PIL import Image

from harness.reports.drawing import new_figure
from harness.reports.pictures import data_uri
from harness.reports.rendering import environment


def test_a_picture_is_all_of_the_figure():
    figure, grid = new_figure(1, 1, (3, 2))
    grid[0, 0].plot([0, 1], [0, 1], color="#ff0000", linewidth=8)
    figure.tight_layout()
    address = data_uri(figure)
    assert address.startswith("data:image/png;base64,")
    pixels = base64.b64decode(address.partition("base64,")[2])
    image = Image.open(io.BytesIO(pixels)).convert("RGB")
    assert image.size == (360, 240)
    assert (255, 0, 0) in {colour for _, colour in image.getcolors(1 << 20)}


def test_drawing_leaves_pyplot_alone():
    before = (pyplot.get_fignums(), get_backend())
    figure, _ = new_figure(1, 2, (3, 2))
    data_uri(figure)
    assert (pyplot.get_fignums(), get_backend()) == before


def test_no_figure_has_no_address():
    assert data_uri(None) is None


def test_a_caption_is_escaped_as_text_and_as_attribute():
    macros = environment().get_template("macros.html.j2").module
    element = macros.picture("data:image/png;base64,AA", 'less < "more"')
    assert '<img alt="less &lt; &#34;more&#34;" src="data:image/png;base64,AA">' in element
    assert element.count("less &lt;") == 2
    assert macros.picture_if(None, "caption").strip() == ""
