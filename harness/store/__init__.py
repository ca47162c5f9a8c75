"""The store: one folder per trial, written atomically, and tidy tables of all trials."""
