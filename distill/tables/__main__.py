"""The command `python -m distill.tables`, which prints `docs/data.md`."""

import sys

from distill.tables import documentation

sys.stdout.write(documentation())
