"""Check that the embedded default reached what the README says: the student ahead in every language, and a floor for its mean."""

import json
import sys
from pathlib import Path

FLOOR = 0.65

summary = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
metrics = {system: {name: by["nDCG@20"] for name, by in found.items()} for system, found in summary["metrics"].items()}
student = metrics["student"]
faults = [
    f"{language}: student {student[language]:.3f} is not above {baseline} {metrics[baseline][language]:.3f}"
    for language in summary["languages"]
    for baseline in ("bm25", "english_distillation")
    if student[language] <= metrics[baseline][language]
]
mean = sum(student[language] for language in summary["languages"]) / len(summary["languages"])
if mean < FLOOR:
    faults.append(f"the student's mean nDCG@20 is {mean:.3f}, expected at least {FLOOR}")
if faults:
    sys.exit("; ".join(faults))
print(
    f"student {mean:.3f} over {len(summary['languages'])} languages, ahead of BM25 and English-only distillation in each"
)
