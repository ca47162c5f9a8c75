"""Seeds of independent random streams, one for each purpose."""

from __future__ import annotations

import hashlib


def purpose_seed(seed: int, purpose: str) -> int:
    """Returns a 63-bit seed that depends on (seed, purpose) alone.

    Arms with one seed so share their batches, and every layer has a stream of its own.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
