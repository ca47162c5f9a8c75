"""Packages of the wheel; everything else about the project is in pyproject.toml.

`conf` and the launcher's plugin stand elsewhere in a checkout than in an installation, which
pyproject.toml can only say with a list of all packages written by hand.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["harness", "harness.*"]),
        "harness.conf",
        "hydra_plugins",  # a namespace, by which an editable installation finds the next
        "hydra_plugins.harness_packed",
    ],
    package_dir={
        "harness.conf": "conf",
        "hydra_plugins": "harness/plugins/hydra_plugins",
    },
)
