"""The diagnosis page: what is judged for many trials at once is what each would be told alone."""

from __future__ import annotations

import numpy

from harness.tracking import trial_page as page
from harness.verdicts.evaluation import verdict_columns


def test_tables_judged_together_are_judged_as_alone(trained):
    first, second = (record.columns("layers", page.columns()) for record in trained.records())
    poor = {
        name: values
        for name, values in second.items()
        if not name.startswith(("activation_mean", "predicted"))
    }
    last = {name: values[-2:] for name, values in first.items()}
    tables = [first, poor, last, {name: values[:0] for name, values in first.items()}, second]
    for table, judged in zip(tables, page.judge(tables), strict=True):
        alone = verdict_columns(table)
        assert len(judged["verdict"]) == len(alone["verdict"])
        assert set(judged) <= set(alone)
        for name, values in judged.items():
            numpy.testing.assert_array_equal(values, alone[name], err_msg=name)
    assert set(page.judge(tables)[0]) >= {
        "layer",
        "step",
        "assumption",
        "verdict",
        "reason",
        "measured",
    }
    assert page.judge([]) == []
