"""What a party's data were used for: every question and job, and what its fields contributed.

The tables answer a provider's own questions: who used which field, when, for which purpose and
model, how often, on how many enterprises, refused how often, and what did the field contribute to
that model. They hold no enterprise and no value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import sqlalchemy as sa

from fedcredit.errors import InputError
from fedcredit.governance.bulk import Statement, insertion
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.question import Question
from fedcredit.governance.schema import CONTRIBUTIONS, QUESTION_FIELDS, QUESTIONS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ADMITTED",
    "JOB_PURPOSE",
    "JOB_USES",
    "Measure",
    "contribution_table",
    "contributions",
    "daily_table",
    "outcome_table",
    "record",
    "record_job",
    "usage_table",
]

#: Outcomes of what was allowed; every other outcome is the code of a refusal.
ADMITTED = ("admitted", "answered")
#: What a platform's jobs use data for.
JOB_USES = ("align", "train", "correlate")
#: Stands for the purpose of a job, which is about no single enterprise.
JOB_PURPOSE = "joint_modelling"

Measure = Literal["gain", "iv", "points"]
_STEP = "usage"
_ADD_QUESTION = Statement(
    lambda _: QUESTIONS.insert().returning(QUESTIONS.c.id),
    columns=[column.name for column in QUESTIONS.c if column.name != "id"],
)
_ADD_FIELD = insertion(QUESTION_FIELDS)


def record(tx: sa.Connection, question: Question, outcome: str, entry: int, now: float) -> int:
    """Note a question.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        The transaction that also wrote the audit log.
    question : Question
    outcome : str
        ``"admitted"``, or the code of the refusal.
    entry : int
        Number in the audit log.
    now : float
        Seconds since the epoch.

    Returns
    -------
    int
        The row's id.
    """
    return _record(
        tx,
        {
            "time": now,
            "institution": question.institution,
            "purpose": question.purpose,
            "use": question.use,
            "subject_of_use": question.target,
            "subjects": len(question.subjects),
            "outcome": outcome,
            "entry": entry,
        },
        question.fields,
    )


def record_job(
    tx: sa.Connection,
    coordinator: str,
    use: str,
    fields: Sequence[str],
    rows: int,
    outcome: str,
    entry: int,
    now: float,
    *,
    target: str = "",
) -> int:
    """Note an alignment, a training or another job of the platform.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    coordinator : str
        Who ran it.
    use : str
        One of :data:`JOB_USES`.
    fields : sequence of str
        This party's fields in it.
    rows : int
        Enterprises in it.
    outcome : str
        ``"admitted"``, or the code of the refusal.
    entry : int
        Number in the audit log.
    now : float
        Seconds since the epoch.
    target : str
        The model's name, if it has one.

    Returns
    -------
    int
        The row's id.

    Raises
    ------
    InputError
        ``use`` is none of them.
    """
    if use not in JOB_USES:
        raise InputError(
            f"{use!r} is no use of a job.", step=_STEP, fix=f"use one of {', '.join(JOB_USES)}"
        )
    return _record(
        tx,
        {
            "time": now,
            "institution": coordinator,
            "purpose": JOB_PURPOSE,
            "use": use,
            "subject_of_use": target,
            "subjects": rows,
            "outcome": outcome,
            "entry": entry,
        },
        fields,
    )


def _record(tx: sa.Connection, values: dict[str, Any], fields: Sequence[str]) -> int:
    number = int(_ADD_QUESTION(tx, **values).scalar_one())
    if fields:
        rows = [{"question": number, "field": name} for name in dict.fromkeys(fields)]
        _ADD_FIELD.many(tx, rows)
    return number


def contributions(
    tx: sa.Connection, model: str, shares: Mapping[str, float], measure: Measure, now: float
) -> None:
    """Note what each of this party's fields contributes to a model; replaces what was noted.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    model : str
        ``name@version``.
    shares : mapping of str to float
        Field to its contribution: a share of 1 of the model's gain (``"gain"``), an information
        value (``"iv"``), or the range of points (``"points"``).
    measure : {"gain", "iv", "points"}
    now : float
        Seconds since the epoch.

    Raises
    ------
    InputError
        A contribution is negative or no number, or the measure is unknown.
    """
    if measure not in get_args(Measure):
        raise InputError(
            f"{measure!r} measures no contribution.",
            step=_STEP,
            fix=f"use one of {', '.join(get_args(Measure))}",
        )
    for name, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise InputError(f"the contribution of {name!r} must be 0 or more.", step=_STEP)
    tx.execute(
        CONTRIBUTIONS.delete().where(
            CONTRIBUTIONS.c.model == model, CONTRIBUTIONS.c.measure == measure
        )
    )
    if shares:
        rows = [
            {"model": model, "field": name, "measure": measure, "share": share, "time": now}
            for name, share in shares.items()
        ]
        tx.execute(CONTRIBUTIONS.insert(), rows)


def usage_table(
    ledger: Ledger,
    *,
    since: float | None = None,
    until: float | None = None,
    institution: str | None = None,
    field: str | None = None,
) -> pd.DataFrame:
    """Return who used which field for what, how often, and what the field contributed.

    Parameters
    ----------
    ledger : Ledger
    since, until : float, optional
        From this time on, and before this time; seconds since the epoch.
    institution, field : str, optional
        Only theirs.

    Returns
    -------
    pandas.DataFrame
        One row per field, institution, purpose, use and target, most used first: ``field,
        institution, purpose, use, target, questions, answered, refused, enterprises`` (over all
        that was answered, one counted once per question), ``first, last`` (UTC), ``contribution``
        and its ``measure`` (missing where none is noted; of several measures the first by name).
    """
    import pandas as pd

    q = QUESTIONS.c
    answered = q.outcome.in_(ADMITTED)
    keys = [
        QUESTION_FIELDS.c.field,
        q.institution,
        q.purpose,
        q.use,
        q.subject_of_use.label("target"),
    ]
    chosen = (
        sa.select(
            *keys,
            sa.func.count().label("questions"),
            sa.func.sum(sa.case((answered, 1), else_=0)).label("answered"),
            sa.func.sum(sa.case((answered, 0), else_=1)).label("refused"),
            sa.func.sum(sa.case((answered, q.subjects), else_=0)).label("enterprises"),
            sa.func.min(q.time).label("first"),
            sa.func.max(q.time).label("last"),
        )
        .select_from(QUESTIONS.join(QUESTION_FIELDS))
        .where(*_filters(since, until, institution))
        .group_by(*keys)
    )
    if field is not None:
        chosen = chosen.where(QUESTION_FIELDS.c.field == field)
    frame = _frame(ledger, chosen)
    for name in ("questions", "answered", "refused", "enterprises"):
        frame[name] = frame[name].astype("int64")
    for name in ("first", "last"):
        frame[name] = pd.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
    noted = contribution_table(ledger).rename(columns={"model": "target"})
    noted = noted.drop_duplicates(["target", "field"])[
        ["target", "field", "contribution", "measure"]
    ]
    frame = frame.merge(noted, how="left", on=["target", "field"])
    order = ["enterprises", "questions", "field", "institution", "target"]
    ascending = [False, False, True, True, True]
    return frame.sort_values(order, ascending=ascending, ignore_index=True)


def daily_table(
    ledger: Ledger,
    *,
    since: float | None = None,
    until: float | None = None,
    institution: str | None = None,
    field: str | None = None,
) -> pd.DataFrame:
    """Return questions and enterprises per day (UTC), institution and use.

    Parameters
    ----------
    ledger, since, until, institution, field
        As in :func:`usage_table`.

    Returns
    -------
    pandas.DataFrame
        ``day, institution, use, questions, answered, refused, enterprises``, sorted by the first
        three.
    """
    import pandas as pd

    q = QUESTIONS.c
    answered = q.outcome.in_(ADMITTED)
    days = q.time / 86400.0
    with ledger.reading() as connection:
        # A cast rounds on PostgreSQL and cuts off on SQLite, whose builds may lack floor().
        postgres = connection.dialect.name == "postgresql"
    day = sa.cast(sa.func.floor(days) if postgres else days, sa.BigInteger).label("day")
    chosen = (
        sa.select(
            day,
            q.institution,
            q.use,
            sa.func.count().label("questions"),
            sa.func.sum(sa.case((answered, 1), else_=0)).label("answered"),
            sa.func.sum(sa.case((answered, 0), else_=1)).label("refused"),
            sa.func.sum(sa.case((answered, q.subjects), else_=0)).label("enterprises"),
        )
        .where(*_filters(since, until, institution), *_using(field))
        .group_by(day, q.institution, q.use)
        .order_by(day, q.institution, q.use)
    )
    frame = _frame(ledger, chosen)
    for name in ("questions", "answered", "refused", "enterprises"):
        frame[name] = frame[name].astype("int64")
    frame["day"] = pd.to_datetime(frame["day"].astype("int64"), unit="D", utc=True)
    return frame


def outcome_table(
    ledger: Ledger,
    *,
    since: float | None = None,
    until: float | None = None,
    institution: str | None = None,
    field: str | None = None,
) -> pd.DataFrame:
    """Return how often each outcome came: ``institution, outcome, questions``, most first.

    Questions and jobs together.

    Parameters are those of :func:`usage_table`.
    """
    q = QUESTIONS.c
    number = sa.func.count().label("questions")
    chosen = (
        sa.select(q.institution, q.outcome, number)
        .where(*_filters(since, until, institution), *_using(field))
        .group_by(q.institution, q.outcome)
        .order_by(number.desc(), q.institution, q.outcome)
    )
    return _frame(ledger, chosen)


def contribution_table(ledger: Ledger) -> pd.DataFrame:
    """Return ``model, field, measure, contribution, time`` (UTC), by model, largest first."""
    import pandas as pd

    c = CONTRIBUTIONS.c
    frame = _frame(
        ledger,
        sa.select(c.model, c.field, c.measure, c.share.label("contribution"), c.time).order_by(
            c.model, c.measure, c.share.desc(), c.field
        ),
    )
    frame["contribution"] = frame["contribution"].astype("float64")
    frame["time"] = pd.to_datetime(frame["time"].astype("float64"), unit="s", utc=True)
    return frame


def _filters(
    since: float | None, until: float | None, institution: str | None
) -> list[sa.ColumnElement[bool]]:
    q = QUESTIONS.c
    found: list[sa.ColumnElement[bool]] = []
    if since is not None:
        found.append(q.time >= since)
    if until is not None:
        found.append(q.time < until)
    if institution is not None:
        found.append(q.institution == institution)
    return found


def _using(field: str | None) -> list[sa.ColumnElement[bool]]:
    if field is None:
        return []
    rows = sa.select(QUESTION_FIELDS.c.question).where(QUESTION_FIELDS.c.field == field)
    return [QUESTIONS.c.id.in_(rows)]


def _frame(ledger: Ledger, statement: sa.Select[tuple[object, ...]]) -> pd.DataFrame:
    import pandas as pd

    with ledger.reading() as connection:
        result = connection.execute(statement)
        return pd.DataFrame(result.fetchall(), columns=list(result.keys()))
