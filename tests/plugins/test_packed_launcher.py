"""The packed launcher passes Hydra's own suites for launchers."""

from __future__ import annotations

import weakref

import hydra
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


@pytest.fixture
def returns(monkeypatch):
    """What the launcher returns to the sweeper, in order."""
    kept = []
    launcher = next(
        cls for cls in Plugins.instance().discover(Launcher) if cls.__name__ == "PackedLauncher"
    )
    launch = launcher.launch

    def kept_launch(self, *arguments, **options):
        returned = launch(self, *arguments, **options)
        kept.extend(returned)
        return returned

    monkeypatch.setattr(launcher, "launch", kept_launch)
    return kept


class Large:
    """Something that a failing job holds."""


def test_a_sweep_of_packs_keeps_nothing_large_of_its_jobs(returns, tmp_path, monkeypatch):
    held = []

    def task(config):
        large = Large()
        held.append(weakref.ref(large))
        if config.number == 2:
            raise ValueError("of the task")
        return config.number

    task.prefetch = lambda jobs, **options: [None for _ in jobs]
    (tmp_path / "config.yaml").write_text("number: 0\n")
    folder = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    words = ["-m", "hydra/launcher=packed", "number=1,2,3", folder, "hydra.output_subdir=null"]
    monkeypatch.setattr("sys.argv", ["app", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="of the task"):
        hydra.main(version_base=None, config_name="config", config_path=str(tmp_path))(task)()
    assert [job.overrides for job in returns] == [["number=1"], ["number=2"], ["number=3"]]
    assert (returns[0].return_value, returns[2].return_value) == (1, 3)
    assert {job.cfg for job in returns} == {job.hydra_cfg for job in returns} == {None}
    assert [large() for large in held] == [None, None, None]


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
