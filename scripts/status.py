#!/usr/bin/env python
"""Shows the progress of a sweep: `python scripts/status.py [--runs FOLDER] [--json] [--watch]`."""

import sys

from harness.commands.selu_status import main

if __name__ == "__main__":
    sys.exit(main())
