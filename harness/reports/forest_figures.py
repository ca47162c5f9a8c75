"""Forest plots: one estimate with its interval a line."""

from __future__ import annotations

import pandas
from matplotlib.figure import Figure

from harness.reports.drawing import new_figure, plain
from harness.reports.figure_style import BLUE, GREEN, QUIET, VERMILION

_MOST_LINES = 30
_LINE_HEIGHT = 0.27


def forest(
    table: pandas.DataFrame, label: str, *, reference: float = 0.0, margin: float | None = None
) -> Figure | None:
    """Draws estimates with their intervals below each other, at most 30.

    Green intervals lie above the reference, red ones below it, blue ones contain it. x: the
    estimate. y: a line each, groups apart.

    Args:
        table: `group`, `line`, `value`, `low`, `high`; rows of one group stand together.
        label: the label of the x axis.
        reference: the value of no effect, drawn as a line.
        margin: half the width of the band around it that does not matter, or None.
    """
    rows = table[table["value"].notna()].head(_MOST_LINES)
    if not len(rows):
        return None
    groups = list(dict.fromkeys(rows["group"]))
    titles = [group for group in groups if group]
    lines = len(rows) + len(titles)
    figure, grid = new_figure(1, 1, (8.0, 0.9 + _LINE_HEIGHT * lines), layout="constrained")
    panel = grid[0, 0]
    panel.axvline(reference, color=QUIET, linewidth=1)
    if margin:
        panel.axvspan(reference - margin, reference + margin, color=QUIET, alpha=0.15, linewidth=0)
    place = 0
    places: list[int] = []
    texts: list[str] = []
    for group in groups:
        if group:
            places.append(place)
            texts.append(f"{group}:")
            place += 1
        for row in rows[rows["group"] == group].to_dict("records"):
            colour = _colour(row["low"], row["high"], reference)
            panel.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
            panel.plot([row["value"]], [place], "o", color=colour, markersize=5)
            places.append(place)
            texts.append(row["line"])
            place += 1
    panel.set_yticks(places, [plain(str(text)) for text in texts], fontsize=8.5)
    for text in panel.get_yticklabels():
        if text.get_text().endswith(":"):
            text.set_fontweight("bold")
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(lines - 0.4, -0.6)
    panel.set_xlabel(label)
    panel.grid(axis="x", alpha=0.25)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    return figure


def _colour(low: float, high: float, reference: float) -> str:
    """Returns green above the reference, red below it, and blue where it is inside or unknown."""
    if pandas.isna(low) or low <= reference <= high:
        return BLUE
    return GREEN if low > reference else VERMILION
