"""Verdicts on SELU's premises and promises: criteria, their evaluation, grades, sentences."""
