"""The institutions that may ask, and the security assessment that admitted each.

Before an institution is connected its data security is assessed; the record here names the report
and holds its digest, says until when it is good, and for which purposes the institution was
admitted. An expired assessment, or a suspension, stops every answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

import sqlalchemy as sa

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.alarms import alarm
from fedcredit.governance.bulk import Statement
from fedcredit.governance.question import PURPOSES
from fedcredit.governance.schema import ALARMS, COUNTERS, INSTITUTIONS, WALKS
from fedcredit.governance.section import check_party_name

__all__ = ["Institution", "list_institutions", "onboard", "release", "standing", "suspend"]

_NAMED = Statement(
    lambda _: sa.select(INSTITUTIONS).where(
        INSTITUTIONS.c.name == sa.bindparam("name", type_=sa.Text)
    )
)
_STEP = "institution"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Institution:
    """One institution's record.

    Attributes
    ----------
    name : str
        As its certificate names it.
    assessment : str
        Reference of the security assessment.
    assessment_digest : bytes or None
        SHA-256 of its document.
    assessed, expires : float
        When it was made and until when it is good, in seconds since the epoch.
    purposes : tuple of str
        What the institution was admitted for.
    suspended : float or None
        Since when it is suspended.
    suspended_why, suspended_by : str or None
    """

    name: str
    assessment: str
    assessment_digest: bytes | None
    assessed: float
    expires: float
    purposes: tuple[str, ...]
    suspended: float | None
    suspended_why: str | None
    suspended_by: str | None


def onboard(
    tx: sa.Connection,
    name: str,
    *,
    assessment: str,
    assessed: float,
    expires: float,
    purposes: Collection[str],
    now: float,
    digest: bytes | None = None,
) -> None:
    """Admit an institution, or renew its assessment; a suspension stays.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    name : str
        As its certificate names it.
    assessment : str
        Reference of the security assessment.
    assessed, expires : float
        Seconds since the epoch.
    purposes : collection of str
        Of :data:`~fedcredit.governance.question.PURPOSES`.
    now : float
        Seconds since the epoch.
    digest : bytes, optional
        SHA-256 of the assessment's document.

    Raises
    ------
    ConfigError
        ``name`` cannot name a party.
    InputError
        The reference is empty, the dates are in the wrong order or over, a purpose is unknown or
        none is given, or the digest is none of SHA-256.
    """
    check_party_name(name)
    if not assessment.strip():
        _refuse("the assessment has no reference", "name the report")
    if not assessed < expires:
        _refuse("the assessment expires before it was made", "correct the dates")
    if assessed > now:
        _refuse("the assessment is dated in the future", "correct its date")
    if expires <= now:
        _refuse("the assessment has expired", "onboard with a current one")
    unknown = sorted(set(purposes) - set(PURPOSES))
    if unknown or not purposes:
        what = f"{unknown[0]!r} is no purpose" if unknown else "no purpose is given"
        _refuse(what, f"choose of {', '.join(PURPOSES)}")
    if digest is not None and len(digest) != _DIGEST_BYTES:
        _refuse("the digest is not of 32 bytes", "give the SHA-256 of the document")
    values = {
        "assessment": assessment.strip(),
        "assessment_digest": digest,
        "assessed": assessed,
        "expires": expires,
        "purposes": json.dumps(sorted(set(purposes))),
    }
    renewed = tx.execute(INSTITUTIONS.update().where(INSTITUTIONS.c.name == name).values(**values))
    if not renewed.rowcount:
        tx.execute(INSTITUTIONS.insert().values(name=name, **values))


def standing(tx: sa.Connection, name: str, purpose: str, now: float) -> None:
    """Check that an institution may ask for a purpose now.

    Raises
    ------
    Refusal
        ``institution_unknown``, ``institution_suspended``, ``assessment_expired`` or
        ``purpose_denied``.
    """
    row = _NAMED(tx, name=name).one_or_none()
    if row is None:
        raise _refusal(
            "institution_unknown",
            "the institution has not been onboarded.",
            "ask the provider to record its security assessment: fedcredit institution onboard",
        )
    if row.suspended is not None:
        raise _refusal(
            "institution_suspended",
            f"the institution is suspended ({row.suspended_why}).",
            "settle it with the provider, who can release it: fedcredit institution release",
        )
    if not row.assessed <= now < row.expires:
        raise _refusal(
            "assessment_expired",
            "the institution's security assessment is not valid now.",
            "have it assessed again and onboarded with the new assessment",
        )
    allowed = json.loads(row.purposes)
    if purpose not in allowed:
        raise _refusal(
            "purpose_denied",
            "the institution was not admitted for this purpose.",
            f"ask for one of {', '.join(allowed)}",
        )


def suspend(tx: sa.Connection, name: str, *, why: str, by: str, now: float) -> None:
    """Stop every answer to an institution until it is released.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    name : str
    why : str
        The institution reads it in the refusals.
    by : str
        The person who decided it.
    now : float
        Seconds since the epoch.

    Raises
    ------
    InputError
        The institution is unknown, or who or why is missing.
    """
    _known(tx, name)
    _said(why, by)
    alarm(tx, name, "suspended", why.strip(), now, suspend=True, by=by.strip())


def release(tx: sa.Connection, name: str, *, why: str, by: str, now: float) -> int:
    """End a suspension and start the counting of its patterns anew.

    What was asked for about single enterprises stays counted: a search cannot go on.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    name : str
    why : str
        Kept with the alarms.
    by : str
        The person who decided it.
    now : float
        Seconds since the epoch.

    Returns
    -------
    int
        Alarms that it released.

    Raises
    ------
    InputError
        The institution is unknown or not suspended, or who or why is missing.
    """
    if _known(tx, name).suspended is None:
        _refuse("the institution is not suspended", "see: fedcredit institution list")
    _said(why, by)
    tx.execute(
        INSTITUTIONS.update()
        .where(INSTITUTIONS.c.name == name)
        .values(suspended=None, suspended_why=None, suspended_by=None)
    )
    tx.execute(WALKS.delete().where(WALKS.c.institution == name))
    tx.execute(
        COUNTERS.delete().where(
            COUNTERS.c.institution == name,
            COUNTERS.c.what.in_(("hour:subjects", "day:unknown", "day:answers")),
        )
    )
    released = tx.execute(
        ALARMS.update()
        .where(ALARMS.c.institution == name, ALARMS.c.suspends, ALARMS.c.released.is_(None))
        .values(released=now, released_by=by.strip(), released_why=why.strip())
    )
    return int(released.rowcount)


def list_institutions(tx: sa.Connection) -> list[Institution]:
    """Return all institutions by name."""
    rows = tx.execute(sa.select(INSTITUTIONS).order_by(INSTITUTIONS.c.name))
    return [
        Institution(**{**row._mapping, "purposes": tuple(json.loads(row.purposes))}) for row in rows
    ]


def _known(tx: sa.Connection, name: str) -> sa.Row[tuple[object, ...]]:
    row = _NAMED(tx, name=name).one_or_none()
    if row is None:
        _refuse("the institution has not been onboarded", "see: fedcredit institution list")
    return row


def _said(why: str, by: str) -> None:
    if not why.strip() or not by.strip():
        _refuse("who decides it, and why, must be said", "give both")


def _refuse(reason: str, fix: str) -> NoReturn:
    raise InputError(f"{reason}.", step=_STEP, fix=fix)


def _refusal(code: str, reason: str, fix: str) -> Refusal:
    return Refusal(reason, code=code, step=_STEP, fix=fix)
