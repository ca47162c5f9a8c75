"""Verdicts on SELU's assumptions: criteria, their evaluation, and sentences."""
