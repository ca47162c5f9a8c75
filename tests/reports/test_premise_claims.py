"""Claims about premises over all SELU networks: data that supports, refutes and splits each."""

from __future__ import annotations

import pytest

from harness.reports.claims.claim import CONDITIONAL, NOT_ENOUGH_DATA, REFUTED, SUPPORTED

CLAIMS = {
    "inputs_have_common_moments": "share_input_init",
    "units_are_gaussian": "share_gaussianity_init",
    "inputs_are_independent": "share_dependence_init",
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize(
    "shares, word",
    [
        ({"lecun_normal": 0.97, "he_normal": 0.96}, SUPPORTED),
        ({"lecun_normal": 0.05, "he_normal": 0.02}, REFUTED),
        ({"lecun_normal": 0.97, "he_normal": 0.02}, CONDITIONAL),
    ],
)
def test_premises_over_all_initializers(sweep, decide, name, shares, word):
    for initializer, share in shares.items():
        sweep.add(initializer=initializer, steps=0.0, **{CLAIMS[name]: sweep.near(share, 0.005)})
    found = decide(name)
    assert found.word == word
    assert [row["initializer"] for row in found.rows] == sorted(shares)
    holding = sum(share > 0.9 for share in shares.values())
    counts = f"holds in {holding}, mixed in 0, fails in {2 - holding}"
    assert f"of 2 SELU cells with any weights and inputs it {counts}" in found.sentence
    if word == CONDITIONAL:
        assert "true at lecun_normal global; false at he_normal global" in found.sentence


@pytest.mark.parametrize("name", CLAIMS)
def test_other_activations_say_nothing_about_selu(sweep, decide, name):
    sweep.add(activation="relu", **{CLAIMS[name]: 0.97})
    assert decide(name).word == NOT_ENOUGH_DATA


@pytest.mark.parametrize("share, word", [(0.97, SUPPORTED), (0.5, REFUTED)])
def test_gradients_at_the_end_of_training(sweep, decide, share, word):
    sweep.add(depth=[4, 32], share_gradients_end=sweep.near(share, 0.005))
    found = decide("gradients_stay_bounded")
    assert found.word == word
    assert [row["depth"] for row in found.rows] == [4, 32]
    assert ("holds in 2" if word == SUPPORTED else "mixed in 2") in found.sentence
