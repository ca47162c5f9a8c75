"""The packed launcher passes Hydra's own suites for launchers."""

from __future__ import annotations

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.version import _UNSPECIFIED_, VersionBase


@pytest.fixture(autouse=True)
def no_version_chosen():
    """Resets Hydra's version rules, of which a process has one.

    The suites expect a process in which no application has chosen them.
    """
    versions = VersionBase.instance()
    before, versions.version_base = versions.version_base, _UNSPECIFIED_
    yield
    versions.version_base = before


def test_the_launcher_is_found():
    assert "PackedLauncher" in [cls.__name__ for cls in Plugins.instance().discover(Launcher)]


@pytest.mark.parametrize("launcher_name, overrides", [("packed", [])])
class TestLauncher(LauncherTestSuite):
    """Jobs, names, folders, overrides."""


@pytest.mark.parametrize(
    "launcher_name, overrides", [("packed", ["hydra.sweeper.max_batch_size=2"])]
)
class TestBatches(BatchedSweeperTestSuite):
    """Order and numbering across batches."""


@pytest.mark.parametrize("task_launcher_cfg, extra_flags", [({}, ["-m", "hydra/launcher=packed"])])
class TestIntegration(IntegrationTestSuite):
    """Real processes."""
