"""Claims about networks at initialisation: what the theorems assume and what they promise."""

from __future__ import annotations

import numpy
import pandas

from harness.reports.claims.claim import (
    CONDITIONAL,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Decision,
    claim,
)
from harness.reports.claims.deciding import (
    MOST,
    decide_shares,
    difference_interval,
    judge,
    number,
    numbers_of,
    percent,
    range_words,
    share_interval,
    shares_by,
    signed,
)
from harness.reports.claims.selection import (
    RECIPE,
    Arm,
    by_seed,
    cells_in_words,
    distinct,
    known,
    layers_at_start,
    need,
    per_trial,
    select,
    tasks_of,
)
from harness.reports.claims.shapes import shapes_are_equivalent
from harness.reports.evidence import Evidence
from harness.reports.statistics import mean_interval
from harness.theory.selu import ALPHA, LAMBDA, selu

_KLAMBAUER = "Klambauer et al. 2017"
_NOTE = "a widely read how-to note on SELU"
_PROMISE = "share_moments_init"
# Squared gradients that grow by more than this a layer double within 32 layers.
_DOUBLING = 2 ** (1 / 32)
# The pooled variance comes back by this layer from pixels in [0, 1], by Theorem 3.
_RECOVERED = 12
# A share of late layers that is smaller by more than this has not come back.
_LOST = 0.1


def _promise(
    evidence: Evidence, changes: Arm, what: str, axes: tuple[str, ...] = ("depth",)
) -> Decision:
    """Returns whether nine of ten layers hold their pooled moments at initialisation."""
    trials = known(select(evidence, {**RECIPE, **changes}), _PROMISE, what)
    return decide_shares(trials, _PROMISE, axes, what, "hold their pooled moments")


def _share_of_units(evidence: Evidence, column: str, axis: str) -> Decision:
    """Returns whether nine of ten units of a layer are inside a domain at initialisation."""
    what = "SELU with LeCun's weights"
    trials = need(select(evidence, RECIPE), what)
    layers = layers_at_start(evidence, trials, [column], what)
    shares = per_trial(trials, layers.groupby("trial_id")[column].mean(), "share")
    overall, rows = shares_by(shares, "share", (axis,), what)
    records = tuple(row.record("share") for row in rows)
    word = judge(overall, MOST)
    return Decision(word, percent(overall), numbers_of(overall, "share"), records)


@claim(
    "SELU is lambda (max(0, x) + min(0, alpha exp(x) - alpha)).",
    source=f"{_KLAMBAUER}, Eq. 2",
    matters="any difference above rounding",
    experiment="reference/initialization",
)
def the_formula_is_selu(evidence: Evidence) -> Decision:
    """Compares the formula as it is told with the library's function on a grid."""
    grid = numpy.linspace(-30.0, 30.0, 6001)
    negative = numpy.minimum(0, ALPHA * numpy.exp(grid) - ALPHA)
    difference = float(numpy.abs(LAMBDA * (numpy.maximum(0, grid) + negative) - selu(grid)).max())
    word = SUPPORTED if difference < 1e-12 else REFUTED
    sentence = f"the largest difference on [-30, 30] is {difference:.1e}"
    return Decision(word, sentence, {"difference": difference})


@claim(
    "A unit's weights under LeCun initialisation lie in the domain of Theorem 1: their sum omega "
    "in [-0.1, 0.1] and their sum of squares tau in [0.95, 1.1].",
    source=f"{_KLAMBAUER}, Theorem 1, whose premise is about every unit",
    matters="nine of ten units inside, the least for a statement about a layer",
    experiment="reference/initialization",
)
def lecun_weights_meet_the_premise(evidence: Evidence) -> Decision:
    """Share of units inside the (omega, tau) box, by seed."""
    found = _share_of_units(evidence, "theorem_1_weight_share", "width")
    sentence = (
        f"{found.sentence} of the units of a layer meet the premise: the sum of independent "
        "weights has standard deviation 1, whatever the width"
        f"{cells_in_words(evidence, 'weights')}"
    )
    return Decision(found.word, sentence, found.numbers, found.rows)


@claim(
    "A standard deviation of sqrt(1/fan_in) does not give tau = 1, not even on average.",
    source=_NOTE,
    matters="a mean tau that differs from 1 by 0.02",
    experiment="reference/initialization",
)
def the_scale_is_a_simplification(evidence: Evidence) -> Decision:
    """Mean of tau over units and layers, by seed."""
    what = "SELU with LeCun's weights"
    trials = need(select(evidence, RECIPE), what)
    layers = layers_at_start(evidence, trials, ["tau_mean"], what)
    means = per_trial(trials, layers.groupby("trial_id")["tau_mean"].mean(), "tau")
    interval = mean_interval(by_seed(means, "tau", what))
    near = interval.low >= 0.98 and interval.high <= 1.02
    far = interval.low > 1.02 or interval.high < 0.98
    word = REFUTED if near else SUPPORTED if far else UNDECIDED
    sentence = f"the mean of tau is {number(interval)}"
    if near:
        sentence += ": the condition is met in expectation"
    return Decision(word, sentence, numbers_of(interval, "tau"))


@claim(
    "At LeCun initialisation the pooled mean and variance of every layer stay in the domain of "
    "Theorem 1: mean in [-0.1, 0.1], variance in [0.8, 1.5].",
    source=f"{_KLAMBAUER}, Theorem 1 and section 'Weight initialization'",
    matters="nine of ten layers of a network inside",
    experiment="reference/widths",
)
def pooled_moments_hold_at_initialisation(evidence: Evidence) -> Decision:
    """Share of layers inside, by depth and width."""
    return _promise(evidence, {}, "SELU with LeCun's weights", ("depth", "width"))


@claim(
    "With LeCun's weights and every pixel standardised by itself, pooled means and variances stay "
    "in the domain of Theorem 1 at initialisation.",
    source=f"{_KLAMBAUER}, whose theorem needs inputs of one mean and variance; per pixel they are",
    matters="nine of ten layers of a network inside",
    experiment="reference/preprocessing",
)
def pixels_standardised_alone_keep_the_promise(evidence: Evidence) -> Decision:
    """Share of layers inside with per-pixel standardisation, by depth and width."""
    what = "SELU with LeCun's weights on pixels standardised one by one"
    return _promise(evidence, {"preprocessing": "per_pixel"}, what, ("depth", "width"))


@claim(
    "Each unit by itself keeps its activations near mean 0 and variance 1.",
    source=f"the usual reading of {_KLAMBAUER}, Theorem 1, which is stated for a unit",
    matters="nine of ten units inside Theorem 1's domain of mean and variance",
    experiment="reference/initialization",
)
def single_units_are_normalised(evidence: Evidence) -> Decision:
    """Share of units whose own moments are inside the domain."""
    found = _share_of_units(evidence, "theorem_1_moment_share", "depth")
    sentence = f"{found.sentence} of the units hold their own moments"
    sentence += cells_in_words(evidence, "units")
    return Decision(found.word, sentence, found.numbers, found.rows)


@claim(
    "Exploding gradients are impossible in self-normalizing networks.",
    source=f"{_KLAMBAUER}, abstract: vanishing and exploding gradients are impossible",
    matters="squared gradients that double within 32 layers, a growth of 1.022 a layer",
    experiment="reference/initialization",
)
def gradients_cannot_explode(evidence: Evidence) -> Decision:
    """Growth of squared gradients a layer at initialisation, from the last layer to the first."""
    what = "SELU with LeCun's weights of 8 layers or more"
    trials = select(evidence, RECIPE)
    trials = need(trials[trials["depth"] >= 8], what)
    layers = layers_at_start(evidence, trials, ["gradient_product"], what)
    first = layers[layers["layer"] == 1].set_index("trial_id")["gradient_product"]
    frame = per_trial(trials, numpy.log(first), "log_total")
    frame["log_growth"] = frame["log_total"] / (frame["depth"] - 1)
    logs = mean_interval(by_seed(frame, "log_growth", what))
    ends = (float(numpy.exp(end)) for end in (logs.value, logs.low, logs.high))
    value, low, high = ends
    word = REFUTED if low > _DOUBLING else SUPPORTED if high < _DOUBLING else UNDECIDED
    rows: list[dict[str, object]] = []
    most_run = frame["dataset"].mode().iloc[0]
    for depth, group in frame[frame["dataset"] == most_run].groupby("depth"):
        total = float(numpy.exp(group["log_total"].mean()))
        rows.append({"depth": depth, "trials": len(group), "growth_in_all": total})
    sentence = (
        f"squared gradients grow by {value:.4f} [{low:.4f}, {high:.4f}] a layer (theory: chi_1 = "
        f"1.0716), {rows[-1]['growth_in_all']:.3g} times over {rows[-1]['depth']} layers on "
        f"{most_run}"
    )
    numbers = {"growth": value, "growth_low": low, "growth_high": high, "growth_n": logs.n}
    return Decision(word, sentence, numbers, tuple(rows))


@claim(
    "The initializer must be scaled by alpha for SELU.",
    source=f"{_NOTE} ('alpha-scaled LeCun initialisation')",
    matters="nine of ten layers hold without the factor; else 0.1 of the layers come back with it",
    experiment="reference/initialization",
)
def lecun_needs_an_alpha(evidence: Evidence) -> Decision:
    """Pooled moments with plain LeCun weights; supported only if weights scaled by alpha do better.

    Scaled weights are those of the Gaussian initializer with sigma_w2 = alpha^2.
    """
    what = "SELU with LeCun's weights"
    plain = known(select(evidence, RECIPE), _PROMISE, what)
    interval = share_interval(by_seed(plain, _PROMISE, what), distinct(plain))
    sentence = f"with plain LeCun weights {percent(interval)} of the layers hold"
    if interval.low >= MOST:
        sentence += "; alpha belongs to the activation and to alpha dropout"
        return Decision(REFUTED, sentence, numbers_of(interval, "share"))
    scaled = select(evidence, {**RECIPE, "initializer": "gaussian"})
    if "initializer.sigma_w2" in scaled:
        variance = scaled["initializer.sigma_w2"].astype(float)
        scaled = scaled[(variance - ALPHA**2).abs() < 0.01 * ALPHA**2]
    else:
        scaled = scaled.iloc[:0]
    pairs = scaled.merge(plain, on=["dataset", "depth", "width", "seed"], suffixes=("", "_plain"))
    if not len(pairs):
        sentence += "; weights scaled by alpha were not run: experiment=reference/alpha_scale"
        return Decision(UNDECIDED, sentence, numbers_of(interval, "share"))
    pairs["difference"] = pairs[_PROMISE] - pairs[f"{_PROMISE}_plain"]
    gain = difference_interval(by_seed(pairs, "difference", what))
    word = judge(gain, 0.1)
    sentence += f"; scaling the weights by alpha changes this share by {signed(gain)}"
    return Decision(word, sentence, numbers_of(gain, "gain"))


@claim(
    "torch.nn.init.calculate_gain('selu') = 3/4 suits SELU.",
    source="torch.nn.init.kaiming_*_(nonlinearity='selu'); reported as pytorch #54055",
    matters="pooled standard deviation of deep layers below 0.89, outside Theorem 1's domain",
    experiment="reference/initialization",
)
def torch_gain_suits_selu(evidence: Evidence) -> Decision:
    """Standard deviation of deep activations with tau = 9/16."""
    what = "SELU with torch's gain of 16 layers or more"
    trials = select(evidence, {**RECIPE, "initializer": "torch_selu_gain"})
    trials = need(trials[trials["depth"] >= 16], what)
    layers = layers_at_start(evidence, trials, ["activation_variance"], what)
    deep = layers[layers["layer"] > 10]
    deviations = numpy.sqrt(deep["activation_variance"]).groupby(deep["trial_id"]).mean()
    frame = per_trial(trials, deviations, "deviation")
    interval = mean_interval(by_seed(frame, "deviation", what))
    inside = numpy.sqrt(0.8) <= interval.low and interval.high <= numpy.sqrt(1.5)
    outside = interval.high < numpy.sqrt(0.8) or interval.low > numpy.sqrt(1.5)
    word = SUPPORTED if inside else REFUTED if outside else UNDECIDED
    sentence = (
        f"behind layer 10 the pooled standard deviation is {number(interval)} "
        "(theory: it settles at 0.1996); nonlinearity='linear' gives gain 1"
    )
    return Decision(word, sentence, numbers_of(interval, "deviation"))


@claim(
    "He's initialisation takes the promise away from SELU networks.",
    source=f"{_NOTE}; tau = 2 lies in no theorem",
    matters="fewer than nine of ten layers inside Theorem 1's domain",
    experiment="reference/initialization",
)
def he_weights_break_the_promise(evidence: Evidence) -> Decision:
    """Share of layers that hold with He's weights, by depth."""
    return _broken(_promise(evidence, {"initializer": "he_normal"}, "SELU with He's weights"))


def _broken(kept: Decision) -> Decision:
    """Returns the decision of the claim that a promise is lost."""
    words = {SUPPORTED: REFUTED, REFUTED: SUPPORTED}
    sentence = kept.sentence.replace("true at", "kept at").replace("false at", "lost at")
    return Decision(words.get(kept.word, kept.word), sentence, kept.numbers, kept.rows)


@claim(
    "Inputs that are not standardised negate self-normalisation.",
    source=_NOTE,
    matters="fewer than nine of ten layers inside, and 0.1 fewer behind layer 12 than standardised",
    experiment="reference/initialization",
)
def unstandardised_inputs_negate_it(evidence: Evidence) -> Decision:
    """Share of layers that hold with pixels in [0, 1], of all layers and of the late ones."""
    what = "SELU with LeCun's weights on pixels in [0, 1]"
    trials = known(select(evidence, {**RECIPE, "preprocessing": "none"}), _PROMISE, what)
    everywhere, rows = shares_by(trials, _PROMISE, ("depth",), what)
    late = _late_shares(evidence, trials, what)
    standardised = _late_shares(evidence, select(evidence, RECIPE), "SELU with LeCun's weights")
    keys = [*tasks_of(late), "seed"]
    pairs = late.drop_duplicates(keys).merge(
        standardised.drop_duplicates(keys), on=keys, suffixes=("", "_standardised")
    )
    pairs["difference"] = pairs["late"] - pairs["late_standardised"]
    behind = difference_interval(by_seed(pairs, "difference", what))
    word = UNDECIDED
    if everywhere.low >= MOST:
        word = REFUTED
    elif everywhere.high < MOST and behind.high < -_LOST:
        word = SUPPORTED
    elif everywhere.high < MOST and behind.low > -_LOST:
        word = CONDITIONAL
    parts = [f"with pixels in [0, 1] {percent(everywhere)} of all layers hold"]
    places = range_words(rows, percent)
    if places:
        parts.append(places)
    told = (
        f"{', '.join(parts)}; behind layer {_RECOVERED} their share differs by {signed(behind)} "
        "from that with standardised inputs"
    )
    if word == CONDITIONAL:
        told += ": true of the first layers; the variance comes back with depth (Theorem 3)"
    numbers = numbers_of(behind, "behind") | numbers_of(everywhere, "share")
    return Decision(word, told, numbers, tuple(row.record("share") for row in rows))


def _late_shares(evidence: Evidence, trials: pandas.DataFrame, what: str) -> pandas.DataFrame:
    """Returns deep trials with `late`, the share of their late layers inside Theorem 1's domain."""
    deep = need(trials[trials["depth"] > _RECOVERED], f"{what} of more than {_RECOVERED} layers")
    columns = ["activation_variance", "activation_mean"]
    layers = layers_at_start(evidence, deep, columns, what)
    late = layers[layers["layer"] > _RECOVERED]
    inside = late["activation_variance"].between(0.8, 1.5)
    inside &= late["activation_mean"].abs() <= 0.1
    return per_trial(deep, inside.groupby(late["trial_id"]).mean(), "late")


@claim(
    "The distribution of LeCun weights matters at initialisation: normal, uniform, truncated and "
    "exactly centred weights hold different shares of layers.",
    source="implied by recipes that prescribe 'lecun_normal'",
    matters="0.05 of the layers that hold their pooled moments",
    experiment="reference/initialization",
)
def the_shape_of_lecun_weights_matters(evidence: Evidence) -> Decision:
    """Equivalence of each shape with the normal one, paired by seed."""
    return shapes_are_equivalent(evidence, value=_PROMISE, margin=0.05, claim_is_equal=False)
