"""The version of the code: equal on two machines that would train the same numbers."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from harness.configuration.schema import CONF_DIR

_CODE = Path(__file__).resolve().parents[1]


@functools.cache
def code_version() -> str:
    """Returns 12 hexadecimal digits for the content of the package and of its configuration."""
    digest = hashlib.sha256()
    for folder, pattern in ((_CODE, "*.py"), (Path(CONF_DIR), "*.yaml")):
        for path in sorted(folder.rglob(pattern)):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
