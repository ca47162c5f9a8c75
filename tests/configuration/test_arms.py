"""Arms name choices that belong together, and presets sweep them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.configuration.composing import compose
from harness.configuration.schema import known_names
from harness.store.trials import Store
from harness.sweeps.cells import cell

ROOT = Path(__file__).resolve().parents[2]
ARMS = {
    "self_normalizing": ["activation=selu", "initializer=lecun_normal", "normalization=none"],
    "relu": ["activation=relu", "initializer=he_normal", "normalization=none"],
    "batch_norm": ["activation=relu", "initializer=he_normal", "normalization=batch"],
    "layer_norm": ["activation=relu", "initializer=he_normal", "normalization=layer"],
}


def test_every_arm_is_known_here():
    assert set(known_names("arm")) == set(ARMS)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_its_choices(arm):
    named, spelled = (cell(compose(["depth=3", *words])) for words in ([f"arm={arm}"], ARMS[arm]))
    assert [member.trial.trial_id for member in named.jobs] == [
        member.trial.trial_id for member in spelled.jobs
    ]
    assert (
        compose([f"arm={arm}", "activation=gelu"]).activation.name == "gelu"
    )  # the command line has the last word


def test_the_papers_first_figure_is_six_curves(tmp_path):
    # The preset as it is, but for its size.
    small = [
        "dataset=digits",
        "width=8",
        "budget.epochs=null",
        "budget.steps=2",
        "budget.evaluations=1",
        "tracking=none",
        f"runs={tmp_path}",
    ]
    subprocess.run(
        [sys.executable, "-m", "harness.train", "--multirun", "experiment=figure_1", *small],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    records = list(Store(tmp_path).records())
    curves = {
        (
            record.axes["activation"],
            record.axes["initializer"],
            record.axes["normalization"],
            record.axes["depth"],
        )
        for record in records
    }
    arms = (("selu", "lecun_normal", "none"), ("relu", "he_normal", "batch"))
    assert len(records) == 6
    assert curves == {(*arm, depth) for arm in arms for depth in (8, 16, 32)}
    asked = compose(["experiment=figure_1"])
    assert (
        asked.dataset.name,
        asked.width,
        asked.budget.epochs,
        asked.budget.batch_size,
        asked.optimizer.learning_rate,
    ) == ("mnist", "input", 2000, 64, 1e-5)
