"""Claims about training: promises that last, what losing them costs, and what decides training."""

from __future__ import annotations

import pandas

from harness.reports.arms import rates
from harness.reports.associations import association
from harness.reports.claims.claim import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    NotEnoughData,
    claim,
)
from harness.reports.claims.deciding import (
    MARGIN,
    MOST,
    decide_shares,
    judge_rows,
    numbers_of,
    percent,
    range_words,
    shares_by,
)
from harness.reports.claims.selection import LIMIT_ARM, RECIPE, cells_in_words, known, need, select
from harness.reports.evidence import Evidence
from harness.reports.prediction import LEARNS, tasks, trains
from harness.reports.roc_areas import area, area_difference

_KLAMBAUER = "Klambauer et al. 2017"
_LEARNED = "the recipe that learned"
_LIMIT_TRIALS = 20


def _learned(evidence: Evidence) -> pandas.DataFrame:
    """Returns finished results of the recipe that took steps and learned."""
    trials = select(evidence, RECIPE)
    trials = trials[trials["steps"].fillna(0) > 0]
    return need(trials[trains(trials) == 1.0], _LEARNED)


@claim(
    "Self-normalisation lasts through training.",
    source=f"the usual reading of {_KLAMBAUER}; the theorems are about fixed weights",
    matters="nine of ten layers inside Theorem 1's domain at the end",
    experiment="reference/rates",
)
def self_normalisation_lasts(evidence: Evidence) -> Decision:
    """Share of layers inside at the end of trials that learned, by learning rate."""
    trials = known(_learned(evidence), "share_moments_end", _LEARNED)
    trials = trials.assign(rate=rates(evidence)[trials.index])
    overall, rows = shares_by(trials, "share_moments_end", ("dataset", "rate"), _LEARNED)
    word, condition = judge_rows(overall, rows, MOST)
    numbers = numbers_of(overall, "share")
    told = [
        f"at the end of training {percent(overall)} of the layers are inside",
        range_words(rows, percent),
    ]
    if "left_step_moments" in trials:
        leaving, more = _leaving(trials)
        told.append(leaving)
        numbers |= more
    sentence = "; ".join(text for text in (*told, condition) if text)
    return Decision(word, sentence, numbers, tuple(row.record("share") for row in rows))


def _leaving(trials: pandas.DataFrame) -> tuple[str, dict[str, float]]:
    """Returns how many networks that were inside at first stayed, and when half of the others left.

    A network is inside while nine of ten of its layers are; only probed steps are known. These are
    counts without an interval, because networks of one seed at several rates start equal.
    """
    left = trials["left_step_moments"]
    started = left.isna() | (left > 0)
    if not started.any():
        return "none of the networks was inside at initialisation", {"started": 0}
    left = left[started]
    stayed = int(left.isna().sum())
    told = f"of {len(left)} networks that were inside at initialisation {stayed} were so throughout"
    numbers: dict[str, float] = {"started": len(left), "stayed": stayed}
    if left.notna().any():
        step = float(left.median())
        told += f", and half of the others were outside at the probe of step {step:.0f}"
        numbers["median_left_step"] = step
    return told, numbers


@claim(
    "Gradients of SELU networks neither vanish nor explode after training, in all of their layers.",
    source=f"{_KLAMBAUER}, abstract, read as a statement about trained networks",
    matters="nine of ten layers inside the range of the criteria",
    experiment="reference/training",
)
def gradients_stay_bounded(evidence: Evidence) -> Decision:
    """Share of layers that keep the promise on gradients at the end of training, by depth."""
    what = "trained SELU networks"
    trials = select(evidence, {"activation": "selu", "repair": "none"})
    trials = known(trials, "share_gradients_end", what)
    keep = f"keep it{cells_in_words(evidence, 'gradients')}"
    return decide_shares(trials, "share_gradients_end", ("dataset", "depth"), what, keep)


@claim(
    "A network that loses self-normalisation during training is less accurate for it.",
    source="implied wherever the recipe is recommended for accuracy",
    matters=f"{MARGIN} of accuracy between all layers inside at the end and none",
    experiment="reference/rates",
)
def losing_it_costs_accuracy(evidence: Evidence) -> Decision:
    """Regression of accuracy on the final share of layers, with the settings held."""
    trials = known(_learned(evidence), "share_moments_end", _LEARNED)
    found = association(trials, "share_moments_end")
    if found is None:
        raise NotEnoughData(
            "fewer than 10 cells of the recipe that learned, or final shares that depth, width and "
            "learning rate settle"
        )
    effect, low, high = (found[name] for name in ("effect_of_all_layers", "all_low", "all_high"))
    word = SUPPORTED if low > MARGIN else REFUTED if high < MARGIN else UNDECIDED
    sentence = (
        f"with the settings held, all layers inside at the end instead of none goes with "
        f"{effect:+.4f} [{low:+.4f}, {high:+.4f}] in accuracy, among the {found['trials']} trials "
        f"of {found['cells']} cells that learned; an association, not an effect"
    )
    return Decision(word, sentence, {name: float(value) for name, value in found.items()})


@claim(
    "Whether a SELU network with LeCun's or He's weights trains at all is decided by the stability "
    "limit of gradient descent, learning rate x sharpness < 2 (1 + momentum), and not by "
    "self-normalisation.",
    source="Cohen et al. 2021 for the limit; this project for SELU",
    matters="an area under the ROC curve of 0.9, and above that of the share of layers inside",
    experiment="reference/rates",
)
def the_stability_limit_decides(evidence: Evidence) -> Decision:
    """Areas under ROC curves of the margin and of the pooled promise at initialisation.

    Pairs of one data set and depth are ordered, so that the depth itself earns nothing; the draws
    of a search are asked too, because the learning rate varies there. A trial trains here if it
    gets a tenth of the way from guessing to 1, because slow is not unstable; a diverged one does
    not.
    """
    trials = select(evidence, LIMIT_ARM, tuning=True)
    trials = trials[trials["steps"].fillna(0) > 0]
    trials = known(trials, "stability_margin_init", "SELU networks", _LIMIT_TRIALS)
    outcome = trains(trials, LEARNS)
    trials = trials[outcome.notna()]
    outcome = outcome.dropna().astype(bool)
    if outcome.nunique() < 2:
        raise NotEnoughData("no SELU networks of both kinds, that train and that do not")
    margin_score = -trials["stability_margin_init"].astype(float)
    margin = area(margin_score, outcome, trials["cell_id"], tasks(trials))
    below = _share_that_trains(outcome[margin_score > -1])
    above = _share_that_trains(outcome[margin_score <= -1])
    sentence = f"area {margin.words} for the stability margin"
    numbers = margin.numbers("margin")
    ahead = behind = float("nan")
    if "share_moments_init" in trials and trials["share_moments_init"].notna().any():
        promise_score = trials["share_moments_init"].astype(float)
        promise = area(promise_score, outcome, trials["cell_id"], tasks(trials))
        gain = area_difference(
            margin_score, promise_score, outcome, trials["cell_id"], tasks(trials)
        )
        ahead, behind = gain[1], gain[2]
        numbers |= promise.numbers("promise")
        sentence += f", {promise.words} for the share of layers inside at initialisation"
    sentence += (
        f"; {below} get a tenth of the way from guessing to 1 below the limit and {above} above it"
    )
    word = UNDECIDED
    if margin.low >= MOST and ahead > 0:
        word = SUPPORTED
    elif margin.high < MOST or behind < 0:
        word = REFUTED
    return Decision(word, sentence, numbers)


def _share_that_trains(outcome: pandas.Series) -> str:
    if not len(outcome):
        return "none of 0"
    return f"{100 * outcome.mean():.0f} % of {len(outcome)} trials"
