"""`selu-train`: trains cells and sweeps, as `python -m harness.train` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from harness.sweeps import command_line


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what the arguments ask for and returns the exit code.

    Hydra reads its arguments from `sys.argv`, so `argv` stands there meanwhile. A user's own
    networks and activations are found in the working folder, as with `python -m`.
    """
    from harness import train

    sys.path.insert(0, os.getcwd())
    before = sys.argv
    if argv is not None:
        sys.argv = [before[0], *argv]
    try:
        return command_line.run(train.main)
    finally:
        sys.argv = before


if __name__ == "__main__":
    sys.exit(main())
