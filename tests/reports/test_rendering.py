"""Pages from templates: texts are escaped, no name is missing, equal tables give equal bytes."""

from __future__ import annotations

import pandas
import pytest
from jinja2 import UndefinedError

from harness.reports import report
from harness.reports.evidence import Evidence
from harness.reports.figure_style import VERDICT_COLOURS
from harness.reports.rendering import environment, render, table_html

HOSTILE = "<script>alert('x')</script> & \"quoted\""


@pytest.fixture
def hostile_evidence() -> Evidence:
    """Two cells of three seeds, one of a user's own activation with a hostile name."""
    trials = []
    for activation, score in (("selu", 0.6), (HOSTILE, 0.5)):
        for depth in (2, 4):
            for seed in range(3):
                trials.append(
                    {
                        "trial_id": f"{activation[:4]}{depth}{seed}",
                        "cell_id": f"{activation[:4]}{depth}",
                        "seed": seed,
                        "status": "failed" if seed == 2 and depth == 4 else "done",
                        "error": HOSTILE if seed == 2 and depth == 4 else None,
                        "diverged_step": float("nan"),
                        "activation": activation,
                        "initializer": "lecun_normal",
                        "normalization": "none",
                        "depth": depth,
                        "steps": 5,
                        "test_accuracy": score + 0.01 * seed,
                        "score": score + 0.01 * seed,
                        "validation_accuracy": score,
                        "train_loss": 1.0,
                        "chance": 0.1,
                        "spec.activation.name": activation,
                        "spec.depth": depth,
                    }
                )
    axes = ("activation", "initializer", "normalization", "depth")
    return Evidence(pandas.DataFrame(trials), pandas.DataFrame(), pandas.DataFrame(), axes)


def test_report_escapes_hostile_names(hostile_evidence, tmp_path):
    path = report.write(hostile_evidence, tmp_path, f"Title {HOSTILE}")
    page = path.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert page.count("<h2 ") == len(report.chapters(hostile_evidence))


def test_dollars_in_names_are_no_mathematics(hostile_evidence, tmp_path):
    trials = hostile_evidence.trials
    trials["activation"] = trials["activation"].replace(HOSTILE, "$x^ & $")
    page = report.write(hostile_evidence, tmp_path, "title").read_text(encoding="utf-8")
    assert "$x^ &amp; $" in page


def test_equal_tables_give_equal_bytes(hostile_evidence, tmp_path):
    first = report.write(hostile_evidence, tmp_path / "first", "title").parent
    second = report.write(hostile_evidence, tmp_path / "second", "title").parent
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert "cells.csv" in names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_report_loads_nothing(hostile_evidence, tmp_path):
    page = report.write(hostile_evidence, tmp_path, "title").read_text(encoding="utf-8")
    assert 'src="http' not in page
    assert "<link" not in page
    assert page.count("<svg ") >= 1


def test_a_name_that_a_template_misses_is_an_error():
    with pytest.raises(UndefinedError, match="chapters"):
        render("report.html.j2", title="title")


def test_every_page_has_styles_for_dark_screens_paper_phones_and_verdicts():
    page = render("page.html.j2", title="title")
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "@media (max-width: 600px)" in page
    for word, colour in VERDICT_COLOURS.items():
        assert f".{word} {{ background: {colour};" in page


def test_tables_escape_their_texts():
    table = pandas.DataFrame({HOSTILE: [HOSTILE, None]})
    html = table_html(table)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2


def test_templates_of_a_page_stand_before_the_shared_ones(tmp_path):
    (tmp_path / "own.html.j2").write_text('{% extends "page.html.j2" %}')
    assert "<h1>&lt;b&gt;</h1>" in render("own.html.j2", tmp_path, title="<b>")
    assert environment(tmp_path).autoescape is True
