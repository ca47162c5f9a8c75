"""Every initializer's variance through real rectangular weights, and what each promises beyond it."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn

from harness.configuration.schema import known_names
from harness.networks.initializers import (
    TRUNCATED_VARIANCE,
    draw_bias,
    draw_weight,
    fans,
    initializers,
)

# Variance of a weight as a multiple of 1 / fan_in, or a function of the fans where it is none.
# He: He et al. 2015, eq. 10; Xavier: Glorot and Bengio 2010, eq. 12; LeCun: LeCun et al. 1998, section 4.6.
VARIANCES = {
    "lecun_normal": lambda i, o: 1 / i,
    "lecun_uniform": lambda i, o: 1 / i,
    "lecun_truncated": lambda i, o: 1 / i,
    "lecun_truncated_raw": lambda i, o: TRUNCATED_VARIANCE / i,
    "lecun_exact": lambda i, o: 1 / i,
    "he_normal": lambda i, o: 2 / i,
    "he_uniform": lambda i, o: 2 / i,
    "xavier_normal": lambda i, o: 2 / (i + o),
    "xavier_uniform": lambda i, o: 2 / (i + o),
    "pytorch_default": lambda i, o: 1 / (3 * i),
    "gaussian": lambda i, o: 1.7 / i,
    "orthogonal": lambda i, o: 1 / i,
}
SHAPES = {
    "wide": nn.Linear(300, 700),
    "narrow": nn.Linear(700, 300),
    "convolution": nn.Conv2d(48, 96, 5),
    "grouped": nn.Conv2d(96, 192, 3, groups=2),
}


def draw(name: str, module: nn.Module, seed: int = 0) -> torch.Tensor:
    weight = torch.empty_like(module.weight)
    draw_weight(
        weight,
        {"name": name, "sigma_w2": 1.7},
        torch.Generator().manual_seed(seed),
        getattr(module, "groups", 1),
    )
    return weight


def test_conf_and_registry_name_the_same_initializers():
    assert known_names("initializer") == initializers.names() == sorted(VARIANCES)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", VARIANCES)
def test_variance(name, shape):
    module = SHAPES[shape]
    weight = draw(name, module)
    fan = fans(weight, getattr(module, "groups", 1))
    expected = VARIANCES[name](fan.fan_in, fan.fan_out)
    # The variance of a sample variance is at most 2 sigma^4 / n for these laws (normal; less for the others): six deviations.
    assert float(weight.var()) == pytest.approx(expected, rel=6 * (2 / weight.numel()) ** 0.5)
    assert abs(float(weight.mean())) < 6 * (expected / weight.numel()) ** 0.5


def test_fans_agree_with_torch():
    for module in (SHAPES["wide"], SHAPES["convolution"]):
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
        assert (fans(module.weight).fan_in, fans(module.weight).fan_out) == (fan_in, fan_out)


def test_pytorch_default_is_torchs_own():
    # Linear.reset_parameters draws from U(-1/sqrt(fan_in), 1/sqrt(fan_in)): same law, so a two-sample test must not tell them apart.
    module = SHAPES["wide"]
    assert (
        stats.ks_2samp(
            draw("pytorch_default", module).flatten(), module.weight.detach().flatten()
        ).pvalue
        > 1e-4
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_rows_have_sum_zero_and_sum_of_squares_one(shape):
    rows = draw("lecun_exact", SHAPES[shape]).flatten(1).double()
    torch.testing.assert_close(
        rows.sum(1), torch.zeros(len(rows), dtype=torch.float64), atol=2e-6, rtol=0
    )
    torch.testing.assert_close(
        rows.square().sum(1), torch.ones(len(rows), dtype=torch.float64), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("shape", ["wide", "narrow"])
def test_orthogonal_is_orthonormal_up_to_scale(shape):
    weight = draw("orthogonal", SHAPES[shape]).double()
    product = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    torch.testing.assert_close(
        product / product[0, 0], torch.eye(len(product), dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_truncation_is_at_two_deviations_of_the_untruncated_normal():
    fan_in = SHAPES["wide"].in_features
    assert float(draw("lecun_truncated_raw", SHAPES["wide"]).abs().max()) <= 2 / fan_in**0.5
    assert (
        float(draw("lecun_truncated", SHAPES["wide"]).abs().max())
        <= 2 / (fan_in * TRUNCATED_VARIANCE) ** 0.5
    )
    assert pytest.approx(stats.truncnorm(-2, 2).var(), abs=1e-14) == TRUNCATED_VARIANCE


def test_arms_of_one_seed_share_their_normal_numbers():
    torch.testing.assert_close(
        draw("he_normal", SHAPES["wide"]), 2**0.5 * draw("lecun_normal", SHAPES["wide"])
    )


def test_bias_is_zero_unless_asked():
    bias = torch.empty(20_000)
    draw_bias(bias, 300, {"name": "lecun_normal"}, torch.Generator().manual_seed(0))
    assert not bias.any()
    draw_bias(
        bias,
        300,
        {"name": "gaussian", "sigma_w2": 1.0, "sigma_b2": 0.25},
        torch.Generator().manual_seed(0),
    )
    assert float(bias.var()) == pytest.approx(0.25, rel=0.06)
    draw_bias(
        bias, 300, {"name": "pytorch_default", "bias": "uniform"}, torch.Generator().manual_seed(0)
    )
    assert float(bias.abs().max()) <= 300**-0.5
    assert float(bias.var()) == pytest.approx(1 / 900, rel=0.06)
