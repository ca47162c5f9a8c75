"""From tidy tables to claims: statistics by declared rules, figures, and one HTML report. Imports no torch."""
