"""A benchmark harness for the assumptions of SELU networks: when they hold, and whether it matters."""

from typing import Any

__all__ = ["diagnose"]


def __getattr__(name: str) -> Any:
    # Looked up on first use: importing harness must stay fast and import no torch.
    if name == "diagnose":
        from harness.diagnosis.diagnose import diagnose

        return diagnose
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
