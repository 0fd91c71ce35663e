"""A provider's usage report as one self-contained HTML page."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from fedcredit import __version__
from fedcredit.governance.alarms import MEANINGS
from fedcredit.governance.codes import CODES
from fedcredit.governance.question import PURPOSES
from fedcredit.governance.usage import ADMITTED, JOB_PURPOSE, JOB_USES
from fedcredit.models.report import usage_plots as plots
from fedcredit.models.report.html import Picture, Section, Tile, html, picture, template
from fedcredit.models.report.tables import Column, Table
from fedcredit.models.report.text import (
    ABSENT,
    count,
    decimal,
    fraction,
    name,
    percent,
    words,
)
from fedcredit.models.report.usage_data import UsageReport

__all__ = ["render"]

_MOST_ROWS = 200
_MEASURES = {
    "gain": "share of the model's gain",
    "iv": "information value",
    "points": "range of points",
}
_USES = {
    "score": "scoring",
    "verify": "verification",
    "align": "alignment",
    "train": "training",
    "correlate": "correlation",
}


def render(report: UsageReport) -> str:
    """Return the report as an HTML page; parts without data are left out."""
    sections = (_uses(report), _refusals(report), _worth(report), _admitted(report))
    return template("usage_report.html.j2").render(
        title=f"Use of the data of {name(report.party)}",
        period=_period(report),
        created=f"{_minute(report.created)} UTC",
        created_iso=report.created.isoformat(),
        sentences=_sentences(report),
        tiles=_tiles(report),
        worth=(
            *picture(report, plots.days, "An enterprise counts once per question; days of UTC."),
            *picture(report, plots.fields, "A question that uses several fields counts at each."),
        ),
        sections=[s for s in sections if s.tables or s.pictures or s.pairs],
        version=name(__version__),
    )


def _period(report: UsageReport) -> str:
    since = "the beginning" if report.since is None else _day(report.since)
    until = "now" if report.until is None else f"before {_day(report.until)}"
    only = [f"only {name(x)}" for x in (report.institution, report.field) if x is not None]
    return ", ".join([f"From {since} until {until}", *only])


def _sentences(report: UsageReport) -> list[str]:
    daily = report.daily
    if daily.empty:
        return ["The data were not used in this period."]
    asked, answered = int(daily["questions"].sum()), int(daily["answered"].sum())
    who = sorted(daily["institution"].unique())
    named = words([name(w) for w in who]) if len(who) <= 4 else f"{len(who)} parties"
    lines = [
        f"{named} used the data {count(asked)} times; {count(answered)} uses were allowed and "
        f"{count(asked - answered)} refused."
    ]
    stopped = [name(i.name) for i in report.institutions if i.suspended is not None]
    if stopped:
        lines.append(f"Suspended now: {words(stopped)}.")
    lines.append(
        "Every row of this report stands in the audit log; it names no enterprise and no value."
    )
    return lines


def _tiles(report: UsageReport) -> list[Tile]:
    jobs = report.daily["use"].isin(JOB_USES)
    asked, refused = (int(report.daily[what].sum()) for what in ("questions", "refused"))
    questions = report.daily[~jobs]
    open_alarms = sum(a.suspends and a.released is None for a in report.alarms)
    return [
        Tile(
            "Questions about enterprises",
            count(int(questions["questions"].sum())),
            (f"{count(int(questions['enterprises'].sum()))} enterprises answered",),
        ),
        Tile("Joint modelling jobs", count(int(report.daily[jobs]["questions"].sum())), ()),
        Tile("Refused", count(refused), (f"{percent(fraction(refused, asked))} of all uses",)),
        Tile("Fields used", count(int(report.usage["field"].nunique())), ()),
        Tile("Alarms", count(len(report.alarms)), (f"{count(open_alarms)} not released",)),
    ]


def _uses(report: UsageReport) -> Section:
    jobs = report.usage["use"].isin(JOB_USES)
    return Section(
        "uses",
        "Uses",
        "Who used which field for what",
        "Contribution is what the field adds to that model, as the platform reports it. An "
        "enterprise counts once per question.",
        html(
            _usage_table("Questions about enterprises", report.usage[~jobs]),
            _usage_table("Joint modelling", report.usage[jobs]),
        ),
        (),
    )


def _usage_table(title: str, frame: pd.DataFrame) -> Table | None:
    if frame.empty:
        return None
    rows = tuple(
        (
            name(row.field),
            name(row.institution),
            _purpose(row.purpose),
            _USES.get(row.use, name(row.use)) + (f": {name(row.target)}" if row.target else ""),
            count(row.questions),
            count(row.refused),
            count(row.enterprises),
            _contribution(row.contribution, row.measure),
            _day(row.last),
        )
        for row in frame[:_MOST_ROWS].itertuples()
    )
    hidden = len(frame) - len(rows)
    return Table(
        title,
        (
            Column("Field", numeric=False),
            Column("By", numeric=False),
            Column("Purpose", numeric=False),
            Column("Use", numeric=False),
            Column("Times"),
            Column("Refused"),
            Column("Enterprises"),
            Column("Contribution"),
            Column("Last"),
        ),
        rows,
        f"{count(hidden)} rows with fewer uses are left out; the CSV has all." if hidden else "",
    )


def _refusals(report: UsageReport) -> Section:
    refused = report.outcomes[~report.outcomes["outcome"].isin(ADMITTED)]
    rows = tuple(
        (
            name(row.institution),
            name(row.outcome),
            name(CODES.get(row.outcome, ABSENT)),
            count(row.questions),
        )
        for row in refused[:_MOST_ROWS].itertuples()
    )
    columns = (
        Column("By", numeric=False),
        Column("Code", numeric=False),
        Column("Meaning", numeric=False),
        Column("Questions"),
    )
    return Section(
        "refusals",
        "Refusals",
        "Refused uses",
        "",
        html(Table("Refused uses by reason", columns, rows) if rows else None),
        picture(report, plots.refusals, "Nothing was computed for a refused use."),
    )


def _worth(report: UsageReport) -> Section:
    pictures: list[Picture] = []
    frame = report.contributions
    for number, (_, table) in enumerate(frame.groupby(["model", "measure"], sort=True)):
        caption = f"Measured as {_MEASURES.get(table['measure'].iloc[0], 'contribution')}."
        pictures += picture(table, plots.contribution, caption, f"-{number}")
    return Section(
        "contribution",
        "Contribution",
        "What the fields contribute to models",
        "As the platform that trained the model reports it.",
        (),
        tuple(pictures),
    )


def _admitted(report: UsageReport) -> Section:
    now = report.created.timestamp()
    rows = tuple(
        (
            name(item.name),
            name(item.assessment),
            _day(item.assessed),
            _day(item.expires) + (" (expired)" if item.expires <= now else ""),
            ", ".join(_purpose(p) for p in item.purposes),
            "admitted"
            if item.suspended is None
            else f"suspended {_day(item.suspended)}: {name(item.suspended_why or ABSENT)}",
        )
        for item in report.institutions
    )
    institutions = Table(
        "Institutions",
        tuple(
            # A numeric column keeps its dates on one line.
            Column(c, numeric=c in ("Assessed", "Expires"))
            for c in ("Name", "Assessment", "Assessed", "Expires", "Purposes", "State")
        ),
        rows,
        stack=True,
    )
    alarms = Table(
        "Alarms",
        tuple(
            Column(c, numeric=False)
            for c in ("Time (UTC)", "Institution", "What", "Detail", "Suspends", "Released")
        ),
        tuple(
            (
                _minute(alarm.time),
                name(alarm.institution),
                name(MEANINGS.get(alarm.code, alarm.code)),
                name(alarm.detail),
                "yes" if alarm.suspends else "no",
                ABSENT
                if alarm.released is None
                else f"{_minute(alarm.released)} by {name(alarm.released_by or ABSENT)}",
            )
            for alarm in report.alarms[:_MOST_ROWS]
        ),
        stack=True,
    )
    return Section(
        "institutions",
        "Institutions",
        "Institutions and alarms",
        "",
        html(institutions if rows else None, alarms if report.alarms else None),
        (),
    )


def _contribution(value: float, measure: object) -> str:
    if pd.isna(value):
        return ABSENT
    if measure == "gain":
        return f"{percent(value)} gain"
    return f"{decimal(value, 3)} IV" if measure == "iv" else f"{decimal(value, 0)} points"


def _purpose(purpose: str) -> str:
    known = purpose in PURPOSES or purpose == JOB_PURPOSE
    return purpose.replace("_", " ") if known else name(purpose)


def _time(time: datetime | float) -> datetime:
    if isinstance(time, (int, float)):
        return datetime.fromtimestamp(time, UTC)
    return time.astimezone(UTC)


def _day(time: datetime | float) -> str:
    return f"{_time(time):%Y-%m-%d}"


def _minute(time: datetime | float) -> str:
    return f"{_time(time):%Y-%m-%d %H:%M}"
