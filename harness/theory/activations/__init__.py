"""Activations as NumPy functions, and their Gaussian moments."""
