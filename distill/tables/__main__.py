"""Prints `docs/data.md`: `python -m distill.tables`."""

import sys

from distill.tables import documentation

sys.stdout.write(documentation())
