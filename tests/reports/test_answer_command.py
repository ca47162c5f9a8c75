"""`selu-answer`: the page, its figures, its tables, and the answer in another page."""

from __future__ import annotations

import json

import pytest

from harness.commands import selu_answer, selu_report

MARKED = "# Title\n\n<!-- answer:begin -->\n<!-- answer:end -->\n"


@pytest.fixture
def tables(sweep, tmp_path):
    """A folder of tables of a small study that trained."""
    sweep.add(
        initializer=["lecun_normal", "he_normal"],
        depth=[4, 32],
        share_moments_init=lambda trial: 0.97 if trial["initializer"] == "lecun_normal" else 0.02,
        share_moments_end=sweep.near(0.2, 0.01),
        left_step_moments=25.0,
        stability_margin_init=lambda trial: 0.02 * trial["depth"] + 0.01 * trial["seed"],
        train_accuracy=lambda trial: 0.99 if trial["depth"] == 4 else 0.1,
    )
    folder = tmp_path / "tables"
    sweep.tables().write(folder)
    return folder


def test_the_page_answers_with_figures_and_claims(tables, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(MARKED)
    out = tmp_path / "answer"
    words = ["--tables", str(tables), "--out", str(out), "--readme", str(readme)]
    assert selu_answer.main([*words, "--made-by", "bash study.sh"]) == 0
    assert capsys.readouterr().out == f"Answer: {out / 'README.md'}\n"
    page = (out / "README.md").read_text()
    assert page.startswith("# When do SELU's assumptions hold")
    for heading in ("When do they hold?", "How long do they last?", "Does it matter?", "Claims"):
        assert f"## {heading}\n" in page
    assert "bash study.sh" in page
    for name in ("answer.png", "figure_1.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in page
    assert (out / "report.html").is_file()
    assert not list(out.glob("*.csv"))
    answer = readme.read_text()
    assert "**When do they hold?** It is undecided whether they hold before training" in answer
    assert answer.partition("-->\n")[2].partition("<!--")[0].strip() in page


def test_the_page_of_a_store_hands_on_its_tables(sweep, tmp_path, monkeypatch, capsys):
    sweep.add(share_moments_init=sweep.near(0.97))
    monkeypatch.setattr(selu_answer.tables, "collect", lambda store: sweep.tables())
    out = tmp_path / "answer"
    (tmp_path / "trials").mkdir()
    assert selu_answer.main(["--runs", str(tmp_path), "--out", str(out)]) == 0
    capsys.readouterr()
    verdicts = []
    sweep.tables().write(tmp_path / "whole")
    for folder in (tmp_path / "whole", out / "tables"):
        words = ["--tables", str(folder), "--claims", "--format", "json"]
        assert selu_report.main(words) == 0
        entries = json.loads(capsys.readouterr().out)
        verdicts.append({entry["name"]: entry["verdict"] for entry in entries})
    assert verdicts[0] == verdicts[1]
    assert "supported" in verdicts[0].values()


@pytest.mark.parametrize("settings", [{}, {"activation": "relu"}, {"steps": 0.0}])
def test_a_study_of_one_seed_and_one_cell_has_a_page(sweep, tmp_path, capsys, settings):
    sweep.add(range(1), share_moments_init=0.97, **settings)
    sweep.tables().write(tmp_path / "tables")
    words = ["--tables", str(tmp_path / "tables"), "--out", str(tmp_path / "answer")]
    assert selu_answer.main(words) == 0
    assert "These trials decide none" in (tmp_path / "answer" / "README.md").read_text()
    assert capsys.readouterr().err == ""


def test_a_page_without_marks_is_left_alone(tables, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    out = tmp_path / "answer"
    words = ["--tables", str(tables), "--out", str(out), "--readme", str(readme)]
    assert selu_answer.main(words) == 2
    assert "answer:begin" in capsys.readouterr().err
    assert readme.read_text() == "# Title\n"
    assert not out.exists()


def test_missing_trials_are_one_line(tmp_path, capsys):
    assert selu_answer.main(["--runs", str(tmp_path / "absent")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
