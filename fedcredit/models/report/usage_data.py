"""What a provider's usage report is made of, collected from its governance database."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcredit.governance import usage
from fedcredit.governance.alarms import Alarm, list_alarms
from fedcredit.governance.institutions import Institution, list_institutions
from fedcredit.governance.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UsageReport", "collect"]


@dataclass(frozen=True, eq=False)
class UsageReport:
    """The use of one party's data over a period; no enterprise and no value.

    Attributes
    ----------
    party : str
    created : datetime.datetime
    since, until : datetime.datetime or None
        The period, where it is limited.
    institution, field : str or None
        To whom and to what the report is limited.
    usage, daily, outcomes, contributions : pandas.DataFrame
        Tables of :mod:`fedcredit.governance.usage`.
    institutions : tuple of Institution
        All that were onboarded.
    alarms : tuple of Alarm
        Raised in the period, newest first.
    """

    party: str
    created: datetime
    since: datetime | None
    until: datetime | None
    institution: str | None
    field: str | None
    usage: pd.DataFrame
    daily: pd.DataFrame
    outcomes: pd.DataFrame
    contributions: pd.DataFrame
    institutions: tuple[Institution, ...]
    alarms: tuple[Alarm, ...]

    def to_html(self, path: str | Path) -> None:
        """Write the report as one self-contained HTML page (OSError if it cannot be)."""
        from fedcredit.models.report.usage_html import render

        Path(path).write_text(render(self), encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return the tables as lists of records, times as ISO text and missing values as None."""
        found: dict[str, Any] = {
            "party": self.party,
            "created": self.created.isoformat(),
            "since": _iso(self.since),
            "until": _iso(self.until),
            "institution": self.institution,
            "field": self.field,
        }
        for name in ("usage", "daily", "outcomes", "contributions"):
            found[name] = _records(getattr(self, name))
        found["institutions"] = [
            {
                **dataclasses.asdict(item),
                "assessment_digest": item.assessment_digest and item.assessment_digest.hex(),
            }
            for item in self.institutions
        ]
        found["alarms"] = [dataclasses.asdict(item) for item in self.alarms]
        return found


def collect(
    ledger: Ledger,
    *,
    party: str,
    created: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    institution: str | None = None,
    field: str | None = None,
) -> UsageReport:
    """Collect a usage report.

    Parameters
    ----------
    ledger : Ledger
    party : str
        Whose data it is about.
    created : datetime.datetime
        Stands in the report.
    since, until : datetime.datetime, optional
        From this time on, and before this time; with a time zone.
    institution, field : str, optional
        Only about them.

    Returns
    -------
    UsageReport

    Raises
    ------
    StorageError
        The database cannot be read.
    """
    first = None if since is None else since.timestamp()
    last = None if until is None else until.timestamp()
    chosen: dict[str, Any] = {
        "since": first,
        "until": last,
        "institution": institution,
        "field": field,
    }
    with ledger.reading() as connection:
        institutions = list_institutions(connection)
        alarms = list_alarms(connection, institution=institution)
    shares = usage.contribution_table(ledger)
    if field is not None:
        shares = shares[shares["field"] == field].reset_index(drop=True)
    return UsageReport(
        party,
        created,
        since,
        until,
        institution,
        field,
        usage.usage_table(ledger, **chosen),
        usage.daily_table(ledger, **chosen),
        usage.outcome_table(ledger, **chosen),
        shares,
        tuple(i for i in institutions if institution in (None, i.name)),
        tuple(
            a
            for a in alarms
            if (first is None or a.time >= first) and (last is None or a.time < last)
        ),
    )


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    import pandas as pd

    def plain(value: Any) -> Any:
        if isinstance(value, pd.Timestamp):
            return value.isoformat()
        return None if pd.isna(value) else value

    records: list[dict[str, Any]] = frame.to_dict("records")
    return [{key: plain(value) for key, value in record.items()} for record in records]
