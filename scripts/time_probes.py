"""Time all statistics of a probe, and their intervals, on a plain SELU network.

    python scripts/time_probes.py [--depth 32] [--width 256] [--samples 2048] [--threads 2]

Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse

import torch

from harness.probes.timing import seconds


def main() -> None:
    """Parses the arguments, measures, and prints one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=32, help="layers")
    parser.add_argument("--width", type=int, default=256, help="units of a layer")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--trials", type=int, default=1, help="networks side by side")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = vars(parser.parse_args())
    torch.set_num_threads(options.pop("threads"))
    times = seconds(**options)
    print(", ".join(f"{name} {value}" for name, value in options.items()))
    print(f"all statistics: fastest {times['fastest']:.3f} s, median {times['median']:.3f} s")
    print(f"processor time of all cores: {times['processor']:.3f} s")
    print(f"their intervals in addition: {times['intervals']:.3f} s")
    print(f"forward and backward pass: {times['passes']:.3f} s")


if __name__ == "__main__":
    main()
