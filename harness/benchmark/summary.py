"""The benchmark's numbers as a Markdown page, and as plain values for JSON.

In the tables "x (a)", "x (b)" and "x (b2)" are quotients of medians: trials per minute, or steps
per second, of a way over those of the yardstick in the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from harness.benchmark import durability
from harness.benchmark.durability import Durability
from harness.benchmark.growth import Growth
from harness.benchmark.jobs import Job
from harness.benchmark.network_kinds import KindSpeed
from harness.benchmark.throughput import (
    PLAIN_EACH_DICT,
    PLAIN_EACH_VALUE,
    PLAIN_IN_PROCESSES,
    PLAIN_UNTRACKED,
    Reading,
    Throughput,
)

# Parts of the time of a sweep, in the order of the table.
_PARTS = (
    "training steps",
    "probes",
    "evaluation",
    "initial weights",
    "predictions",
    "verdicts",
    "store",
    "tracking",
    "Hydra",
)
_MULTIRUN = "composing, checking, skipping by Hydra"
_COLUMNS = (
    "x (a), x (b) and x (b2) are multiples of the yardsticks: of (a) with log_metric, of (b) and "
    "of (b2). The product rate is that of large matrices, named above each table. Peak MiB is the "
    "memory added to what was in use before."
)


@dataclass
class Results:
    """Everything that was measured.

    Attributes:
        machine: the machine in words and numbers, by name.
        jobs: what a user waits for.
        throughput: one for each case.
        networks: one for each kind of network.
        growth: one for each number of trials.
        durability: what it costs that nothing is lost, where that was measured.
    """

    machine: dict[str, Any]
    jobs: list[Job] = field(default_factory=list)
    throughput: list[Throughput] = field(default_factory=list)
    networks: list[KindSpeed] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    durability: Durability | None = None


def as_dict(results: Results) -> dict[str, Any]:
    """Returns everything that was measured, with the medians that the page shows."""
    return {
        "machine": results.machine,
        "jobs": [asdict(job) for job in results.jobs],
        "cases": [_case(throughput) for throughput in results.throughput],
        "networks": [asdict(speed) for speed in results.networks],
        "growth": [asdict(growth) for growth in results.growth],
        "durability": asdict(results.durability) if results.durability else None,
    }


def _case(throughput: Throughput) -> dict[str, Any]:
    product_rate = median(throughput.product_rates)
    return {
        "case": throughput.case,
        "steps": throughput.steps,
        "flops_per_step": throughput.flops_per_step,
        "product_flops_per_second": product_rate,
        "batched_product_flops_per_second": throughput.batched_rate,
        "readings": [
            asdict(reading) | _rates(reading, throughput, product_rate)
            for reading in throughput.readings
        ],
        "peers": [
            asdict(peer) | {"steps_per_second": median(peer.step_rate)} for peer in throughput.peers
        ],
    }


def _rates(
    reading: Reading, throughput: Throughput, product_rate: float
) -> dict[str, float | None]:
    """Returns the medians of a reading, and their ratios to the yardsticks.

    Those to (b2) are None where it was not measured.
    """
    each_value = throughput.reading(PLAIN_EACH_VALUE)
    untracked = throughput.reading(PLAIN_UNTRACKED)
    by_name = {other.name: other for other in throughput.readings}
    in_processes = by_name.get(PLAIN_IN_PROCESSES)
    times_b2 = steps_times_b2 = None
    if in_processes is not None:
        times_b2 = reading.trials_per_minute / in_processes.trials_per_minute
        steps_times_b2 = reading.steps_per_second / in_processes.steps_per_second
    flops_per_second = reading.steps_per_second * throughput.flops_per_step
    return {
        "trials_per_minute": reading.trials_per_minute,
        "steps_per_second": reading.steps_per_second,
        "times_a": reading.trials_per_minute / each_value.trials_per_minute,
        "times_b": reading.trials_per_minute / untracked.trials_per_minute,
        "times_b2": times_b2,
        "steps_times_b": reading.steps_per_second / untracked.steps_per_second,
        "steps_times_b2": steps_times_b2,
        "share_of_product_rate": flops_per_second / product_rate,
    }


def markdown(results: Results, repeats: int) -> str:
    """Returns the page."""
    machine = "; ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in results.machine.items()
    )
    parts = [
        "# Benchmark",
        f"{machine}. Medians of {repeats} repeats, all ways in turn within one run.",
    ]
    if results.jobs or results.throughput:
        parts.append(
            "Shares are of the wall time, per worker; that of tracking, which goes on beside the "
            "workers, is of their processor time."
        )
    if results.throughput:
        parts.append(_COLUMNS)
    if results.jobs:
        parts.append(_jobs_section(results.jobs))
    parts += [_throughput_section(throughput) for throughput in results.throughput]
    if results.networks:
        parts.append(_networks_section(results.networks))
    if results.growth:
        parts.append(_growth_section(results.growth))
    if results.durability:
        parts.append(durability.markdown(results.durability))
    return "\n\n".join(parts) + "\n"


def _jobs_section(jobs: Sequence[Job]) -> str:
    rows = []
    for job in jobs:
        peak = f"{job.peak_bytes / 2**20:,.0f}" if job.peak_bytes else ""
        shares = ", ".join(f"{part} {100 * share:.1f} %" for part, share in job.shares.items())
        rows.append([job.name, f"{job.seconds:.2f}", peak, shares])
    table = _table(["job", "s", "peak MiB", "shares of the time"], rows)
    return f"## What a user waits for, once each\n\n{table}"


def _throughput_section(throughput: Throughput) -> str:
    case = _case(throughput)
    product_rate = case["product_flops_per_second"]
    rates = (
        f"{throughput.steps} steps of {throughput.flops_per_step / 1e6:.1f} MFLOP; the machine "
        f"multiplies large float32 matrices at {product_rate / 1e9:,.0f} GFLOP/s, and the layers "
        f"of a pack at {throughput.batched_rate / 1e9:,.0f} GFLOP/s."
    )
    chosen = throughput.readings[-1]
    each_value = throughput.reading(PLAIN_EACH_VALUE)
    each_dict = throughput.reading(PLAIN_EACH_DICT)
    logging_share = 1.0 - each_value.trials_per_minute / each_dict.trials_per_minute
    choice = (
        f"The harness chose the program `{chosen.program}`, packs of {chosen.pack}, "
        f"{chosen.workers} at a time. Logging each value by a call of its own, instead of all "
        f"values of a step by one, takes {logging_share:.0%} of the time of (a)."
    )
    parts = [
        f"## {throughput.case}",
        rates,
        _ways_table(case["readings"], case["peers"]),
        choice,
        _shares_table(throughput.readings),
    ]
    return "\n\n".join(parts)


def _ways_table(readings: Sequence[dict[str, Any]], peers: Sequence[dict[str, Any]]) -> str:
    header = [
        "way",
        "trials",
        "trials a minute",
        "x (a)",
        "x (b)",
        "x (b2)",
        "trial-steps/s, training alone",
        "x (b)",
        "x (b2)",
        "of the product rate",
        "peak MiB",
    ]
    rows = [
        [
            reading["name"],
            reading["trials"],
            f"{reading['trials_per_minute']:,.0f}",
            f"{reading['times_a']:.1f}",
            f"{reading['times_b']:.1f}",
            _ratio(reading["times_b2"]),
            f"{reading['steps_per_second']:,.0f}",
            f"{reading['steps_times_b']:.1f}",
            _ratio(reading["steps_times_b2"]),
            f"{100 * reading['share_of_product_rate']:.0f} %",
            _mebibytes(reading["peak_bytes"]),
        ]
        for reading in readings
    ]
    for peer in peers:
        rate = f"{peer['steps_per_second']:,.0f}"
        rows.append([peer["name"], "", "", "", "", "", rate, "", "", "", ""])
    return _table(header, rows)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _mebibytes(peaks: Sequence[int]) -> str:
    return f"{max(peaks) / 2**20:,.0f}" if peaks else ""


def _shares_table(readings: Sequence[Reading]) -> str:
    rows = []
    for reading in readings:
        if reading.shares:
            shares = [f"{100 * reading.share(part):.1f} %" for part in _PARTS]
            rows.append([reading.name, *shares])
    return _table(["share of the time", *_PARTS], rows)


def _networks_section(networks: Sequence[KindSpeed]) -> str:
    rows = []
    for speed in networks:
        packs = [
            f"{median(rates):,.1f} in packs of {pack} ({speed.times_alone(pack):.2f} x one trial)"
            for pack, rates in speed.packs.items()
            if pack > 1
        ]
        alone = f"{median(speed.packs[1]):,.1f}"
        plain = f"{median(speed.plain):,.1f}"
        ratio = f"{speed.times_plain:.2f}"
        rows.append([speed.kind, speed.program, plain, alone, ratio, "; ".join(packs)])
    header = [
        "network",
        "program",
        "(b), steps/s",
        "one trial, steps/s",
        "x (b)",
        "packs, trial-steps/s",
    ]
    return f"## Training alone, by kind of network\n\n{_table(header, rows)}"


def _growth_section(growth: Sequence[Growth]) -> str:
    kinds = list(growth[0].seconds)
    rows = []
    for row in growth:
        seconds = [f"{row.seconds[kind]:.2f}" for kind in kinds]
        store = f"{row.store_bytes / 2**20:,.1f}"
        rows.append([f"{row.trials:,}", f"{row.jobs:,}", *seconds, store])
    header = ["trials", "jobs", *(f"{kind}, s" for kind in kinds), "store, MiB"]
    first, last = growth[0], growth[-1]
    more_jobs = last.jobs - first.jobs
    per_job = 1000 * (last.seconds[_MULTIRUN] - first.seconds[_MULTIRUN]) / more_jobs
    sentence = (
        f"A multirun of finished trials takes {per_job:.0f} ms for every further job, which is "
        "composed, checked and not run again; with the launcher that comes with Hydra a finished "
        f"job takes {1000 * last.basic_job:.0f} ms."
    )
    return f"## Growth with the number of trials\n\n{_table(header, rows)}\n\n{sentence}"


def _table(header: list[str], rows: list[list[Any]]) -> str:
    """Returns a Markdown table whose first column is text and whose others are numbers."""
    alignment = ["---"] + ["---:"] * (len(header) - 1)
    lines = []
    for cells in [header, alignment, *rows]:
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)
