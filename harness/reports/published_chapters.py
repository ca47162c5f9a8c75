"""The chapter that sets published numbers beside ours."""

from __future__ import annotations

import pandas

from harness.reports.chapter import Block, Chapter, Heading, Table, Text, number_text
from harness.reports.evidence import Evidence
from harness.reports.publications import PUBLISHED, comparison


def published(evidence: Evidence) -> Chapter:
    """Returns the chapter on publications that these trials repeat."""
    blocks: list[Block] = []
    tables: dict[str, pandas.DataFrame] = {}
    for publication in PUBLISHED:
        table = comparison(evidence, publication)
        if not len(table):
            continue
        off = (table["ratio"] - 1).abs().max()
        blocks += [
            Heading(publication.name[:1].upper() + publication.name[1:]),
            Text(
                f"Published by {publication.source}: {publication.text}. Ours differs by at most "
                f"{100 * off:.1f} % over {len(table)} numbers, mean of {table['seeds'].min()} "
                f"seeds; repeat it with experiment={publication.experiment}."
            ),
            Table(table.map(number_text)),
        ]
        tables["published_" + publication.experiment.rpartition("/")[2]] = table
    if not blocks:
        names = ", ".join(f"experiment={publication.experiment}" for publication in PUBLISHED)
        blocks.append(Text(f"None of these trials repeats a publication; {names} do."))
    return Chapter("published", "Published numbers beside ours", tuple(blocks), tables)
