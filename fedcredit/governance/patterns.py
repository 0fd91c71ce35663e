"""Patterns of questions that no honest use shows: a search for a value, a copy of the data.

A pattern raises an alarm and suspends the institution, where a used-up budget only refuses. What
each rule stops, and what it leaves:

===================  ==============================================================================
rule                 attack
===================  ==============================================================================
thresholds           Yes/no on "at least x" for many x halves the range of a value with each
                     question: a menu of 1,024 thresholds is searched in 10 questions. Of one
                     predicate and enterprise only ``max_thresholds_per_subject`` different
                     arguments (thresholds, tolerances, declared values) are answered in
                     ``search_days``, so that at most so many bits are learned. The same argument
                     again is no search.
answers              The same through several predicates on one field: at most
                     ``max_answers_per_subject`` different answers about an enterprise in that time.
walk                 Going through the register of enterprises code by code, up or down. Honest
                     questions come in no order: k of them in a row do so by chance once in k!
                     times. Portfolios belong into one question, whose inner order does not count.
                     Asking in another order evades it; the next two do not care for order.
rate                 Taking a day's budget in an hour: ``new_subjects_per_hour`` enterprises that
                     were not asked about before on that day. The windows are whole hours, so twice
                     as many can pass around the full hour.
unknown              Guessing codes: who asks about customers mostly finds them, who guesses does
                     not. A share of enterprises without a record here above ``max_unknown_share``,
                     from ``unknown_from`` enterprises on.
refusals             Probing for what is allowed: an alarm (no suspension) at ``refusals_per_day``.
===================  ==============================================================================

Institutions that pool their answers are outside of these rules: each is counted by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.alarms import MEANINGS, alarm
from fedcredit.governance.bulk import Builder, Statement
from fedcredit.governance.question import Question
from fedcredit.governance.schema import COUNTERS, SEARCHES, WALKS

if TYPE_CHECKING:
    from fedcredit.governance.budgets import BudgetRules

__all__ = ["ALARM_CODES", "after_refusal", "alarm", "check_search", "check_walk", "note_unknown"]

#: Codes of refusals that raise an alarm, and whether it suspends the institution.
ALARM_CODES: dict[str, bool] = {"search_pattern": True, "scraping_pattern": True}
DAY = 86400


def _count(build: Builder) -> Any:
    rows = build.listed("counts", what=str, period=int, questions=int)
    chosen = sa.select(_INSTITUTION.label("institution"), rows)
    return build.upsert(COUNTERS, chosen, add=["questions"]).returning(
        COUNTERS.c.what, COUNTERS.c.questions
    )


def _add_searches(build: Builder) -> Any:
    rows = build.listed("asked", subject=str, argument=str)
    chosen = sa.select(
        _INSTITUTION.label("institution"),
        rows.c.subject,
        _TARGET.label("predicate"),
        rows.c.argument,
        sa.bindparam("now", type_=sa.Double).label("time"),
    )
    return build.upsert(SEARCHES, chosen, replace=["time"])


def _most_searched(build: Builder) -> Any:
    same = sa.case((SEARCHES.c.predicate == _TARGET, 1), else_=0)
    per_subject = (
        sa.select(sa.func.sum(same).label("same"), sa.func.count().label("all"))
        .where(
            SEARCHES.c.institution == _INSTITUTION,
            build.among(SEARCHES.c.subject, "asked", str),
            SEARCHES.c.time > sa.bindparam("since", type_=sa.Double),
        )
        .group_by(SEARCHES.c.subject)
        .subquery()
    )
    return sa.select(sa.func.max(per_subject.c.same), sa.func.max(per_subject.c.all))


def _set_walks(build: Builder) -> Any:
    ends = build.listed("ends", direction=str, subject=str, length=int)
    chosen = sa.select(_INSTITUTION.label("institution"), ends)
    return build.upsert(WALKS, chosen, replace=["subject", "length"])


_INSTITUTION = sa.bindparam("institution", type_=sa.Text)
_TARGET = sa.bindparam("target", type_=sa.Text)
#: Adds to counters of an institution; returns what each then holds.
COUNT = Statement(_count)
_ADD_SEARCHES, _MOST_SEARCHED = Statement(_add_searches), Statement(_most_searched)
_SET_WALKS = Statement(_set_walks)
_WALKS_OF = Statement(lambda _: sa.select(WALKS).where(WALKS.c.institution == _INSTITUTION))


def check_search(
    tx: sa.Connection,
    rules: BudgetRules,
    question: Question,
    now: float,
    declared: Sequence[str] | None = None,
) -> None:
    """Note the arguments of a verification; refuse what goes on with a search.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    rules : BudgetRules
    question : Question
    now : float
        Seconds since the epoch.
    declared : sequence of str, optional
        For every enterprise what tells its declaration from another, such as its digest.

    Raises
    ------
    Refusal
        ``search_pattern``. The transaction has to be rolled back.
    InputError
        ``declared`` does not have one entry per enterprise.
    """
    if declared is not None and len(declared) != len(question.subjects):
        raise InputError("there must be one declaration per enterprise.", step="budgets")
    if declared is None:
        arguments = [_digest(question.detail)] * len(question.subjects)
    else:
        arguments = [_digest(question.detail, text) for text in declared]
    asked = {"institution": question.institution, "target": question.target}
    _ADD_SEARCHES(
        tx, {"asked": {"subject": question.subjects, "argument": arguments}}, now=now, **asked
    )
    most = _MOST_SEARCHED(
        tx,
        {"asked": {"value": question.subjects}},
        since=now - rules.search_days * DAY,
        **asked,
    ).one()
    if most[0] > rules.max_thresholds_per_subject or most[1] > rules.max_answers_per_subject:
        raise Refusal(
            "an enterprise's value has been asked about with too many different arguments.",
            code="search_pattern",
            step="budgets",
            fix="ask the provider to release the institution; decide on a threshold before asking",
        )


def check_walk(tx: sa.Connection, rules: BudgetRules, question: Question) -> None:
    """Note where a question stands in the order of the codes; refuse what goes on with a walk.

    Raises
    ------
    Refusal
        ``scraping_pattern``. The transaction has to be rolled back.
    """
    lowest, highest = min(question.subjects), max(question.subjects)
    found = {row.direction: row for row in _WALKS_OF(tx, institution=question.institution)}
    longest = 0
    rows: dict[str, list[str]] = {"direction": [], "subject": []}
    lengths = []
    for direction, end in (("up", highest), ("down", lowest)):
        last = found.get(direction)
        length = 1
        if last is not None:
            goes_on = last.subject < lowest if direction == "up" else last.subject > highest
            # The same enterprise again is no step and breaks nothing.
            stays = lowest == highest == last.subject
            length = last.length + (1 if goes_on else 0) if goes_on or stays else 1
        longest = max(longest, length)
        rows["direction"].append(direction)
        rows["subject"].append(end)
        lengths.append(length)
    if longest > rules.max_ordered_questions:
        refuse_scraping("the questions go through the enterprises in order.")
    _SET_WALKS(tx, {"ends": {"length": lengths, **rows}}, institution=question.institution)


def note_unknown(
    tx: sa.Connection, rules: BudgetRules, institution: str, unknown: int, now: float
) -> bool:
    """Note how many enterprises of an answered question have no record here.

    Comes after :func:`fedcredit.governance.budgets.charge` of the same question, in the same or a
    later transaction of the same day.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    rules : BudgetRules
    institution : str
    unknown : int
        Enterprises of the question without a record.
    now : float
        Seconds since the epoch.

    Returns
    -------
    bool
        Whether the institution was suspended by it; the answer at hand may still be given.
    """
    if unknown <= 0:
        return False
    counted = count(tx, institution, "day:unknown", int(now // DAY), unknown)
    asked = tx.scalar(
        sa.select(COUNTERS.c.questions).where(
            COUNTERS.c.institution == institution,
            COUNTERS.c.what == "day:answers",
            COUNTERS.c.period == int(now // DAY),
        )
    )
    asked = max(asked or 0, counted)
    if asked < rules.unknown_from or counted <= rules.max_unknown_share * asked:
        return False
    detail = f"{counted} of {asked} enterprises in a day have no record here"
    alarm(tx, institution, "scraping_pattern", detail, now, suspend=True)
    return True


def after_refusal(
    tx: sa.Connection,
    rules: BudgetRules,
    institution: str,
    code: str,
    now: float,
    *,
    detail: str = "",
) -> None:
    """Count a refused question, and raise the alarms that follow from it.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        Another transaction than the one in which the question was refused.
    rules : BudgetRules
    institution : str
    code : str
        The code of the refusal; see :data:`ALARM_CODES`.
    now : float
        Seconds since the epoch.
    detail : str
        What was asked (use and target), for the alarm; no enterprise.
    """
    if code in ALARM_CODES:
        alarm(tx, institution, code, detail or MEANINGS[code], now, suspend=ALARM_CODES[code])
    refused = count(tx, institution, "day:refused", int(now // DAY), 1)
    if refused == rules.refusals_per_day:
        detail = f"{refused} questions refused in a day, the last with {code}"
        alarm(tx, institution, "many_refusals", detail, now, suspend=False)


def count(tx: sa.Connection, institution: str, what: str, period: int, number: int) -> int:
    """Add to one counter and return what it then holds."""
    added = {"what": [what], "period": [period], "questions": [number]}
    return int(COUNT(tx, {"counts": added}, institution=institution).one().questions)


def refuse_scraping(reason: str) -> NoReturn:
    """Raise the refusal of a copy of the data."""
    raise Refusal(
        reason,
        code="scraping_pattern",
        step="budgets",
        fix="ask the provider to release the institution; put a portfolio into one question",
    )


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
