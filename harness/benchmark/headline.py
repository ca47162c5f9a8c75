"""The benchmark in a few sentences: what the README says of speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headline(numbers: Mapping[str, Any]) -> str:
    """Returns a sentence for the machine and two for each case.

    Args:
        numbers: those of `benchmark.json`, see `harness.benchmark.summary.as_dict`.
    """
    machine = numbers["machine"]
    where = f"{machine['cores']} cores of {machine['processor']}, torch {machine['torch']}"
    sentences = [f"These are medians on {where}."]
    sentences += [_case(case) for case in numbers["cases"]]
    return " ".join(sentences)


def _case(case: Mapping[str, Any]) -> str:
    """Returns what the harness reaches as it chooses, over each yardstick that was measured."""
    chosen = case["readings"][-1]
    trials = [
        f"{chosen['times_a']:.0f} times a plain loop that logs every value",
        f"{chosen['times_b']:.1f} times plain tensors without a log",
    ]
    steps = [f"{chosen['steps_times_b']:.1f} times plain tensors"]
    if chosen["times_b2"] is not None:
        trials.append(f"{chosen['times_b2']:.1f} times these in a process for each core")
        steps.append(f"{chosen['steps_times_b2']:.1f} times these in a process for each core")
    if case["peers"]:
        fastest = max(peer["steps_per_second"] for peer in case["peers"])
        steps.append(f"{chosen['steps_per_second'] / fastest:.1f} times JAX")
    return (
        f"**{case['case']}**: {chosen['trials_per_minute']:,.0f} trials a minute with everything "
        f"logged, {_listed(trials)}. Training steps alone are {_listed(steps)}."
    )


def _listed(parts: list[str]) -> str:
    """Returns parts of a sentence as a list in words."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
