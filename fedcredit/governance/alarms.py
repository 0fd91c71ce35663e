"""Alarms: what the rules noticed about an institution, and its suspensions.

An alarm is a row that stays. One that suspends stops every answer to the institution until a person
releases it (:func:`fedcredit.governance.institutions.release`).
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from fedcredit.governance.schema import ALARMS, INSTITUTIONS

__all__ = ["BY_RULES", "MEANINGS", "Alarm", "alarm", "list_alarms"]

#: Code to its meaning; the first two are codes of refusals as well.
MEANINGS: dict[str, str] = {
    "search_pattern": "the questions look like a search for a value",
    "scraping_pattern": "the questions look like an attempt to copy the data",
    "many_refusals": "many questions were refused in a day",
    "near_limit": "most of a budget is used up",
    "suspended": "a person suspended the institution",
}
#: Who raised an alarm that no person raised.
BY_RULES = "rules"


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes
    ----------
    id : int
    time : float
        Seconds since the epoch.
    institution : str
    code : str
        One of :data:`MEANINGS`.
    detail : str
        Counts and names of budgets, or a person's words; no enterprise.
    suspends : bool
        Whether it stopped the institution.
    raised_by : str
        :data:`BY_RULES` or a person.
    released : float or None
        When a person released it; only for one that suspends.
    released_by, released_why : str or None
    """

    id: int
    time: float
    institution: str
    code: str
    detail: str
    suspends: bool
    raised_by: str
    released: float | None
    released_by: str | None
    released_why: str | None


def alarm(
    tx: sa.Connection,
    institution: str,
    code: str,
    detail: str,
    now: float,
    *,
    suspend: bool,
    by: str = BY_RULES,
) -> None:
    """Write an alarm, and suspend the institution if told to.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        The caller's transaction.
    institution : str
    code : str
        One of :data:`MEANINGS`.
    detail : str
        No enterprise and no value of one.
    now : float
        Seconds since the epoch.
    suspend : bool
    by : str
        Who raises it.
    """
    assert code in MEANINGS, code
    tx.execute(
        ALARMS.insert().values(
            time=now,
            institution=institution,
            code=code,
            detail=detail,
            suspends=suspend,
            raised_by=by,
        )
    )
    if suspend:
        tx.execute(
            INSTITUTIONS.update()
            .where(INSTITUTIONS.c.name == institution, INSTITUTIONS.c.suspended.is_(None))
            .values(
                suspended=now,
                suspended_why=detail if code == "suspended" else MEANINGS[code],
                suspended_by=by,
            )
        )


def list_alarms(
    tx: sa.Connection, *, institution: str | None = None, open_only: bool = False
) -> list[Alarm]:
    """Return alarms, newest first; ``open_only``: those that still suspend somebody."""
    chosen = sa.select(ALARMS).order_by(ALARMS.c.id.desc())
    if institution is not None:
        chosen = chosen.where(ALARMS.c.institution == institution)
    if open_only:
        chosen = chosen.where(ALARMS.c.suspends, ALARMS.c.released.is_(None))
    return [Alarm(**row._mapping) for row in tx.execute(chosen)]
