"""SELU's map of mean and variance, its fixed points and theorems."""
