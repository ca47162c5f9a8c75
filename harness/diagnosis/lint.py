"""The lint: what in a network's structure and weights breaks SELU's conditions.

Each finding names the layers, what follows in numbers, and the fix. A rule applies only where the
deviation is large enough to matter and, for weights, too large for chance: the mean of tau over a
layer is chi-square distributed for Gaussian weights, and a narrow layer of a clean network may miss
1 by much. Consequences are computed from theory for the very layers that are named.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.diagnosis import structure_rules, weight_rules
from harness.diagnosis.dropout_pass import DropoutMeasurement
from harness.diagnosis.findings import Finding
from harness.networks.tracing.input_statistics import InputStatistics
from harness.networks.tracing.structure import Structure


def lint(
    structure: Structure,
    inputs: InputStatistics | None,
    dropout: Sequence[DropoutMeasurement] | None = None,
) -> list[Finding]:
    """Returns all findings: broken weights, then inputs, then in the order of the rules.

    Args:
        structure: the model's structure. The rules on layers judge its SELU layers only.
        inputs: statistics of the model's inputs, None for integers.
        dropout: each activated layer as measured with dropout acting, to be named beside what
            theory expects; None where there is no dropout.
    """
    selu_layers = [layer for layer in structure.activated if layer.activation == "selu"]
    by_layer = {}
    if dropout is not None:
        by_layer = dict(zip(structure.activated, dropout, strict=True))
    findings = [
        *weight_rules.weights_not_finite(structure.layers),
        *structure_rules.model_inputs(structure, inputs, bool(selu_layers)),
        *structure_rules.normalizations(selu_layers),
        *structure_rules.dropouts(selu_layers, by_layer),
        *structure_rules.dropouts_before_selu(selu_layers),
        *structure_rules.other_constants(structure),
        *weight_rules.weight_scales(selu_layers),
        *weight_rules.biases(selu_layers),
        *structure_rules.max_pools(selu_layers),
        *structure_rules.zero_padding(selu_layers),
    ]
    if selu_layers:
        findings += structure_rules.residual_sums(structure)
    return findings
