"""Built-in activations: configuration files, PyTorch's modules and NumPy functions agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from harness.errors import RequestError
from harness.networks.activations import activations, build_activation
from harness.theory import selu
from harness.theory.activations.functions import (
    NAMES,
    activation,
    recommended_initializers,
    specification,
)

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted((CONF / "activation").glob("*.yaml"))
CONFIGURED = [path.stem for path in FILES]


def test_every_activation_that_pytorch_has_is_configured_and_no_other():
    with_a_module = [name for name in NAMES if specification(name).torch_class is not None]
    assert with_a_module == CONFIGURED
    assert activations.names() == CONFIGURED


@pytest.mark.parametrize("path", FILES, ids=CONFIGURED)
def test_a_configuration_file_has_the_declared_options_with_their_defaults(path):
    entries = OmegaConf.to_container(OmegaConf.load(path))
    spec = specification(path.stem)
    assert entries.pop("name") == spec.name
    assert entries == dict(spec.options)


@pytest.mark.parametrize("path", FILES, ids=CONFIGURED)
def test_a_configuration_file_says_what_it_is_and_names_its_source(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith("# Source: ") for line in lines)
    options = [line for line in lines if not line.startswith(("#", "name:"))]
    assert all("  # " in line for line in options)


@pytest.mark.parametrize("path", FILES, ids=CONFIGURED)
def test_a_configuration_file_and_the_declaration_name_one_source(path):
    text = " ".join(line.lstrip("# ") for line in path.read_text().splitlines()).replace('"', "")
    assert specification(path.stem).source in text


# torch rounds 1 / alpha of CELU to single precision.
ROUNDED = {"celu": 1e-6}


def assert_module_equals_function(module, phi):
    x = np.concatenate([np.linspace(-12.0, 12.0, 481), [-300.0, 300.0]])
    leaf = torch.tensor(x, requires_grad=True)
    value = module(leaf)
    value.sum().backward()
    rounded = ROUNDED.get(phi.name, 0.0)
    expected = value.detach().numpy()
    np.testing.assert_allclose(phi.value(x), expected, rtol=1e-13 + rounded, atol=1e-14)
    away_from_kinks = ~np.isin(x, phi.kinks)
    np.testing.assert_allclose(
        phi.slope(x)[away_from_kinks],
        leaf.grad.numpy()[away_from_kinks],
        rtol=1e-12 + rounded,
        atol=1e-14,
    )


@pytest.mark.parametrize("name", CONFIGURED)
def test_module_and_function_agree_with_default_options(name):
    assert_module_equals_function(build_activation({"name": name}), activation(name))


# Other values of options that may not be 0.37, or do nothing at the default of another option.
OTHER_OPTIONS = {
    ("gpn", "base"): {"base": "gelu"},
    ("leaky_selu", "epsilon"): {"epsilon": 0.05},
    ("dks", "base"): {"base": "softplus"},
    ("dks", "slope"): {"slope": 1.7},
    ("dks", "layers"): {"layers": 3},
    ("tat", "base"): {"base": "silu"},
    ("tat", "cosine"): {"base": "leaky_relu", "cosine": 0.6},
    ("tat", "layers"): {"layers": 3},
}


@pytest.mark.parametrize(
    "name, option", [(name, option) for name in NAMES for option in specification(name).options]
)
def test_module_and_function_agree_with_other_options(name, option):
    options = OTHER_OPTIONS.get((name, option), {option: 0.37})
    module = build_activation({"name": name, **options})
    assert_module_equals_function(module, activation(name, **options))
    with pytest.raises(AssertionError):
        assert_module_equals_function(module, activation(name))


@pytest.mark.parametrize("name", CONFIGURED)
def test_recommended_initializers_are_configured(name):
    recommended = recommended_initializers(name)
    assert recommended
    assert set(recommended) <= {path.stem for path in (CONF / "initializer").glob("*.yaml")}


def test_selu_is_recommended_lecun_and_relu_he():
    assert recommended_initializers("selu")[0] == "lecun_normal"
    assert recommended_initializers("relu")[0] == "he_normal"


def test_a_users_own_activation_has_no_recommended_initializer():
    assert recommended_initializers("shapes:softsign") == ()
    with pytest.raises(RequestError, match="unknown activation 'softsign'"):
        recommended_initializers("softsign")


def test_selu_takes_its_parameters_in_theory_and_has_no_option_in_networks():
    x = np.linspace(-3.0, 3.0, 7)
    other = activation("selu", alpha=1.0, lam=2.0)
    np.testing.assert_array_equal(other.value(x), selu.selu(x, 1.0, 2.0))
    np.testing.assert_array_equal(activation("selu").value(x), selu.selu(x))
    assert dict(specification("selu").options) == {}
