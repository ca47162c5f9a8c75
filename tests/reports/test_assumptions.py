"""Misses of theory, examples of trials, and the figures of layers."""

from __future__ import annotations

import dataclasses
import math

import pandas
import pytest

from harness.reports import assumptions, layer_figures, moment_figures, verdict_figures
from harness.reports.evidence import Evidence
from harness.verdicts.criteria import load
from harness.verdicts.evaluation import VERDICTS, verdicts
from harness.verdicts.judging import judge_tables


def layer_table(
    trial_id: str, tau: float = 1.0, depth: int = 4, steps: tuple[int, ...] = (0, 50)
) -> pandas.DataFrame:
    """A network of 256 units whose tau drifts with training."""
    rows = []
    for step in steps:
        for layer in range(1, depth + 1):
            drifted = tau * (1 + 0.2 * (step > 0))
            rows.append(
                {
                    "trial_id": trial_id,
                    "step": step,
                    "phase": "init" if step == 0 else "end",
                    "layer": layer,
                    "name": "layer",
                    "units": 256,
                    "fan_in": 256,
                    "input_mean": 0.0,
                    "input_variance": 1.0,
                    "mean_drive": 0.01,
                    "predicted_mean_drive": 0.01,
                    "tau_mean": drifted,
                    "tau_sd": 0.088 * drifted,
                    "omega_mean": 0.0,
                    "omega_sd": math.sqrt(drifted),
                    "unit_wasserstein_q90": 0.05,
                    "unit_wasserstein_q90_null": 0.05,
                    "pooled_excess_kurtosis": 0.0,
                    "predicted_pooled_excess_kurtosis": 0.01,
                    "pooled_wasserstein": 0.01,
                    "residual_unit": 0.01,
                    "residual_map": 0.05,
                    "unit_variance_cv": 0.5 if layer == 1 else 0.1,
                    "predicted_unit_variance_cv": 0.1,
                    "mean_abs_correlation": 0.06,
                    "mean_abs_correlation_null": 0.05,
                    "input_participation_ratio": 200.0,
                    "activation_mean": 0.02 * layer,
                    "activation_variance": tau**layer,
                    "predicted_activation_variance": tau**layer,
                    "predicted_activation_variance_low": 0.9 * tau**layer,
                    "predicted_activation_variance_high": 1.1 * tau**layer,
                    "empirical_slope": 0.78,
                    "residual_pooled": 0.01,
                    "theorem_1_weight_share": 1.0,
                    "theorem_1_moment_share": 0.1,
                    "gradient_product": 1.07 ** (depth - layer),
                    "between_unit_share": 0.01,
                    "ladder_map": 0.5,
                    "ladder_weights": 0.4,
                    "ladder_moments": 0.02,
                    "ladder_empirical": 1e-9,
                }
            )
    return pandas.DataFrame(rows)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    trials, layers = [], []
    for repair, tau, gain in (("none", 2.0, 0.0), ("rescale_tau", 1.0, 0.1)):
        for depth in (4, 6):
            for seed in range(3):
                trial_id = f"{repair}{depth}{seed}"
                table = layer_table(
                    trial_id, tau, depth, (0,) if repair == "rescale_tau" else (0, 50)
                )
                layers.append(table)
                trials.append(
                    {
                        "trial_id": trial_id,
                        "cell_id": f"{repair}{depth}",
                        "seed": seed,
                        "status": "done",
                        "activation": "selu",
                        "initializer": "he_normal",
                        "normalization": "none",
                        "depth": depth,
                        "repair": repair,
                        "steps": 50,
                        "test_accuracy": 0.6 + 0.01 * seed + gain,
                        "score": 0.6 + 0.01 * seed + gain,
                        "validation_accuracy": 0.6,
                        "train_loss": 1.0,
                        "chance": 0.1,
                    }
                )
    judged = judge_tables(pandas.DataFrame(trials), pandas.concat(layers, ignore_index=True))
    return Evidence(
        judged[0],
        pandas.DataFrame(),
        judged[1],
        ("activation", "initializer", "normalization", "depth", "repair"),
    )


def test_where_theory_missed(evidence):
    table = assumptions.theory_misses(evidence).set_index("column")
    assert table.loc["activation_variance", "share_outside"] == 0
    # One layer of four, and one of six, of the trials without a repair.
    assert (
        table.loc["unit_variance_cv", "outside"],
        table.loc["unit_variance_cv", "readings"],
    ) == (6, 30)


def test_theory_misses_by_the_interval_of_what_was_measured(evidence):
    layers = evidence.layers.assign(
        predicted_empirical_slope=0.78, empirical_slope_low=0.77, empirical_slope_high=0.79
    )
    assert (
        "empirical_slope" not in assumptions.theory_misses(evidence)["column"].tolist()
    )  # two numbers without a band
    for predicted, share in ((0.78, 0.0), (0.8, 1.0)):
        table = assumptions.theory_misses(
            dataclasses.replace(evidence, layers=layers.assign(predicted_empirical_slope=predicted))
        ).set_index("column")
        assert (
            table.loc["empirical_slope", "share_outside"],
            table.loc["empirical_slope", "readings"],
        ) == (share, 30)


def test_examples_are_the_deepest_without_repair(evidence):
    examples = assumptions.examples(evidence)
    assert len(examples) == 1
    assert examples[0][1]["trial_id"].unique().tolist() == ["none60"]
    assert "seed 0" in examples[0][0]


@pytest.mark.parametrize("steps", [(0,), (0, 5, 50)])
def test_figures(steps):
    layers = layer_table("a", 1.3, 12, steps)
    judged = verdicts(layers)
    for figure in (
        layer_figures.profiles(layers),
        moment_figures.trajectories(layers),
        layer_figures.ladder(layers),
        verdict_figures.verdict_map(judged),
    ):
        assert figure.axes
        assert figure.get_figwidth() > 4
        figure.canvas.draw()


def test_profiles_show_the_intervals_that_there_are():
    layers = layer_table("a", 1.3, 12, (0, 50))
    with_intervals = layers.assign(
        residual_unit_low=0.0, residual_unit_high=layers["residual_unit"] * 2
    )
    drawn = []
    for table in (layers, with_intervals):
        figure = layer_figures.profiles(table)
        drawn.append(
            {
                panel.get_title(): [
                    label
                    for label in panel.get_legend_handles_labels()[1]
                    if label.endswith("99 % interval")
                ]
                for panel in figure.axes
            }
        )
    assert not any(drawn[0].values())
    assert {title: labels for title, labels in drawn[1].items() if labels} == {
        "error of variances by own Gaussian": [
            "initialisation, 99 % interval",
            "step 50, 99 % interval",
        ]
    }


def test_the_verdict_map_shows_every_verdict():
    layers = layer_table("a", 1.3, 5, (0, 50))
    figure = verdict_figures.verdict_map(verdicts(layers))
    panels = [axes for axes in figure.axes if axes.get_title() in load().names]
    assert [panel.get_title() for panel in panels] == list(load().names)
    codes = panels[1].collections[0].get_array().reshape(5, 2)
    assert (codes == VERDICTS.index("fails")).all()
    assert len(panels[3].lines[0].get_xdata()) == 2  # layer 1 is outside the band at both probes


def test_figures_of_nothing():
    empty = layer_table("a").iloc[:0]
    assert verdict_figures.verdict_map(verdicts(empty)) is None
    assert moment_figures.trajectories(empty) is None
    bare = layer_table("a")[["step", "layer", "activation_mean", "activation_variance"]].assign(
        activation_mean=math.nan, activation_variance=math.inf
    )
    assert moment_figures.trajectories(bare) is None
    assert layer_figures.ladder(bare) is None
