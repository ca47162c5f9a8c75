"""Folders of trials that a command set aside are named on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping


def name_set_aside(reasons: Mapping[str, str]) -> None:
    """Writes one line for each folder that a command left out.

    Args:
        reasons: the reason for each folder, by its name.
    """
    for reason in reasons.values():
        sys.stderr.write(f"set aside: {reason}\n")
