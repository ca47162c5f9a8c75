"""Data sets, preprocessing, batch order and the moments of inputs."""
