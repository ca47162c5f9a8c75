"""`selu-answer`: writes the answer of a study as a page that can be handed on."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.commands.runs_option import add_runs_option
from harness.commands.set_aside import name_set_aside
from harness.errors import RequestError
from harness.reports import reproduction
from harness.reports.evidence import Evidence, gather
from harness.store import tables, writes
from harness.store.reduction import reduced
from harness.store.trials import Store
from harness.verdicts.judging import judge_tables

TITLE = "When do SELU's assumptions hold, when do they fail, and does it matter?"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page with its figures, tables and report, and returns the exit code."""
    options = _parser().parse_args(argv)
    folder = options.out or options.runs / "answer"
    try:
        evidence = _evidence(options, folder)
        # matplotlib takes a second, which a wrong request need not wait for.
        from harness.reports import answer_page, report
        from harness.reports.answer import answer
        from harness.reports.claims.claim import decide_all

        text = options.readme.read_text(encoding="utf-8") if options.readme else ""
        if options.readme:
            text = answer_page.with_answer(text, answer(decide_all(evidence)))
        commands = options.made_by or [line.text for line in reproduction.commands(evidence)]
        page = answer_page.write(evidence, folder, TITLE, commands)
        report.write(evidence, folder, TITLE, csv=False)
        if options.readme:
            writes.write_text(options.readme, text, sync=False)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or folder}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"Answer: {page.resolve()}")
    return 0


def _evidence(options: argparse.Namespace, folder: Path) -> Evidence:
    """Returns the evidence of the tables that the page is handed on with."""
    if options.tables:
        return gather(tables.read(options.tables))
    whole = tables.collect(Store.existing(options.runs))
    name_set_aside(whole.set_aside)
    trials, layers = judge_tables(whole.trials, whole.layers)
    kept = reduced(dataclasses.replace(whole, trials=trials, layers=layers))
    gather(kept)
    kept.write(folder / "tables")
    return gather(tables.read(folder / "tables"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write the answer of a study: one page with figures, its report and tables."
    )
    source = parser.add_mutually_exclusive_group()
    add_runs_option(source)
    source.add_argument(
        "--tables",
        type=Path,
        metavar="FOLDER",
        help="read the tables in this folder and write none",
    )
    parser.add_argument("--out", type=Path, help="the folder to write (default: RUNS/answer)")
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="also write the answer into this page, between its lines answer:begin and answer:end",
    )
    parser.add_argument(
        "--made-by",
        action="append",
        metavar="COMMAND",
        help="a command line that the page names for running the study again; may be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
