"""Mean-field theory of one activation: length and correlation maps, phases, condition cards."""
