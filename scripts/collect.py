#!/usr/bin/env python
"""Writes the tidy tables of all trials: `python scripts/collect.py [--runs FOLDER]`."""

import sys

from harness.commands.selu_collect import main

if __name__ == "__main__":
    sys.exit(main())
