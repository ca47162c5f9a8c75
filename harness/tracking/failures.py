"""Failures of MLflow in words."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its type where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
