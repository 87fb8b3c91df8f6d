#!/usr/bin/env python3
"""The train stage of jobs/mtd.py alone, with the stages that it needs: same settings, same storage, nothing done twice.

python jobs/train.py --config my.yaml
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from jobs.mtd import pipeline
from jobs.running.command import main

if __name__ == "__main__":
    main(pipeline, __file__, __doc__, until="train")
