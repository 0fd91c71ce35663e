"""Measure joint binning, logistic regression and scorecards; every party is a process of its own.

    python -m benchmarks.scorecard                        # 150k rows, 10 + 13 features, all parts
    python -m benchmarks.scorecard --parts logistic --modes hidden --providers 2
    python -m benchmarks.scorecard --large --json runs/scorecard_large.json   # 800k, 40 + 60

Every message goes through codec, signature and a TCP socket, also those between providers. Binning
and regression run the roles of :mod:`fedcredit.protocols`: binning from raw columns to the events
in every bin, regression on weights of evidence until it has converged. Its modes are ``hidden``
(the default: a hidden phase, then one or two Newton steps on coarsened predictors), ``exact`` (the
same with exact predictors) and ``revealed`` (``reveal_predictor=True``). The card runs the
estimators over the same processes, from alignment to the points of all rows.

A small run first loads compiled code. Making data is not measured. The same work on pooled columns
follows when the parties' processes have ended: `fit_glm`, the same bin rules, a scorecard of one
table. Counts must be equal; coefficients are compared with the pooled optimum.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.parties import LABEL, Party, Work, costs, machine, run_parties
from benchmarks.scorecard_card import card_holder, card_provider, pooled_card
from benchmarks.scorecard_data import Floats, Shape, labels, raw_columns, weight_columns
from fedcredit.protocols.binning import (
    BinnedColumn,
    FeatureCounts,
    binning_label_holder,
    binning_provider,
)
from fedcredit.protocols.binning_messages import BinJob
from fedcredit.protocols.logistic import LogisticData, LogisticParams, logistic_label_holder
from fedcredit.protocols.logistic_provider import logistic_provider
from fedcredit.protocols.logistic_types import LogisticLimits
from fedcredit.stats.bin_merging import merge_bins
from fedcredit.stats.bin_rules import quantile_rule
from fedcredit.stats.glm import fit_glm
from fedcredit.wire import Peers

#: Rows that a bin holds at least.
FLOOR = 10
#: Predictors that the mode ``revealed`` may reveal: enough for Newton's method to converge.
MAX_REVEALS = 20
WARM_UP: dict[str, Any] = {"rows": 2_000, "own": 4, "other": 6}


@dataclass(frozen=True)
class Case:
    """One measurement."""

    part: str
    shape: Shape
    mode: str
    prebins: int
    threads: int

    @property
    def params(self) -> LogisticParams:
        """The objective and the method of a regression."""
        if self.mode == "revealed":
            return LogisticParams(reveal_predictor=True, max_reveals=MAX_REVEALS)
        return LogisticParams()

    @property
    def small(self) -> Case:
        """The same with little data, to warm up."""
        return dataclasses.replace(self, shape=dataclasses.replace(self.shape, **WARM_UP))


# --------------------------------------------------------------------------------- binning


def binned(columns: Floats, features: Sequence[int], prebins: int) -> list[BinnedColumn]:
    """Make a rule for every raw column and apply it."""
    out = []
    for feature, values in zip(features, columns, strict=True):
        rule = quantile_rule(values, max_bins=prebins, min_bin_count=FLOOR)
        out.append(BinnedColumn(f"f{feature}", rule, rule.apply(values)))
    return out


def binning_holder(party: Party, case: Case) -> dict[str, Any]:
    """Count events in the bins of all features."""
    shape, none = case.shape, np.zeros(0)
    columns, y = raw_columns(shape.rows, shape.features(LABEL)), labels(shape.rows, shape.width)
    rows = np.arange(shape.rows, dtype=np.uint32)
    first = np.zeros(1, np.int32)
    job = BinJob("bench", "bench", rows, case.prebins, (), (), first, none, (), first, none)
    party.wait()
    with party.measured() as span:
        counts = [
            FeatureCounts.of(column, y)
            for column in binned(columns, shape.features(LABEL), case.prebins)
        ]
        jobs = dict.fromkeys(party.providers, job)
        found = party.open(binning_label_holder(Peers(party.providers), jobs, y))
        for name in party.providers:
            counts += found[name]
    started = time.perf_counter()
    for one in counts:
        merge_bins(one.count, one.event, one.roles)
    merging = time.perf_counter() - started
    return {
        "span": span,
        "counts": [(one.count, one.event) for one in counts],
        "merging": merging,
    }


def binning_server(party: Party, case: Case) -> dict[str, Any]:
    """Bin a provider's features and let events be counted."""
    features = case.shape.features(party.name)
    columns = raw_columns(case.shape.rows, features)

    async def role() -> None:
        peer = Peers([LABEL])[LABEL]
        job = await peer.recv(BinJob)
        own = binned(columns, features, job.prebins)
        await binning_provider(peer, own, n_rows=len(job.rows), floor=FLOOR, threads=case.threads)

    return {"span": party.answer_once(lambda _: role())}


def pooled_counts(case: Case) -> tuple[float, list[tuple[Any, Any]]]:
    """Bin and count with all columns in one hand; return seconds and the counts."""
    shape = case.shape
    columns, y = raw_columns(shape.rows, range(shape.width)), labels(shape.rows, shape.width)
    started = time.perf_counter()
    counts = [
        FeatureCounts.of(column, y) for column in binned(columns, range(shape.width), case.prebins)
    ]
    return time.perf_counter() - started, [(one.count, one.event) for one in counts]


def check_binning(case: Case, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare with pooled binning."""
    pooled_counts(case.small)
    seconds, expected = pooled_counts(case)
    counts = figures[LABEL]["counts"]
    if len(counts) != len(expected) or not all(
        np.array_equal(a, c) and np.array_equal(b, d)
        for (a, b), (c, d) in zip(counts, expected, strict=True)
    ):
        raise RuntimeError("the joint counts differ from those of pooled columns")
    return {
        "prebins": case.prebins,
        "merging_s": figures[LABEL]["merging"],
        "pooled_s": seconds,
        "counts_equal": True,
    }


# ------------------------------------------------------------------------------ regression


def logistic_holder(party: Party, case: Case) -> dict[str, Any]:
    """Fit with the providers."""
    shape = case.shape
    data = LogisticData(
        weight_columns(shape.rows, shape.features(LABEL)),
        labels(shape.rows, shape.width).astype(np.float64),
    )
    sizes = {name: len(shape.features(name)) for name in party.providers}
    marks: list[float] = []
    party.wait()
    with party.measured() as span:
        outcome = party.open(
            logistic_label_holder(
                Peers(party.providers),
                data,
                case.params,
                sizes,
                on_progress=lambda *_: marks.append(time.monotonic()),
            )
        )
    last_hidden = sum(point.phase != "exact" for point in outcome.trace)
    coef = [outcome.coef, *(outcome.released[name].coef for name in party.providers)]
    return {
        "span": span,
        "coef": np.append(np.concatenate(coef), outcome.intercept),
        "error": np.sqrt(np.diag(outcome.covariance)),
        "evaluations": outcome.evaluations,
        "revealed": outcome.revealed,
        "converged": outcome.converged,
        "events": int(data.y.sum()),
        "hidden_s": marks[last_hidden - 1] - span.begin if last_hidden else 0.0,
        "trace": [dataclasses.asdict(point) for point in outcome.trace],
    }


def logistic_server(party: Party, case: Case) -> dict[str, Any]:
    """Take part in a fit."""
    columns = weight_columns(case.shape.rows, case.shape.features(party.name))
    limits = LogisticLimits(
        max_reveals=MAX_REVEALS if case.mode == "revealed" else case.params.polish_steps,
        exact_predictors=case.mode != "hidden",
    )

    def role(session: bytes) -> Any:
        return logistic_provider(
            Peers(party.others),
            LABEL,
            party.providers,
            party.name,
            columns,
            case.params,
            limits,
            salt=session,
            threads=case.threads,
        )

    return {"span": party.answer_once(role)}


def check_logistic(case: Case, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare with the pooled optimum."""
    label, shape = figures[LABEL], case.shape
    X, y = weight_columns(shape.rows, range(shape.width)), labels(shape.rows, shape.width)
    fit_glm(X[:2_000, :4], y[:2_000])
    started = time.perf_counter()
    pooled = fit_glm(X, y)
    seconds = time.perf_counter() - started
    error = np.sqrt(np.diag(pooled.covariance))
    difference = np.abs(label["coef"] - pooled.parameters)
    return {
        "mode": case.mode,
        **{k: label[k] for k in ("evaluations", "revealed", "converged", "events", "trace")},
        "hidden_s": label["hidden_s"],
        "coefficient_error": float(difference.max()),
        "coefficient_error_se": float((difference / error).max()),
        "standard_error_error": float(np.abs(label["error"] / error - 1).max()),
        "pooled_s": seconds,
    }


# ---------------------------------------------------------------------------------- a card


def check_card(case: Case, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare with a card of one table."""
    pooled_card(case.small)
    seconds, coef, points = pooled_card(case)
    label = figures[LABEL]
    joint = label["coef"]
    common = sorted(set(coef) & set(joint))
    difference = np.abs(label["points"] - points)
    return {
        "prebins": case.prebins,
        "phases": label["phases"],
        "fits": label["fits"],
        "characteristics": len(joint),
        "other_characteristics": len(set(coef) ^ set(joint)),
        "coefficient_error": max(abs(coef[name] - joint[name]) for name in common),
        "points_max_difference": int(difference.max()),
        "points_equal": float((difference == 0).mean()),
        "pooled_s": seconds,
    }


PARTS: dict[str, tuple[tuple[Work, Work], Any]] = {
    "binning": ((binning_holder, binning_server), check_binning),
    "logistic": ((logistic_holder, logistic_server), check_logistic),
    "card": ((card_holder, card_provider), check_card),
}


def measure(case: Case) -> dict[str, Any]:
    """Run one case in fresh processes and return its figures."""
    works, check = PARTS[case.part]
    shape = case.shape
    figures = run_parties((LABEL, *shape.providers), works, (case.small, case))
    cost = costs(
        {name: one["span"] for name, one in figures.items()},
        {name: one["peak"] for name, one in figures.items()},
    )
    checked = check(case, figures)
    return {
        "part": case.part,
        "rows": shape.rows,
        "own": shape.own,
        "other": shape.other,
        "providers": len(shape.providers),
        "threads": case.threads,
        **cost,
        **checked,
        "ratio": cost["seconds"] / checked["pooled_s"],
    }


# ----------------------------------------------------------------------------------- output

TITLES = {
    "binning": "Joint binning, from raw columns to events per bin",
    "logistic": "Vertical logistic regression",
    "card": "Scorecard, from alignment to points",
}


def _common(r: dict[str, Any]) -> dict[str, str]:
    return {
        "rows": f"{r['rows']:,}",
        "features label + providers": f"{r['own']} + {r['other']}",
        "providers": str(r["providers"]),
        "s": f"{r['seconds']:.2f}",
        "pooled s": f"{r['pooled_s']:.2f}",
        "ratio": f"{r['ratio']:.1f}",
        "CPU s label": f"{r['label_cpu_s']:.2f}",
        "CPU s providers": ", ".join(f"{s:.2f}" for s in r["provider_cpu_s"]),
        "MB label to providers": f"{r['up_mb']:.1f}",
        "MB providers to label": f"{r['down_mb']:.2f}",
        "MB between providers": f"{r['across_mb']:.2f}",
        "peak MB label": f"{r['label_peak_mb']:.0f}",
        "peak MB providers": ", ".join(f"{m:.0f}" for m in r["provider_peak_mb"]),
    }


def _binning(r: dict[str, Any]) -> dict[str, str]:
    return {
        "bins per feature": str(r["prebins"]),
        "merging, further s": f"{r['merging_s']:.2f}",
        "counts": "equal" if r["counts_equal"] else "DIFFER",
    }


def _logistic(r: dict[str, Any]) -> dict[str, str]:
    return {
        "mode": r["mode"],
        "hidden phase s": f"{r['hidden_s']:.2f}",
        "gradients": str(r["evaluations"]),
        "predictors revealed": str(r["revealed"]),
        "converged": "yes" if r["converged"] else "NO",
        "max |coefficient error|": f"{r['coefficient_error']:.1e}",
        "the same in standard errors": f"{r['coefficient_error_se']:.1e}",
        "standard errors off by": f"{r['standard_error_error']:.1e}",
    }


def _card(r: dict[str, Any]) -> dict[str, str]:
    return {
        **{f"{name} s": f"{seconds:.2f}" for name, seconds in r["phases"].items()},
        "regressions": str(r["fits"]),
        "characteristics": str(r["characteristics"]),
        "chosen otherwise when pooled": str(r["other_characteristics"]),
        "max |coefficient error|": f"{r['coefficient_error']:.1e}",
        "rows with equal points": f"{r['points_equal']:.2%}",
        "max |points difference|": str(r["points_max_difference"]),
    }


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print one table per part, a column per case."""
    own = {"binning": _binning, "logistic": _logistic, "card": _card}
    for part, title in TITLES.items():
        columns = [_common(r) | own[part](r) for r in results if r["part"] == part]
        if not columns:
            continue
        table = Table(show_header=False)
        table.add_column()
        for _ in columns:
            table.add_column(justify="right")
        for heading in dict.fromkeys(heading for column in columns for heading in column):
            table.add_row(heading, *(column.get(heading, "") for column in columns))
        console = Console(width=140)
        console.print(title)
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="800k rows, 40 + 60 features")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), help="all; --large: no card")
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--own", type=int, help="features of the label holder")
    parser.add_argument("--other", type=int, help="features of the providers together")
    parser.add_argument("--providers", type=int, nargs="+", choices=(1, 2, 3))
    parser.add_argument("--modes", nargs="+", choices=("hidden", "exact", "revealed"))
    parser.add_argument("--prebins", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each provider")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    large = options.large
    parts = options.parts or (["binning", "logistic"] if large else list(PARTS))
    results: list[dict[str, Any]] = []
    for rows in options.rows or [800_000 if large else 150_000]:
        for part in parts:
            modes = options.modes or (["hidden"] if large else ["hidden", "revealed"])
            for providers in options.providers or ([1] if large else [1, 2]):
                shape = Shape(
                    rows,
                    options.own or (40 if large else 10),
                    options.other or (60 if large else 13),
                    tuple(f"provider{i + 1}" for i in range(providers)),
                )
                for mode in modes if part == "logistic" else ["hidden"]:
                    case = Case(part, shape, mode, options.prebins, options.threads)
                    results.append(measure(case))
                    show(results[-1:])
                    if options.json:
                        # After every case: a long run that is cut off leaves what it has.
                        options.json.parent.mkdir(parents=True, exist_ok=True)
                        figures = {"machine": machine(), "results": results}
                        options.json.write_text(json.dumps(figures, indent=1))
    for part in parts:
        if len(cases := [r for r in results if r["part"] == part]) > 1:
            show(cases)


if __name__ == "__main__":
    main()
