"""Verdicts: criteria, their evaluation, and the words that tell them."""
