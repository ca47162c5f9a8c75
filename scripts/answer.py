#!/usr/bin/env python
"""Writes a study's answer: `python scripts/answer.py [--runs FOLDER] [--out FOLDER]`."""

import sys

from harness.commands.selu_answer import main

if __name__ == "__main__":
    sys.exit(main())
