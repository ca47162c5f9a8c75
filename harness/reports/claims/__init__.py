"""Claims: sentences that a sweep can support or refute, each with the number that decided it."""
