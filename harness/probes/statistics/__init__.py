"""Statistics of one layer, by topic; every file of this folder is imported."""
