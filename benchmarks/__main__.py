"""Run every benchmark at its usual size; figures go to ``runs/``."""

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
)


def main() -> None:
    Path("runs").mkdir(exist_ok=True)
    for name, arguments in RUNS:
        print(f"\n== {name} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
