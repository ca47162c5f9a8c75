"""Diagnosis of any `nn.Module`: tracing, structure, measurements, lint and card."""
