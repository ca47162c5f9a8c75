"""A repair does what it says to the hidden layers of its own trial, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from harness.configuration.validation import REPAIRS, validate
from harness.errors import RequestError
from harness.networks.dropouts import NEUTRAL_RATE
from harness.sweeps.cells import Job
from harness.sweeps.runner import trained_as
from harness.training import repairs
from harness.training.events import Samples
from harness.training.packs import Pack
from harness.training.programs import PROBE

CPU = torch.device("cpu")
SHAPE, CLASSES = (2, 8, 8), 10
ARCHITECTURES = {
    "mlp": {"architecture": "mlp", "depth": 3, "width": 12},
    "rectangular mlp": {"architecture": "mlp", "depth": 2, "width": 200},
    "cnn": {"architecture": "cnn", "depth": 3, "width": 6},
    "pooled cnn": {"architecture": "cnn", "depth": 3, "width": 6, "architecture.pool": "average"},
    "normalised mlp": {"architecture": "mlp", "depth": 3, "width": 12, "normalization": "batch"},
}
# Weights and biases on which every repair has something to do.
GAUSSIAN = {
    "initializer": "gaussian",
    "initializer.sigma_w2": 1.7,
    "initializer.sigma_b2": 0.1,
}


@pytest.fixture(scope="module")
def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(300, *SHAPE, generator=generator) * 2 + 0.5
    labels = torch.randint(CLASSES, (300,), generator=generator)
    return Samples([pixels], labels, [0] * 3)


@pytest.fixture
def make_repaired(make_trial, samples):
    """Packs of three trials whose middle one is repaired: `make_repaired("lsuv", depth=2)`.

    Returns the pack, and the parameters before the repair.
    """

    def make(repair: str, **settings) -> tuple[Pack, dict[str, torch.Tensor]]:
        trials = [make_trial(seed, **GAUSSIAN | settings) for seed in range(3)]
        pack = Pack(trials, SHAPE, CLASSES, CPU)
        before = {name: tensor.detach().clone() for name, tensor in pack.state.items()}
        repairs.apply(pack, ["none", repair, "none"], samples)
        return pack, before

    return make


def hidden_rows(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The middle trial's weights of every hidden layer, (units, fan_in)."""
    return {
        name: tensor.detach()[1].flatten(1)
        for name, tensor in tensors.items()
        if name.endswith("weights.weight")
    }


def test_every_repair_of_the_configuration_is_registered():
    assert sorted(REPAIRS) == repairs.repairs.names()


@pytest.mark.parametrize("repair", ["center_rows", "rescale_tau", "zero_bias", "lsuv"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_repair_changes_only_its_own_trial_and_its_hidden_layers(
    make_repaired, architecture, repair
):
    pack, before = make_repaired(repair, **ARCHITECTURES[architecture])
    ending = "weights.bias" if repair == "zero_bias" else "weights.weight"
    for name, tensor in pack.state.items():
        first, middle, last = tensor.detach()
        first_before, middle_before, last_before = before[name]
        assert torch.equal(first, first_before), name
        assert torch.equal(last, last_before), name
        assert torch.equal(middle, middle_before) != name.endswith(ending), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_center_rows_makes_omega_zero_and_keeps_tau(make_repaired, architecture):
    pack, before = make_repaired("center_rows", **ARCHITECTURES[architecture])
    rows_before = hidden_rows(before)
    for name, rows in hidden_rows(pack.state).items():
        old = rows_before[name]
        assert rows.sum(1).abs().max() < 1e-5
        assert old.sum(1).abs().max() > 0.1
        assert torch.allclose(rows.square().sum(1), old.square().sum(1), rtol=1e-5)
        # Each row keeps the direction that it had among rows of sum 0.
        centred = old - old.mean(1, keepdim=True)
        cosine = functional.cosine_similarity(rows, centred)
        assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rescale_tau_makes_tau_one_and_keeps_directions(make_repaired, architecture):
    pack, before = make_repaired("rescale_tau", **ARCHITECTURES[architecture])
    rows_before = hidden_rows(before)
    for name, rows in hidden_rows(pack.state).items():
        tau = rows.square().sum(1)
        assert torch.allclose(tau, torch.ones_like(tau), rtol=1e-5)
        cosine = functional.cosine_similarity(rows, rows_before[name])
        assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zero_bias_sets_hidden_biases_to_zero(make_repaired, architecture):
    pack, before = make_repaired("zero_bias", **ARCHITECTURES[architecture])
    names = [name for name in pack.state if name.endswith("weights.bias")]
    assert len(names) == ARCHITECTURES[architecture]["depth"]
    for name in names:
        assert not pack.state[name].detach()[1].any()
        assert before[name][1].any()


@pytest.mark.parametrize("bias", [0.0, 0.2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lsuv_gives_every_layer_unit_variance(make_repaired, samples, architecture, bias):
    settings = ARCHITECTURES[architecture] | {"initializer.sigma_b2": bias}
    pack, before = make_repaired("lsuv", **settings)
    program, parameters, buffers = pack.part(1, 2)
    deviations = []

    def record(name, module, x, y, entry):
        if name.endswith("weights"):
            deviations.append(float(y.std()))

    with torch.no_grad():
        program(parameters, buffers, samples.images_of(1, 2), PROBE, record)
    assert deviations == pytest.approx([1.0] * settings["depth"], abs=0.01)
    # All weights of a layer are scaled by one factor.
    rows_before = hidden_rows(before)
    for name, rows in hidden_rows(pack.state).items():
        factors = rows / rows_before[name]
        assert torch.allclose(factors, factors[0, 0].expand_as(factors), rtol=1e-3)


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_per_sample_changes_the_name_of_the_preprocessing_only(
    make_config, make_trial, architecture
):
    settings = ARCHITECTURES[architecture]
    config = make_config(**settings)
    plain = make_trial(5, **settings)
    repaired = trained_as(Job(make_trial(5, repair="per_sample", **settings), config, None))
    expected = plain.spec["preprocessing"] | {"name": "per_sample"}
    assert repaired.spec["preprocessing"] == expected
    assert repaired.seed == 5
    assert trained_as(Job(plain, config, None)).spec == plain.spec


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_neutral_dropout_is_alpha_dropout_at_the_neutral_rate(
    make_config, make_trial, architecture
):
    settings = ARCHITECTURES[architecture]
    trial = make_trial(5, repair="neutral_dropout", dropout="standard", **settings)
    repaired = trained_as(Job(trial, make_config(**settings), None))
    assert repaired.spec["dropout"] == {"name": "alpha", "rate": NEUTRAL_RATE}
    # The rate at which 1 + alpha'^2 p = chi_1 (Klambauer et al. 2017, alpha dropout).
    assert pytest.approx(0.0231565837302467, abs=1e-15) == NEUTRAL_RATE


def test_repaired_and_unrepaired_are_two_trials_with_the_same_draws(make_trial):
    plain, repaired = make_trial(3), make_trial(3, repair="center_rows")
    assert plain.trial_id != repaired.trial_id
    assert plain.seed == repaired.seed
    plain_pack = Pack([plain], (1, 8, 8), CLASSES, CPU)
    repaired_pack = Pack([repaired], (1, 8, 8), CLASSES, CPU)
    for name, tensor in repaired_pack.state.items():
        assert torch.equal(tensor, plain_pack.state[name]), name


@pytest.mark.parametrize("repair", ["center_rows", "rescale_tau", "lsuv"])
@pytest.mark.parametrize("form", ["weight_standardization", "weight_norm", "spectral_norm"])
def test_repair_that_a_form_of_weights_undoes_is_refused(make_config, repair, form):
    with pytest.raises(RequestError, match=f"repair={repair}: normalization={form}"):
        validate(make_config(repair=repair, normalization=form))


@pytest.mark.parametrize("repair", ["center_rows", "rescale_tau", "lsuv"])
def test_weights_without_length_stay_finite(make_repaired, repair):
    pack, _ = make_repaired(repair, **{"initializer.sigma_w2": 0.0})
    for name, tensor in pack.state.items():
        assert torch.isfinite(tensor).all(), name


def test_rows_of_one_weight_cannot_be_centred(make_trial, samples):
    pack = Pack([make_trial(0, width=1, depth=2) for _ in range(3)], SHAPE, CLASSES, CPU)
    with pytest.raises(RequestError, match="repair=center_rows: .* fan-in 1"):
        repairs.apply(pack, ["none", "center_rows", "none"], samples)
