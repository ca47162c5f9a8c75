"""Theory of signals and gradients at initialisation, for SELU and any other activation.

Everything is NumPy and SciPy, float64 and vectorised. README.md in this folder has the notation,
the equations, the theorems and their limits. Each of the four groups imports only those before it:

- `selu`: SELU's map g, its Jacobian, fixed points and theorems;
- `activations`: Gaussian moments of any activation;
- `mean_field`: lengths, correlations, phases and condition cards;
- `networks`: predictions for a whole network.

reference_values.json holds values with source and tolerance for tests of other software.
"""
