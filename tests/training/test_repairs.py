"""Each repair does what it says, to the hidden layers of its own trial and to nothing else, with and without convolutions."""

from __future__ import annotations

import pytest
import torch

from harness.configuration.schema import validate
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


@pytest.fixture(scope="module")
def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(
        [torch.randn(300, *SHAPE, generator=generator) * 2 + 0.5],
        torch.randint(CLASSES, (300,), generator=generator),
        [0] * 3,
    )


def repaired(
    make_trial, samples: Samples, repair: str, **choices
) -> tuple[Pack, dict[str, torch.Tensor]]:
    """A pack of three trials, the middle one repaired, and the parameters before."""
    pack = Pack(
        [
            make_trial(
                seed,
                initializer="gaussian",
                **{"initializer.sigma_w2": 1.7, "initializer.sigma_b2": 0.1} | choices,
            )
            for seed in range(3)
        ],
        SHAPE,
        CLASSES,
        CPU,
    )
    before = {name: tensor.detach().clone() for name, tensor in pack.state.items()}
    repairs.apply(pack, ["none", repair, "none"], samples)
    return pack, before


def hidden(pack: Pack, kind: str) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach()
        for name, tensor in pack.state.items()
        if name.endswith(f"weights.{kind}")
    }


def rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(tensor.shape[0], -1)


@pytest.mark.parametrize("repair", ["center_rows", "rescale_tau", "zero_bias", "lsuv"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_repair_touches_its_own_trial_and_its_hidden_layers_only(
    make_trial, samples, architecture, repair
):
    pack, before = repaired(make_trial, samples, repair, **ARCHITECTURES[architecture])
    changed = {
        name
        for name, tensor in pack.state.items()
        if not torch.equal(tensor.detach()[1], before[name][1])
    }
    assert changed == {
        name
        for name in before
        if name.endswith("weights.bias" if repair == "zero_bias" else "weights.weight")
    }
    assert all(
        torch.equal(tensor.detach()[other], before[name][other])
        for name, tensor in pack.state.items()
        for other in (0, 2)
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_center_rows(make_trial, samples, architecture):
    pack, before = repaired(make_trial, samples, "center_rows", **ARCHITECTURES[architecture])
    for name, tensor in hidden(pack, "weight").items():
        mended, old = rows(tensor[1]), rows(before[name][1])
        assert mended.sum(1).abs().max() < 1e-5
        assert old.sum(1).abs().max() > 0.1
        assert torch.allclose(mended.square().sum(1), old.square().sum(1), rtol=1e-5)
        # Each row keeps the direction that it had among rows of sum 0.
        centred = old - old.mean(1, keepdim=True)
        assert torch.allclose(
            torch.nn.functional.cosine_similarity(mended, centred), torch.ones(len(old)), atol=1e-5
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rescale_tau(make_trial, samples, architecture):
    pack, before = repaired(make_trial, samples, "rescale_tau", **ARCHITECTURES[architecture])
    for name, tensor in hidden(pack, "weight").items():
        assert torch.allclose(
            rows(tensor[1]).square().sum(1), torch.ones(tensor.shape[1]), rtol=1e-5
        )
        assert torch.allclose(
            torch.nn.functional.cosine_similarity(rows(tensor[1]), rows(before[name][1])),
            torch.ones(tensor.shape[1]),
            atol=1e-5,
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zero_bias(make_trial, samples, architecture):
    pack, before = repaired(make_trial, samples, "zero_bias", **ARCHITECTURES[architecture])
    for name, tensor in hidden(pack, "bias").items():
        assert not tensor[1].any()
        assert before[name][1].any()


@pytest.mark.parametrize("bias", [0.0, 0.2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lsuv_gives_every_layer_unit_variance(make_trial, samples, architecture, bias):
    pack, before = repaired(
        make_trial, samples, "lsuv", **ARCHITECTURES[architecture] | {"initializer.sigma_b2": bias}
    )
    program, parameters, buffers = pack.part(1, 2)
    deviations = []

    def record(name, module, x, y, entry):
        if name.endswith("weights"):
            deviations.append(float(y.std()))

    with torch.no_grad():
        program(parameters, buffers, samples.of(1, 2), PROBE, record)
    assert deviations == pytest.approx([1.0] * len(deviations), abs=0.01)
    for name, tensor in hidden(pack, "weight").items():  # by one factor a layer
        ratio = tensor[1] / before[name][1]
        assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio), rtol=1e-3)


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_repairs_of_the_specification(make_config, make_trial, architecture):
    choices = ARCHITECTURES[architecture]
    config = make_config(**choices)
    mended = trained_as(Job(make_trial(5, repair="per_sample", **choices), config, None))
    assert mended.spec["preprocessing"]["name"] == "per_sample"
    assert mended.seed == 5
    assert {key: value for key, value in mended.spec["preprocessing"].items() if key != "name"} == {
        key: value
        for key, value in make_trial(5, **choices).spec["preprocessing"].items()
        if key != "name"
    }
    mended = trained_as(
        Job(make_trial(5, repair="neutral_dropout", dropout="standard", **choices), config, None)
    )
    assert mended.spec["dropout"] == {"name": "alpha", "rate": NEUTRAL_RATE}
    # Klambauer's alpha dropout at the rate at which 1 + alpha'^2 p = chi_1.
    assert pytest.approx(0.0231565837302467, abs=1e-15) == NEUTRAL_RATE
    assert (
        trained_as(Job(make_trial(5, **choices), config, None)).spec
        == make_trial(5, **choices).spec
    )


def test_repaired_and_not_are_two_trials_of_one_seed(make_trial):
    plain, mended = make_trial(3), make_trial(3, repair="center_rows")
    assert plain.trial_id != mended.trial_id
    assert plain.seed == mended.seed
    packs = [Pack([trial], (1, 8, 8), CLASSES, CPU) for trial in (plain, mended)]
    assert all(
        torch.equal(packs[0].state[name].detach(), tensor.detach())
        for name, tensor in packs[1].state.items()
    )


@pytest.mark.parametrize("repair", ["center_rows", "rescale_tau", "lsuv"])
def test_a_repair_that_standardised_weights_undo_is_refused(make_config, repair):
    with pytest.raises(
        RequestError, match=f"repair={repair}: normalization=weight_standardization"
    ):
        validate(make_config(repair=repair, normalization="weight_standardization"))


def test_weights_without_length_stay_as_they_are(make_trial, samples):
    for repair in ("center_rows", "rescale_tau", "lsuv"):
        pack = Pack(
            [
                make_trial(0, initializer="gaussian", **{"initializer.sigma_w2": 0.0})
                for _ in range(3)
            ],
            SHAPE,
            CLASSES,
            CPU,
        )
        repairs.apply(pack, ["none", repair, "none"], samples)
        assert all(torch.isfinite(tensor).all() for tensor in pack.state.values())


def test_rows_of_one_weight_cannot_be_centred(make_trial, samples):
    pack = Pack([make_trial(0, width=1, depth=2) for _ in range(3)], SHAPE, CLASSES, CPU)
    with pytest.raises(RequestError, match="repair=center_rows: .* fan-in 1"):
        repairs.apply(pack, ["none", "center_rows", "none"], samples)
