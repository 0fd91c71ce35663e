"""Measure scores and verifications for an institution; every party is a process of its own.

    python -m benchmarks.scoring                          # all parts, about three minutes
    python -m benchmarks.scoring --parts single batch --no-baselines
    python -m benchmarks.scoring --concrete concrete/bin/python --json runs/scoring.json
    python -m benchmarks.scoring --quick                  # whether it runs; no figures to quote

Hub, platform service and two providers are ``fedcredit`` processes over TCP with mutual TLS, with
consents, budgets, audit logs and SQLite files (WAL, a durable commit before every answer); the
institution is this process. Every consent of a single score or verification is a new one with one
use. Every answer is compared with what the training side computes. The budgets are set higher than
their defaults, which would stop a benchmark as scraping; they are counted and checked all the same.

The baselines compute a score of 23 features for a client that has all of them, in one process and
without a network: see :mod:`benchmarks.scoring_baselines`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import fedcredit as fc
from benchmarks.parties import machine
from benchmarks.scoring_baselines import baselines
from benchmarks.scoring_cases import audit_log, batches, single_scores, verifications
from benchmarks.scoring_site import BANK, CARD, QUICK, Size, running_service

PARTS = {
    "single": single_scores,
    "batch": batches,
    "verify": verifications,
    "audit": audit_log,
}
PACKAGES = ("tenseal", "cryptography", "sqlalchemy", "numpy", "pyarrow", "phe")


def measure(size: Size, parts: Sequence[str], work: Path) -> dict[str, Any]:
    """Run the service and the chosen parts; return the figures by part."""
    with running_service(work, size) as service:
        out: dict[str, Any] = {"setup": service.setup}
        for part in parts:
            before = os.getloadavg()[0]
            out[part] = PARTS[part](service, size)
            out.setdefault("load", {})[part] = [before, os.getloadavg()[0]]
            show(part, out[part])
    return out


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """How much faster than each baseline: scores of one enterprise, and of a batch, per second.

    One score is set against the time of a baseline's one; a batch against its rate.
    """
    base, out = found.get("baselines", {}), {}
    card = [one for one in found.get("single", []) if one["model"] == CARD]
    bulk = [one for one in found.get("batch", []) if one["model"] == CARD]
    for name, figures in base.items():
        if name == "concrete_ml":
            figures = figures.get("logistic", {})
        if "p50_ms" not in figures:
            continue
        rate = figures.get("scores_per_s", 1e3 / figures["p50_ms"])
        for one in card:
            if "batch" not in figures:
                out[f"one score, {one['mode']}, against {name}"] = figures["p50_ms"] / one["p50_ms"]
        for one in bulk:
            out[f"batch, {one['mode']}, against {name}"] = one["scores_per_s"] / rate
    return out


# ----------------------------------------------------------------------------------- output

_LABELS = {
    "model": "model",
    "mode": "mode",
    "kind": "question",
    "batch": "batch",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "per_s": "per s",
    "scores_per_s": "scores/s",
    "scores_per_s_with_present": "with presenting",
    "scores_per_s_first_use": "new consents",
    "appends_per_s": "appends/s",
    "in_one_transaction_us": "us in one transaction",
    "sent_bytes": "bytes sent",
    "received_bytes": "bytes received",
    "max_error": "largest error",
}


def show(title: str, results: Any) -> None:
    """Print a table."""
    rows = results if isinstance(results, list) else [results]
    columns = [key for key in _LABELS if any(key in row for row in rows)]
    cpu = [name for name in rows[0].get("cpu_ms", {}) if name != BANK]
    table = Table(title=title, title_justify="left")
    for key in columns:
        table.add_column(_LABELS[key], justify="right")
    for name in [*cpu, *([BANK] if cpu else [])]:
        table.add_column(f"CPU ms {name}", justify="right")
    for row in rows:
        spent = row.get("cpu_ms", {})
        table.add_row(
            *(_text(row.get(key)) for key in columns),
            *(_text(spent.get(name)) for name in [*cpu, *([BANK] if cpu else [])]),
        )
    Console(width=160).print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--trees", type=int, default=Size.trees)
    parser.add_argument("--depth", type=int, default=Size.depth)
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--concrete", metavar="PYTHON", help="interpreter that has Concrete ML")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    size = QUICK if options.quick else Size(trees=options.trees, depth=options.depth)
    found: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.scoring", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"fedcredit": fc.__version__, **{name: version(name) for name in PACKAGES}},
        "size": vars(size),
    }
    with tempfile.TemporaryDirectory(prefix="fedcredit-scoring-") as work:
        found |= measure(size, options.parts, Path(work))
    if not options.no_baselines:
        found["baselines"] = baselines(quick=options.quick, python=options.concrete)
        show(
            "baselines",
            [
                {"model": name, **figures}
                for name, figures in found["baselines"].items()
                if "p50_ms" in figures
            ],
        )
        found["ratios"] = ratios(found)
        for name, ratio in found["ratios"].items():
            print(f"{name}: {ratio:.3g}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
