"""Predictions for a whole network, layer by layer."""
