"""Length and correlation maps, phases, and cards of activations."""
