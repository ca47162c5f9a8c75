"""Every initializer draws real rectangular weights with the moments that it promises."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from harness.configuration.options import known_names
from harness.configuration.trial import canonical
from harness.errors import RequestError
from harness.networks.initialization import draw_weight, drawn_bias, fans
from harness.networks.initializers import TRUNCATED_VARIANCE, initializers
from harness.networks.layout import check_layout

# The variance of a weight as a function of fan-in and fan-out.
# He: He et al. 2015, equation 10; Xavier: Glorot and Bengio 2010, equation 12; LeCun: LeCun et al.
# 1998, section 4.6.
VARIANCES = {
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_truncated": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_truncated_raw": lambda fan_in, fan_out: TRUNCATED_VARIANCE / fan_in,
    "lecun_exact": lambda fan_in, fan_out: 1 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "xavier_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "pytorch_default": lambda fan_in, fan_out: 1 / (3 * fan_in),
    "torch_selu_gain": lambda fan_in, fan_out: (3 / 4) ** 2 / fan_in,
    "gaussian": lambda fan_in, fan_out: 1.7 / fan_in,
    "delta_orthogonal": lambda fan_in, fan_out: 1 / fan_in,
    "edge_of_chaos": lambda fan_in, fan_out: 1.7 / fan_in,
    "heavy_tailed": lambda fan_in, fan_out: 1 / fan_in,
    "mean_shifted": lambda fan_in, fan_out: 1 / fan_in - (0.5 / fan_in) ** 2,
    "orthogonal": lambda fan_in, fan_out: 1 / fan_in,
    "lsuv": lambda fan_in, fan_out: 1 / fan_in,  # before it is scaled on data
}
OPTIONS = {"sigma_w2": 1.7, "degrees": 9, "omega": 0.5}
LAYERS = {
    "wide": nn.Linear(300, 700),
    "narrow": nn.Linear(700, 300),
    "convolution": nn.Conv2d(48, 96, 5),
    "grouped": nn.Conv2d(96, 192, 3, groups=2),
}


def draw(name: str, module: nn.Module, seed: int = 0) -> torch.Tensor:
    weight = torch.empty_like(module.weight)
    generator = torch.Generator().manual_seed(seed)
    draw_weight(weight, {"name": name} | OPTIONS, generator, getattr(module, "groups", 1))
    return weight


def test_every_initializer_in_conf_is_declared_and_tested():
    assert known_names("initializer") == initializers.names()
    assert initializers.names() == sorted(VARIANCES)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", VARIANCES)
def test_drawn_weights_have_the_published_variance(name, layer):
    module = LAYERS[layer]
    weight = draw(name, module)
    fan = fans(weight, getattr(module, "groups", 1))
    expected = VARIANCES[name](fan.fan_in, fan.fan_out)
    # A sample variance has variance (kurtosis - 1) sigma^4 / n, and a kurtosis is 4.2 at most here.
    assert float(weight.var()) == pytest.approx(expected, rel=6 * (3.2 / weight.numel()) ** 0.5)
    mean = 0.5 / fan.fan_in if name == "mean_shifted" else 0.0
    assert abs(float(weight.mean()) - mean) < 6 * (expected / weight.numel()) ** 0.5


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", VARIANCES)
def test_the_law_promises_the_variance_that_is_published(name, layer):
    module = LAYERS[layer]
    fan = fans(module.weight, getattr(module, "groups", 1))
    promised = initializers[name].sigma_w2(fan, OPTIONS)
    published = fan.fan_in * VARIANCES[name](fan.fan_in, fan.fan_out)
    if name == "mean_shifted":
        published += 0.5**2 / fan.fan_in  # sigma_w2 is the expected sum of squares
    assert promised == pytest.approx(published, rel=1e-14)


@pytest.mark.parametrize("layer", ["wide", "convolution"])
def test_fans_agree_with_torch(layer):
    weight = LAYERS[layer].weight
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    assert (fans(weight).fan_in, fans(weight).fan_out) == (fan_in, fan_out)


def test_pytorch_default_draws_from_the_law_of_torch():
    # A two-sample test must not tell the draw from that of `Linear.reset_parameters`.
    module = LAYERS["wide"]
    weight = draw("pytorch_default", module).flatten()
    assert stats.ks_2samp(weight, module.weight.detach().flatten()).pvalue > 1e-4


@pytest.mark.parametrize("layer", LAYERS)
def test_exact_weights_of_a_unit_have_sum_zero_and_sum_of_squares_one(layer):
    rows = draw("lecun_exact", LAYERS[layer]).flatten(1).double()
    zeros = torch.zeros(len(rows), dtype=torch.float64)
    torch.testing.assert_close(rows.sum(1), zeros, atol=2e-6, rtol=0)
    torch.testing.assert_close(rows.square().sum(1), zeros + 1, atol=2e-6, rtol=0)


@pytest.mark.parametrize("layer", ["wide", "narrow"])
def test_orthogonal_weights_are_orthonormal_up_to_scale(layer):
    weight = draw("orthogonal", LAYERS[layer]).double()
    units, fan_in = weight.shape
    product = weight @ weight.T if units <= fan_in else weight.T @ weight
    identity = torch.eye(len(product), dtype=torch.float64)
    torch.testing.assert_close(product / product[0, 0], identity, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name, variance", [("lecun_truncated_raw", 1.0), ("lecun_truncated", TRUNCATED_VARIANCE)]
)
def test_truncation_is_at_two_deviations_of_the_untruncated_normal(name, variance):
    module = LAYERS["wide"]
    largest = float(draw(name, module).abs().max())
    assert largest <= 2 / (module.in_features * variance) ** 0.5


def test_truncated_variance_is_that_of_scipy():
    assert pytest.approx(stats.truncnorm(-2, 2).var(), abs=1e-14) == TRUNCATED_VARIANCE


def test_arms_of_one_seed_share_their_normal_numbers():
    he, lecun = draw("he_normal", LAYERS["wide"]), draw("lecun_normal", LAYERS["wide"])
    torch.testing.assert_close(he, 2**0.5 * lecun)


def biases(initializer: dict, readout: dict | None = None) -> torch.Tensor:
    weight = torch.empty(20_000, 300)
    spec = {"initializer": initializer, "readout": readout or {}}
    generator = torch.Generator().manual_seed(0)
    return drawn_bias(weight, spec, readout is not None, generator)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "lecun_normal"},
        {"name": "gaussian", "sigma_w2": 1.0, "sigma_b2": 0.0},
        {"name": "pytorch_default", "bias": "zeros"},
    ],
)
def test_biases_are_zero_by_default(spec):
    assert not biases(spec).any()


def test_gaussian_biases_have_the_variance_that_is_asked_for():
    bias = biases({"name": "gaussian", "sigma_w2": 1.0, "sigma_b2": 0.25})
    assert float(bias.var()) == pytest.approx(0.25, rel=0.06)


def test_uniform_biases_are_those_of_torch():
    bias = biases({"name": "pytorch_default", "bias": "uniform"})
    assert float(bias.abs().max()) <= 300**-0.5
    assert float(bias.var()) == pytest.approx(1 / 900, rel=0.06)


def test_biases_of_the_readout_follow_its_own_law():
    bias = biases({"name": "lecun_normal"}, {"bias": "uniform"})
    assert float(bias.var()) == pytest.approx(1 / 900, rel=0.06)
    uniform = {"name": "pytorch_default", "bias": "uniform"}
    assert not biases(uniform, {"bias": "zeros"}).any()


def test_an_unknown_bias_is_refused(make_trial):
    spec = make_trial(initializer="pytorch_default", **{"initializer.bias": "ones"}).spec
    with pytest.raises(RequestError, match="initializer.bias=ones: expected one of zeros, uniform"):
        check_layout(spec, (1, 8, 8), 10)


def test_delta_orthogonal_kernels_act_at_their_centre_and_keep_lengths():
    module = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    module.weight.data = draw("delta_orthogonal", module)
    x = torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    lengths = module(x).square().sum(1)
    torch.testing.assert_close(lengths, x.square().sum(1), rtol=1e-4, atol=1e-5)


def test_heavy_tails_are_those_of_student():
    weight = draw("heavy_tailed", nn.Linear(1000, 300)).flatten().double()
    # t of 9 degrees has variance 9 / 7; 20,000 weights tell a normal apart.
    standard = (weight * (1000 * 9 / 7) ** 0.5)[:20_000]
    assert stats.kstest(standard.numpy(), stats.t(9).cdf).pvalue > 1e-3
    assert stats.kstest((standard * (7 / 9) ** 0.5).numpy(), "norm").pvalue < 1e-6
    assert initializers["heavy_tailed"].family({"degrees": 9}).kurtosis == 4.2


@pytest.mark.parametrize(
    "activation, sigma_w2, sigma_b2", [("selu", 0.933206, 0.066794), ("relu", 2.0, 0.0)]
)
def test_the_edge_of_chaos_is_that_of_the_swept_activation(
    make_trial, activation, sigma_w2, sigma_b2
):
    """SELU: sigma_w2 = 1 / chi_1 = 1 / 1.071575, and the biases make up for the rest."""
    options = make_trial(activation=activation, initializer="edge_of_chaos").spec["initializer"]
    assert options["sigma_w2"] == pytest.approx(sigma_w2, abs=1e-6)
    assert options["sigma_b2"] == pytest.approx(sigma_b2, abs=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"initializer": "heavy_tailed", "initializer.degrees": 2},
            "degrees=2: expected an integer",
        ),
        ({"initializer": "mean_shifted", "initializer.omega": 8.0}, r"omega=8 with fan-in 64"),
        (
            {"initializer": "mean_shifted", "initializer.omega": math.nan},
            "omega=nan with fan-in 64",
        ),
        ({"initializer": "mean_shifted", "initializer.omega": 1e200}, r"omega=1e\+200 with fan-in"),
    ],
)
def test_impossible_laws_are_refused(make_trial, changes, message):
    with pytest.raises(RequestError, match=message):
        check_layout(make_trial(**changes).spec, (1, 8, 8), 10)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"activation": "math:tanh"}, "only for built-in activations"),
        ({"initializer.q": 0.0}, "initializer.q=0: expected a number above 0"),
        ({"initializer.q": math.inf}, "initializer.q=inf: expected a number above 0"),
        ({"activation": "softplus"}, "has no edge of chaos there"),
    ],
)
def test_an_edge_that_there_is_not_is_refused(make_config, changes, message):
    activation = changes.pop("activation", "selu")
    config = make_config(initializer="edge_of_chaos", **changes)
    config.activation.name = activation
    with pytest.raises(RequestError, match=message):
        canonical(config)
