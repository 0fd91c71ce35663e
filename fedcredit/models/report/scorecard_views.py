"""The tables of a scorecard's model document."""

from __future__ import annotations

from fedcredit.models.report.headline import SPLIT_NAMES
from fedcredit.models.report.scorecard_data import Characteristic, ScorecardReport
from fedcredit.models.report.tables import Bar, Cell, Column, Table
from fedcredit.models.report.text import (
    ABSENT,
    count,
    decimal,
    name,
    percent,
    scalar,
    signed,
    words,
)

__all__ = [
    "band_table",
    "bin_table",
    "characteristic_table",
    "coefficient_table",
    "fit_table",
    "metric_table",
    "note_table",
    "scale_table",
    "selection_table",
    "slice_table",
    "stability_table",
    "tables_of",
    "trace_table",
]

#: Siddiqi, *Credit Risk Scorecards* (2006): below 0.1 stable, from 0.25 on shifted.
_WATCH, _SHIFTED = 0.1, 0.25
_TEXT = {"numeric": False}


def _points(value: float | None) -> str:
    if value is None:
        return ABSENT
    return decimal(value, 0 if float(value).is_integer() else 2)


def _p_value(value: float | None) -> str:
    return "<0.0001" if value is not None and value < 1e-4 else decimal(value)


def _split(split: str) -> str:
    return SPLIT_NAMES.get(split, name(split))


def scale_table(report: ScorecardReport) -> Table | None:
    """List what fixes the points."""
    if not report.scale:
        return None
    rows: list[tuple[Cell, ...]] = [(name(k), scalar(v)) for k, v in report.scale.items()]
    if report.base_points is not None:
        rows.append(("base points", _points(report.base_points)))
    return Table("Scale", (Column("Setting", **_TEXT), Column("Value")), tuple(rows))


def characteristic_table(report: ScorecardReport) -> Table | None:
    """One line per characteristic: its strength, and the reach of its points."""
    if not report.characteristics:
        return None
    strongest = max(c.iv for c in report.characteristics) or 1.0
    rows = []
    for item in sorted(report.characteristics, key=lambda c: -c.iv):
        points = [b.points for b in item.bins if b.points is not None]
        reach = f"{_points(min(points))} to {_points(max(points))}" if points else ABSENT
        rows.append(
            (
                name(item.feature),
                name(item.party),
                str(len(item.bins)),
                Bar(decimal(item.iv), item.iv / strongest),
                reach,
            )
        )
    return Table(
        "Characteristics by information value",
        (
            Column("Characteristic", **_TEXT),
            Column("Party", **_TEXT),
            Column("Bins"),
            Column("Information value", **_TEXT),
            Column("Points"),
        ),
        tuple(rows),
    )


def bin_table(item: Characteristic) -> Table:
    """Return the bins of one characteristic, as in the printed scorecard."""
    total = sum(b.count for b in item.bins) or 1
    return Table(
        f"{name(item.feature)}, information value {decimal(item.iv)}",
        (
            Column("Bin", **_TEXT),
            Column("Rows"),
            Column("Share"),
            Column("Events"),
            Column("Event rate"),
            Column("WOE"),
            Column("IV"),
            Column("Points"),
        ),
        tuple(
            (
                name(b.label),
                count(b.count),
                percent(b.count / total),
                count(b.events),
                percent(b.event_rate, 2),
                signed(b.woe),
                decimal(b.iv),
                _points(b.points),
            )
            for b in item.bins
        ),
    )


def selection_table(report: ScorecardReport) -> Table | None:
    """Every candidate feature, what became of it and why."""
    if not report.selection:
        return None
    return Table(
        f"{sum(r.kept for r in report.selection)} of {len(report.selection)} candidates kept",
        (
            Column("Feature", **_TEXT),
            Column("Outcome", **_TEXT),
            Column("Decided by", **_TEXT),
            Column("Value"),
            Column("Threshold"),
            Column("Against", **_TEXT),
        ),
        tuple(
            (
                name(r.feature),
                "kept" if r.kept else "dropped",
                name(f"{r.step}: {r.statistic}" if r.statistic else r.step),
                decimal(r.value),
                decimal(r.threshold),
                name(r.against) if r.against else "",
            )
            for r in sorted(report.selection, key=lambda r: not r.kept)
        ),
    )


def coefficient_table(report: ScorecardReport) -> Table | None:
    """Coefficients with Wald statistics."""
    if not report.coefficients:
        return None
    closed = any(r.coefficient is None for r in report.coefficients)
    return Table(
        "Coefficients",
        (
            Column("Term", **_TEXT),
            Column("Party", **_TEXT),
            Column("Coefficient"),
            Column("Std. error"),
            Column("z"),
            Column("p-value"),
            Column("95 % interval"),
        ),
        tuple(
            (
                name(r.feature),
                name(r.party),
                decimal(r.coefficient),
                decimal(r.standard_error),
                decimal(r.z, 2),
                _p_value(r.p_value),
                ABSENT if r.lower is None else f"{decimal(r.lower)} to {decimal(r.upper)}",
            )
            for r in report.coefficients
        ),
        note="A dash stands for what its owner keeps to itself." if closed else "",
    )


def trace_table(report: ScorecardReport) -> Table | None:
    """How the fit converged, and what it revealed on the way."""
    if not report.trace:
        return None
    return Table(
        f"Convergence: {count(len(report.trace))} evaluations, "
        f"{count(report.revealed)} predictors revealed",
        (
            Column("Evaluation"),
            Column("Phase", **_TEXT),
            Column("Norm of the gradient"),
            Column("Predictors revealed so far"),
        ),
        tuple(
            (str(r.iteration), name(r.phase), f"{r.gradient_norm:.2e}", str(r.revealed))
            for r in report.trace
        ),
    )


def metric_table(report: ScorecardReport) -> Table | None:
    """Metrics by part of the data with bootstrap intervals."""
    if not report.metrics:
        return None
    splits = list(dict.fromkeys(r.split for r in report.metrics))
    cells = {(r.metric, r.split): r for r in report.metrics}
    rows = []
    for metric in dict.fromkeys(r.metric for r in report.metrics):
        found = [cells.get((metric, split)) for split in splits]
        rows.append(
            (
                name(metric),
                *(
                    ABSENT
                    if r is None
                    else f"{decimal(r.value)} ({decimal(r.low)} to {decimal(r.high)})"
                    for r in found
                ),
            )
        )
    return Table(
        "Performance with 95 % bootstrap intervals",
        (Column("Metric", **_TEXT), *(Column(f"{_split(s)} rows") for s in splits)),
        tuple(rows),
    )


def stability_table(report: ScorecardReport) -> Table | None:
    """List the population stability index of the score and of each characteristic."""
    if not report.stability:
        return None
    splits = list(dict.fromkeys(r.split for r in report.stability))
    cells = {(r.name, r.split): r.index for r in report.stability}
    return Table(
        "Population stability index against the training rows",
        (Column("Of", **_TEXT), *(Column(f"{_split(s)} rows", **_TEXT) for s in splits)),
        tuple(
            (name(item), *(_index(cells.get((item, split))) for split in splits))
            for item in dict.fromkeys(r.name for r in report.stability)
        ),
        note=f"Below {_WATCH} stable, from {_SHIFTED} on shifted (rule of thumb).",
    )


def _index(value: float | None) -> str:
    if value is None:
        return ABSENT
    verdict = "stable" if value < _WATCH else "watch" if value < _SHIFTED else "shifted"
    return f"{decimal(value)} {verdict}"


def fit_table(report: ScorecardReport) -> Table | None:
    """Calibration figures by part of the data."""
    if not report.fit:
        return None
    return Table(
        "Calibration",
        (
            Column("Part", **_TEXT),
            Column("Brier score"),
            Column("Hosmer–Lemeshow"),
            Column("Degrees of freedom"),
            Column("p-value"),
        ),
        tuple(
            (
                f"{_split(r.split)} rows",
                decimal(r.brier),
                decimal(r.hosmer_lemeshow, 2),
                str(r.degrees),
                _p_value(r.p_value),
            )
            for r in report.fit
        ),
        note="A small p-value speaks against calibration; with many rows it finds small faults.",
    )


def band_table(report: ScorecardReport) -> Table | None:
    """Score bands with observed odds and the odds that the scale implies."""
    if not report.bands:
        return None
    return Table(
        "Score bands and cut-offs",
        (
            Column("Score", **_TEXT),
            Column("Rows"),
            Column("Events"),
            Column("Event rate"),
            Column("Odds observed"),
            Column("Odds by the scale"),
            Column("Rows up to here"),
            Column("Event rate if approved from here on"),
        ),
        tuple(
            (
                name(r.band),
                count(r.rows),
                count(r.events),
                percent(r.event_rate, 2),
                decimal(r.odds, 1),
                decimal(r.implied_odds, 1),
                percent(r.cumulative_share),
                percent(r.approved_event_rate, 2),
            )
            for r in report.bands
        ),
        note="Odds are non-events per event.",
    )


def slice_table(report: ScorecardReport) -> Table | None:
    """How the card treats groups of enterprises."""
    if not report.slices:
        return None
    dimensions = words([name(d) for d in dict.fromkeys(r.dimension for r in report.slices)])
    approved = "" if report.cutoff is None else f" from {_points(report.cutoff)} points on"
    return Table(
        f"Slices by {dimensions}",
        (
            Column("Group", **_TEXT),
            Column("Rows"),
            Column("Event rate"),
            Column("Mean probability"),
            Column("Mean score"),
            Column(f"Approved{approved}"),
            Column("AUC"),
        ),
        tuple(
            (
                f"{name(r.dimension)}: {name(r.value)}",
                count(r.rows),
                percent(r.event_rate, 2),
                percent(r.mean_predicted, 2),
                decimal(r.mean_score, 1),
                percent(r.approval_rate),
                decimal(r.auc, 3),
            )
            for r in report.slices
        ),
        note="Groups of few rows are left out.",
    )


def tables_of(report: ScorecardReport) -> tuple[Table, ...]:
    """Return the tables of the short form that have something to show."""
    made = (
        metric_table(report),
        characteristic_table(report),
        coefficient_table(report),
        band_table(report),
        selection_table(report),
    )
    return tuple(table for table in made if table is not None)


def note_table(report: ScorecardReport) -> Table | None:
    """Say what the card is for, and what it must not be used for."""
    if not report.notes:
        return None
    return Table(
        "Intended use",
        (Column("Topic", **_TEXT), Column("Statement", **_TEXT)),
        tuple((name(key), value) for key, value in report.notes.items()),
        stack=True,
    )
