"""The declared rules of comparison and the constants that they fix.

Every report prints `RULES` with `VERSION`; a changed rule raises the version, and `CHANGES` says
why. README.md in this folder explains them.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.theory.activations import functions

VERSION = 4
SIGNIFICANT = 0.05

# The reason of each version after the first.
CHANGES: dict[int, str] = {
    2: "Accuracies have bounded intervals that count the test set, because Student's t reached "
    "beyond 1 and gave equal seeds no width. Arms may be tuned, and tuning trials are no results. "
    "A diverged trial of unknown chance level has no score, because 0 was wrong. The best cell "
    "counts diverged seeds. Premises and promises are shares of layers over seeds, because trials "
    "of which every layer holds were the same everywhere. Equivalence, claims, prediction, "
    "association and intervention are new. "
    "The rule on time is gone, because nothing computed it.",
    3: "Doses of data are tasks of their own in claims and figures, because trials with noisy "
    "labels or shuffled pixels were averaged with others of their data set.",
    4: "Networks that took no step are left out of the share that diverges, because they could "
    "not. The interval of a cell's validation accuracy in MLflow counts seeds alone, because the "
    "size of the validation split is not on record. The claim on the stability limit is refuted "
    "where the share of layers predicts better, and the one on unstandardised inputs needs both "
    "its parts.",
}

# The rule, and how this report applies it.
RULES: tuple[tuple[str, str], ...] = (
    (
        "Seeds are the replicates",
        "Layers, steps and samples of one trial are never counted as replicates.",
    ),
    (
        "A cell's score",
        "Mean test accuracy over seeds with a 95 % interval inside [0, 1], which counts both the "
        "spread of seeds and the finite test set. One seed has no interval. Chance and the share "
        "of the most frequent class stand beside it; the median is in the CSV.",
    ),
    (
        "Tuning and confirming",
        "A tuned arm has its own learning rate, chosen by validation on tuning seeds from the same "
        "draws as every arm. Only trials with new seeds are results; tuning trials have a section "
        "of their own, and are asked where the rate must vary: in prediction, in the claim on the "
        "stability limit, and in Figure 1 at one rate. Comparisons at a fixed rate are labelled "
        "as such.",
    ),
    (
        "Diverged trials count",
        "A diverged trial scores chance level (1/classes). Its share has a Wilson interval, and "
        "the survivors' mean is in the CSV of cells. Where the number of classes is unknown, the "
        "cell has no score and is in no comparison.",
    ),
    (
        "Comparisons are paired",
        "Two arms are compared by per-seed differences with everything else equal, because all "
        "trials share the split and batch order depends on the seed alone; paired t interval and "
        "test. They speak of this test set.",
    ),
    (
        "Sign flips as a check",
        "The sign-flip permutation test stands beside the t test of every comparison: exact up to "
        "12 seeds, else of 4,096 random patterns. With n seeds its smallest p-value is then 2/2^n: "
        "0.25 at 3 seeds, 0.06 at 5.",
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
        "The same",
        "Two arms are called the same only where two one-sided paired t tests put the difference "
        "inside a stated margin at 5 %.",
    ),
    (
        "Claims",
        "A claim is decided by an interval against an effect that matters. It is conditional where "
        "tasks disagree, each at the level that all tasks together need (Bonferroni), and the "
        "condition is named.",
    ),
    (
        "Doses of data",
        "Trials of one data set that differ in its options, such as label noise, shuffled pixels "
        "or fewer samples, count as those of different data sets.",
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
        "be averaged; in the CSV of cells, and for mean differences in that of comparisons.",
    ),
    (
        "Incomplete cells",
        "Cells with unfinished seeds are marked (7/10) and left out of averages over tasks; the "
        "number of tasks is printed.",
    ),
    (
        "Selection",
        "Where a best cell is named it was chosen by validation accuracy, a diverged seed counting "
        "as chance; nothing is chosen on the test set.",
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
        "Prediction",
        "Areas under ROC curves for whether a trial trains, pooled and within data set and depth; "
        "intervals resample cells, because seeds of a cell share their outcome.",
    ),
    (
        "Association and intervention",
        "Associations are least squares among trials that train, with the settings held and errors "
        "clustered by cell; they are no effects. Interventions change one thing at the same seed.",
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
        "interval inside [0, 1] from seeds and test set",
        "accuracies.accuracy_interval",
    ),
    Statistic(
        "Is arm A better than arm B here?",
        "mean paired difference",
        "paired t interval and test; sign-flip permutation test as a check",
        "statistics.paired_difference",
    ),
    Statistic(
        "Are two arms the same here?",
        "mean paired difference against a margin",
        "two one-sided paired t tests",
        "accuracies.equivalence",
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
        "Student-t interval over seeds, cut to [0, 1]",
        "share_tables.cell_shares",
    ),
    Statistic(
        "Does a repair help, does a dose harm?",
        "mean paired difference with and without it",
        "paired t interval",
        "interventions.repairs",
    ),
    Statistic(
        "What predicts that a network trains?",
        "area under the ROC curve",
        "bootstrap over cells, stratified by task; Newcombe's score interval where that is wider",
        "roc_areas.area",
    ),
    Statistic(
        "Does an assumption go with accuracy?",
        "slope on the share of layers that hold, settings held",
        "t interval clustered by cell; Holm's adjustment",
        "associations.associations",
    ),
    Statistic(
        "Does an arm need more tuning?",
        "expected best validation accuracy of k draws",
        "none: a description of the search",
        "tuning.expected_best",
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
    "augmentation": "default",
}

# The axes along which arms are compared; every other axis is a part of the task.
ARM_AXES = (
    "activation",
    "initializer",
    "normalization",
    "dropout",
    "preprocessing",
    "augmentation",
    "optimizer",
    "schedule",
    "precision",
    "repair",
)
