"""Writes the documents that are generated from the code and from the files in conf."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.configuration.reference import reference
from harness.probes.column_reference import markdown
from harness.verdicts import criteria_reference

ROOT = Path(__file__).resolve().parents[1]
# A document, and the function that returns its text. A test compares them with what is committed.
DOCUMENTS: list[tuple[Path, Callable[[], str]]] = [
    (ROOT / "conf" / "README.md", reference),
    (ROOT / "harness" / "probes" / "README.md", markdown),
    (ROOT / "harness" / "verdicts" / "README.md", criteria_reference.markdown),
]


def main() -> None:
    """Writes every document."""
    for path, text in DOCUMENTS:
        path.write_text(text(), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
