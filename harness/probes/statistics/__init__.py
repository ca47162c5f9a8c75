"""Statistics of one layer, one topic a file; every file of this folder is found and imported."""
