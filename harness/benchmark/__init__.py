"""The benchmark: the speed of the harness beside plain PyTorch, and how its work grows.

It has three parts, which `scripts/benchmark.py` runs in turn.

- `jobs`: what a user starts and waits for, once each: the sweep of the quickstart, a full probe of
  a deep network, and the diagnosis of a known network.
- `throughput`: trials per minute of one kind of trial, trained in several ways in turn. Some
  ways are yardsticks. Three are written in plain PyTorch with one trial at a time (`plain`): (a)
  with a `DataLoader`, forward hooks and calls of MLflow, as it is commonly done; (b) with all
  tensors on the device and no tracking; (b2) as (b), in one process for every core. One is JAX,
  which takes the training steps of many trials at once and does nothing else (e). The others are
  this harness with one trial at a time (c), in packs of several sizes (d), and as it chooses by
  itself.
- `growth`: the work around the training for 10 to 10,000 trials, on synthetic results.

Speeds are medians over repeats. Ratios are taken between medians of one run, in which all ways
take turns, so that a busy or throttled machine slows all of them.
"""
