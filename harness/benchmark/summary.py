"""The benchmark's numbers as a Markdown page, as plain values for JSON, and as a figure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from harness.benchmark.growth import Growth
from harness.benchmark.jobs import Job
from harness.benchmark.throughput import Throughput

_A, _A_DICT, _B = (
    "(a) DataLoader, hooks, log_metric",
    "(a) the same, log_metrics",
    "(b) tensors on the device, no tracking",
)
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


def as_dict(
    described: dict[str, Any], jobs: list[Job], results: list[Throughput], growth: list[Growth]
) -> dict[str, Any]:
    """Everything that was measured, with the medians that the page shows."""
    return {
        "machine": described,
        "jobs": [asdict(job) for job in jobs],
        "cases": [_case(result) for result in results],
        "growth": [asdict(one) for one in growth],
    }


def _case(result: Throughput) -> dict[str, Any]:
    rate = median(result.product_rates)
    readings = []
    for one in result.readings:
        readings.append(
            asdict(one)
            | {
                "trials_per_minute": one.trials_per_minute,
                "steps_per_second": one.steps_per_second,
                "times_a": one.trials_per_minute / result.reading(_A).trials_per_minute,
                "times_b": one.trials_per_minute / result.reading(_B).trials_per_minute,
                "steps_times_b": one.steps_per_second / result.reading(_B).steps_per_second,
                "share_of_product_rate": one.steps_per_second * result.flops_per_step / rate,
            }
        )
    return {
        "case": result.case,
        "steps": result.steps,
        "flops_per_step": result.flops_per_step,
        "product_flops_per_second": rate,
        "batched_product_flops_per_second": result.batched_rate,
        "readings": readings,
    }


def markdown(
    described: dict[str, Any],
    jobs: list[Job],
    results: list[Throughput],
    growth: list[Growth],
    repeats: int,
) -> str:
    """The page."""
    machine = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in described.items())
    parts = [
        "# Benchmark",
        f"{machine}. Medians of {repeats} repeats, all ways in turn within one run.",
    ]
    if jobs or results:
        parts.append(
            "Shares are of the wall time, per worker; that of tracking, which goes on beside the workers, is of their processor time."
        )
    return (
        "\n\n".join(
            [
                *parts,
                *([_jobs(jobs)] if jobs else []),
                *(_section(result) for result in results),
                *([_growth(growth)] if growth else []),
            ]
        )
        + "\n"
    )


def _jobs(jobs: list[Job]) -> str:
    rows = [
        [
            job.name,
            f"{job.seconds:.2f}",
            f"{job.peak_bytes / 2**20:,.0f}" if job.peak_bytes else "",
            ", ".join(f"{part} {100 * share:.1f} %" for part, share in job.shares.items()),
        ]
        for job in jobs
    ]
    return "\n\n".join(
        [
            "## What a user waits for, once each",
            _table(["job", "s", "peak MiB", "shares of the time"], rows),
        ]
    )


def _section(result: Throughput) -> str:
    case = _case(result)
    rows = [
        [
            one["name"],
            one["trials"],
            f"{one['trials_per_minute']:,.0f}",
            f"{one['times_a']:.1f}",
            f"{one['times_b']:.1f}",
            f"{one['steps_per_second']:,.0f}",
            f"{one['steps_times_b']:.1f}",
            f"{100 * one['share_of_product_rate']:.0f} %",
            f"{max(one['peak_bytes']) / 2**20:,.0f}",
        ]
        for one in case["readings"]
    ]
    header = [
        "way",
        "trials",
        "trials a minute",
        "x (a)",
        "x (b)",
        "trial-steps/s, training alone",
        "x (b)",
        "of the product rate",
        "peak MiB",
    ]
    said = (
        f"{result.steps} steps of {result.flops_per_step / 1e6:.1f} MFLOP; the machine multiplies large float32 matrices at {case['product_flops_per_second'] / 1e9:,.0f} GFLOP/s, "
        f"and the layers of a pack at {result.batched_rate / 1e9:,.0f} GFLOP/s."
    )
    packed = [one for one in result.readings if one.shares]
    shares = _table(
        ["share of the time", *_PARTS],
        [[one.name, *(f"{100 * one.share(part):.1f} %" for part in _PARTS)] for one in packed],
    )
    chosen = result.readings[-1]
    choice = f"The harness chose the program `{chosen.program}`, packs of {chosen.pack}, {chosen.workers} at a time. What is logged costs (a) {_saved(result):.0%} of its time when every value is a call."
    return "\n\n".join([f"## {result.case}", said, _table(header, rows), choice, shares])


def _saved(result: Throughput) -> float:
    return 1.0 - result.reading(_A).trials_per_minute / result.reading(_A_DICT).trials_per_minute


def _growth(growth: list[Growth]) -> str:
    kinds = list(growth[0].seconds)
    rows = [
        [
            f"{one.trials:,}",
            f"{one.jobs:,}",
            *(f"{one.seconds[kind]:.2f}" for kind in kinds),
            f"{one.store_bytes / 2**20:,.1f}",
        ]
        for one in growth
    ]
    first, last, part = growth[0], growth[-1], "composing, checking, skipping by Hydra"
    per_job = 1000 * (last.seconds[part] - first.seconds[part]) / (last.jobs - first.jobs)
    of_hydra = 1000 * (last.in_run_job - first.in_run_job) / (last.jobs - first.jobs)
    said = (
        f"A multirun of finished trials takes {per_job:.0f} ms for every further job: composing, checking, skipping, its folder, log and return value. Of these {of_hydra:.0f} ms are Hydra's own for "
        f"running a job that is composed (`run_job`: folder, log, three files, copies of the configuration); with the launcher that comes with Hydra a job takes {1000 * last.basic_job:.0f} ms."
    )
    return "\n\n".join(
        [
            "## Growth with the number of trials",
            _table(["trials", "jobs", *(f"{kind}, s" for kind in kinds), "store, MiB"], rows),
            said,
        ]
    )


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def plot(results: list[Throughput], path: Path) -> None:
    """Trials per minute against pack size, one panel a case, with the plain programs as levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(results), figsize=(5.4 * len(results), 4.2), layout="constrained", squeeze=False
    )
    for panel, result in zip(panels[0], results):
        ours = [one for one in result.readings if one.program != "plain"]
        tried = sorted((one for one in ours if one.name.startswith("(")), key=lambda one: one.pack)
        panel.plot(
            [one.pack for one in tried],
            [one.trials_per_minute for one in tried],
            "o-",
            color="C0",
            label="harness, everything logged",
        )
        chosen = ours[-1]
        panel.plot(
            [chosen.pack],
            [chosen.trials_per_minute],
            "*",
            color="C3",
            markersize=13,
            label=f"as it chooses: {chosen.pack}",
        )
        for name, style in ((_B, "--"), (_A_DICT, "-."), (_A, ":")):
            panel.axhline(
                result.reading(name).trials_per_minute,
                color="0.35",
                linestyle=style,
                label=f"plain PyTorch {name}",
            )
        _dress(panel, result, sorted({one.pack for one in ours}))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _dress(panel: Any, result: Throughput, sizes: list[int]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlabel("trials in a pack")
    panel.set_ylabel("trials a minute")
    panel.set_title(result.case, fontsize=9)
    panel.grid(True, which="major", alpha=0.3)
    panel.legend(fontsize=7)
