"""The contents of a card: tables, verdicts and findings as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas

from harness.diagnosis.lint import Finding
from harness.reports.figure_style import RUNGS


@dataclass(frozen=True)
class CardContents:
    """The diagnosis of one model as data.

    Attributes:
        model: the name of the model.
        parameters: the number of its parameters.
        shape: the shape of one sample, without the batch.
        samples: the number of samples that were measured.
        device: the device on which they were measured.
        layers: one row per activated layer with the columns of the layer table, its activation and
            normalization, and `absent`.
        verdicts: one row per layer and premise or promise
            (`harness.verdicts.evaluation.verdicts`).
        criteria: one row per layer and criterion (`harness.verdicts.evaluation.evaluate`).
        findings: the findings of the lint.
        summary: the network's shares of layers that hold, and `verdict_sentence`, as
            `harness.verdicts.judging.judge_network` returns them.
        notes: sentences on how it was measured, and on what was not.
    """

    model: str
    parameters: int
    shape: tuple[int, ...]
    samples: int
    device: str
    layers: pandas.DataFrame
    verdicts: pandas.DataFrame
    criteria: pandas.DataFrame
    findings: list[Finding]
    summary: dict[str, Any]
    notes: list[str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The layer table as one mapping for each layer."""
        records: list[Any] = self.layers.to_dict("records")
        return records

    @property
    def ladder(self) -> pandas.DataFrame:
        """The attribution ladder: one row per layer, one column per rung that was measured.

        Numbers are root-mean-square errors over units of the predicted (mean, variance) of a unit.
        """
        present = [rung.column for rung in RUNGS if rung.column in self.layers]
        return self.layers[["layer", "name", *present]]
