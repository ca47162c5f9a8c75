"""What is timed: a trial of a fixed shape, the packs it is tried in, and what one step of it costs in arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.configuration.composing import compose
from harness.configuration.trial import Trial
from harness.data.catalog import Facts
from harness.networks.layout import layer_sizes
from harness.sweeps.cells import Job, cell


@dataclass(frozen=True)
class Case:
    """A kind of trial. `overrides` are what a user would type; `packs` the pack sizes tried; `single_trials` how many trials one at a time make a reading."""

    name: str
    overrides: tuple[str, ...]
    packs: tuple[int, ...] = (4, 16, 64, 256)
    single_trials: int = 2
    extra: tuple[str, ...] = field(default=())

    def requests(self, trials: int, runs: str, *more: str) -> list[str]:
        """The overrides of one cell with so many seeds."""
        return [*self.overrides, *self.extra, f"seeds={trials}", f"runs={runs}", *more]

    def members(self, trials: int, runs: str, *more: str) -> tuple[list[Job], Facts]:
        """The cell's trials, as a sweep would train them."""
        one = cell(compose(self.requests(trials, runs, *more)))
        return one.jobs, one.info

    def shortened(self, epochs_or_steps: str, packs: tuple[int, ...]) -> Case:
        """The same with a smaller budget and fewer packs, for `--quick`."""
        return replace(
            self,
            name=f"{self.name} (here: {epochs_or_steps})",
            extra=(*self.extra, *epochs_or_steps.split()),
            packs=packs,
            single_trials=1,
        )


# The two shapes that the project's targets speak of. Both log everything, at the default cadence: 10 evaluations, 5 probes.
DIGITS = Case(
    "digits, MLP 8 x 64, batch 64, 30 epochs",
    ("dataset=digits", "depth=8", "width=64", "budget.batch_size=64", "budget.epochs=30"),
    single_trials=4,
)
MNIST_SHAPED = Case(
    "MNIST-shaped, MLP 8 x 256, batch 128, 600 steps",
    (
        "dataset=gaussian",
        "dataset.shape=[1,28,28]",
        "dataset.samples=10000",
        "depth=8",
        "width=256",
        "budget.batch_size=128",
        "budget.epochs=null",
        "budget.steps=600",
    ),
    packs=(4, 8, 16),
    single_trials=1,
)
# On a GPU a trial of 600 steps is over before a pack has been drawn.
MNIST_SHAPED_GPU = replace(
    MNIST_SHAPED,
    name="MNIST-shaped, MLP 8 x 256, batch 128, 2,000 steps",
    extra=("budget.steps=2000",),
    packs=(1, 4, 16, 64, 128, 256),
    single_trials=1,
)


def chosen(device: str, quick: bool) -> list[Case]:
    """The cases for a device; `quick` ones show the shape of the answer in a minute or two."""
    cases = [DIGITS, MNIST_SHAPED if device == "cpu" else MNIST_SHAPED_GPU]
    if not quick:
        return cases
    return [
        cases[0].shortened("budget.epochs=6", (4, 16)),
        cases[1].shortened("budget.steps=20", (4,)),
    ]


def step_flops(trial: Trial, facts: Facts) -> int:
    """Floating-point operations of the matrix products in one training step of one trial.

    Forward, gradient of the weights and gradient of the inputs each take 2 x batch x fan_in x units; nobody needs the
    gradient of the first layer's inputs.
    """
    sizes = layer_sizes(trial.spec, facts.shape, facts.classes)
    products = [size.fan_in * size.units * size.height * size.width for size in sizes]
    batch = min(trial.spec["budget"]["batch_size"], facts.training_samples)
    return 2 * batch * (3 * sum(products) - products[0])
