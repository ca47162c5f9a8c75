"""Sweeps: cells and jobs, one pack from its trials to its results, the sweep, and the progress line."""
