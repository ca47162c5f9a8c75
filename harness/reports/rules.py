"""The declared rules of comparison and the constants that they fix.

Every report prints `RULES` with `VERSION`; a changed rule raises the version. README.md in this
folder explains them.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.theory.activations import functions

VERSION = 2
SIGNIFICANT = 0.05

# The rule, and how this report applies it.
RULES: tuple[tuple[str, str], ...] = (
    (
        "Seeds are the replicates",
        "Layers, steps and samples of one trial are never counted as replicates.",
    ),
    (
        "A cell's score",
        "Mean test accuracy over seeds with a 95 % Student-t interval. One seed has no interval. "
        "The median is in the CSV.",
    ),
    (
        "Diverged trials count",
        "A diverged trial scores chance level (1/classes). Its share has a Wilson interval, and "
        "the survivors' mean stands beside the score.",
    ),
    (
        "Comparisons are paired",
        "Two arms are compared by per-seed differences with everything else equal, because split "
        "and batch order depend on the seed alone; paired t interval and test.",
    ),
    (
        "Sign flips as a check",
        "The exact sign-flip permutation test stands beside every t test. With n seeds its "
        "smallest p-value is 2/2^n: 0.25 at 3 seeds, 0.06 at 5.",
    ),
    (
        "Many comparisons",
        "Holm's adjustment within a family: all comparisons along one axis, or all comparisons of "
        "recommended pairs.",
    ),
    (
        "Better, worse, undecided",
        "Decided when the Holm-adjusted paired-t p-value is below 0.05. Undecided is not the same "
        "as equal.",
    ),
    (
        "Two conditions",
        "Practice (each activation with its recommended initializer) and attribution (every "
        "activation with the same initializer) are separate families.",
    ),
    (
        "Averages over tasks",
        "A mean over many tasks takes per-seed averages first, then a t interval over seeds. "
        "Bootstrap intervals (stratified by task) are given from 10 seeds on.",
    ),
    (
        "Normalised score",
        "(accuracy - chance) / (1 - chance), so that tasks with different numbers of classes can "
        "be averaged.",
    ),
    (
        "Incomplete cells",
        "Cells with unfinished seeds are marked (7/10) and left out of averages over tasks; the "
        "number of tasks is printed.",
    ),
    (
        "Selection",
        "Where a best cell is named it was chosen by validation accuracy; nothing is chosen on "
        "the test set.",
    ),
    ("Trainability and generalisation", "Training loss and test accuracy are reported separately."),
    (
        "Factors",
        "Ordinary least squares with main effects and two-factor interactions on per-trial "
        "scores; share of variance and level effects with 95 % intervals.",
    ),
    (
        "Premises and promises",
        "Shares of layers that hold, as means over seeds, which are the replicates; and the layer "
        "and the step at which they are left.",
    ),
    (
        "Time",
        "Seconds of trials that shared a pack are throughput, not a trial's own time; the pack "
        "size stands beside them.",
    ),
)


@dataclass(frozen=True)
class Statistic:
    """The statistic that answers one question.

    Attributes:
        question: the question in plain words.
        statistic: the number that answers it.
        uncertainty: the interval or test beside it.
        function: the function that computes both, as `module.name` inside `harness.reports`.
    """

    question: str
    statistic: str
    uncertainty: str
    function: str


STATISTICS: tuple[Statistic, ...] = (
    Statistic(
        "How good is one cell?",
        "mean over seeds (the median in the CSV)",
        "Student-t interval",
        "statistics.mean_interval",
    ),
    Statistic(
        "Is arm A better than arm B here?",
        "mean paired difference",
        "paired t interval and test; sign-flip permutation test as a check",
        "statistics.paired_difference",
    ),
    Statistic(
        "Which of many such comparisons are decided?",
        "their paired-t p-values",
        "Holm's adjustment within the family, at 0.05",
        "statistics.holm",
    ),
    Statistic(
        "Is A better over all contexts?",
        "mean difference over contexts for each seed, then over seeds",
        "Student-t interval over seeds",
        "comparisons.summaries",
    ),
    Statistic(
        "How often is A better?",
        "share of pairs won, ties counted half",
        "bootstrap stratified by context, from 10 seeds",
        "statistics.aggregate",
    ),
    Statistic(
        "Which factor matters?",
        "share of variance of each factor and pair of factors (type II)",
        "F test; Student-t intervals of the levels' effects",
        "factors.effects",
    ),
    Statistic(
        "How often does it diverge?",
        "proportion of trials",
        "Wilson interval",
        "statistics.wilson",
    ),
    Statistic(
        "Does a premise or promise hold?",
        "mean over seeds of the share of layers that hold",
        "accuracy interval: the spread of seeds, and a coin flip for each layer",
        "assumptions.by_cell",
    ),
    Statistic(
        "Does a repair help?",
        "mean paired difference with and without it",
        "paired t interval",
        "assumptions.repairs",
    ),
)


def recommended_initializers(activation: str) -> tuple[str, ...]:
    """Returns the initializers recommended for an activation, the preferred one first.

    Empty for an activation without a recommendation, such as a user's own.
    """
    return functions.recommended_initializers(activation) if activation in functions.NAMES else ()


# The level with which the other levels of an axis are compared, where it was run.
BASELINES: dict[str, str] = {
    "activation": "selu",
    "initializer": "lecun_normal",
    "normalization": "none",
    "dropout": "none",
    "repair": "none",
    "preprocessing": "global",
    "precision": "float32",
    "schedule": "constant",
}

# The axes along which arms are compared; every other axis is a part of the task.
ARM_AXES = (
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "preprocessing",
    "optimizer",
    "schedule",
    "precision",
    "repair",
)
