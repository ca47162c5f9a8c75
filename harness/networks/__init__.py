"""Networks as ordinary modules: activations, initializers, normalizations, dropouts and architectures."""
