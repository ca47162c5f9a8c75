"""The cost of durability is that of a real sweep, with checkpoints as often as by default."""

from __future__ import annotations

import sys

import numpy
import pytest
import torch

from harness.benchmark import durability, machine
from harness.benchmark.durability import Cost, Durability, Memory
from harness.sweeps import pack_checkpoints
from harness.sweeps.pack_checkpoints import PackCheckpoints

TINY = (
    *("activation=selu", "initializer=lecun_normal", "seeds=2", "depth=2", "width=4"),
    *("budget.epochs=null", "budget.steps=64", "budget.evaluations=1", "budget.probes=1"),
)


def test_the_cost_of_a_real_sweep_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(durability, "_OFTEN", 1e-9)
    write = pack_checkpoints.write
    cost = durability.measure_cost(torch.device("cpu"), tmp_path / "runs", TINY)
    assert cost.trials == 2
    assert cost.checkpoints >= 4
    assert cost.checkpoint_seconds > 0
    assert cost.shares["checkpoints"] == pytest.approx(cost.checkpoint_seconds / 300)
    assert all(0 <= share < 1 for share in cost.shares.values())
    assert cost.shares["waiting for the disk"] > 0
    assert cost.share == pytest.approx(sum(cost.shares.values()))
    # Nothing is left behind.
    assert pack_checkpoints.write is write
    assert PackCheckpoints(tmp_path / "runs").saved() == []


def test_the_section_says_the_share_and_the_growth_of_memory():
    cost = Cost(64, 20.0, {"locks": 0.01, "checkpoints": 0.002}, 9, 0.6)
    memory = [Memory(50, 500 * 2**20, 10.0), Memory(2050, 502 * 2**20, 90.0)]
    text = durability.markdown(Durability(cost, memory))
    assert "1.20 % of 20.0 s for 64 trials" in text
    assert "every 5 minutes; one takes 600 ms" in text
    assert "| locks | 1.000 % |" in text
    assert "+1.0 KiB for every further trial" in text


def test_the_memory_of_a_command_is_its_own():
    held = numpy.ones(2**26)
    seconds, most = machine.run_to_end([sys.executable, "-c", "import time; time.sleep(1)"], {})
    assert held.nbytes == 2**29
    assert 2**20 < most < 2**28
    assert seconds >= 1
    with pytest.raises(RuntimeError, match="ended with 3"):
        machine.run_to_end([sys.executable, "-c", "raise SystemExit(3)"], {})


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_trials(tmp_path):
    first, last = (
        durability.measure_memory(cells, torch.device("cpu"), tmp_path / f"{cells}")
        for cells in (5, 200)
    )
    assert (first.trials, last.trials) == (50, 2000)
    # 8 KiB a trial, of which the trials themselves take a hundred on the disk.
    assert last.peak_bytes - first.peak_bytes < 1950 * 8 * 2**10
