"""The card of a diagnosis: as text, as values, as a page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from harness.diagnosis.card_contents import CardContents
from harness.diagnosis.card_text import attribution, card_text, course
from harness.diagnosis.comparison import Earlier, comparison_text, of_card
from harness.errors import RequestError
from harness.verdicts.criteria import load


@dataclass(frozen=True)
class Card(CardContents):
    """The diagnosis of one model, which prints as text."""

    def __str__(self) -> str:
        return card_text(self)

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as values that JSON has.

        A number that is absent is None, an infinite one the text "inf" or "-inf".
        """
        findings = []
        for finding in self.findings:
            findings.append(vars(finding) | {"layers": list(finding.layers)})
        return {
            "model": self.model,
            "parameters": self.parameters,
            "input_shape": list(self.shape),
            "samples": self.samples,
            "device": self.device,
            "criteria_version": load().version,
            "summary": _plain_summary(self),
            "layers": _records(self.layers),
            "verdicts": _records(self.verdicts.drop(columns="row")),
            "criteria": _records(self.criteria.drop(columns="row")),
            "findings": findings,
            "notes": self.notes,
        }

    def to_json(self) -> str:
        """Returns `as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    def against(self, *others: Card) -> str:
        """Returns this diagnosis beside earlier ones, layer by layer, as text."""
        texts = [comparison_text(self, of_card(other, other.model)) for other in others]
        return "\n\n".join(texts)

    def write_html(self, path: Path | str, against: Sequence[Earlier] = ()) -> Path:
        """Writes one page with the figures inside and returns its path.

        Args:
            path: the file.
            against: diagnoses to compare with.

        Raises:
            RequestError: the file cannot be written.
        """
        path = Path(path)
        text = self.html(against)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror or error}") from None
        return path

    def html(self, against: Sequence[Earlier] = ()) -> str:
        """Returns the page as text, beside those of other diagnoses."""
        # matplotlib takes a second to import, which only a page needs.
        from harness.diagnosis.page import page

        return page(self, against)


def _plain_summary(card: CardContents) -> dict[str, Any]:
    summary = {key: _plain(value) for key, value in card.summary.items()}
    return summary | {"course": course(card.rows), "attribution": attribution(card)}


def _records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    records = []
    for row in table.to_dict("records"):
        records.append({str(key): _plain(value) for key, value in row.items()})
    return records


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
