"""Activations as NumPy functions, and their Gaussian expectations.

- `specifications`: the types, what an activation is and how a built-in one is declared.
- `built_in`: the declarations, one a function; `derived`: those whose constants are solved for.
- `user_callables`: activations from a user's own callable; `piecewise` finds kinks and slope.
- `functions`: the entry point, which looks activations up by name.
- `closed_forms`, `quadrature`, `hermite`: Gaussian expectations, exact or by numerical integration.
- `gaussian_panels`: nodes and weights for `quadrature`.
- `parameters`: SELU's alpha and lambda for another fixed point.
- `tailoring`: scales and shifts for prescribed maps of length and cosine.
- `unit_second_moment`: the constants of leaky SELU and scaled SELU.
"""
