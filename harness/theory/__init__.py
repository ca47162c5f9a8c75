"""What theory predicts for SELU and for any other activation. NumPy and SciPy alone, float64, vectorised.

`selu` has the map g, its Jacobian, fixed points and theorems; `activations` and `quadrature` the Gaussian moments of any
activation, `closed_forms` those that need no quadrature, `piecewise` the kinks and slope of a function known by its values;
`mean_field` and `phases` lengths, correlations and the edge of chaos; `dropout`, `parameters`, `pooling` and `identities` what
surrounds them; `cards` the conditions an activation meets; `description` and `predictions` a whole network.
reference_values.json has values with source and tolerance that other software can be tested against.
"""
