"""Options and their defaults come from the files in conf, and from nowhere else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from omegaconf import MISSING, OmegaConf, ValidationError

from harness.configuration import options as options_module
from harness.configuration.options import CONF_DIR, defaults, known_names, options
from harness.configuration.schema import Config, Section, section

FILES = sorted(path for path in CONF_DIR.glob("*/*.yaml"))
# Arms and experiments set values of other groups.
GROUPS = sorted({path.parent.name for path in FILES} - {"arm", "experiment"})


def test_options_are_the_keys_of_a_file_besides_its_name():
    assert options("activation", "selu") == ()
    assert options("activation", "elu") == ("alpha",)
    assert options("schedule", "warmup_cosine") == ("warmup_share", "final_share")
    assert options("dataset", "gaussian") == (
        "samples",
        "shape",
        "classes",
        "participation_ratio",
    )


def test_a_users_own_activation_takes_no_options():
    assert options("activation", "package.module:function") == ()


@pytest.mark.parametrize("group", GROUPS)
def test_defaults_are_those_that_hydra_reads(group):
    for name in known_names(group):
        read = OmegaConf.to_container(OmegaConf.load(CONF_DIR / group / f"{name}.yaml"))
        read.pop("name", None)
        taken = dict(defaults(group, name))
        assert taken == read
        assert [type(value) for value in taken.values()] == [type(value) for value in read.values()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_name_in_a_file_is_that_of_the_file(path):
    content = OmegaConf.load(path)
    if path.parent.name not in ("arm", "experiment", "budget", "tracking"):
        assert content["name"] == path.stem


def test_options_of_files_are_fields_of_the_schema():
    for group in GROUPS:
        section_fields = vars(getattr(Config(), group))
        for name in known_names(group):
            assert set(options(group, name)) <= set(section_fields)


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """A function of the texts of two files of a group: the section that these files extend."""
    monkeypatch.setattr(options_module, "CONF_DIR", tmp_path.parent)
    group = tmp_path.name  # Read files are kept by group, so every test has a group of its own.

    def make(first: str, second: str) -> type:
        (tmp_path / "first.yaml").write_text(f"name: first\n{first}\n")
        (tmp_path / "second.yaml").write_text(f"name: second\n{second}\n")

        @section(group)
        @dataclass
        class ThingConfig(Section):
            name: str = MISSING

        return ThingConfig

    return make


def test_a_new_option_of_a_file_is_a_typed_field_of_its_section(extend):
    extended = extend("rate: 1", "rate: 0.5\nsides: [1, 2]")
    structured = OmegaConf.structured(extended("first", rate=3, sides=[4]))
    assert isinstance(structured.rate, float)
    with pytest.raises(ValidationError, match="could not be converted"):
        structured.sides = ["one"]


def test_a_new_option_is_none_unless_a_name_takes_it(extend):
    assert extend("rate: 1", "")("second").rate is None


@pytest.mark.parametrize(
    "first, second, message",
    [
        ("rate: null", "rate: null", "is null in every file"),
        ("rate: 1.0", "rate: high", "differ in type: float, str"),
    ],
)
def test_an_option_without_a_type_is_refused(extend, first, second, message):
    with pytest.raises(TypeError, match=message):
        extend(first, second)


def test_options_need_neither_hydra_nor_torch():
    code = (
        "import sys, harness.configuration.options; "
        "sys.exit(bool({'hydra', 'omegaconf', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
