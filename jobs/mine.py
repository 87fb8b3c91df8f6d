#!/usr/bin/env python3
"""Select the candidates of every query, with the stages that this needs.

python jobs/mine.py --config my.yaml    # a configuration of any method: td, mtd, arm

The same settings and storage as the method's own script, so that nothing is computed twice; without the report.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

from jobs.running.methods import main_until


def main(arguments: Sequence[str]) -> int:
    """Run the job up to this stage; return the exit code."""
    return main_until("select", "mine", arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
