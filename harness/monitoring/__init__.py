"""A model watched in its user's own training loop."""
