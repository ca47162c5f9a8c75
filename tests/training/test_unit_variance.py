"""Layer-sequential unit variance as an initializer: on the first batch, the same in any pack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.configuration.validation import validate
from harness.errors import RequestError
from harness.networks.layout import check_layout, describe
from harness.networks.trial_prediction import predict
from harness.theory.networks.description import Normalization
from harness.theory.networks.predictions import Inputs
from harness.training.feeds import feed
from harness.training.packs import Pack
from harness.training.programs import PROBE
from harness.training.schedules import plan
from harness.training.unit_variance import initialize_on_first_batch

CPU = torch.device("cpu")
SHAPE, CLASSES, TRAINING_SAMPLES = (1, 8, 8), 10, 130
NETWORKS = {
    "mlp": {"depth": 4, "width": 12},
    "relu": {"depth": 4, "width": 12, "activation": "relu"},
    "cnn": {"architecture": "cnn", "depth": 3, "width": 4},
    "batch": {"depth": 3, "width": 12, "normalization": "batch"},
}


@pytest.fixture
def make_pack(make_data, make_trial):
    """Makes a pack of trials with the initializer lsuv, scaled on their first batches."""

    def make(seeds, others=(), residency="auto", **changes):
        trials = [make_trial(seed=seed, initializer="lsuv", **changes) for seed in seeds]
        trials += [make_trial(seed=seed, **changes) for seed in others]
        pack = Pack(trials, SHAPE, CLASSES, CPU)
        source = make_data([TRAINING_SAMPLES] * len(trials), residency=residency).source
        schedule = plan(trials[0].spec, TRAINING_SAMPLES)
        initialize_on_first_batch(pack, source, schedule)
        return pack, feed(source, [trial.seed for trial in pack.trials], schedule)

    return make


@pytest.mark.parametrize("network", NETWORKS)
def test_every_hidden_layer_has_unit_variance_on_the_first_batch(make_pack, network):
    settings = NETWORKS[network]
    pack, batches = make_pack([3, 5], **settings)
    batches.prepare(0)
    images, _ = batches.take()
    deviations = []

    def record(name, module, x, y, entry):
        if name.endswith("weights"):
            deviations.append([float(own.std()) for own in y])

    with torch.no_grad():
        pack.program(pack.state, pack.buffers, images, PROBE, record)
    assert torch.tensor(deviations) == pytest.approx(torch.ones(settings["depth"], 2), abs=0.003)


@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_weights_do_not_depend_on_companions(make_pack, residency):
    together, _ = make_pack([3, 5, 7], others=[5], **NETWORKS["mlp"])
    alone, _ = make_pack([5], residency=residency, **NETWORKS["mlp"])
    (index,) = (
        index
        for index, trial in enumerate(together.trials)
        if trial.trial_id == alone.trials[0].trial_id
    )
    for name, tensor in alone.state.items():
        assert torch.equal(together.state[name][index], tensor[0]), name


def test_other_initializers_keep_what_was_drawn(make_pack, make_trial):
    pack, _ = make_pack([3], others=[4], depth=2, width=8)
    drawn = Pack([make_trial(seed=4, depth=2, width=8)], SHAPE, CLASSES, CPU)
    index = [trial.seed for trial in pack.trials].index(4)
    for name, tensor in drawn.state.items():
        assert torch.equal(pack.state[name][index], tensor[0]), name


def test_theory_knows_that_the_factor_comes_from_one_batch(make_trial):
    trial = make_trial(initializer="lsuv", depth=2, **{"budget.batch_size": 32})
    normalizations = [
        layer for layer in describe(trial.spec, SHAPE, CLASSES) if isinstance(layer, Normalization)
    ]
    assert normalizations == [Normalization("pooled", 0.0, 32.0)] * 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"repair": "rescale_tau"}, "repair=rescale_tau: initializer=lsuv scales the same weights"),
        ({"normalization": "weight_norm"}, "initializer=lsuv: normalization=weight_norm"),
        ({"normalization": "spectral_norm"}, "initializer=lsuv: normalization=spectral_norm"),
    ],
)
def test_what_would_undo_the_scale_is_refused(make_config, changes, message):
    with pytest.raises(RequestError, match=message):
        validate(make_config(initializer="lsuv", **changes))


def test_the_readout_alone_cannot_have_unit_variance(make_config):
    with pytest.raises(RequestError, match="readout.initializer=lsuv: expected one of"):
        validate(make_config(**{"readout.initializer": "lsuv"}))


def test_branches_that_begin_at_zero_cannot_have_unit_variance(make_trial):
    changes = {"architecture": "resnet", "architecture.residual": "fixup", "initializer": "lsuv"}
    with pytest.raises(RequestError, match="residual=fixup with initializer=lsuv"):
        check_layout(make_trial(**changes).spec, SHAPE, CLASSES)


def test_theory_predicts_what_is_scaled_on_data(make_trial):
    trial = make_trial(initializer="lsuv", depth=3, width=16)
    generator = np.random.default_rng(0)
    inputs = Inputs(generator.standard_normal((16, *SHAPE)))
    rows = predict(trial.spec, SHAPE, CLASSES, inputs, 256).layers
    assert [row.values["q"].value for row in rows] == pytest.approx([1.0] * 3, rel=0.01)
    assert all(row.values["q"].low < 1 < row.values["q"].high for row in rows)
