"""Claims about the outcome: which arm trains better, and what repairs bring back."""

from __future__ import annotations

import numpy
import pandas

from harness.reports.claims.claim import Decision, NotEnoughData, claim
from harness.reports.claims.deciding import (
    MARGIN,
    ahead,
    decide_equivalence,
    decide_pairs,
    difference_interval,
    difference_rows,
    diverged_words,
    judge_rows,
    opposite,
    range_words,
    signed,
)
from harness.reports.claims.selection import (
    BATCH_NORM,
    FEWEST_SEEDS,
    RECIPE,
    RECTIFIER,
    Arm,
    balanced,
    by_seed,
    fairest,
    labels_of,
    paired,
    scored,
    select,
)
from harness.reports.claims.shapes import SHAPES, shapes_are_equivalent
from harness.reports.evidence import Evidence
from harness.store.searches import CONFIRMATION

_KLAMBAUER = "Klambauer et al. 2017"
_NOTE = "a widely read how-to note on SELU"
_ACCURACY = f"{MARGIN} of accuracy"
# The largest ratio of training losses that is called lower.
_LOWER_LOSS = 0.9
# Settings that neglect one part of the recipe.
_NEGLECTS = {
    "He's weights": {"initializer": "he_normal"},
    "torch's default weights": {"initializer": "pytorch_default"},
    "pixels in [0, 1]": {"preprocessing": "none"},
    "raw pixels": {"preprocessing": "raw"},
}


@claim(
    "With its own tuned learning rate, SELU with LeCun's weights is more accurate than ReLU with "
    "He's.",
    source=f"implied by {_KLAMBAUER}; published image results disagree",
    matters=_ACCURACY,
    experiment="reference/training",
)
def tuned_selu_beats_tuned_relu(evidence: Evidence) -> Decision:
    """Paired differences of tuned arms, by task."""
    return _tuned(evidence, RECIPE, RECTIFIER, ("SELU", "ReLU"), MARGIN)


@claim(
    "With its own tuned learning rate, SELU needs no batch normalisation: it is as accurate as "
    "ReLU with batch normalisation.",
    source=f"{_KLAMBAUER}, abstract",
    matters=f"not behind by {_ACCURACY}",
    experiment="reference/training",
)
def tuned_selu_replaces_batch_norm(evidence: Evidence) -> Decision:
    """Non-inferiority of tuned arms, by task."""
    return _tuned(evidence, RECIPE, BATCH_NORM, ("SELU", "ReLU with batch norm"), -MARGIN)


@claim(
    "He's initialisation makes SELU networks train worse, each with its own tuned learning rate.",
    source=_NOTE,
    matters=_ACCURACY,
    experiment="reference/training",
)
def he_weights_train_worse(evidence: Evidence) -> Decision:
    """Paired differences of tuned LeCun and He weights, by task."""
    he_weights = {**RECIPE, "initializer": "he_normal"}
    return _tuned(evidence, RECIPE, he_weights, ("LeCun's weights", "He's"), MARGIN)


def _tuned(
    evidence: Evidence, arm: Arm, baseline: Arm, names: tuple[str, str], threshold: float
) -> Decision:
    scored(evidence, arm, baseline)
    pairs = paired(evidence, arm, baseline, role=CONFIRMATION)
    return decide_pairs(pairs, names, threshold, "each tuned")


@claim(
    "SELU reaches a lower training loss than batch normalisation at the same step and learning "
    "rate (Figure 1).",
    source=f"{_KLAMBAUER}, Figure 1, one learning rate for both",
    matters="a ratio of training losses of 0.9",
    experiment="reference/training",
)
def figure_1_with_one_rate(evidence: Evidence) -> Decision:
    """Ratio of training losses at equal rates, paired.

    All trials are asked, the draws of a search included: their rates are equal in all arms.
    """
    pairs = paired(evidence, RECIPE, BATCH_NORM, value="loss_score", tuning=True)
    if "learning_rate" in pairs:
        pairs = pairs.assign(variant="rate " + pairs["learning_rate"].astype(str))
    return _loss_ratio(pairs, "at equal learning rates")


@claim(
    "SELU reaches a lower training loss than batch normalisation when each has its own tuned "
    "learning rate.",
    source=f"{_KLAMBAUER}, Figure 1, fairly tuned",
    matters="a ratio of training losses of 0.9",
    experiment="reference/training",
)
def figure_1_fairly_tuned(evidence: Evidence) -> Decision:
    """Ratio of training losses of tuned arms, paired."""
    pairs = paired(evidence, RECIPE, BATCH_NORM, value="loss_score", role=CONFIRMATION)
    return _loss_ratio(pairs, "each tuned")


def _loss_ratio(pairs: pandas.DataFrame, rates: str) -> Decision:
    """Returns whether the first loss is at most 0.9 of the second; diverged ones count as chance.

    Raises:
        NotEnoughData: fewer than three seeds.
    """
    names = ("SELU", "ReLU with batch norm")
    pairs = pairs[(pairs["arm"] > 0) & (pairs["baseline"] > 0)]
    if pairs["seed"].nunique() < FEWEST_SEEDS:
        raise NotEnoughData(
            f"{pairs['seed'].nunique()} of {FEWEST_SEEDS} seeds of {' and '.join(names)}, {rates}"
        )
    logs = numpy.log(pairs["baseline"].astype(float) / pairs["arm"].astype(float))
    pairs = pairs.assign(log_ratio=logs)
    means = balanced(pairs, "log_ratio", labels_of(pairs), " and ".join(names))
    interval = difference_interval(means.mean(axis=1))
    rows = difference_rows(pairs, "log_ratio")
    word, condition = judge_rows(interval, rows, -numpy.log(_LOWER_LOSS))
    ratio, high, low = (
        float(numpy.exp(-end)) for end in (interval.value, interval.low, interval.high)
    )
    sentence = (
        f"the ratio of training losses of {names[0]} and {names[1]}, {rates}, is {ratio:.3g} "
        f"[{low:.3g}, {high:.3g}] over {means.shape[1]} of {len(rows)} tasks"
        f"{diverged_words(pairs, names)}"
    )
    if condition:
        sentence += f"; {condition}"
    records = []
    for row in rows:
        ends = {"ratio": row.interval.value, "low": row.interval.high, "high": row.interval.low}
        ratios = {name: float(numpy.exp(-end)) for name, end in ends.items()}
        records.append({**row.labels, **ratios, "seeds": row.interval.n})
    numbers = {"ratio": ratio, "ratio_low": low, "ratio_high": high, "ratio_n": interval.n}
    return Decision(word, sentence, numbers, tuple(records))


@claim(
    "Alpha dropout suits SELU better than standard dropout at the same rate.",
    source=f"{_KLAMBAUER}, 'New Dropout Technique'",
    matters=_ACCURACY,
    experiment="reference/dropout",
)
def alpha_dropout_beats_dropout(evidence: Evidence) -> Decision:
    """Paired differences at equal dropout rates."""
    trials = evidence.finished
    if "dropout" not in trials:
        raise NotEnoughData("no trial says its dropout")
    names = [str(value) for value in trials["dropout"].unique()]
    doses = {name.removeprefix("alpha_") for name in names if name.startswith("alpha_")}
    doses &= {name.removeprefix("standard_") for name in names if name.startswith("standard_")}
    if not doses:
        raise NotEnoughData("no rate with both alpha and standard dropout")
    pieces = []
    for dose in sorted(doses):
        alpha = {**RECIPE, "dropout": f"alpha_{dose}"}
        standard = {**RECIPE, "dropout": f"standard_{dose}"}
        scored(evidence, alpha, standard)
        pairs, rates = fairest(evidence, alpha, standard)
        pieces.append(pairs.assign(variant=f"dropout {dose}"))
    pairs = pandas.concat(pieces)
    return decide_pairs(pairs, ("alpha dropout", "standard dropout"), MARGIN, rates)


@claim(
    "Xavier's initialisation is incompatible with SELU.",
    source=f"{_NOTE}; on square layers Xavier's tau is LeCun's, on others it is not",
    matters=f"{_ACCURACY} in the mean over widths and depths; refuted only if they are equal in it",
    experiment="reference/initializers",
)
def xavier_is_incompatible(evidence: Evidence) -> Decision:
    """Equivalence of Xavier's and LeCun's weights, paired by seed, for each width and depth."""
    arm = {**RECIPE, "initializer": "xavier_normal"}
    scored(evidence, arm, RECIPE)
    pairs, rates = fairest(evidence, arm, RECIPE)
    label = f"Xavier's minus LeCun's weights, {rates}, in accuracy"
    same = opposite(decide_equivalence(by_seed(pairs, "difference", label), MARGIN, label))
    rows = difference_rows(pairs)
    told = [same.sentence, range_words(rows, signed)]
    records = tuple(row.record("difference") for row in rows)
    return Decision(same.word, "; ".join(text for text in told if text), same.numbers, records)


@claim(
    "Normal, uniform, truncated and exactly centred LeCun weights train equally well.",
    source="theory: only the first two moments of the weights enter g",
    matters=_ACCURACY,
    experiment="reference/initializers",
)
def lecun_shapes_train_alike(evidence: Evidence) -> Decision:
    """Equivalence of each shape with normal weights, paired by seed."""
    scored(evidence, {**RECIPE, "initializer": ("lecun_normal", *SHAPES)})
    return shapes_are_equivalent(evidence, value="score", margin=MARGIN, claim_is_equal=True)


@claim(
    "Inputs that are not standardised make SELU networks less accurate.",
    source=_NOTE,
    matters=_ACCURACY,
    experiment="reference/preprocessing",
)
def unstandardised_inputs_train_worse(evidence: Evidence) -> Decision:
    """Paired differences between standardised inputs and pixels in [0, 1], by task."""
    pixels = {**RECIPE, "preprocessing": "none"}
    return ahead(evidence, RECIPE, pixels, ("standardised inputs", "pixels in [0, 1]"))


@claim(
    "Pixels in [0, 255] make SELU networks fail.",
    source="user reports of SELU networks at chance on raw images",
    matters="half of the way from chance to 1",
    experiment="reference/preprocessing",
)
def raw_inputs_fail(evidence: Evidence) -> Decision:
    """Paired differences between standardised inputs and raw pixels, by task."""
    raw = {**RECIPE, "preprocessing": "raw"}
    half_way = (1.0 - select(evidence, raw)["chance"].max()) / 2
    return ahead(evidence, RECIPE, raw, ("standardised inputs", "raw pixels"), half_way)


@claim(
    "SELU with one part of its recipe neglected trains worse than ReLU with He's weights.",
    source=f"{_NOTE}: neglect leads to unstable training or worse results than ReLU",
    matters=f"ReLU ahead by {_ACCURACY}",
    experiment="reference/preprocessing",
)
def neglect_is_worse_than_relu(evidence: Evidence) -> Decision:
    """Paired differences of ReLU and SELU, by neglected part and task; all parts are needed."""
    pieces = []
    rates = ""
    missing = []
    for part, change in _NEGLECTS.items():
        neglected = {**RECIPE, **change}
        rectifier = {**RECTIFIER, "preprocessing": neglected["preprocessing"]}
        scored(evidence, neglected, rectifier)
        pairs, rates_here = fairest(evidence, rectifier, neglected)
        if pairs["seed"].nunique() < FEWEST_SEEDS or rates not in ("", rates_here):
            missing.append(part)
            continue
        pieces.append(pairs.assign(variant=part))
        rates = rates_here
    if missing:
        raise NotEnoughData(
            f"no pairs of ReLU and SELU with {', '.join(missing)}; weights are neglected in "
            "experiment=reference/training, inputs in experiment=reference/preprocessing"
        )
    return decide_pairs(pandas.concat(pieces), ("ReLU", "neglected SELU"), MARGIN, rates)
