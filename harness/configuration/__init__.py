"""Requests: their schema and options, checks without data, composing, and trial ids; no torch."""
