"""`selu-report`: writes the report of all finished trials."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.commands.runs_option import add_runs_option
from harness.commands.set_aside import name_set_aside
from harness.errors import RequestError
from harness.reports.claim_texts import FORMATS
from harness.reports.claims.claim import decide_all
from harness.reports.evidence import gather
from harness.store import tables
from harness.store.tables import Tables
from harness.store.trials import Store
from harness.sweeps.progress import answer


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report, or prints it or the claims, and returns the exit code."""
    options = _parser().parse_args(argv)
    folder = options.out or options.runs / "reports" / "latest"
    try:
        conditions = dict(_condition(text) for text in options.where)
        if options.format == "text" and not options.claims:
            raise RequestError("--format text: only with --claims; the report has md and json")
        source = _tables(options)
        name_set_aside(source.set_aside)
        evidence = gather(source, conditions)
        if options.claims:
            text = FORMATS[options.format or "text"](decide_all(evidence))
            answer(text.removesuffix("\n"))
            return 0
        # matplotlib takes a second, which a wrong request need not wait for.
        from harness.reports import report

        if options.format:
            write = report.markdown if options.format == "md" else report.as_json
            answer(write(evidence).removesuffix("\n"))
            return 0
        path = report.write(evidence, folder, options.title)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: --out {folder} cannot be written: {error.strerror}; give a writable folder",
            file=sys.stderr,
        )
        return 2
    answer(str(path.resolve()) if options.quiet else f"Report: {path.resolve()}")
    return 0


def _tables(options: argparse.Namespace) -> Tables:
    """Returns the tables of the source that the options name."""
    if options.experiment and not options.from_mlflow:
        raise RequestError("--experiment: only with --from-mlflow, whose experiment it names")
    if options.from_mlflow:
        # MLflow takes seconds to import, which the other sources need not wait for.
        from harness.tracking import tables_from_mlflow

        return tables_from_mlflow(options.from_mlflow, options.experiment)
    if options.tables:
        return tables.read(options.tables)
    return tables.collect(Store.existing(options.runs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="One self-contained HTML report of all finished trials, with its tables as CSV."
    )
    source = parser.add_mutually_exclusive_group()
    add_runs_option(source)
    source.add_argument(
        "--tables",
        type=Path,
        metavar="FOLDER",
        help="report on the tables in this folder, as selu-collect writes them, without trials",
    )
    source.add_argument(
        "--from-mlflow",
        metavar="URI",
        help="report on the runs of this tracking server or database, without trials",
    )
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        help="the MLflow experiment of --from-mlflow (default: that of sweeps)",
    )
    parser.add_argument(
        "--out", type=Path, help="the folder to write (default: RUNS/reports/latest)"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="AXIS=VALUE[,VALUE]",
        help="only trials with these values; may be repeated",
    )
    parser.add_argument(
        "--title",
        default="When do SELU's assumptions hold, and does it matter?",
        help="the report's title",
    )
    parser.add_argument(
        "--claims",
        action="store_true",
        help="print every claim with its verdict and the number that decided it, and no report",
    )
    parser.add_argument(
        "--format",
        choices=sorted(FORMATS),
        help="print in this format instead of writing HTML; text is for claims, their default",
    )
    parser.add_argument("--quiet", action="store_true", help="print the path alone")
    return parser


def _condition(text: str) -> tuple[str, list[str]]:
    axis, equals, values = text.partition("=")
    if not equals or not values:
        raise RequestError(f"--where {text}: expected axis=value or axis=value,value")
    return axis, values.split(",")


if __name__ == "__main__":
    sys.exit(main())
