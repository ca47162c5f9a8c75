"""Measurements at a network's activated layers on a fixed set of samples."""
