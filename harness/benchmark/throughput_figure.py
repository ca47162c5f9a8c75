"""Figure of throughput: trials per minute against pack size, beside plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from harness.benchmark.throughput import (
    PLAIN,
    PLAIN_EACH_DICT,
    PLAIN_EACH_VALUE,
    PLAIN_IN_PROCESSES,
    PLAIN_UNTRACKED,
    Throughput,
)

_YARDSTICK_STYLES = {
    PLAIN_IN_PROCESSES: "-",
    PLAIN_UNTRACKED: "--",
    PLAIN_EACH_DICT: "-.",
    PLAIN_EACH_VALUE: ":",
}


def plot(cases: Sequence[Throughput], path: Path) -> None:
    """Writes the figure, one panel a case, with the yardsticks as levels."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(cases), figsize=(5.4 * len(cases), 4.2), layout="constrained", squeeze=False
    )
    for panel, throughput in zip(panels[0], cases, strict=True):
        _draw(panel, throughput)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw(panel: Any, throughput: Throughput) -> None:
    by_harness = [reading for reading in throughput.readings if reading.program != PLAIN]
    *tried, chosen = by_harness
    tried.sort(key=lambda reading: reading.pack)
    panel.plot(
        [reading.pack for reading in tried],
        [reading.trials_per_minute for reading in tried],
        "o-",
        color="C0",
        label="harness, everything logged",
    )
    panel.plot(
        [chosen.pack],
        [chosen.trials_per_minute],
        "*",
        color="C3",
        markersize=13,
        label=f"as it chooses: {chosen.pack}",
    )
    for yardstick in throughput.readings:
        if yardstick.program == PLAIN:
            panel.axhline(
                yardstick.trials_per_minute,
                color="0.35",
                linestyle=_YARDSTICK_STYLES[yardstick.name],
                label=f"plain PyTorch {yardstick.name}",
            )
    sizes = sorted({reading.pack for reading in by_harness})
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlabel("trials in a pack")
    panel.set_ylabel("trials a minute")
    panel.set_title(throughput.case, fontsize=9)
    panel.grid(True, which="major", alpha=0.3)
    panel.legend(fontsize=7)
