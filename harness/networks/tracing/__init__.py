"""One watched forward pass of any module: its layers, their activations, and their tensors."""
