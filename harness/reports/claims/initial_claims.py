"""Claims about networks at initialisation: what the theorems assume and what they promise."""

from __future__ import annotations

import numpy
import pandas

from harness.reports.claims.declaration import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    NotEnoughData,
    claim,
)
from harness.reports.claims.selection import RECIPE, known, layers_of, need, select
from harness.reports.evidence import Evidence
from harness.reports.statistics import Interval, mean_interval
from harness.theory.selu.moment_map import LAMBDA
from harness.verdicts.grading import HIGH

_KLAMBAUER = "Klambauer et al. 2017"
_SEEDS = 3


def percent(interval: Interval) -> str:
    """Returns a share with its 95 % interval in per cent."""
    return f"{100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def number(interval: Interval) -> str:
    """Returns a number with its 95 % interval."""
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def numbers_of(interval: Interval, name: str = "value") -> dict[str, float]:
    """Returns an interval as numbers for JSON."""
    return {
        name: interval.value,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
        f"{name}_n": interval.n,
    }


def by_value(trials: pandas.DataFrame, axis: str, column: str) -> tuple[dict[str, object], ...]:
    """Returns the mean of a column with its interval for each value of an axis."""
    rows = []
    for value, group in trials.groupby(axis):
        interval = mean_interval(group[column].astype(float))
        rows.append({axis: value, "trials": interval.n, **numbers_of(interval, column)})
    return tuple(rows)


def judge_share(interval: Interval, holds: float = HIGH, fails: float = 1 - HIGH) -> str:
    """Returns the word of a share that should be near 1, from its interval."""
    if interval.low >= holds:
        return SUPPORTED
    if interval.high <= fails:
        return REFUTED
    return CONDITIONAL if interval.high < holds else UNDECIDED


def _per_trial(layers: pandas.DataFrame, column: str) -> pandas.Series:
    """Means over the layers of each trial: layers are no replicates."""
    return layers.groupby("trial_id")[column].mean().dropna()


def _recipe_at_start(evidence: Evidence, **changes: object) -> pandas.DataFrame:
    trials = select(evidence, {**RECIPE, **changes})
    return need(trials, _SEEDS, "SELU with LeCun's weights")


@claim(
    "A unit's weights under LeCun initialisation lie in the domain of Theorem 1: their sum omega "
    "in [-0.1, 0.1] and their sum of squares tau in [0.95, 1.1].",
    source=f"{_KLAMBAUER}, Theorem 1, whose premise is about every unit",
    matters="nine of ten units inside, the least for a statement about a layer",
    experiment="reference/initialization",
)
def lecun_weights_meet_the_premise(evidence: Evidence) -> Decision:
    """Share of units inside the (omega, tau) box, by trial."""
    trials = _recipe_at_start(evidence)
    shares = _per_trial(layers_of(evidence, trials), "theorem_1_weight_share")
    interval = mean_interval(shares)
    if interval.n < _SEEDS:
        raise NotEnoughData(f"{interval.n} trials with theorem_1_weight_share")
    word = judge_share(interval)
    sentence = (
        f"{percent(interval)} of the units of a layer meet the premise, "
        f"as independent weights must: omega has standard deviation 1"
    )
    frame = trials.assign(share=trials["trial_id"].map(shares))
    return Decision(word, sentence, numbers_of(interval), by_value(frame, "width", "share"))


@claim(
    "At LeCun initialisation the pooled mean and variance of every layer stay in the domain of "
    "Theorem 1: mean in [-0.1, 0.1], variance in [0.8, 1.5].",
    source=f"{_KLAMBAUER}, Theorem 1 and section 'Weight initialization'",
    matters="nine of ten layers of a network inside",
    experiment="reference/initialization",
)
def pooled_moments_hold_at_initialisation(evidence: Evidence) -> Decision:
    """Share of layers inside, by trial and depth."""
    trials = _recipe_at_start(evidence)
    shares = known(trials, "share_moments_init", _SEEDS, "SELU with LeCun's weights")
    interval = mean_interval(shares)
    rows = by_value(trials.loc[shares.index], "depth", "share_moments_init")
    sentence = f"{percent(interval)} of the layers hold the pooled moments at initialisation"
    return Decision(judge_share(interval), sentence, numbers_of(interval), rows)


@claim(
    "Each unit by itself keeps its activations near mean 0 and variance 1.",
    source=f"the usual reading of {_KLAMBAUER}, Theorem 1, which is stated for a unit",
    matters="nine of ten units inside Theorem 1's domain of mean and variance",
    experiment="reference/initialization",
)
def single_units_are_normalised(evidence: Evidence) -> Decision:
    """Share of units whose own moments are inside the domain."""
    trials = _recipe_at_start(evidence)
    shares = _per_trial(layers_of(evidence, trials), "theorem_1_moment_share")
    interval = mean_interval(shares)
    if interval.n < _SEEDS:
        raise NotEnoughData(f"{interval.n} trials with theorem_1_moment_share")
    sentence = (
        f"{percent(interval)} of the units hold their own moments, although nearly every layer "
        "holds them pooled: self-normalisation is a statement about averages over units"
    )
    return Decision(judge_share(interval), sentence, numbers_of(interval))


@claim(
    "Exploding gradients are impossible in self-normalizing networks.",
    source=f"{_KLAMBAUER}, abstract: vanishing and exploding gradients are impossible",
    matters="growth of squared gradients above 1 a layer, which compounds with depth",
    experiment="reference/initialization",
)
def gradients_cannot_explode(evidence: Evidence) -> Decision:
    """Growth of squared gradients a layer at initialisation, from the last layer to the first."""
    trials = _recipe_at_start(evidence)
    deep = need(
        trials[trials["depth"] >= 8], _SEEDS, "SELU with LeCun's weights of 8 layers or more"
    )
    layers = layers_of(evidence, deep)
    first = layers[layers["layer"] == 1]
    growth = first["gradient_product"] ** (1.0 / (first["depth"] - 1))
    interval = mean_interval(growth)
    if interval.n < _SEEDS:
        raise NotEnoughData(f"{interval.n} trials with gradient_product")
    frame = first.assign(growth=growth, total=first["gradient_product"])
    deepest = frame[frame["depth"] == frame["depth"].max()]
    total = float(numpy.exp(numpy.log(deepest["total"]).mean()))
    word = REFUTED if interval.low > 1 else SUPPORTED if interval.high <= 1 else UNDECIDED
    sentence = (
        f"squared gradients grow by {number(interval)} a layer (theory: chi_1 = 1.0716), "
        f"by a factor of {total:.3g} over {int(deepest['depth'].iloc[0])} layers; "
        "the growth is slow, and it is not bounded"
    )
    return Decision(word, sentence, numbers_of(interval), by_value(frame, "depth", "total"))


@claim(
    "The initializer must be scaled by alpha for SELU.",
    source="a widely read how-to note on SELU ('alpha-scaled LeCun initialisation')",
    matters="pooled moments hold in fewer than nine of ten layers without the factor",
    experiment="reference/initialization",
)
def lecun_needs_an_alpha(evidence: Evidence) -> Decision:
    """Pooled moments with plain LeCun weights; supported only if they fail there."""
    trials = _recipe_at_start(evidence)
    shares = known(trials, "share_moments_init", _SEEDS, "SELU with LeCun's weights")
    interval = mean_interval(shares)
    plain_holds = judge_share(interval) == SUPPORTED
    word = REFUTED if plain_holds else SUPPORTED if interval.high < 0.5 else UNDECIDED
    sentence = (
        f"with plain LeCun weights {percent(interval)} of the layers hold; "
        "alpha belongs to the activation and to alpha dropout"
    )
    return Decision(word, sentence, numbers_of(interval))


@claim(
    "The distribution of the weights matters: normal, uniform, truncated and exactly centred LeCun "
    "weights behave differently at initialisation.",
    source="implied by recipes that prescribe 'lecun_normal'",
    matters="0.02 of the share of layers that hold their pooled moments",
    experiment="reference/initialization",
)
def the_shape_of_lecun_weights_matters(evidence: Evidence) -> Decision:
    """Share of layers that hold, by initializer of equal second moment."""
    names = ["lecun_normal", "lecun_uniform", "lecun_truncated", "lecun_exact", "xavier_normal"]
    trials = select(evidence, {**RECIPE, "initializer": names})
    known(trials, "share_moments_init", 2 * _SEEDS, "SELU with LeCun weights of several shapes")
    present = trials["initializer"].nunique()
    if present < 3:
        raise NotEnoughData(f"{present} of at least 3 distributions of LeCun weights")
    rows = by_value(trials, "initializer", "share_moments_init")
    means = [float(row["share_moments_init"]) for row in rows]
    lows = [float(row["share_moments_init_low"]) for row in rows]
    highs = [float(row["share_moments_init_high"]) for row in rows]
    spread = max(means) - min(means)
    apart = max(lows) - min(highs)
    widest = max(high - low for low, high in zip(lows, highs, strict=True))
    word = REFUTED if max(highs) - min(lows) < 0.1 else SUPPORTED if apart > 0.02 else UNDECIDED
    sentence = (
        f"the shares of {present} distributions differ by at most {spread:.3f} "
        f"(widest interval {widest:.3f})"
    )
    return Decision(word, sentence, {"spread": spread, "widest": widest}, rows)


@claim(
    "torch.nn.init.calculate_gain('selu') = 3/4 suits SELU.",
    source="torch.nn.init.kaiming_*_(nonlinearity='selu'); reported as pytorch #54055",
    matters="pooled standard deviation of deep layers below 0.89, outside Theorem 1's domain",
    experiment="reference/initialization",
)
def torch_gain_suits_selu(evidence: Evidence) -> Decision:
    """Standard deviation of deep activations with tau = 9/16."""
    trials = select(evidence, {**RECIPE, "initializer": "torch_selu_gain"})
    trials = need(
        trials[trials["depth"] >= 16], _SEEDS, "SELU with torch's gain of 16 layers or more"
    )
    layers = layers_of(evidence, trials)
    deep = layers[layers["layer"] > 10]
    deviation = numpy.sqrt(deep["activation_variance"]).groupby(deep["trial_id"]).mean()
    interval = mean_interval(deviation)
    word = (
        REFUTED
        if interval.high < numpy.sqrt(0.8)
        else SUPPORTED
        if interval.low >= 0.9
        else UNDECIDED
    )
    sentence = (
        f"behind layer 10 the pooled standard deviation is {number(interval)} "
        "(theory: it settles at 0.1996); nonlinearity='linear' gives gain 1"
    )
    return Decision(word, sentence, numbers_of(interval))


@claim(
    "He's initialisation is incompatible with SELU.",
    source="a widely read how-to note on SELU; tau = 2 lies in no theorem",
    matters="the share of layers inside Theorem 1's domain below one in ten",
    experiment="reference/initialization",
)
def he_weights_break_the_promise(evidence: Evidence) -> Decision:
    """Share of layers that hold with He's weights, by depth."""
    trials = select(evidence, {**RECIPE, "initializer": "he_normal"})
    shares = known(trials, "share_moments_init", _SEEDS, "SELU with He's weights")
    interval = mean_interval(shares)
    word = SUPPORTED if interval.high <= 0.1 else REFUTED if interval.low >= HIGH else CONDITIONAL
    sentence = (
        f"{percent(interval)} of the layers hold with tau = 2; "
        "whether that harms training is asked below"
    )
    return Decision(
        word, sentence, numbers_of(interval), by_value(trials, "depth", "share_moments_init")
    )


@claim(
    "Inputs that are not standardised negate self-normalisation.",
    source="a widely read how-to note on SELU",
    matters="fewer than nine of ten layers of a deep network inside",
    experiment="reference/initialization",
)
def unstandardised_inputs_negate_it(evidence: Evidence) -> Decision:
    """Share of layers that hold with pixels in [0, 1], by depth: shallow layers do not, deep do."""
    trials = select(evidence, {**RECIPE, "preprocessing": "none"})
    known(trials, "share_moments_init", _SEEDS, "SELU on inputs in [0, 1]")
    rows = by_value(trials, "depth", "share_moments_init")
    layers = layers_of(evidence, trials)
    deep = layers[layers["layer"] > 12]
    inside = deep["activation_variance"].between(0.8, 1.5) & deep["activation_mean"].abs().le(0.1)
    if deep.empty:
        raise NotEnoughData("no network of more than 12 layers on inputs in [0, 1]")
    late = mean_interval(inside.groupby(deep["trial_id"]).mean())
    everywhere = mean_interval(trials["share_moments_init"].astype(float))
    word = SUPPORTED if late.high <= 0.1 else CONDITIONAL
    if everywhere.low >= HIGH:
        word = REFUTED
    sentence = (
        f"with pixels in [0, 1] {percent(everywhere)} of all layers hold, and {percent(late)} of "
        "those behind layer 12: the variance comes back with depth, as Theorem 3 says"
    )
    return Decision(word, sentence, numbers_of(late, "late") | numbers_of(everywhere, "all"), rows)


@claim(
    "SELU is lambda (max(0, x) + min(0, alpha exp(x) - alpha)).",
    source=f"{_KLAMBAUER}, Eq. 2",
    matters="any difference above rounding",
    experiment="reference/initialization",
)
def the_formula_is_selu(evidence: Evidence) -> Decision:
    """Compares the formula as it is told with the library's function on a grid."""
    from harness.theory.selu.moment_map import ALPHA, selu

    grid = numpy.linspace(-30.0, 30.0, 6001)
    told = LAMBDA * (numpy.maximum(0, grid) + numpy.minimum(0, ALPHA * numpy.exp(grid) - ALPHA))
    difference = float(numpy.abs(told - selu(grid)).max())
    word = SUPPORTED if difference < 1e-12 else REFUTED
    sentence = f"the largest difference on [-30, 30] is {difference:.1e}"
    return Decision(word, sentence, {"difference": difference})
