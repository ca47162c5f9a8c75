"""The page of a trial and its figure: verdicts, escaping, and that it loads nothing."""

from __future__ import annotations

import dataclasses
import xml.dom.minidom

import numpy

from harness.tracking import histogram_figure, profile_figure, trial_page
from harness.verdicts.evaluation import verdict_columns

HOSTILE = "<script>alert('x')</script> & \"quoted\""


def test_tables_judged_together_are_judged_as_alone(trained):
    first, second = (record.columns("layers", trial_page.columns()) for record in trained.records())
    poor = {
        name: values
        for name, values in second.items()
        if not name.startswith(("activation_mean", "predicted"))
    }
    last = {name: values[-2:] for name, values in first.items()}
    tables = [first, poor, last, {name: values[:0] for name, values in first.items()}, second]
    for table, judged in zip(tables, trial_page.judge(tables), strict=True):
        alone = verdict_columns(table)
        assert len(judged["verdict"]) == len(alone["verdict"])
        assert set(judged) <= set(alone)
        for name, values in judged.items():
            numpy.testing.assert_array_equal(values, alone[name], err_msg=name)
    columns = {"layer", "step", "condition", "verdict", "reason", "measured"}
    assert set(trial_page.judge(tables)[0]) >= columns
    assert trial_page.judge([]) == []


def test_hostile_names_are_escaped_and_the_same_trial_gives_the_same_page(trained):
    record = next(iter(trained.records()))
    summary = record.summary | {"verdict_sentence": HOSTILE, "prediction_sentence": HOSTILE}
    record = dataclasses.replace(record, summary=summary)
    layers = record.columns("layers", {*trial_page.columns(), *profile_figure.COLUMNS})
    (judged,) = trial_page.judge([layers])
    judged["criterion"] = numpy.full(len(judged["criterion"]), HOSTILE, object)
    profile = profile_figure.layer_profile(layers, HOSTILE)
    page = trial_page.diagnosis(record, layers, judged, HOSTILE, [profile])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 4
    assert 'quoted"' not in page
    assert xml.dom.minidom.parseString(profile).documentElement.tagName == "svg"
    assert profile_figure.layer_profile(layers, HOSTILE) == profile
    assert trial_page.diagnosis(record, layers, judged, HOSTILE, [profile]) == page


def test_histograms_show_every_count_of_a_layer_in_its_shade(trained):
    record = next(iter(trained.records()))
    layers = record.columns("layers", histogram_figure.COLUMNS)
    drawing = histogram_figure.histograms(layers, HOSTILE)
    svg = xml.dom.minidom.parseString(drawing)
    texts = [node.firstChild.data for node in svg.getElementsByTagName("text")]
    assert texts.count("initialisation") == 1
    assert texts.count("end of training") == 1
    assert texts[0] == HOSTILE
    # One layer with two full bins and a neighbour of a third of their count.
    counts = numpy.zeros(64)
    counts[[3, 4, 5]] = (9, 9, 3)
    one = {"phase": numpy.array(["end"]), "layer": numpy.array([7])}
    one["histogram"] = numpy.array([counts, None], object)[:1]
    paths = xml.dom.minidom.parseString(histogram_figure.histograms(one, "")).getElementsByTagName(
        "path"
    )
    shades = {path.getAttribute("fill-opacity"): path.getAttribute("d") for path in paths}
    left = 42 + 64 * 6 + 42
    assert shades == {
        "0.33": f"M{left + 30} 42h6v12h-6z",
        "1.0": f"M{left + 18} 42h12v12h-12z",
    }
    assert histogram_figure.histograms({"phase": one["phase"], "layer": one["layer"]}, "") == ""


def test_a_trial_without_layers_has_a_page(trained):
    record = next(iter(trained.records()))
    columns = {*trial_page.columns(), *profile_figure.COLUMNS}
    layers = {name: values[:0] for name, values in record.columns("layers", columns).items()}
    (judged,) = trial_page.judge([layers])
    profile = profile_figure.layer_profile(layers, "empty")
    page = trial_page.diagnosis(record, layers, judged, "empty", [profile])
    assert "Verdicts by layer" not in page
    assert "<polyline" not in page
