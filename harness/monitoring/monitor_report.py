"""The end of a monitored training: its layers, verdicts and stability margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas

from harness.monitoring.stability import Stability


@dataclass(frozen=True)
class MonitorReport:
    """The course of a monitored training; prints as text.

    Attributes:
        layers: one row per layer and probe, with `step` and the columns of the layer table.
        judged: the shares and words of every premise and promise at the start, early and at the
            end, and `verdict_sentence`, as a trial's summary has them.
        stability: sharpness and stability margin at the end.
        steps: steps taken.
    """

    layers: pandas.DataFrame
    judged: dict[str, Any]
    stability: Stability
    steps: int

    def summary(self) -> dict[str, Any]:
        """Returns everything but the table as one flat mapping."""
        values = {
            "steps": self.steps,
            "probed_steps": sorted({int(step) for step in self.layers["step"]}),
            "sharpness": self.stability.sharpness,
            "stability_margin": self.stability.margin,
            "stability_reason": self.stability.reason,
        }
        return values | self.judged

    def __str__(self) -> str:
        probes = self.layers["step"].nunique()
        lines = [
            f"{self.steps} steps, {probes} probes of {self.layers['name'].nunique()} layers.",
            str(self.judged["verdict_sentence"]),
            self._stability_line(),
        ]
        return "\n".join(lines)

    def _stability_line(self) -> str:
        if self.stability.reason is not None:
            return f"Stability margin: not measured, as {self.stability.reason}."
        return (
            f"Stability margin: {self.stability.margin:.3g} of the edge at 1 "
            f"(sharpness {self.stability.sharpness:.3g})."
        )
