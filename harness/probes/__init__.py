"""Probes: what is measured at a network's taps on a fixed set of samples."""
