"""Predictions for a whole network, layer by layer, with bands for its finite width."""
