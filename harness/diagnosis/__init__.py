"""Diagnosis of any `nn.Module`: tracing, structure, lint and card."""
