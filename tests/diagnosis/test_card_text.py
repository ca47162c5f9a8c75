"""The printed card and the comparison of two: narrow, and what is wrong first."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from harness.diagnosis.comparison import comparison_text, of_card, of_file, pairs
from harness.diagnosis.diagnose import diagnose
from harness.errors import RequestError

from .models import labelled, selu_mlp


def with_torchs_gain(width: int = 20, depth: int = 20) -> nn.Sequential:
    """SELU layers that are initialised with torch's gain for SELU, 3/4."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="selu", generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.SELU()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


@pytest.fixture(scope="module")
def deep():
    return diagnose(with_torchs_gain(), labelled(20))


def test_torchs_gain_is_named_with_its_consequence_and_the_line_that_mends_it(deep):
    (finding,) = deep.findings
    assert finding.rule == "torch's gain 3/4 for SELU"
    assert len(finding.layers) == 20
    # The fixed point of the pooled map at tau = 9 / 16.
    assert "settle at a pooled standard deviation of 0.1996" in finding.consequence
    assert "nonlinearity='linear'" in finding.fix
    assert "nonlinearity='selu'" in finding.wrong


def test_a_card_fits_100_columns_and_folds_equal_layers(deep):
    lines = str(deep).split("\n")
    assert max(map(len, lines)) <= 100
    assert len(lines) < 40
    assert any("(18 alike: medians)" in line for line in lines)


def test_the_course_and_the_lint_stand_before_the_table(deep):
    text = str(deep)
    course = text.index("over 20 layers")
    assert course < text.index("Lint: 1 finding") < text.index("\nlayer ")
    assert text.index("\nlayer ") < text.index("Attribution:")


def test_long_names_are_cut():
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a_rather_long_name_of_a_part = nn.ModuleDict(
                {"and_a_part_of_it": selu_mlp([20, 32, 4])}
            )

        def forward(self, x):
            return self.a_rather_long_name_of_a_part["and_a_part_of_it"](x)

    text = str(diagnose(Deep(), labelled(20)))
    assert max(map(len, text.split("\n"))) <= 100


def test_a_network_without_selu_has_no_fault():
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
    text = str(diagnose(model, labelled(20)))
    assert "None of them is a fault" in " ".join(text.split())
    assert "fails at" not in text
    assert "Lint" not in text


def test_a_comparison_shows_what_changed(deep, tmp_path):
    mended = diagnose(selu_mlp([20] * 21 + [4]), labelled(20))
    text = mended.against(deep)
    assert max(map(len, text.split("\n"))) <= 100
    assert "gone: torch's gain 3/4 for SELU" in text
    assert len(pairs(mended, of_card(deep, "before"))) == 20
    file = tmp_path / "before.json"
    file.write_text(deep.to_json())
    read = comparison_text(mended, of_file(file))
    assert read.split("\n")[4:] == text.split("\n")[4:]


def test_models_without_a_common_name_are_compared_by_position(deep):
    class Renamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = selu_mlp([20, 20, 4])

        def forward(self, x):
            return self.body(x)

    card = diagnose(Renamed(), labelled(20))
    paired = pairs(card, of_card(deep, "before"))
    assert len(paired) == 20
    assert paired[0][0]["name"] == "0"
    assert paired[0][1]["name"] == "body.0"


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"layers": 3}), "{"])
def test_a_file_without_a_card_is_refused(tmp_path, content):
    file = tmp_path / "card.json"
    file.write_text(content)
    with pytest.raises(RequestError, match="holds no diagnosis"):
        of_file(file)


def test_the_page_has_the_comparison_and_one_figure_more(deep, tmp_path):
    card = diagnose(selu_mlp([20, 20, 4]), labelled(20))
    page = card.write_html(tmp_path / "page.html", [of_card(deep, "with torch's gain")]).read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "Compared with with torch" in page
    assert "width=device-width" in page
