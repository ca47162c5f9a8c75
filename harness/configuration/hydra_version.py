"""The argument that tells Hydra which of its rules to follow, where it still takes one.

Hydra 1.3 wants `version_base`. Hydra 1.4 always follows its own rules and warns about the argument,
which 1.5 removes.
"""

from __future__ import annotations

import hydra

VERSION_OPTIONS: dict[str, str] = {}
if hydra.__version__.startswith("1.3."):
    VERSION_OPTIONS = {"version_base": "1.3"}
