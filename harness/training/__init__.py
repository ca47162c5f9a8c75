"""Training: packs of trials, the programs that run them, and the loop; knows no Hydra, no store, no tracker."""
