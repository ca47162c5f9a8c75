"""Bins of the histograms of pre-activations; needs no torch.

A histogram counts z / sd(z) of one layer, z the pre-activations of all samples, units and positions
and sd their pooled standard deviation. Bins are equally wide on a logarithmic scale, so that one
histogram shows units that hardly move beside units that are far out.
"""

from __future__ import annotations

# Bins of each sign, between these exponents of ten of |z| / sd.
BINS_PER_SIGN = 32
LOWEST_EXPONENT = -2
HIGHEST_EXPONENT = 2
BINS_PER_DECADE = BINS_PER_SIGN // (HIGHEST_EXPONENT - LOWEST_EXPONENT)
BINS = 2 * BINS_PER_SIGN

_POSITIVE_EDGES = tuple(
    10.0 ** (LOWEST_EXPONENT + index / BINS_PER_DECADE) for index in range(BINS_PER_SIGN + 1)
)
# The 66 edges of z / sd, ascending: 33 of each sign. Bin k < 32 lies between edges k and k + 1,
# bin k >= 32 between edges k + 1 and k + 2, and has its lower edge. Smaller values than the
# innermost edges fall into the innermost bin of their sign, larger ones than the outermost edges
# into the outermost bin; 0 counts as positive and -0 as negative.
EDGES = tuple(-edge for edge in reversed(_POSITIVE_EDGES)) + _POSITIVE_EDGES

# Names of the counts in `tables/histograms.parquet`.
COUNT_COLUMNS = tuple(f"count_{index:02d}" for index in range(BINS))
