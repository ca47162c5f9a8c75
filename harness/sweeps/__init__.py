"""Sweeps: requests become jobs, jobs become packs, and packs become results in the store."""
