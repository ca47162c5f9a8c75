#!/usr/bin/env python
"""Checks every done trial: `python scripts/verify.py [--runs FOLDER] [--repair]`."""

import sys

from harness.commands.selu_verify import main

if __name__ == "__main__":
    sys.exit(main())
