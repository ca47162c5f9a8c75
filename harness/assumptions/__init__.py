"""Do SELU's assumptions hold: measured against predicted, verdicts, a lint, and the diagnosis of any model."""
