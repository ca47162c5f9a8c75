"""Reference of the layer table: every column with its meaning, as data and as Markdown.

The Markdown is the README of this folder. Statistics declare their own columns; the columns that
other packages add to the table are declared here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from harness.probes.measurement import declared_statistics
from harness.probes.nulls import fewest_samples
from harness.probes.readings import FEWEST_UNITS, MOST_ROWS
from harness.probes.statistic import COSTS, StatisticSpec, expand
from harness.probes.statistics.gradients import GRADIENT_RATIO_COLUMNS

KEY_COLUMNS = {
    "trial_id": (
        "The trial; first column of `runs/tables/layers.parquet`, which holds the layers of all "
        "trials. The table of one trial lies in the folder of that name."
    ),
    "step": "Optimizer steps before the probe.",
    "epoch": "The same in passes over the training split.",
    "phase": "`init` before the first step, `end` after the last one, else `training`.",
    "layer": "Number of the activated layer, from 1 at the input.",
    "name": "Name of the layer's module.",
    "kind": "`linear` or `conv2d`.",
    "units": "Number of units; of a convolution, of channels.",
    "fan_in": "Number of inputs of a unit.",
    "absent": "Reasons why columns have no number in this kind of layer, as text; empty for none.",
}

NETWORK_COLUMNS = {
    "sharpness": (
        "Top eigenvalue of the Gauss-Newton matrix of the mean cross-entropy on the probe samples "
        "(`harness/training/sharpness.py`), the same in every row of a probe. Measured at the "
        "first and the last probe and at the first after a tenth of the steps, with `probe=full` "
        "at every probe; NaN at the others."
    ),
    "stability_margin": (
        "Learning rate at the step x `sharpness` / (2 (1 + momentum)): the share of the limit of "
        "stability of gradient descent that is used up, 1 at the limit. NaN for Adam, whose limit "
        "is that of a preconditioned matrix. At step 0 the rate is that of the first step."
    ),
    "histogram": (
        "64 counts of z / sd(z) over samples, units and positions, sd the pooled standard "
        "deviation of z: 32 bins of |z| / sd for each sign, log-spaced from 0.01 to 100, from the "
        "most negative to the most positive (`harness/probes/histogram_bins.py`). Null where sd is "
        "0 or not finite. `runs/tables/histograms.parquet` holds them as `count_00` to `count_63`."
    ),
}

PREDICTED_COLUMNS = {
    "predicted_{pre_activation,activation}_{mean,variance}{,_low,_high}": (
        "Theory's prediction of the pooled moment, and the 99 % band of one network of this width."
    ),
    "predicted_q{,_low,_high}": (
        "Theory's prediction of `q`, and the 99 % band of one network of this width."
    ),
    "predicted_q_cv{,_low,_high}": "Theory's prediction of `q_cv`, with a band where it has one.",
    "predicted_cosine{,_low,_high}": (
        "Theory's prediction of `cosine`, and the 99 % band of one network of this width."
    ),
    "predicted_between_unit_share{,_low,_high}": (
        "Theory's prediction of `between_unit_share`, and the 99 % band of one network of this "
        "width."
    ),
    "predicted_participation_ratio{,_low,_high}": (
        "Theory's prediction of `participation_ratio`, with a band where it has one."
    ),
    "predicted_unit_variance_cv{,_low,_high}": (
        "Theory's prediction of `unit_variance_cv`, with a band where it has one. Where the probe "
        "measures the inputs' covariance, the column of that name is the one of `variance_law`."
    ),
    "predicted_empirical_slope{,_low,_high}": (
        "Theory's prediction of `empirical_slope`, with a band where it has one."
    ),
    "predicted_gradient_{gain,product}{,_low,_high}": (
        "Theory's prediction of the growth of squared gradients, and the 99 % band of one network "
        "of this width."
    ),
}

SCORE_COLUMNS = {
    "score_{input,weights,gaussianity,dependence}": (
        "Score of a premise, what the theory assumes of the layer: the effect of its worst "
        "criterion in units of the thresholds."
    ),
    "score_{moments,units,contraction,gradients}": (
        "Score of a promise, what the theory concludes about the layer, likewise."
    ),
}

DIAGNOSIS_COLUMNS = {
    "activation": "Name of the layer's activation.",
    "normalization": "Names of the normalizations before the activation, or `none`.",
    "samples": "Number of samples that the layer's statistics read.",
    "dropout_activation_{mean,variance}": (
        "Pooled mean and variance after the layer's dropout while dropout acts."
    ),
    "predicted_dropout_activation_{mean,variance}": (
        "Theory's mean and variance after that dropout, from the moments of what entered it; "
        "absent where no dropout follows the layer."
    ),
}

_TITLE = """\
# Columns of the layer table

<!-- Generated from the declarations by `python scripts/document.py`; edit those instead. -->
"""

_NOTES = (
    "A row of `layers.parquet` is one activated layer at one probe of one trial; "
    "`harness.diagnose` returns the same table for any model. A probe reads a fixed set of "
    "validation images, the same for every trial: `probe.samples` of them, 512 with "
    "`probe=standard` and 2,048 with `probe=full`.",
    "**Symbols.** `x` enters the weights, `z = W x + b` enters the activation, `y = phi(z)` leaves "
    "it. `mu`, `nu`: mean and variance of the inputs; `omega`, `tau`: sum and sum of squares of a "
    "unit's weights. In names, `{a,b}` stands for `a` or `b`: `tau_{mean,sd}` is `tau_mean` and "
    "`tau_sd`. Units of a convolution are its channels.",
    "**A missing number is NaN, never 0.** A value is missing where a divisor is 0, a value of the "
    "layer is not finite, there are too few samples, or the column says nothing about this kind of "
    "layer. `absent` names the reasons that lie in the kind of layer. Where a normalization or a "
    "sum stands between the weights and the activation, SELU's map g says nothing of z, and all "
    "that rests on g is NaN; `mean_drive`, `unit_variance_cv` and what is predicted for them are "
    "about W x there.",
    "**Samples that are read.** Moments, lengths, weights, gradients and saturation are over all "
    "samples and all positions of a convolution. Gaussianity, dependence and the empirical slope "
    f"read at most {MOST_ROWS:,} evenly spread samples, and of a convolution one position of each "
    "image, an interior one where there is any, because positions of one image are no independent "
    "draws. A batch normalization is read with the probe samples' own statistics. Intervals need "
    f"at least {FEWEST_UNITS} units and {fewest_samples()} samples; the positions of an image stay "
    "together in them.",
    "**Probes.** The first probe is taken before the first step, the last one after the last step. "
    "With `probe=standard` every probe measures what is quick, and the first and the last one also "
    "what is slow; `probe=full` measures everything at every probe, and so does a diagnosis.",
)

_GRADIENT_RATIOS = """\
### Gradient ratios

Ratios of squared gradients between layers. `statistics/gradients.py`, function
`add_gradient_ratios`.

"""

_NETWORK = """\
## Of the whole network, and histograms

"""

_PREDICTIONS = """\
## Predicted before training

On the rows of phase `init`, theory's prediction stands beside the measured column; NaN on other
rows, and where theory says nothing. `harness/theory/networks` computes it from the moments of the
data and the description of the network.

"""

_SCORES = """\
## Judgements

A score is 0 at the value that the theory names, at most 1 where the premise or promise holds, at
most 2 where it is strained, above where it fails, and NaN where no criterion gives a number.
`harness/verdicts/*_criteria.py` hold the criteria with their thresholds: a theorem's own, or an
effect whose consequence is said.

"""

_DIAGNOSIS = """\
## Only in a diagnosis

`harness.diagnose` adds these columns; it has no `epoch`, and its `phase` is `diagnosis`.

"""


def meanings() -> dict[str, str]:
    """Returns the meaning of every column that the layer table can have, by its name."""
    by_name: dict[str, str] = {}
    for columns in _all_columns():
        for pattern, meaning in columns.items():
            for name in expand(pattern):
                by_name.setdefault(name, meaning)
    return by_name


def markdown() -> str:
    """Returns the reference of all columns as Markdown, the README of this folder."""
    parts = [_TITLE, *(_wrapped(note) for note in _NOTES), "## Keys\n", _table(KEY_COLUMNS)]
    for cost, when in COSTS.items():
        parts.append(f"## {when}\n")
        parts += [_section(spec) for spec in declared_statistics() if spec.cost == cost]
        if cost == "quick":
            parts.append(_GRADIENT_RATIOS + _table(GRADIENT_RATIO_COLUMNS))
    parts.append(_NETWORK + _table(NETWORK_COLUMNS))
    parts.append(_PREDICTIONS + _table(PREDICTED_COLUMNS))
    parts.append(_SCORES + _table(SCORE_COLUMNS))
    parts.append(_DIAGNOSIS + _table(DIAGNOSIS_COLUMNS))
    return "\n".join(parts)


def _all_columns() -> list[Mapping[str, str]]:
    """All declarations of columns; of a name that occurs twice the first one counts."""
    measured = [spec.columns for spec in declared_statistics()]
    return [
        KEY_COLUMNS,
        *measured,
        GRADIENT_RATIO_COLUMNS,
        NETWORK_COLUMNS,
        PREDICTED_COLUMNS,
        SCORE_COLUMNS,
        DIAGNOSIS_COLUMNS,
    ]


def _section(spec: StatisticSpec) -> str:
    """Heading, summary and table of one statistic."""
    topic = spec.function.__module__.rpartition(".")[2]
    heading = f"### {spec.name.replace('_', ' ').capitalize()}"
    source = f"`statistics/{topic}.py`, function `{spec.name}`."
    text = _wrapped(f"{spec.summary} {source}")
    return f"{heading}\n\n{text}\n{_table(spec.columns)}"


def _wrapped(text: str) -> str:
    """A paragraph of at most 100 columns, with the line end that separates it from the next."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def _table(columns: Mapping[str, str]) -> str:
    rows = ["| column | meaning |", "| --- | --- |"]
    for pattern, meaning in columns.items():
        # A bar inside a table's cell is escaped in Markdown.
        rows.append(f"| `{pattern}` | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"
