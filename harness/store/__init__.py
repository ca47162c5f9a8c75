"""The store: one folder per trial under `runs/trials`, written atomically, and the tidy tables made from it."""
