#!/usr/bin/env python
"""Sends to MLflow what it misses: `python scripts/sync_mlflow.py [--runs FOLDER] [--uri URI]`."""

import sys

from harness.commands.selu_sync import main

if __name__ == "__main__":
    sys.exit(main())
