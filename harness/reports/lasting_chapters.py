"""Chapters on how long self-normalization lasts and how signals propagate."""

from __future__ import annotations

from harness.reports import duration_figures, histogram_figures, signal_tables
from harness.reports.arms import arms
from harness.reports.chapter import Block, Chapter, Heading, Picture, Text
from harness.reports.evidence import Evidence
from harness.reports.share_tables import duration as duration_table


def duration(evidence: Evidence) -> Chapter:
    """Returns the chapter on the share of layers inside Theorem 1's domain during training."""
    table = duration_table(evidence)
    title = "Duration of self-normalization"
    if not len(table):
        return Chapter("duration", title, (Text("No trial has probes of its layers."),))
    blocks: tuple[Block, ...] = (
        Picture(
            lambda: duration_figures.duration(table, arms(evidence)),
            "The share of layers whose pooled mean and variance lie inside Theorem 1's domain "
            "(mean -0.1 to 0.1, variance 0.8 to 1.5; Klambauer et al. 2017), with 95 % intervals "
            "over seeds; the dotted line is nine of ten layers. Read from left to right: a line "
            "that falls leaves the domain at that step. Rows are data sets and learning rates, at "
            f"most {duration_figures.MOST_ROWS}, and columns depths, at most "
            f"{duration_figures.MOST_DEPTHS}. A diverged trial counts as outside at the later "
            "probes of its cell's other seeds; a cell of which every trial diverged is left out "
            f"from then on. {_limit_text(table['arm'].nunique(), duration_figures.MOST_ARMS)}",
        ),
        Heading("Signal propagation"),
        Picture(
            lambda: duration_figures.by_layer(
                signal_tables.propagation(evidence),
                signal_tables.CHANNEL_QUANTITIES,
                arms(evidence),
            ),
            "Signal propagation plots (Brock et al. 2021) of the pre-activations of the deepest "
            "networks, geometric means over seeds. Left: the mean over channels of their squared "
            "mean, which grows where channels drift away from zero. Right: the mean over channels "
            "of their variance. Self-normalizing layers keep both flat.",
        ),
    )
    return Chapter("duration", title, blocks, {"duration": table})


def distributions(evidence: Evidence) -> Chapter:
    """Returns the chapter on histograms of pre-activations."""
    title = "Distribution of pre-activations"
    counts = evidence.histograms
    if counts is None or not len(counts):
        text = "These trials have no histograms of pre-activations; they were trained without."
        return Chapter("distributions", title, (Text(text),))
    table = signal_tables.histograms(evidence, counts, histogram_figures.MOST_ARMS)
    caption = (
        "Histograms of z over its standard deviation as columns of colour; a column is a layer or "
        "a probed step, and bins are equally wide on the drawn scale. N is a Gaussian: columns "
        "like it are Gaussian, a gap around 0 is units that moved away from it, and colour far out "
        f"is heavy tails. {_limit_text(len(arms(evidence).styles), histogram_figures.MOST_ARMS)}"
    )
    figure = Picture(lambda: histogram_figures.colourful_dimension(table, arms(evidence)), caption)
    return Chapter("distributions", title, (figure,), {"histograms": table})


def _limit_text(present: int, most: int) -> str:
    return f"The first {most} of {present} arms are drawn." if present > most else ""
