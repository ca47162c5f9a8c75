"""The answer of a study as one Markdown page with its figures, and its sentences in a README."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas
from matplotlib.figure import Figure

from harness.reports import (
    cross_tables,
    duration_figures,
    forest_figures,
    map_figures,
    matter_figures,
    prediction,
    published_chapters,
    share_tables,
)
from harness.reports.answer import Answer, answer
from harness.reports.answer_figure import WITHOUT_ONE_VARIANCE, answer_figure
from harness.reports.arms import arms, rates
from harness.reports.axis_values import ordered
from harness.reports.chapter import (
    Block,
    Chapter,
    Code,
    Heading,
    Picture,
    Points,
    Table,
    Text,
    number_text,
    percent_text,
)
from harness.reports.claim_texts import as_table, counts
from harness.reports.claims.claim import WORDS, DecidedClaim, decide_all
from harness.reports.claims.selection import RECIPE, select
from harness.reports.evidence import Evidence
from harness.reports.markdown import Draw, chapters_text, escaped
from harness.reports.marks import with_part
from harness.store import writes
from harness.verdicts.criteria import load

_DPI = 110
_FIGURE = "answer.png"
_CAPTION = (
    "Left: layers whose pooled mean and variance are inside Theorem 1's domain before training, by "
    "initializer, with 95 % intervals over seeds. Middle: the same share during training. Right: "
    "what trains; a point is a trial, and right of 1 the learning rate is beyond the stable limit."
)
_MOST_PREDICTORS = 12
_LASTING = (
    "The theorems are about fixed weights. Training moves them, and layers leave the domain while "
    "the network learns."
)
_END_CAPTION = (
    "Networks of SELU with LeCun's weights by depth, width and rate: the share of layers inside "
    "the domain at first and at the end, the accuracy, and how many diverged."
)


def write(evidence: Evidence, folder: Path, title: str, commands: Sequence[str]) -> Path:
    """Writes `README.md`, the answer of a study, and its figures into a folder.

    Args:
        evidence: the trials of the study.
        folder: is made where it is missing.
        title: the page's title.
        commands: the command lines that run the study again.

    Returns:
        The path of the page.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store(answer_figure(evidence), folder / _FIGURE)
    numbers = itertools.count(1)

    def draw(picture: Picture) -> str | None:
        figure = picture.draw()
        if figure is None:
            return None
        name = f"figure_{next(numbers)}.png"
        store(figure, folder / name)
        return name

    path = folder / "README.md"
    writes.write_text(path, page_text(evidence, title, commands, draw), sync=False)
    return path


def page_text(
    evidence: Evidence, title: str, commands: Sequence[str], draw: Draw | None = None
) -> str:
    """Returns the page; see `write`. Without `draw` its chapters have no figures."""
    decided = decide_all(evidence)
    parts = [
        f"# {title}",
        f"*{escaped(_scope(evidence))}*",
        answer_text(answer(decided)),
        f"![{escaped(_CAPTION)}]({_FIGURE})",
        f"*{escaped(_CAPTION)}*",
        chapters_text(_chapters(evidence, decided, commands), draw),
    ]
    return "\n\n".join(parts)


def _scope(evidence: Evidence) -> str:
    """Returns what was studied, and what the answer's words mean, in sentences."""
    told = []
    for axis in ("dataset", "architecture", "optimizer", "depth", "width"):
        levels = [str(level) for level in evidence.levels(axis)]
        if levels:
            told.append(f"{axis} {', '.join(levels)}")
    return (
        f"Studied: {'; '.join(told)}. A layer is inside Theorem 1's domain (Klambauer et al. 2017) "
        "while the mean of its activations, over samples and units, is in [-0.1, 0.1] and their "
        "variance in [0.8, 1.5]; a network is inside while nine of ten of its layers are. A "
        "network learned if it got half way from guessing to a perfect score on its training "
        "samples; it trains at all if it got a tenth of the way. A tuned network has a learning "
        "rate of its own, chosen on other seeds. A task is a data set, depth and width. A repair "
        "changes one thing at the same seed; it puts layers back if more than a tenth of them "
        "meet a premise or promise again, and brings accuracy if it adds more than 0.01. The "
        "stability margin is the learning rate over the largest stable one. Brackets are 95 % "
        "intervals: over cells for areas under ROC curves and for what goes with accuracy, over "
        "trials for the share that trains, else over seeds. Those of single tasks in a claim, and "
        "those of repairs, are widened for all of them together (Bonferroni); where two arms are "
        "asked to be the same it is the 90 % interval, and says so."
    )


def answer_text(found: Answer) -> str:
    """Returns the answer as paragraphs of Markdown, each led by its question."""
    by_question = found.by_question
    if not by_question:
        return "These trials decide none of the three questions."
    return "\n\n".join(f"**{question}** {escaped(text)}" for question, text in by_question.items())


def with_answer(text: str, found: Answer) -> str:
    """Returns a page whose part between the two marks is the answer.

    Raises:
        RequestError: the page has no such part.
    """
    return with_part(text, "answer", answer_text(found))


def store(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, without the date and the versions that drew it."""
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def _chapters(
    evidence: Evidence, decided: Sequence[DecidedClaim], commands: Sequence[str]
) -> list[Chapter]:
    return [
        _when(evidence),
        _how_long(evidence),
        _matters(evidence),
        _claims(decided),
        published_chapters.published(evidence),
        _method(evidence, commands),
    ]


def _when(evidence: Evidence) -> Chapter:
    """Returns premises and promises of SELU networks before training, by recipe."""
    claims = load().claims
    blocks: list[Block] = [
        Text(
            "Premises are what the theory of SELU assumes of a layer, promises what the paper "
            "concludes:"
        ),
        Points(tuple(f"{name}: {claims[name]}" for name in share_tables.NAMES)),
        Table(
            _width_table(evidence),
            "Layers of SELU networks with LeCun's weights inside Theorem 1's domain before "
            "training, by width and depth, with inputs standardised as a whole.",
        ),
        Table(
            _start_table(evidence),
            "Shares of layers that meet each premise and keep each promise before training, of "
            "SELU networks without normalization; depths, widths and data sets are averaged.",
        ),
    ]
    table = cross_tables.map_cells(evidence)
    table = table[table["normalization"] == "none"]
    blocks.append(
        Picture(
            functools.partial(
                map_figures.domain_map, table, "start", "layers in the domain, initialisation"
            ),
            "Layers of SELU networks inside Theorem 1's domain before training, in percent, by "
            "initializer (down), depth (across) and preprocessing (panels).",
        )
    )
    return Chapter("when", "When do they hold?", tuple(blocks))


def _width_table(evidence: Evidence) -> pandas.DataFrame:
    """Returns the share of layers inside before training, one row per width, by depth."""
    trials = select(evidence, RECIPE)
    if "share_moments_init" not in trials or not len(trials):
        return pandas.DataFrame({"width": []})
    wide = trials.pivot_table(index="width", columns="depth", values="share_moments_init")
    shown = wide.map(percent_text).replace("unknown", "")
    shown.columns = pandas.Index([f"depth {depth}" for depth in wide.columns])
    return shown.reset_index()


def _start_table(evidence: Evidence) -> pandas.DataFrame:
    shares = share_tables.trial_shares(evidence)
    trials = select(evidence, {"activation": "selu", "normalization": "none", "repair": "none"})
    trials = trials[~trials["initializer"].isin(WITHOUT_ONE_VARIANCE)]
    keys = ["initializer", "preprocessing"]
    names = [name for name in share_tables.NAMES if f"share_{name}_init" in shares]
    columns = [f"share_{name}_init" for name in names]
    table = trials.set_index("trial_id")[keys].join(shares[columns])
    means = table.groupby(keys)[columns].mean()
    order = [(initializer, kind) for initializer, kind in means.index]
    initializers = ordered([initializer for initializer, _ in order])
    kinds = ordered([kind for _, kind in order])
    order.sort(key=lambda pair: (kinds.index(pair[1]), initializers.index(pair[0])))
    shown = means.reindex(order).map(lambda share: "" if pandas.isna(share) else f"{share:.0%}")
    shown.columns = pandas.Index(names)
    return shown.reset_index()


def _how_long(evidence: Evidence) -> Chapter:
    """Returns how the share of layers inside the domain goes over training."""
    recipe = select(evidence, RECIPE)
    trained = evidence.restricted(recipe[recipe["steps"].fillna(0) > 0])
    blocks: list[Block] = [Text(_LASTING)]
    if len(trained.trials):
        table = share_tables.duration(trained)
        blocks.append(
            Picture(
                lambda: duration_figures.duration(table, arms(trained)),
                "Layers of SELU networks with LeCun's weights inside Theorem 1's domain over "
                "training steps, by data set and learning rate (rows, at most "
                f"{duration_figures.MOST_ROWS}) and depth (columns, at most "
                f"{duration_figures.MOST_DEPTHS}), with 95 % intervals over seeds. The dotted line "
                "is nine of ten layers. A diverged trial counts as outside at the later probes of "
                "its cell's other seeds.",
            )
        )
        blocks.append(Table(_end_table(trained), _END_CAPTION))
    return Chapter("how_long", "How long do they last?", tuple(blocks))


def _end_table(evidence: Evidence) -> pandas.DataFrame:
    """Returns shares at first and at the end, and the outcome, by data set, depth and rate."""
    shares = share_tables.trial_shares(evidence)
    trials = evidence.with_data(evidence.finished)
    trials = trials.assign(rate=rates(evidence)).set_index("trial_id")
    keys = ["dataset", "depth", "width", "rate"]
    table = trials[[*keys, "score"]].assign(diverged=trials["status"] == "diverged")
    for phase in ("init", "end"):
        column = f"share_moments_{phase}"
        table[phase] = shares[column] if column in shares else float("nan")
    rows = []
    for values, group in table.groupby(keys):
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "trials": len(group),
                "inside at first": percent_text(group["init"].mean()),
                "inside at the end": percent_text(group["end"].mean()),
                "mean test accuracy": number_text(float(group["score"].mean())),
                "diverged": int(group["diverged"].sum()),
            }
        )
    return pandas.DataFrame(rows)


def _matters(evidence: Evidence) -> Chapter:
    """Returns what decides training and accuracy."""
    blocks: list[Block] = []
    cross = cross_tables.cross(evidence)
    shown = pandas.DataFrame(
        {
            "premises at first": cross["premises"],
            "moments at first": cross["promise_start"],
            "moments at the end": cross["promise_end"],
            "cells": cross["cells"],
            "trials that train": [
                percent_text(*row)
                for row in zip(cross["trains"], cross["low"], cross["high"], strict=True)
            ],
            "mean accuracy": cross["accuracy"].map(number_text),
        }
    )
    shown = shown[cross["trains"].notna()]
    blocks += [
        Heading("Premises and promises beside the outcome"),
        Table(
            shown,
            "Cells of all activations, counted by their grades. A cell holds where nine of ten "
            "layers or more do, and fails where one of ten or fewer do; it is unknown at the end "
            "where all its networks diverged. 'Premises at first' grades the mean share of layers "
            "over the four premises. The table describes: learning rates and activations are mixed "
            "in its rows.",
        ),
        Heading("What predicts which networks train"),
    ]
    areas = prediction.areas(evidence)
    if len(areas):
        inside = areas[areas["scope"] == "within data set and depth"].head(_MOST_PREDICTORS)
        lines = pandas.DataFrame(
            {
                "group": "",
                "line": inside["predictor"],
                "value": inside["area"],
                "low": inside["low"],
                "high": inside["high"],
            }
        )
        blocks.append(
            Picture(
                lambda: forest_figures.forest(
                    lines, "area under the ROC curve, within data set and depth", reference=0.5
                ),
                "All activations, weights and inputs that were run, draws of searches included. "
                "Each line is something known before training; the area is the probability that a "
                "trial that gets half way from guessing has the higher score of two. 0.5 is a "
                "coin. Trainability combines signal range, gradient range, correlation and margin.",
            )
        )
    blocks.append(
        Picture(
            lambda: matter_figures.stability(prediction.asked(evidence)),
            "Training accuracy against the stability margin before training, of at most "
            f"{matter_figures.MOST_POINTS} evenly chosen trials whose margin is known. The margin "
            "is learning rate x sharpness / (2 (1 + momentum)); the sharpness is the largest "
            "eigenvalue of the Gauss-Newton matrix of the loss.",
        )
    )
    return Chapter("matters", "Does it matter?", tuple(blocks))


def _claims(decided: Sequence[DecidedClaim]) -> Chapter:
    decided = sorted(decided, key=lambda entry: WORDS.index(entry.decision.word))
    table = as_table(decided)[["verdict", "claim", "number", "source"]]
    return Chapter("claims", "Claims", (Text(counts(decided)), Table(table)))


def _method(evidence: Evidence, commands: Sequence[str]) -> Chapter:
    trials = evidence.finished_with_tuning
    hours = float(trials["seconds"].fillna(0).sum()) / 3600
    blocks: list[Block] = [
        Text(
            f"{len(evidence.cells)} cells, {len(trials)} trials, {hours:.1f} hours of one core "
            "in all. The folder tables/ holds its tables; of the table of layers it keeps what "
            "claims and figures need. report.html has every chapter. This runs the study and "
            "writes this page again:"
        ),
        Code("\n".join(commands)),
    ]
    return Chapter("method", "How it was made", tuple(blocks))
