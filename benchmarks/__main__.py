"""Run every benchmark at its usual size, or those named; figures go to ``runs/``.

python -m benchmarks
python -m benchmarks scoring
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNS = (
    ("kernel", ["--rows", "150000"]),
    ("align", ["--ids", "100000"]),
    ("align", ["--ids", "1000000"]),
    ("gbdt", ["--json", "runs/gbdt.json"]),
    ("scorecard", ["--json", "runs/scorecard.json"]),
    ("scoring", ["--json", "runs/scoring.json"]),
)


def main() -> None:
    Path("runs").mkdir(exist_ok=True)
    chosen = sys.argv[1:]
    if unknown := set(chosen) - {name for name, _ in RUNS}:
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}")
    for name, arguments in RUNS:
        if chosen and name not in chosen:
            continue
        print(f"\n== {name} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
