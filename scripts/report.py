#!/usr/bin/env python
"""Writes the report: `python scripts/report.py [--runs FOLDER] [--where AXIS=VALUE ...]`."""

import sys

from harness.commands.selu_report import main

if __name__ == "__main__":
    sys.exit(main())
