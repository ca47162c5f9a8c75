"""Requests: the schema, the checks that need no data, composing, and a trial with its id. Imports no torch."""
