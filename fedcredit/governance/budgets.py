"""How much an institution may ask: budgets per institution, enterprise, field and model.

Budgets bound what any institution, also one that breaks its word, can carry away in a day;
:mod:`fedcredit.governance.patterns` looks at how it asks. Days, hours and minutes are those of UTC.
A refused question is not charged, since nothing was answered.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.alarms import alarm
from fedcredit.governance.bulk import Builder, Statement
from fedcredit.governance.patterns import COUNT, DAY, check_search, check_walk, refuse_scraping
from fedcredit.governance.question import Question
from fedcredit.governance.schema import COUNTERS, SEARCHES, SUBJECT_COUNTERS

__all__ = ["BudgetRules", "charge"]

_HOUR, _MINUTE = 3600, 60
_SECONDS = {"day": DAY, "hour": _HOUR, "minute": _MINUTE}
#: Days for which the counters of days stay, for people to look at.
_KEPT_DAYS = 40


@dataclass(frozen=True)
class BudgetRules:
    """Limits of one institution at one party; all are set in ``[budgets]`` of its configuration.

    Attributes
    ----------
    questions_per_day : int
        Questions, of whatever size. Stops any long-running collection.
    subjects_per_day : int
        Different enterprises. Bounds how much of the register can be copied in a day.
    per_subject_per_day : int
        Questions about one enterprise. Stops slow searches and surveillance of one enterprise.
    per_field_per_day : int
        Answers (one per enterprise of a question) that use one field.
    per_model_per_day : int
        Answers of one model or predicate. Stops the copying of a model from its answers.
    per_minute : int
        Questions in a minute. Stops floods.
    subjects_per_minute : int
        Enterprises in a minute, also repeated ones.
    near_limit : float
        Share of a budget of a day or hour at which an alarm (no suspension) is raised.
    max_thresholds_per_subject, max_answers_per_subject, search_days, max_ordered_questions,
    new_subjects_per_hour, max_unknown_share, unknown_from, refusals_per_day
        See :mod:`fedcredit.governance.patterns`.

    Raises
    ------
    InputError
        A limit is negative or no number, or a share is not between 0 and 1.
    """

    questions_per_day: int = 20_000
    subjects_per_day: int = 20_000
    per_subject_per_day: int = 20
    per_field_per_day: int = 50_000
    per_model_per_day: int = 50_000
    per_minute: int = 600
    subjects_per_minute: int = 10_000
    near_limit: float = 0.8
    max_thresholds_per_subject: int = 2
    max_answers_per_subject: int = 12
    search_days: int = 30
    max_ordered_questions: int = 50
    new_subjects_per_hour: int = 15_000
    max_unknown_share: float = 0.9
    unknown_from: int = 200
    refusals_per_day: int = 200

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = isinstance(field.default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                self._refuse(field.name, "a whole number" if whole else "a number")
            if whole and value < 0:
                self._refuse(field.name, "0 or more")
            if not whole and not (math.isfinite(value) and 0 <= value <= 1):
                self._refuse(field.name, "a share between 0 and 1")

    @staticmethod
    def _refuse(name: str, wanted: str) -> None:
        raise InputError(f"{name} must be {wanted}.", step="budgets", fix=f"correct {name}")


@dataclass(frozen=True)
class _Count:
    """One thing to count: how much to add, and the limit that the sum must keep."""

    what: str
    add: int
    limit: int | None
    code: Literal["budget_exhausted", "rate_exceeded", "scraping_pattern"] = "budget_exhausted"

    def period(self, now: float) -> int:
        """Return the number of the day, hour or minute."""
        return int(now // _SECONDS[self.what.partition(":")[0]])


def charge(
    tx: sa.Connection,
    rules: BudgetRules,
    question: Question,
    now: float,
    *,
    declared: Sequence[str] | None = None,
) -> None:
    """Charge a question to the budgets of its institution, or refuse it.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        The caller's transaction, which has to be rolled back after a refusal.
    rules : BudgetRules
    question : Question
    now : float
        Seconds since the epoch.
    declared : sequence of str, optional
        For a verification against declared values: for every enterprise what tells its declaration
        from another, such as its digest.

    Raises
    ------
    Refusal
        ``budget_exhausted``, ``rate_exceeded``, ``search_pattern`` or ``scraping_pattern``. Hand
        its code to :func:`fedcredit.governance.patterns.after_refusal` in the next transaction.
    """
    who, n = question.institution, len(question.subjects)
    day = int(now // DAY)
    _tidy(tx, rules, who, now)
    if question.use == "verify":
        check_search(tx, rules, question, now, declared)
    check_walk(tx, rules, question)
    new = _charge_subjects(tx, rules, question, day)
    counts = [
        _Count("hour:subjects", new, rules.new_subjects_per_hour, "scraping_pattern"),
        _Count("minute:questions", 1, rules.per_minute, "rate_exceeded"),
        _Count("minute:subjects", n, rules.subjects_per_minute, "rate_exceeded"),
        _Count("day:questions", 1, rules.questions_per_day),
        _Count("day:subjects", new, rules.subjects_per_day),
        _Count("day:answers", n, None),
        _Count(f"day:target:{question.target}", n, rules.per_model_per_day),
        *(_Count(f"day:field:{name}", n, rules.per_field_per_day) for name in question.fields),
    ]
    added = {
        "what": [item.what for item in counts],
        "period": [item.period(now) for item in counts],
        "questions": [item.add for item in counts],
    }
    sums = {row.what: row.questions for row in COUNT(tx, {"counts": added}, institution=who)}
    for item in counts:
        _hold(tx, rules, who, item, sums[item.what], now)


def _count_subjects(build: Builder) -> Any:
    rows = build.listed("asked", subject=str)
    chosen = sa.select(
        sa.bindparam("institution", type_=sa.Text).label("institution"),
        rows.c.subject,
        sa.literal("day").label("what"),
        sa.bindparam("day", type_=sa.BigInteger).label("period"),
        sa.literal(1, sa.BigInteger).label("questions"),
    )
    return build.upsert(SUBJECT_COUNTERS, chosen, add=["questions"]).returning(
        SUBJECT_COUNTERS.c.questions
    )


_COUNT_SUBJECTS = Statement(_count_subjects)
_QUESTIONS_OF = Statement(
    lambda _: sa.select(COUNTERS.c.questions).where(
        COUNTERS.c.institution == sa.bindparam("institution", type_=sa.Text),
        COUNTERS.c.what == "day:questions",
        COUNTERS.c.period == sa.bindparam("day", type_=sa.BigInteger),
    )
)


def _charge_subjects(tx: sa.Connection, rules: BudgetRules, question: Question, day: int) -> int:
    """Count the question at each of its enterprises; return how many are new on that day."""
    # In the order of the key, which is that of the pages.
    asked = {"asked": {"subject": sorted(question.subjects)}}
    counts = [
        count
        for (count,) in _COUNT_SUBJECTS(tx, asked, institution=question.institution, day=day).all()
    ]
    new, most = counts.count(1), max(counts)
    if most > rules.per_subject_per_day:
        raise Refusal(
            f"an enterprise has been asked about {rules.per_subject_per_day} times today.",
            code="budget_exhausted",
            step="budgets",
            fix="ask again tomorrow (UTC)",
        )
    return new


def _hold(
    tx: sa.Connection, rules: BudgetRules, who: str, item: _Count, total: int, now: float
) -> None:
    """Refuse a sum above its limit; raise an alarm when it comes near."""
    if item.limit is None:
        return
    period, _, what = item.what.partition(":")
    if total > item.limit:
        if item.code == "scraping_pattern":
            refuse_scraping(f"more than {item.limit} new enterprises were asked about in an hour.")
        raise Refusal(
            f"the limit of {item.limit} for {what.replace(':', ' ')} in a {period} is used up.",
            code=item.code,
            step="budgets",
            fix=f"ask again in the next {period} (UTC), or ask the provider for a larger budget",
        )
    mark = rules.near_limit * item.limit
    if period != "minute" and total - item.add < mark <= total:
        detail = f"{total} of {item.limit} {what.replace(':', ' ')} in a {period}"
        alarm(tx, who, "near_limit", detail, now, suspend=False)


def _tidy(tx: sa.Connection, rules: BudgetRules, who: str, now: float) -> None:
    """With the first question of a day, delete what no rule looks at any more."""
    day = int(now // DAY)
    today = _QUESTIONS_OF(tx, institution=who, day=day).scalar()
    if today is not None:
        return
    for period, seconds in _SECONDS.items():
        kept = _KEPT_DAYS if period == "day" else 1
        tx.execute(
            COUNTERS.delete().where(
                COUNTERS.c.institution == who,
                COUNTERS.c.what.startswith(f"{period}:"),
                COUNTERS.c.period < int((now - kept * DAY) // seconds),
            )
        )
    tx.execute(
        SUBJECT_COUNTERS.delete().where(
            SUBJECT_COUNTERS.c.institution == who, SUBJECT_COUNTERS.c.period < day - 1
        )
    )
    tx.execute(
        SEARCHES.delete().where(
            SEARCHES.c.institution == who, SEARCHES.c.time <= now - rules.search_days * DAY
        )
    )
