"""Cases: kinds of trials that are timed, and the pack sizes in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.configuration.composing import compose
from harness.configuration.trial import Trial
from harness.data.catalog import DatasetInfo
from harness.networks.layout import layer_sizes
from harness.sweeps.cells import Job, cell


@dataclass(frozen=True)
class Case:
    """A kind of trial.

    Attributes:
        name: the case in words.
        overrides: what a user would type.
        packs: the pack sizes that are tried.
        single_trials: the trials, one at a time, that make one reading.
        extra: further overrides, which replace those of the same name.
    """

    name: str
    overrides: tuple[str, ...]
    packs: tuple[int, ...] = (4, 16, 64, 256)
    single_trials: int = 2
    extra: tuple[str, ...] = field(default=())

    def requests(self, trials: int, runs: str, *more: str) -> list[str]:
        """Returns the overrides of one cell with so many seeds.

        Args:
            trials: the number of seeds.
            runs: the folder of the results.
            more: further overrides.
        """
        return [*self.overrides, *self.extra, f"seeds={trials}", f"runs={runs}", *more]

    def jobs(self, trials: int, runs: str, *more: str) -> tuple[list[Job], DatasetInfo]:
        """Returns the cell's trials, as a sweep would train them, and what is known of the data."""
        request = cell(compose(self.requests(trials, runs, *more)))
        return request.jobs, request.info

    def shortened(self, budget: str, packs: tuple[int, ...]) -> Case:
        """Returns the case with a smaller budget and fewer packs.

        Args:
            budget: overrides, separated by spaces.
            packs: the pack sizes that are tried.
        """
        return replace(
            self,
            name=f"{self.name} (here: {budget})",
            extra=(*self.extra, *budget.split()),
            packs=packs,
            single_trials=1,
        )


# The two shapes that the project's targets speak of. Both log everything at the default cadence:
# 10 evaluations and 5 probes.
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
# On a GPU 600 steps are over before the weights of a pack have been drawn.
MNIST_SHAPED_GPU = replace(
    MNIST_SHAPED,
    name="MNIST-shaped, MLP 8 x 256, batch 128, 2,000 steps",
    extra=("budget.steps=2000",),
    packs=(1, 4, 16, 64, 128, 256),
    single_trials=1,
)


def cases_for(device: str, quick: bool) -> list[Case]:
    """Returns the cases for a type of device.

    Args:
        device: `cpu` or `cuda`.
        quick: shortens them, so that the shape of the answer is there in a minute or two.
    """
    mnist_shaped = MNIST_SHAPED if device == "cpu" else MNIST_SHAPED_GPU
    if not quick:
        return [DIGITS, mnist_shaped]
    return [
        DIGITS.shortened("budget.epochs=6", (4, 16)),
        mnist_shaped.shortened("budget.steps=20", (4,)),
    ]


def step_flops(trial: Trial, info: DatasetInfo) -> int:
    """Returns the floating-point operations of one training step of one trial.

    Only matrix products count. The forward pass, the gradient of the weights and the gradient of
    the inputs each take 2 x batch x fan_in x units; the first layer needs no gradient of its
    inputs.
    """
    sizes = layer_sizes(trial.spec, info.shape, info.classes)
    products = [size.fan_in * size.units * size.height * size.width for size in sizes]
    batch = min(trial.spec["budget"]["batch_size"], info.training_samples)
    return 2 * batch * (3 * sum(products) - products[0])
