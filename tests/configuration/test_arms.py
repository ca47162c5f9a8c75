"""Arms name choices that belong together, and presets sweep them."""

from __future__ import annotations

import pytest

from harness.configuration.composing import compose
from harness.configuration.options import known_names
from harness.configuration.trial import trials
from harness.store.trials import Store
from tests.in_process import train

ARMS = {
    "self_normalizing": ["activation=selu", "initializer=lecun_normal", "normalization=none"],
    "relu": ["activation=relu", "initializer=he_normal", "normalization=none"],
    "batch_norm": ["activation=relu", "initializer=he_normal", "normalization=batch"],
    "layer_norm": ["activation=relu", "initializer=he_normal", "normalization=layer"],
}


def trial_ids(*overrides: str) -> list[str]:
    return [trial.trial_id for trial in trials(compose(["depth=3", *overrides]))]


def test_every_arm_in_conf_is_tested():
    assert set(known_names("arm")) == set(ARMS)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_its_three_choices(arm):
    assert trial_ids(f"arm={arm}") == trial_ids(*ARMS[arm])


@pytest.mark.parametrize("arm", ARMS)
def test_a_choice_overrides_that_of_an_arm(arm):
    assert compose([f"arm={arm}", "activation=gelu"]).activation.name == "gelu"


def test_figure_1_has_the_settings_of_the_paper():
    request = compose(["experiment=figure_1"])
    assert (request.dataset.name, request.width) == ("mnist", "input")
    assert (request.budget.epochs, request.budget.batch_size) == (2000, 64)
    assert request.optimizer.learning_rate == 1e-5


def test_figure_1_is_a_sweep_of_six_curves(tmp_path):
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
    answer = train("--multirun", "experiment=figure_1", *small)
    assert answer.returncode == 0, answer.stderr
    records = list(Store(tmp_path).records())
    names = ("activation", "initializer", "normalization", "depth")
    curves = {tuple(record.axes[name] for name in names) for record in records}
    expected = {("selu", "lecun_normal", "none", depth) for depth in (8, 16, 32)}
    expected |= {("relu", "he_normal", "batch", depth) for depth in (8, 16, 32)}
    assert len(records) == 6
    assert curves == expected
