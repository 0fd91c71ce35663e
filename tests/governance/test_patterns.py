"""The attacks that the rules are there for: without them they succeed, with them they stop."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.alarms import list_alarms
from fedcredit.governance.budgets import BudgetRules, charge
from fedcredit.governance.institutions import onboard, release, standing
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.patterns import after_refusal, note_unknown
from tests.governance.test_budgets import DAY, NOW, OPEN, allow, ask, question, subjects

MENU = [1_000 * step for step in range(1, 1_025)]
TAX_PAID = 437_512
VICTIM = "91110000000000000A"


@pytest.fixture
def admitted(ledger: Ledger) -> Ledger:
    with ledger.transaction() as tx:
        for name in ("bank", "leasing"):
            onboard(
                tx,
                name,
                assessment="DSA-2026-17",
                assessed=NOW - DAY,
                expires=NOW + 400 * DAY,
                purposes=["credit_granting"],
                now=NOW,
            )
    return ledger


class Provider:
    """Answers as a gate does: standing and charge in one transaction, then the answer."""

    def __init__(self, ledger: Ledger, rules: BudgetRules) -> None:
        self.ledger, self.rules, self.now, self.answered = ledger, rules, NOW, 0

    def admit(self, asked, **more) -> None:
        self.now += 7.0
        try:
            with self.ledger.transaction() as tx:
                standing(tx, asked.institution, asked.purpose, self.now)
                charge(tx, self.rules, asked, self.now, **more)
        except Refusal as refusal:
            with self.ledger.transaction() as tx:
                after_refusal(tx, self.rules, asked.institution, refusal.code, self.now)
            raise
        self.answered += 1

    def at_least(self, threshold: int) -> bool:
        self.admit(
            question([VICTIM], use="verify", target="tax.paid", detail=f"threshold={threshold}")
        )
        return threshold <= TAX_PAID

    def equals(self, declared: int, tolerance: int = 50_000) -> bool:
        self.admit(
            question([VICTIM], use="verify", target="tax.paid_as_declared", detail="tolerance=50"),
            declared=[f"declaration of {declared}"],
        )
        return abs(declared - TAX_PAID) <= tolerance


def binary_search(is_at_least: Callable[[int], bool]) -> tuple[int, int]:
    """The range of the menu in which the value lies."""
    low, high = 0, len(MENU)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_at_least(MENU[middle]) else (low, middle)
    return MENU[low], MENU[low] + 1_000


def test_without_rules_a_binary_search_finds_the_value(admitted: Ledger):
    provider = Provider(admitted, OPEN)
    low, high = binary_search(provider.at_least)
    assert low <= TAX_PAID < high
    assert high - low == 1_000
    assert provider.answered == 10


def test_the_rules_stop_a_binary_search_and_suspend(admitted: Ledger):
    provider = Provider(admitted, BudgetRules())
    with pytest.raises(Refusal) as caught:
        binary_search(provider.at_least)
    assert caught.value.code == "search_pattern"
    assert VICTIM not in str(caught.value)
    assert provider.answered == 2, "two bits are learned: a quarter of the menu is left"
    with pytest.raises(Refusal) as caught:
        provider.admit(question())
    assert caught.value.code == "institution_suspended"
    with admitted.reading() as connection:
        alarms = list_alarms(connection, open_only=True)
    assert [(a.institution, a.code, a.suspends) for a in alarms] == [
        ("bank", "search_pattern", True)
    ]


def test_a_release_does_not_let_a_search_go_on(admitted: Ledger):
    provider = Provider(admitted, BudgetRules())
    with pytest.raises(Refusal):
        binary_search(provider.at_least)
    with admitted.transaction() as tx:
        assert release(tx, "bank", why="explained", by="li.na", now=provider.now) == 1
    provider.admit(question())
    with pytest.raises(Refusal) as caught:
        provider.at_least(MENU[400])
    assert caught.value.code == "search_pattern"


def test_the_same_threshold_again_is_no_search(admitted: Ledger):
    provider = Provider(admitted, BudgetRules())
    for _ in range(8):
        provider.at_least(MENU[10])
        provider.at_least(MENU[20])
    provider.now += 31 * DAY
    assert provider.at_least(MENU[30]), "a month later it may be asked anew"


def test_a_search_with_declared_values(admitted: Ledger):
    def scan(provider: Provider) -> int:
        guess = 0
        while not provider.equals(guess):
            guess += 100_000
        return guess

    assert abs(scan(Provider(admitted, OPEN)) - TAX_PAID) <= 50_000
    provider = Provider(admitted, BudgetRules())
    provider.now += 40 * DAY
    with pytest.raises(Refusal) as caught:
        scan(provider)
    assert (caught.value.code, provider.answered) == ("search_pattern", 2)


def test_a_search_hidden_in_a_portfolio(admitted: Ledger):
    provider = Provider(admitted, BudgetRules())
    others = subjects(300)

    def at_least(step: int) -> None:
        crowd = (*others[30 * step : 30 * (step + 1)], VICTIM)
        provider.admit(question(crowd, use="verify", target="tax.paid", detail=f"threshold={step}"))

    with pytest.raises(Refusal) as caught:
        [at_least(step) for step in range(10)]
    assert (caught.value.code, provider.answered) == ("search_pattern", 2)


def test_a_search_through_several_predicates(admitted: Ledger):
    provider = Provider(admitted, BudgetRules(max_answers_per_subject=5))

    def at_least(step: int) -> None:
        provider.admit(question([VICTIM], use="verify", target=f"tax.paid_{step}", detail="x=1"))

    with pytest.raises(Refusal) as caught:
        [at_least(step) for step in range(10)]
    assert (caught.value.code, provider.answered) == ("search_pattern", 5)


def test_declarations_must_fit_the_enterprises(ledger: Ledger):
    with pytest.raises(InputError, match="one declaration per enterprise"):
        ask(ledger, OPEN, question(subjects(2), use="verify"), declared=["one"])


def walk(provider: Provider, codes: list[str], size: int) -> int:
    """Ask about all, ``size`` at a time; return how many were answered about."""
    copied = 0
    for start in range(0, len(codes), size):
        provider.admit(question(codes[start : start + size]))
        copied += len(codes[start : start + size])
    return copied


def test_without_rules_a_walk_copies_the_register(admitted: Ledger):
    codes = sorted(subjects(10_000))
    assert walk(Provider(admitted, OPEN), codes, 500) == 10_000


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_a_walk_in_order_is_stopped(admitted: Ledger, down: bool):
    codes = sorted(subjects(10_000), reverse=down)
    provider = Provider(admitted, BudgetRules())
    with pytest.raises(Refusal) as caught:
        walk(provider, codes, 40)
    assert (caught.value.code, provider.answered) == ("scraping_pattern", 50)
    with pytest.raises(Refusal) as caught:
        provider.admit(question())
    assert caught.value.code == "institution_suspended"
    with admitted.transaction() as tx:
        release(tx, "bank", why="explained", by="li.na", now=provider.now)
    provider.admit(question(codes[2_000:2_040]))


def test_a_walk_out_of_order_is_stopped_by_its_rate(admitted: Ledger):
    codes = list(subjects(10_000))
    random.Random(3).shuffle(codes)
    provider = Provider(admitted, BudgetRules(new_subjects_per_hour=2_000))
    with pytest.raises(Refusal) as caught:
        walk(provider, codes, 40)
    assert (caught.value.code, provider.answered) == ("scraping_pattern", 50)
    with admitted.transaction() as tx:
        release(tx, "bank", why="explained", by="li.na", now=provider.now)
    provider.admit(question(codes[2_000:2_040]))


def test_a_walk_in_repeated_steps_is_still_a_walk(admitted: Ledger):
    """Asking about each enterprise twice does not hide the order."""
    provider = Provider(admitted, BudgetRules(max_ordered_questions=10))
    codes = [code for code in sorted(subjects(30)) for _ in range(2)]
    with pytest.raises(Refusal) as caught:
        walk(provider, codes, 1)
    assert (caught.value.code, provider.answered) == ("scraping_pattern", 20)


def test_honest_questions_are_no_walk(admitted: Ledger):
    chance = random.Random(11)
    codes = subjects(400)
    rules = allow(max_ordered_questions=8, max_unknown_share=0.9)
    provider = Provider(admitted, rules)
    for _ in range(120):
        provider.admit(question([chance.choice(codes)]))
    provider.admit(question(sorted(codes)))


def test_guessed_codes_are_noticed(admitted: Ledger):
    rules = BudgetRules(unknown_from=100, max_unknown_share=0.5)
    provider = Provider(admitted, rules)
    suspended = []
    for step in range(6):
        provider.admit(question(subjects(40, first=40 * step)))
        with admitted.transaction() as tx:
            suspended.append(note_unknown(tx, rules, "bank", 30, provider.now))
        if suspended[-1]:
            break
    assert suspended == [False, False, True]
    with pytest.raises(Refusal) as caught:
        provider.admit(question())
    assert caught.value.code == "institution_suspended"
    with admitted.reading() as connection:
        assert (
            list_alarms(connection)[0].detail
            == "90 of 120 enterprises in a day have no record here"
        )


def test_few_unknown_enterprises_are_normal(admitted: Ledger):
    rules = BudgetRules(unknown_from=100, max_unknown_share=0.5)
    provider = Provider(admitted, rules)
    for step in range(10):
        provider.admit(question(subjects(40, first=40 * step)))
        with admitted.transaction() as tx:
            assert not note_unknown(tx, rules, "bank", 20 if step % 2 else 0, provider.now)


def test_many_refusals_raise_an_alarm(admitted: Ledger):
    rules = BudgetRules(refusals_per_day=3)
    for _ in range(5):
        with admitted.transaction() as tx:
            after_refusal(tx, rules, "bank", "consent_missing", NOW)
    with admitted.transaction() as tx:
        standing(tx, "bank", "credit_granting", NOW)
        assert [(a.code, a.suspends, a.detail) for a in list_alarms(tx)] == [
            ("many_refusals", False, "3 questions refused in a day, the last with consent_missing")
        ]


def test_one_institutions_pattern_does_not_touch_another(admitted: Ledger):
    provider = Provider(admitted, BudgetRules())
    with pytest.raises(Refusal):
        binary_search(provider.at_least)
    provider.admit(question(institution="leasing"))
