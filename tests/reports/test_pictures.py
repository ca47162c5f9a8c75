"""Figures inside pages."""

from __future__ import annotations

import base64
import io

from matplotlib import pyplot
from PIL import Image

from harness.reports.pictures import picture


def test_a_picture_is_all_of_the_figure_once():
    before = pyplot.get_fignums()
    figure, panel = pyplot.subplots(figsize=(3, 2))
    panel.plot([0, 1], [0, 1], color="#ff0000", linewidth=8)
    figure.tight_layout()
    text = picture(figure, 'less < "more"')
    assert text.startswith(
        '<figure><img alt="less &lt; &quot;more&quot;" src="data:image/png;base64,'
    )
    assert text.count("less &lt;") == 2
    image = Image.open(
        io.BytesIO(base64.b64decode(text.split("base64,")[1].split('"')[0]))
    ).convert("RGB")
    assert image.size == (360, 240)
    assert (255, 0, 0) in {colour for _, colour in image.getcolors(1 << 20)}
    assert pyplot.get_fignums() == before


def test_no_figure_is_what_stands_for_it():
    assert picture(None, "caption") == ""
    assert picture(None, "caption", missing="<p>nothing</p>") == "<p>nothing</p>"
