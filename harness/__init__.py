"""A benchmark harness for one question: when do the assumptions of SELU networks hold?"""

from typing import Any

__all__ = ["Cadence", "Monitor", "diagnose", "trained_network"]


def __getattr__(name: str) -> Any:
    # Looked up on first use: importing harness must stay fast and import no torch.
    if name == "diagnose":
        from harness.diagnosis.diagnose import diagnose

        return diagnose
    if name in ("Cadence", "Monitor"):
        from harness.monitoring import monitor

        return getattr(monitor, name)
    if name == "trained_network":
        from harness.sweeps.trained_network import trained_network

        return trained_network
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
