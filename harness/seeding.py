"""Seeds of independent random streams, one for each purpose."""

from __future__ import annotations

import hashlib


def purpose_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed that depends on (seed, purpose) alone, so that arms with one seed share batches and not weights' noise."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
