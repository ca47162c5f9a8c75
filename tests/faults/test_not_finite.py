"""One trial's weights, data or loss become NaN: it diverges, and no number of another changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas
import pytest
import torch

from harness.store.tables import Tables, collect
from harness.store.trials import Store
from harness.sweeps import runner, sweep
from harness.training import stepper
from tests.faults.endurance import CIRCUMSTANCES

# Three trials of one pack, each with a preprocessing, so with images, of its own.
PREPROCESSINGS = ("global", "per_pixel", "per_sample")
POISONED = "per_pixel"
TINY = {
    "depth": 3,
    "width": 8,
    "budget.epochs": None,
    "budget.steps": 12,
    "budget.evaluations": 4,
    "budget.probes": 3,
    "probe.samples": 32,
    "seeds": [3],
}
BAD_STEP = 5


def poison_weights(patch: pytest.MonkeyPatch) -> None:
    """A weight of one trial is NaN before update number `BAD_STEP`."""
    ordinary = stepper.Stepper._update

    def update(self):
        if int(self.pack.step[0]) == BAD_STEP - 1:
            weights = next(iter(self.pack.state.values()))
            with torch.no_grad():
                weights[(_index(self.pack), *[0] * (weights.dim() - 1))] = torch.nan
        ordinary(self)

    patch.setattr(stepper.Stepper, "_update", update)


def poison_loss(patch: pytest.MonkeyPatch) -> None:
    """The loss of one trial is NaN from update number `BAD_STEP` on."""
    ordinary = stepper.trial_losses
    updates = []

    def losses(logits, labels):
        updates.append(len(updates))
        loss = ordinary(logits, labels)
        added = torch.zeros_like(loss)
        if len(updates) >= BAD_STEP:
            added[PREPROCESSINGS.index(POISONED)] = torch.nan
        return loss + added

    patch.setattr(stepper, "trial_losses", losses)


def poison_data(patch: pytest.MonkeyPatch) -> None:
    """All training images of one trial are NaN."""
    ordinary = runner.pack_data

    def data(prepared, *rest):
        index = PREPROCESSINGS.index(POISONED)
        training = prepared[index].training
        nan = torch.full_like(training.images, torch.nan)
        poisoned = dataclasses.replace(
            prepared[index], training=dataclasses.replace(training, images=nan)
        )
        return ordinary([*prepared[:index], poisoned, *prepared[index + 1 :]], *rest)

    patch.setattr(runner, "pack_data", data)


POISONS = {"weights": (poison_weights, BAD_STEP), "loss": (poison_loss, BAD_STEP)}
POISONS["data"] = (poison_data, 1)


def _index(pack) -> int:
    (index,) = (
        index
        for index, trial in enumerate(pack.trials)
        if trial.spec["preprocessing"]["name"] == POISONED
    )
    return index


def trained(make_config, runs: Path, program: str) -> Tables:
    configs = [make_config(**TINY, preprocessing=name, runs=str(runs)) for name in PREPROCESSINGS]
    sweep.prefetch(configs, pack=3, workers=1, program=program)
    return collect(Store(runs))


@pytest.mark.parametrize("program", ["batched", "stacked"])
@pytest.mark.parametrize("poison", POISONS)
def test_nan_in_one_trial_changes_no_bit_of_another(make_config, tmp_path, program, poison):
    act, step = POISONS[poison]
    expected = trained(make_config, tmp_path / "undisturbed", program)
    with pytest.MonkeyPatch.context() as patch:
        act(patch)
        tables = trained(make_config, tmp_path / "disturbed", program)
    assert set(tables.trials["pack_size"]) == {3}
    bad = tables.trials[tables.trials["preprocessing"] == POISONED].iloc[0]
    assert bad["status"] == "diverged"
    assert bad["diverged_step"] == step
    for name in ("trials", "curves", "layers"):
        parts = []
        for table in (getattr(expected, name), getattr(tables, name)):
            others = table[table["trial_id"] != bad["trial_id"]].reset_index(drop=True)
            parts.append(others.drop(columns=CIRCUMSTANCES, errors="ignore"))
        # A column that only the diverged trial had a number for may be of another type.
        pandas.testing.assert_frame_equal(*parts, check_exact=True, check_dtype=False)
