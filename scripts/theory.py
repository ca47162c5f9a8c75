#!/usr/bin/env python
"""The command `selu-theory` from a checkout: `python scripts/theory.py COMMAND [--json]`."""

import sys

from harness.commands.selu_theory import main

if __name__ == "__main__":
    sys.exit(main())
