"""The report of a small real sweep: page, Markdown, JSON, tables and figures."""

from __future__ import annotations

import json
import math
import re

import numpy
import pandas
import pytest

from harness.configuration.composing import compose
from harness.reports import (
    cross_tables,
    duration_figures,
    histogram_figures,
    report,
    roc_curves,
    share_tables,
    signal_tables,
)
from harness.reports.arms import arms
from harness.reports.evidence import Evidence, gather
from harness.reports.forest_figures import forest
from harness.reports.pictures import inline_svg
from harness.store.tables import collect
from harness.store.trials import Store
from harness.sweeps import sweep

OVERRIDES = ("dataset=digits", "tracking=none", "budget.epochs=2", "budget.probes=4", "seeds=2")


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> Evidence:
    """Two activations and two depths, two seeds each."""
    runs = tmp_path_factory.mktemp("runs")
    configs = []
    for activation in ("selu", "relu"):
        for depth in (2, 4):
            arm = (f"activation={activation}", f"depth={depth}", "width=16", f"runs={runs}")
            configs.append(compose([*OVERRIDES, *arm]))
    sweep.prefetch(configs)
    return gather(collect(Store(runs)), {})


@pytest.fixture(scope="module")
def page(evidence, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("report")
    return report.write(evidence, folder, "title").read_text(encoding="utf-8")


def test_the_answer_stands_before_everything_else(page):
    headings = re.findall(r'<h2 id="(\w+)"', page)
    assert headings[:3] == ["answer", "claims", "cross"]
    assert headings[-2:] == ["method", "commands"]


def test_every_figure_says_how_to_read_it(page):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == page.count("<svg ")
    assert len(captions) >= 8
    assert min(len(caption.split()) for caption in captions) >= 10


def test_figures_follow_the_theme_of_the_page(page):
    assert "stroke: var(--text)" in page
    assert "stroke: var(--blue)" in page
    assert "stroke: #000000" not in page


def test_equal_trials_give_equal_pages(evidence, page, tmp_path):
    again = report.write(evidence, tmp_path, "title").read_text(encoding="utf-8")
    assert again == page


def test_markdown_and_json_have_the_chapters_of_the_page(evidence):
    titles = [chapter.title for chapter in report.chapters(evidence)]
    assert re.findall(r"^## (.*)$", report.markdown(evidence), re.MULTILINE) == titles
    entries = json.loads(report.as_json(evidence))["chapters"]
    assert [entry["title"] for entry in entries] == titles
    cells = next(entry for entry in entries if entry["name"] == "accuracy")["tables"]["cells"]
    assert len(cells) == len(evidence.cells)


def test_shares_of_the_domain_agree_with_the_moments(evidence):
    layers = evidence.layers
    inside = layers["activation_mean"].between(-0.1, 0.1)
    inside &= layers["activation_variance"].between(0.8, 1.5)
    expected = inside.groupby([layers["trial_id"], layers["step"]]).mean()
    found = share_tables.probe_shares(evidence).set_index(["trial_id", "step"])["share"]
    pandas.testing.assert_series_equal(
        found.sort_index(),
        expected.sort_index(),
        check_names=False,
        check_dtype=False,
        check_index_type=False,
    )


def test_a_diverged_trial_counts_as_outside_from_then_on(evidence):
    trials = evidence.trials.copy()
    lost = trials.index[(trials["activation"] == "selu") & (trials["depth"] == 2)][0]
    trials.loc[lost, "status"] = "diverged"
    layers = evidence.layers
    gone = (layers["trial_id"] == trials.loc[lost, "trial_id"]) & (layers["step"] > 0)
    table = share_tables.duration(Evidence(trials, evidence.curves, layers[~gone], evidence.axes))
    kept = share_tables.duration(evidence)
    last = kept["step"].max()

    def share(rows: pandas.DataFrame) -> pandas.DataFrame:
        arm = rows[(rows["arm"] == "selu") & (rows["depth"] == 2) & (rows["step"] == last)]
        return arm.iloc[0]

    assert share(table)["seeds"] == 2
    other = evidence.trials.loc[evidence.trials.index != lost]
    other = other[(other["activation"] == "selu") & (other["depth"] == 2)]["trial_id"].iloc[0]
    probes = share_tables.probe_shares(evidence).set_index(["trial_id", "step"])["share"]
    assert share(table)["share"] == pytest.approx(probes[other, last] / 2)


def test_channel_moments_add_up_to_the_second_moment(evidence):
    table = signal_tables.propagation(evidence)
    parts = table.pivot_table(index=["arm", "phase", "layer"], columns="quantity", values="value")
    assert (parts > 0).all().all()
    one_arm = evidence.trials[
        (evidence.trials["activation"] == "selu") & (evidence.trials["depth"] == 4)
    ]
    rows = evidence.layers[
        evidence.layers["trial_id"].isin(one_arm["trial_id"])
        & (evidence.layers["phase"] == "init")
        & (evidence.layers["layer"] == 1)
    ]
    square = rows["pre_activation_mean"] ** 2 + rows["pre_activation_variance"]
    variance = (1 - rows["between_unit_share"]) * square
    found = parts.loc[("selu", "init", 1), "channel_variance"]
    assert found == pytest.approx(math.exp(numpy.log(variance).mean()))


def test_the_cross_table_counts_every_cell_once(evidence):
    table = cross_tables.cross(evidence)
    assert table["cells"].sum() == len(evidence.cells)
    assert table["trials"].sum() == len(evidence.finished)


def test_the_map_is_of_selu_and_keeps_depth_in_order(evidence):
    table = cross_tables.map_cells(evidence)
    assert set(table["activation"]) == {"selu"}
    assert cross_tables.map_levels(table, "depth") == [2, 4]
    assert table["trials"].sum() == 4


def test_a_gaussian_fills_the_bins_of_a_histogram():
    shares = histogram_figures.gaussian_shares()
    assert shares.sum() == pytest.approx(1.0)
    assert shares == pytest.approx(shares[::-1])
    # P(|z| < 10^(-2 + 1/8)), in the two innermost bins.
    assert shares[31:33].sum() == pytest.approx(math.erf(10**-1.875 / math.sqrt(2)))


def test_histograms_of_an_arm_add_up(evidence):
    table = signal_tables.histograms(evidence, evidence.histograms, 4)
    assert set(table["arm"]) == {"selu", "relu"}
    counts = table.filter(like="count_").sum(axis=1)
    assert counts.nunique() == 1
    assert histogram_figures.colourful_dimension(table, arms(evidence)) is not None


def test_a_perfect_score_has_a_curve_through_the_corner():
    outcome = pandas.Series([True, True, False, False])
    curve = roc_curves.curve(pandas.Series([4.0, 3.0, 2.0, 1.0]), outcome)
    assert [0.0, 1.0] in curve[["false", "true"]].to_numpy().tolist()
    tied = roc_curves.curve(pandas.Series([1.0] * 4), outcome)
    assert tied.to_numpy().tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_figures_without_rows_are_left_out(evidence):
    empty = pandas.DataFrame()
    assert duration_figures.duration(empty, arms(evidence)) is None
    assert duration_figures.by_layer(empty, [], arms(evidence)) is None
    assert histogram_figures.colourful_dimension(empty, arms(evidence)) is None
    lines = pandas.DataFrame({"group": [""], "line": ["a"], "value": [math.nan]})
    assert forest(lines.assign(low=math.nan, high=math.nan), "label") is None


def test_an_svg_has_its_description_and_no_date():
    lines = pandas.DataFrame(
        {"group": [""], "line": ["a"], "value": [1.0], "low": [0.5], "high": [1.5]}
    )
    svg = inline_svg(forest(lines, "label"), 'less < "more"')
    assert 'aria-label="less &lt; &#34;more&#34;"' in svg
    assert "<metadata" not in svg
    assert ">label</text>" in svg
