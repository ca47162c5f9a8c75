"""The first chapters: the answer to the three questions, and the claims that decide it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pandas

from harness.reports.answer import answer as answers
from harness.reports.chapter import (
    Block,
    Chapter,
    Points,
    Table,
    Text,
    interval_text,
    percent_text,
)
from harness.reports.claim_texts import as_table, counts, rows_table
from harness.reports.claims.claim import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    WORDS,
    DecidedClaim,
)
from harness.reports.cross_tables import headline_accuracy, outcomes
from harness.reports.evidence import Evidence
from harness.reports.share_tables import trial_shares
from harness.reports.statistics import mean_interval

_MOST_CLAIMS = 8
# The recipe of Klambauer et al. 2017, and the plain network that it is compared with.
_RECIPE = {"activation": "selu", "initializer": "lecun_normal", "normalization": "none"}
_PLAIN = {"activation": "relu", "initializer": "he_normal", "normalization": "none"}


def answer(evidence: Evidence, decided: Sequence[DecidedClaim]) -> Chapter:
    """Returns the chapter that answers the question with the deciding numbers.

    Args:
        evidence: the trials.
        decided: the claims with their decisions.
    """
    recipe = _of(evidence, _RECIPE)
    by_question = answers(decided).by_question
    blocks: list[Block] = []
    for question, text in by_question.items():
        blocks.append(Text(f"{question} {text}", lead=True))
    if not by_question:
        blocks.append(Text(_share_sentence(evidence, recipe), lead=True))
    more = [_trained_sentence(evidence, recipe)]
    if "Does it matter?" not in by_question:
        more.append(_accuracy_sentence(evidence))
    more.append(counts(decided))
    blocks.append(Text(" ".join(sentence for sentence in more if sentence)))
    decisive = _decisive(decided)
    if decisive:
        blocks.append(Points(decisive))
    if evidence.seeds == 1:
        blocks.append(
            Text(
                "One seed has no interval: nothing that is judged over seeds is decided; run with "
                "seeds=3 or more."
            )
        )
    trained = evidence.of_trained
    best = trained.best_cell
    if best is not None:
        row: Any = trained.cells.loc[best]
        score = interval_text(row["score"], row["score_low"], row["score_high"])
        blocks.append(
            Text(f"Best cell by validation accuracy: {trained.label(best)}, test accuracy {score}.")
        )
    return Chapter("answer", "The answer", tuple(blocks))


def claims(decided: Sequence[DecidedClaim]) -> Chapter:
    """Returns the chapter with every claim and its decision, decided ones first."""
    decided = sorted(decided, key=lambda entry: WORDS.index(entry.decision.word))
    table = as_table(decided)
    shown = table[["claim", "verdict", "number", "matters", "source"]]
    caption = (
        "A claim is decided by an interval against an effect that matters, never by a p-value "
        "alone. Conditional names its condition; undecided has an interval that allows both "
        "answers; a claim without enough data names the command that fills its cells."
    )
    blocks: list[Block] = [Text(counts(decided)), Table(shown, caption)]
    for entry in decided:
        if entry.decision.rows:
            summary = f"{entry.decision.word}: {entry.claim.text}"
            blocks.append(Table(rows_table(entry), summary=summary))
    return Chapter("claims", "Claims", tuple(blocks), {"claims": table})


def _of(evidence: Evidence, arm: dict[str, str]) -> pandas.DataFrame:
    """Returns the finished trials whose axes have these values."""
    trials = evidence.finished
    for axis, level in arm.items():
        if axis in trials:
            trials = trials[trials[axis] == level]
    return trials


def _share_sentence(evidence: Evidence, trials: pandas.DataFrame) -> str:
    """Returns a sentence on the promise at initialisation and at the end of training."""
    shares = trial_shares(evidence)
    if not len(trials) or "share_moments_init" not in shares:
        sentence = "SELU with LeCun's weights and normalization=none is not among these trials."
        if "own" in evidence.levels("normalization"):
            sentence += (
                " Networks by name keep a normalization of their own, or have none, unless "
                "architecture.replace lists it."
            )
        return sentence
    start = _by_seed(trials, shares["share_moments_init"])
    if numpy.isnan(start.value):
        return "SELU's layers were not probed at initialisation."
    sentence = (
        f"At initialisation {percent_text(start.value, start.low, start.high)} of the layers of "
        "SELU networks with LeCun's weights have a pooled mean and variance inside Theorem 1's "
        "domain"
    )
    if "share_moments_end" in shares:
        end = _by_seed(trials, shares["share_moments_end"])
        if not numpy.isnan(end.value):
            return (
                f"{sentence}, at the end of training {percent_text(end.value, end.low, end.high)}."
            )
    return f"{sentence}."


def _trained_sentence(evidence: Evidence, trials: pandas.DataFrame) -> str:
    """Returns a sentence on how many of the recipe's trials train although they left the domain."""
    shares = trial_shares(evidence)
    results = outcomes(evidence).set_index("trial_id")["trains"]
    if "share_moments_end" not in shares or not results.notna().any():
        return ""
    left = shares["share_moments_end"].reindex(trials["trial_id"]) < 0.9
    left_trials = left.index[left]
    trained = results.reindex(left_trials).dropna()
    if not len(trained):
        return ""
    return (
        f"Of the {len(trained)} trials of SELU with LeCun's weights that ended with fewer than "
        f"nine of ten layers inside Theorem 1's domain, {int(trained.sum())} train nevertheless."
    )


def _accuracy_sentence(evidence: Evidence) -> str:
    if not evidence.trained or not len(_of(evidence, _PLAIN)) or not len(_of(evidence, _RECIPE)):
        return ""
    ours = headline_accuracy(evidence, _RECIPE)
    theirs = headline_accuracy(evidence, _PLAIN)
    return (
        "Over all settings here the mean test accuracy of SELU with LeCun's weights is "
        f"{_interval(ours)}, that of ReLU with He's weights {_interval(theirs)}."
    )


def _decisive(decided: Sequence[DecidedClaim]) -> tuple[str, ...]:
    """Returns the decisions of at most eight claims that these trials decide."""
    texts = []
    for word in (REFUTED, SUPPORTED, CONDITIONAL):
        for entry in decided:
            if entry.decision.word == word:
                text = entry.claim.text.rstrip(".")
                sentence = entry.decision.sentence
                texts.append(f"{word.capitalize()}: {text}. {sentence[:1].upper()}{sentence[1:]}.")
    return tuple(texts[:_MOST_CLAIMS])


def _by_seed(trials: pandas.DataFrame, shares: pandas.Series) -> Any:
    """Returns the mean share with its interval over seeds, means within each seed first."""
    values = trials["trial_id"].map(shares)
    interval = mean_interval(values.groupby(trials["seed"]).mean())
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return type(interval)(interval.value, low, high, interval.n)


def _interval(interval: Any) -> str:
    return interval_text(interval.value, interval.low, interval.high)
