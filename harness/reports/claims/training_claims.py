"""Claims about training: whether promises last, what decides it, and whether it matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import pandas

from harness.reports.accuracies import equivalence
from harness.reports.claims.declaration import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    NotEnoughData,
    claim,
)
from harness.reports.claims.initial_claims import (
    by_value,
    judge_share,
    number,
    numbers_of,
    percent,
)
from harness.reports.claims.selection import (
    BATCH_NORM,
    CONFIRMATION,
    RECIPE,
    RECTIFIER,
    by_seed,
    known,
    need,
    paired,
    select,
)
from harness.reports.evidence import Evidence
from harness.reports.prediction import Discrimination, discrimination, trains
from harness.reports.statistics import mean_interval

_KLAMBAUER = "Klambauer et al. 2017"
# Differences of accuracy below this do not matter.
MARGIN = 0.01
_SEEDS = 3
TUNED = [CONFIRMATION]


def compare(
    evidence: Evidence,
    arm: Mapping[str, Any],
    baseline: Mapping[str, Any],
    names: tuple[str, str],
    roles: list[str] | None = None,
) -> Decision:
    """Returns whether an arm is more accurate than a baseline, with every depth in a row.

    Supported where the mean over tasks is better by more than the margin; refuted where it is not
    better by the margin; conditional where the depths disagree.
    """
    pairs = paired(evidence, arm, baseline, roles=roles)
    ours, theirs = names
    if pairs["seed"].nunique() < _SEEDS:
        raise NotEnoughData(f"{pairs['seed'].nunique()} of {_SEEDS} seeds of {ours} and {theirs}")
    interval = mean_interval(by_seed(pairs))
    rows = []
    better, worse = [], []
    for (dataset, depth), group in pairs.groupby(["dataset", "depth"]):
        here = mean_interval(by_seed(group))
        rows.append({"dataset": dataset, "depth": depth, **numbers_of(here, "difference")})
        label = f"{dataset} depth {depth}"
        if here.low > MARGIN:
            better.append(label)
        elif here.high < MARGIN:
            worse.append(label)
    sentence = f"{ours} minus {theirs}: {number(interval)} in accuracy over {len(rows)} tasks"
    if better and worse:
        word = CONDITIONAL
        sentence += (
            f"; better by more than {MARGIN} at {', '.join(better)}, not at {', '.join(worse)}"
        )
    elif interval.low > MARGIN:
        word = SUPPORTED
    elif interval.high < MARGIN:
        word = REFUTED
    else:
        word = UNDECIDED
    return Decision(word, sentence, numbers_of(interval, "difference"), tuple(rows))


def equal(
    evidence: Evidence,
    arm: Mapping[str, Any],
    baseline: Mapping[str, Any],
    names: tuple[str, str],
) -> Decision:
    """Returns whether two arms are equivalent in accuracy within the margin."""
    pairs = paired(evidence, arm, baseline)
    differences = by_seed(pairs)
    if len(differences) < _SEEDS:
        raise NotEnoughData(f"{len(differences)} of {_SEEDS} seeds of {names[0]} and {names[1]}")
    test = equivalence(differences, MARGIN)
    apart = abs(test.difference) > MARGIN and (test.low > 0 or test.high < 0)
    word = SUPPORTED if test.equivalent else REFUTED if apart else UNDECIDED
    sentence = (
        f"{names[0]} minus {names[1]}: {test.difference:+.4f}, 90 % interval "
        f"[{test.low:+.4f}, {test.high:+.4f}] against a margin of {MARGIN} (n = {test.n})"
    )
    numbers = {"difference": test.difference, "low": test.low, "high": test.high, "n": test.n}
    return Decision(word, sentence, numbers)


def _trained(evidence: Evidence, arm: Mapping[str, Any]) -> pandas.DataFrame:
    """Finished trials of an arm that took steps and learned something."""
    trials = select(evidence, arm)
    trials = trials[(trials["steps"] > 0) & trains(trials)]
    return need(trials, _SEEDS, "the recipe that learned")


@claim(
    "Self-normalisation lasts through training.",
    source=f"the usual reading of {_KLAMBAUER}; the theorems are about fixed weights",
    matters="nine of ten layers inside Theorem 1's domain at the end",
    experiment="reference/training",
)
def self_normalisation_lasts(evidence: Evidence) -> Decision:
    """Share of layers inside at the end of trials that learned, and the step at which they left."""
    trials = _trained(evidence, RECIPE)
    shares = known(trials, "share_moments_end", _SEEDS, "the recipe that learned")
    interval = mean_interval(shares)
    left = trials["left_step_moments"] / trials["steps"]
    never = float(left.isna().mean())
    word = judge_share(interval)
    median = float(left.median())
    sentence = (
        f"at the end {percent(interval)} of the layers are inside; half of the networks that left "
        f"did so within {100 * median:.1f} % of their steps, {100 * never:.0f} % never left"
    )
    numbers = numbers_of(interval) | {"median_left_share_of_steps": median, "never_left": never}
    return Decision(word, sentence, numbers, by_value(trials, "depth", "share_moments_end"))


@claim(
    "A network that loses self-normalisation during training is less accurate for it.",
    source="implied wherever the recipe is recommended for accuracy",
    matters=f"{MARGIN} of accuracy between all layers inside at the end and none",
    experiment="reference/training",
)
def losing_it_costs_accuracy(evidence: Evidence) -> Decision:
    """Regression of accuracy on the final share of layers inside, with depth and rate held."""
    import statsmodels.formula.api as formulas

    trials = _trained(evidence, RECIPE).copy()
    known(trials, "share_moments_end", 10, "the recipe that learned")
    trials = trials.dropna(subset=["share_moments_end", "score"])
    if trials["share_moments_end"].std() < 1e-6:
        raise NotEnoughData("networks whose final shares differ")
    trials["share"] = trials["share_moments_end"].astype(float)
    trials["log_rate"] = numpy.log(trials["learning_rate"].astype(float))
    terms = ["share"]
    terms += [f"C({axis})" for axis in ("dataset", "depth") if trials[axis].nunique() > 1]
    if trials["log_rate"].nunique() > 1:
        terms.append("log_rate")
    model = formulas.ols(f"score ~ {' + '.join(terms)}", trials)
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": trials["cell_id"].factorize()[0]})
    low, high = fitted.conf_int().loc["share"]
    effect = float(fitted.params["share"])
    word = SUPPORTED if low > MARGIN else REFUTED if high < MARGIN else UNDECIDED
    sentence = (
        f"with data set, depth and learning rate held, all layers inside instead of none goes with "
        f"{effect:+.4f} [{low:+.4f}, {high:+.4f}] in accuracy ({len(trials)} trials that learned)"
    )
    numbers = {"effect": effect, "low": float(low), "high": float(high), "n": len(trials)}
    return Decision(word, sentence, numbers)


@claim(
    "Whether a deep SELU network trains is decided by the stability limit of gradient descent, "
    "learning rate x sharpness < 2 (1 + momentum), and not by self-normalisation.",
    source="Cohen et al. 2021 for the limit; this project for SELU",
    matters="an area under the ROC curve of 0.9, and above that of the share of layers inside",
    experiment="reference/training",
)
def the_stability_limit_decides(evidence: Evidence) -> Decision:
    """Areas under ROC curves of the stability margin and of the pooled promise at initialisation."""
    trials = select(evidence, {**RECIPE, "initializer": ["lecun_normal", "he_normal"]})
    trials = trials[trials["steps"] > 0]
    known(trials, "stability_margin_init", 20, "SELU networks")
    outcome = trains(trials)
    if outcome.nunique() < 2:
        raise NotEnoughData("networks that train and networks that do not")
    margin = discrimination(
        -trials["stability_margin_init"].astype(float), outcome, trials["depth"]
    )
    promise = discrimination(trials["share_moments_init"].astype(float), outcome, trials["depth"])
    word = _stronger(margin, promise)
    below = outcome[trials["stability_margin_init"] < 1].mean()
    above = outcome[trials["stability_margin_init"] >= 1].mean()
    sentence = (
        f"area {margin.words} for the stability margin, {promise.words} for the share of layers "
        f"inside at initialisation; {100 * below:.0f} % train below the limit, "
        f"{100 * above:.0f} % above"
    )
    numbers = margin.numbers("margin") | promise.numbers("promise")
    numbers |= {"train_below": float(below), "train_above": float(above)}
    return Decision(word, sentence, numbers)


def _stronger(ours: Discrimination, theirs: Discrimination) -> str:
    if ours.low >= 0.9 and ours.low > theirs.area:
        return SUPPORTED
    return REFUTED if ours.high < 0.9 or ours.high < theirs.low else UNDECIDED


@claim(
    "With its own tuned learning rate, SELU with LeCun's weights is more accurate than ReLU with "
    "He's.",
    source=f"implied by {_KLAMBAUER}; published image results disagree",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/training",
)
def tuned_selu_beats_tuned_relu(evidence: Evidence) -> Decision:
    """Paired differences of tuned arms, by depth."""
    return compare(evidence, RECIPE, RECTIFIER, ("tuned SELU", "tuned ReLU"), TUNED)


@claim(
    "With its own tuned learning rate, SELU needs no batch normalisation: it is as accurate as ReLU "
    "with batch normalisation.",
    source=f"{_KLAMBAUER}, abstract",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/training",
)
def tuned_selu_replaces_batch_norm(evidence: Evidence) -> Decision:
    """Paired differences of tuned arms; supported where batch normalisation is not better."""
    reverse = compare(evidence, BATCH_NORM, RECIPE, ("tuned batch norm", "tuned SELU"), TUNED)
    words = {SUPPORTED: REFUTED, REFUTED: SUPPORTED}
    word = words.get(reverse.word, reverse.word)
    return Decision(word, reverse.sentence, reverse.numbers, reverse.rows)


@claim(
    "SELU reaches a lower training loss than batch normalisation at the same step and learning "
    "rate (Figure 1).",
    source=f"{_KLAMBAUER}, Figure 1, one learning rate for both",
    matters="a ratio of training losses of 0.9",
    experiment="reference/training",
)
def figure_1_with_one_rate(evidence: Evidence) -> Decision:
    """Ratio of training losses at equal rates, paired."""
    return _loss_ratio(evidence, roles=["", "tuning"])


@claim(
    "SELU reaches a lower training loss than batch normalisation when each has its own tuned "
    "learning rate.",
    source=f"{_KLAMBAUER}, Figure 1, fairly tuned",
    matters="a ratio of training losses of 0.9",
    experiment="reference/training",
)
def figure_1_fairly_tuned(evidence: Evidence) -> Decision:
    """Ratio of training losses of tuned arms, paired."""
    return _loss_ratio(evidence, roles=TUNED)


def _loss_ratio(evidence: Evidence, roles: list[str]) -> Decision:
    pairs = paired(evidence, RECIPE, BATCH_NORM, value="train_loss", roles=roles)
    pairs = pairs[(pairs["arm"] > 0) & (pairs["baseline"] > 0)]
    if pairs["seed"].nunique() < 2 or len(pairs) < _SEEDS:
        raise NotEnoughData(f"{len(pairs)} pairs of SELU and batch normalisation")
    pairs = pairs.assign(log_ratio=numpy.log(pairs["arm"] / pairs["baseline"]))
    logs = mean_interval(by_seed(pairs, "log_ratio"))
    low, value, high = (float(numpy.exp(end)) for end in (logs.low, logs.value, logs.high))
    rows = []
    for depth, group in pairs.groupby("depth"):
        here = float(numpy.exp(group["log_ratio"].mean()))
        rows.append({"depth": depth, "pairs": len(group), "loss_ratio": here})
    word = SUPPORTED if high < 0.9 else REFUTED if low > 0.9 else UNDECIDED
    ratios = {row["depth"]: row["loss_ratio"] for row in rows}
    if word != UNDECIDED and min(ratios.values()) < 0.9 < max(ratios.values()):
        word = CONDITIONAL
    told = ", ".join(f"{ratio:.2f} at depth {depth}" for depth, ratio in ratios.items())
    sentence = f"ratio of training losses {value:.3g} [{low:.3g}, {high:.3g}]: {told}"
    return Decision(word, sentence, {"ratio": value, "low": low, "high": high}, tuple(rows))


@claim(
    "Alpha dropout suits SELU better than standard dropout at the same rate.",
    source=f"{_KLAMBAUER}, 'New Dropout Technique'",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/dropout",
)
def alpha_dropout_beats_dropout(evidence: Evidence) -> Decision:
    """Paired differences at equal rates."""
    names = ("alpha dropout", "standard dropout")
    rates = [value for value in evidence.finished["dropout"].unique() if "_" in str(value)]
    alpha = [value for value in rates if str(value).startswith("alpha")]
    standard = [value for value in rates if str(value).startswith("standard")]
    arm = {**RECIPE, "dropout": alpha}
    return compare(evidence, arm, {**RECIPE, "dropout": standard}, names)


@claim(
    "Xavier's initialisation is incompatible with SELU.",
    source="a widely read how-to note on SELU; on square layers Xavier's tau is LeCun's",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/initializers",
)
def xavier_is_incompatible(evidence: Evidence) -> Decision:
    """Equivalence of Xavier's and LeCun's weights; refuted where they are equivalent."""
    arm = {**RECIPE, "initializer": "xavier_normal"}
    same = equal(evidence, arm, RECIPE, ("Xavier", "LeCun"))
    words = {SUPPORTED: REFUTED, REFUTED: SUPPORTED}
    return Decision(words.get(same.word, same.word), same.sentence, same.numbers, same.rows)


@claim(
    "Normal, uniform, truncated and exactly centred LeCun weights train equally well.",
    source="theory: only the first two moments of the weights enter g",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/initializers",
)
def lecun_shapes_train_alike(evidence: Evidence) -> Decision:
    """Equivalence of each shape with the normal one; the least certain decides."""
    present = set(evidence.finished["initializer"])
    shapes = [
        name for name in ("lecun_uniform", "lecun_truncated", "lecun_exact") if name in present
    ]
    if not shapes:
        raise NotEnoughData("no other distribution of LeCun's weights")
    rows = []
    decisions = []
    for name in shapes:
        decision = equal(evidence, {**RECIPE, "initializer": name}, RECIPE, (name, "lecun_normal"))
        decisions.append(decision)
        rows.append({"initializer": name, "verdict": decision.word, **decision.numbers})
    order = {SUPPORTED: 0, UNDECIDED: 1, REFUTED: 2}
    worst = max(decisions, key=lambda decision: order[decision.word])
    return Decision(worst.word, worst.sentence, worst.numbers, tuple(rows))


@claim(
    "He's initialisation makes SELU networks train worse, each with its own tuned learning rate.",
    source="a widely read how-to note on SELU",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/training",
)
def he_weights_train_worse(evidence: Evidence) -> Decision:
    """Paired differences of tuned LeCun and He weights, by depth."""
    he_weights = {**RECIPE, "initializer": "he_normal"}
    return compare(evidence, RECIPE, he_weights, ("tuned LeCun", "tuned He"), TUNED)


@claim(
    "Inputs that are not standardised make SELU networks less accurate.",
    source="a widely read how-to note on SELU",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/preprocessing",
)
def unstandardised_inputs_train_worse(evidence: Evidence) -> Decision:
    """Paired differences between standardised inputs and pixels in [0, 1], by depth."""
    pixels = {**RECIPE, "preprocessing": "none"}
    return compare(evidence, RECIPE, pixels, ("standardised", "pixels in [0, 1]"))


@claim(
    "Pixels in [0, 255] make SELU networks fail.",
    source="user reports of SELU networks at chance on raw images",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/preprocessing",
)
def raw_inputs_train_worse(evidence: Evidence) -> Decision:
    """Paired differences between standardised inputs and raw pixels, by depth."""
    raw = {**RECIPE, "preprocessing": "raw"}
    return compare(evidence, RECIPE, raw, ("standardised", "raw pixels"))


@claim(
    "Repairing a broken premise at the same seed brings accuracy back.",
    source="implied by calling the premises conditions",
    matters=f"{MARGIN} of accuracy",
    experiment="reference/repairs",
)
def repairs_bring_accuracy(evidence: Evidence) -> Decision:
    """Paired differences of repaired and unrepaired trials, by repair."""
    present = sorted(set(evidence.finished["repair"].astype(str)) - {"none"})
    if not present:
        raise NotEnoughData("no repaired trial")
    rows = []
    for repair in present:
        pairs = _repaired(evidence, repair, "score")
        shares = _repaired(evidence, repair, "share_moments_init")
        if pairs["seed"].nunique() < _SEEDS:
            continue
        back = mean_interval(by_seed(pairs))
        share = mean_interval(by_seed(shares)) if len(shares) else None
        row = {"repair": repair, **numbers_of(back, "accuracy")}
        if share is not None:
            row |= numbers_of(share, "share")
        rows.append(row)
    if not rows:
        raise NotEnoughData(f"fewer than {_SEEDS} seeds of any repair")
    helps = [row["repair"] for row in rows if row["accuracy_low"] > MARGIN]
    idle = [row["repair"] for row in rows if row["accuracy_high"] < MARGIN]
    word = CONDITIONAL if helps and idle else SUPPORTED if helps else REFUTED if idle else UNDECIDED
    best = max(rows, key=lambda row: row["accuracy"])
    sentence = (
        f"more than {MARGIN} comes back with {', '.join(helps) or 'no repair'}; not with "
        f"{', '.join(idle) or 'none'}; most with {best['repair']}: {best['accuracy']:+.3f} "
        f"[{best['accuracy_low']:+.3f}, {best['accuracy_high']:+.3f}]"
    )
    return Decision(word, sentence, {"repairs_that_help": len(helps)}, tuple(rows))


def _repaired(evidence: Evidence, repair: str, value: str) -> pandas.DataFrame:
    """Repaired against unrepaired trials, everything else and the seed equal."""
    trials = evidence.finished
    if value not in trials:
        return pandas.DataFrame(columns=["seed", "difference"])
    axes = [axis for axis in evidence.axes if axis != "repair" and trials[axis].notna().any()]
    keys = [*axes, "seed"]
    keyed = trials.assign(**{axis: trials[axis].astype(str) for axis in axes})
    left = keyed[keyed["repair"].astype(str) == repair]
    right = keyed[keyed["repair"].astype(str) == "none"]
    both = left[[*keys, value]].merge(right[[*keys, value]], on=keys, suffixes=("_arm", "_base"))
    both["difference"] = both[f"{value}_arm"].astype(float) - both[f"{value}_base"].astype(float)
    columns = [*[axis for axis in axes if both[axis].nunique() > 1], "seed", "difference"]
    return both[columns].dropna(subset=["difference"])
