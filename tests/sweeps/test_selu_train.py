"""The installed command of training finds what lies in the working folder."""

from __future__ import annotations

import importlib
import sys

from harness.commands import selu_train


def test_a_users_module_is_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "shapes_of_a_user.py").write_text("CORNERS = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = []

    def train(_):
        found.append(importlib.import_module("shapes_of_a_user").CORNERS)
        return 0

    monkeypatch.setattr(selu_train.command_line, "run", train)
    assert selu_train.main(["activation=shapes_of_a_user:corners"]) == 0
    assert found == [5]
