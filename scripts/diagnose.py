#!/usr/bin/env python
"""Diagnoses any model: see `python scripts/diagnose.py --help`."""

import sys

from harness.commands.selu_diagnose import main

if __name__ == "__main__":
    sys.exit(main())
