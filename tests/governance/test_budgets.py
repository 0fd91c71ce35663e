"""Budgets: what is counted, what is refused, and how fast."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.alarms import list_alarms
from fedcredit.governance.budgets import BudgetRules, charge
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.question import Question
from fedcredit.governance.schema import COUNTERS, SEARCHES, SUBJECT_COUNTERS

NOW = 20_000 * 86_400.0 + 3_600.0
DAY = 86_400.0
#: Nothing is refused that the test does not limit.
OPEN = BudgetRules(
    **{
        field.name: 10**9
        for field in dataclasses.fields(BudgetRules)
        if isinstance(field.default, int) and field.name != "search_days"
    }
)
SHUFFLED = random.Random(5)


def subjects(count: int, first: int = 0) -> tuple[str, ...]:
    made = [f"91{10000 + first + i:016d}" for i in range(count)]
    SHUFFLED.shuffle(made)
    return tuple(made)


def question(
    about: Sequence[str] = ("911100000000000001",),
    *,
    institution: str = "bank",
    use: str = "score",
    target: str = "card@1",
    fields: tuple[str, ...] = ("paid", "staff"),
    detail: str = "",
) -> Question:
    return Question(
        institution=institution,
        purpose="credit_granting",
        use=use,
        target=target,
        fields=fields,
        subjects=tuple(about),
        consents=tuple("sha256:" + "0" * 64 for _ in about),
        request=bytes(32),
        detail=detail,
    )


def ask(ledger: Ledger, rules: BudgetRules, asked: Question, now: float = NOW, **more) -> None:
    with ledger.transaction() as tx:
        charge(tx, rules, asked, now, **more)


def allow(**limits: object) -> BudgetRules:
    return dataclasses.replace(OPEN, **limits)


def sums(ledger: Ledger, institution: str = "bank") -> dict[str, int]:
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(COUNTERS.c.what, COUNTERS.c.questions).where(
                COUNTERS.c.institution == institution
            )
        )
        return {row.what: row.questions for row in rows}


def test_everything_is_counted(ledger: Ledger):
    ask(ledger, OPEN, question(subjects(3)))
    ask(ledger, OPEN, question(subjects(2, first=2), target="card@2", fields=("paid",)))
    ask(ledger, OPEN, question(subjects(9), institution="leasing"))
    assert sums(ledger) == {
        "hour:subjects": 4,
        "minute:questions": 2,
        "minute:subjects": 5,
        "day:questions": 2,
        "day:subjects": 4,
        "day:answers": 5,
        "day:target:card@1": 3,
        "day:target:card@2": 2,
        "day:field:paid": 5,
        "day:field:staff": 3,
    }
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(SUBJECT_COUNTERS.c.questions).where(SUBJECT_COUNTERS.c.institution == "bank")
        )
        assert sorted(row.questions for row in rows) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("limits", "asked", "code"),
    [
        ({"questions_per_day": 3}, 3, "budget_exhausted"),
        ({"per_minute": 2}, 2, "rate_exceeded"),
        ({"subjects_per_minute": 30}, 3, "rate_exceeded"),
        ({"subjects_per_day": 39}, 3, "budget_exhausted"),
        ({"new_subjects_per_hour": 20}, 2, "scraping_pattern"),
        ({"per_field_per_day": 25}, 2, "budget_exhausted"),
        ({"per_model_per_day": 10}, 1, "budget_exhausted"),
    ],
)
def test_a_limit_holds_and_is_for_one_institution(ledger: Ledger, limits, asked: int, code: str):
    rules = allow(**limits)
    for number in range(asked):
        ask(ledger, rules, question(subjects(10, first=10 * number)))
    before = sums(ledger)
    with pytest.raises(Refusal) as caught:
        ask(ledger, rules, question(subjects(10, first=500)))
    assert caught.value.code == code
    assert sums(ledger) == before, "a refused question is not charged"
    ask(ledger, rules, question(subjects(10), institution="leasing"))


def test_one_enterprise_has_its_own_budget(ledger: Ledger):
    rules = allow(per_subject_per_day=3)
    for _ in range(3):
        ask(ledger, rules, question())
    with pytest.raises(Refusal) as caught:
        ask(ledger, rules, question((*question().subjects, *subjects(5))))
    assert caught.value.code == "budget_exhausted"
    assert not any(subject in str(caught.value) for subject in question().subjects)
    ask(ledger, rules, question(subjects(5)))
    ask(ledger, rules, question(), NOW + DAY)


def test_an_enterprise_asked_about_again_is_not_new(ledger: Ledger):
    rules = allow(subjects_per_day=10, new_subjects_per_hour=10)
    for _ in range(4):
        ask(ledger, rules, question(subjects(10)))
    with pytest.raises(Refusal):
        ask(ledger, rules, question(subjects(11)))


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({"per_minute": 1}, 60),
        ({"subjects_per_minute": 10}, 60),
        ({"new_subjects_per_hour": 10}, 3600),
        ({"questions_per_day": 1}, DAY),
        ({"subjects_per_day": 10}, DAY),
        ({"per_field_per_day": 10}, DAY),
        ({"per_model_per_day": 10}, DAY),
    ],
)
def test_a_budget_begins_anew_with_its_period(ledger: Ledger, limits, seconds: float):
    rules = allow(**limits)
    start = NOW - NOW % seconds
    ask(ledger, rules, question(subjects(10)), start)
    with pytest.raises(Refusal):
        ask(ledger, rules, question(subjects(10, first=10)), start + seconds - 1)
    ask(ledger, rules, question(subjects(10, first=10)), start + seconds)


def test_coming_near_a_limit_raises_one_alarm_and_stops_nothing(ledger: Ledger):
    rules = allow(questions_per_day=10)
    for _ in range(10):
        ask(ledger, rules, question())
    with ledger.reading() as connection:
        alarms = list_alarms(connection)
    assert [(a.code, a.suspends, a.detail) for a in alarms] == [
        ("near_limit", False, "8 of 10 questions in a day")
    ]


def test_what_no_rule_needs_is_deleted(ledger: Ledger):
    rules = allow(search_days=5)
    verify = question(subjects(4), use="verify", target="tax.paid", detail="threshold=1")
    ask(ledger, rules, verify)
    ask(ledger, rules, question(subjects(4)), NOW + DAY)

    def rows(table: sa.Table) -> int:
        with ledger.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table))

    assert (rows(SUBJECT_COUNTERS), rows(SEARCHES)) == (8, 4)
    ask(ledger, rules, question(subjects(1)), NOW + 3 * DAY)
    assert (rows(SUBJECT_COUNTERS), rows(SEARCHES)) == (1, 4)
    ask(ledger, rules, question(subjects(1)), NOW + 5 * DAY)
    assert rows(SEARCHES) == 0
    ask(ledger, rules, question(subjects(1)), NOW + 60 * DAY)
    with ledger.reading() as connection:
        oldest = connection.scalar(
            sa.select(sa.func.min(COUNTERS.c.period)).where(COUNTERS.c.what.startswith("day:"))
        )
    assert oldest == int((NOW + 60 * DAY) // DAY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"questions_per_day": -1},
        {"per_minute": 1.5},
        {"per_minute": True},
        {"near_limit": 1.1},
        {"max_unknown_share": float("nan")},
        {"search_days": "30"},
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        BudgetRules(**wrong)


@pytest.mark.parametrize("use", ["score", "verify"])
def test_a_full_question_is_charged_fast(tmp_path: Path, use: str):
    """4,096 enterprises; processor time, since the machine may be busy."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'g.db'}")
    fields = tuple(f"f{i}" for i in range(12))
    times = []
    for number in range(5):
        asked = question(subjects(4096, first=4096 * number), use=use, target="t.p", fields=fields)
        with ledger.transaction() as tx:
            start = time.process_time()
            charge(tx, allow(), asked, NOW)
            times.append(time.process_time() - start)
    ledger.close()
    assert min(times) < 0.05
