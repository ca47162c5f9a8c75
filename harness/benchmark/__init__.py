"""How fast the harness is, against what a user writes without it, and how it grows: `scripts/benchmark.py`."""
