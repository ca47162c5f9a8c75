"""`selu-report`: claims and the report in every format, and what it says of bad requests."""

from __future__ import annotations

import json

import pytest

from harness.commands import selu_report


@pytest.fixture
def run(sweep, tmp_path, capsys):
    """Runs the command on the tables of a sweep: exit code, output, errors."""

    def answer(*options: str) -> tuple[int, str, str]:
        sweep.tables().write(tmp_path)
        code = selu_report.main(["--tables", str(tmp_path), *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return answer


def test_claims_are_printed_as_text_and_as_json(sweep, run):
    sweep.add(share_moments_init=sweep.near(0.97))
    code, text, _ = run("--claims")
    assert code == 0
    assert "SUPPORTED  pooled_moments_hold_at_initialisation" in text
    records = json.loads(run("--claims", "--format", "json")[1])
    verdicts = {record["name"]: record["verdict"] for record in records}
    assert verdicts["pooled_moments_hold_at_initialisation"] == "supported"


def test_claims_are_of_the_chosen_trials(sweep, run):
    sweep.add(share_moments_init=sweep.near(0.97))
    text = run("--claims", "--where", "seed=0")[1]
    assert "SUPPORTED  pooled_moments" not in text


def test_text_is_no_format_of_a_report(sweep, run):
    sweep.add()
    code, text, error = run("--format", "text")
    assert (code, text) == (2, "")
    assert error.startswith("error: --format text: only with --claims")


def test_an_empty_store_is_one_line(tmp_path, capsys):
    (tmp_path / "trials").mkdir()
    assert selu_report.main(["--runs", str(tmp_path), "--claims"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "error: no trials to report on; train some with python -m harness.train\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["trials"]


def test_tables_that_are_missing_or_torn_are_one_line(sweep, tmp_path, capsys):
    folder = tmp_path / "tables"
    assert selu_report.main(["--tables", str(folder)]) == 2
    assert capsys.readouterr().err == (
        f"error: no table of trials: {folder / 'trials.parquet'} is missing\n"
    )
    sweep.add().tables().write(folder)
    layers = folder / "layers.parquet"
    layers.write_bytes(layers.read_bytes()[:-100])
    assert selu_report.main(["--tables", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {layers} cannot be read: ")
    assert error.count("\n") == 1


def test_a_report_from_mlflow_names_what_is_missing(tmp_path, capsys):
    address = f"sqlite:///{tmp_path / 'absent.db'}"
    assert selu_report.main(["--from-mlflow", address]) == 2
    assert capsys.readouterr().err == f"error: there is no tracking store {address}\n"
    assert selu_report.main(["--experiment", "other"]) == 2
    assert capsys.readouterr().err.startswith("error: --experiment: only with --from-mlflow")
    assert not list(tmp_path.iterdir())
