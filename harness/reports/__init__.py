"""Reports: evidence, statistics, comparisons, figures and rules. Imports no torch."""
