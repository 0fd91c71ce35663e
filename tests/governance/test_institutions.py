"""Standing of an institution: admitted, expired, suspended, released; who did what and why."""

from __future__ import annotations

import pytest

from fedcredit.errors import ConfigError, InputError, Refusal
from fedcredit.governance.alarms import alarm, list_alarms
from fedcredit.governance.institutions import (
    list_institutions,
    onboard,
    release,
    standing,
    suspend,
)
from fedcredit.governance.ledger import Ledger

DAY = 86_400.0
NOW = 20_000 * DAY
GOOD = {
    "assessment": "DSA-2026-17",
    "assessed": NOW - 10 * DAY,
    "expires": NOW + 100 * DAY,
    "purposes": ["guarantee", "credit_granting"],
    "digest": bytes(range(32)),
    "now": NOW,
}


@pytest.fixture
def admitted(ledger: Ledger) -> Ledger:
    with ledger.transaction() as tx:
        onboard(tx, "bank", **GOOD)
    return ledger


def code(ledger: Ledger, name: str = "bank", purpose: str = "guarantee", now: float = NOW) -> str:
    with ledger.reading() as connection:
        try:
            standing(connection, name, purpose, now)
        except Refusal as refusal:
            return refusal.code
    return "stands"


def test_standing(admitted: Ledger):
    assert code(admitted) == "stands"
    assert code(admitted, "leasing") == "institution_unknown"
    assert code(admitted, purpose="insurance") == "purpose_denied"
    assert code(admitted, now=NOW + 99 * DAY) == "stands"
    assert code(admitted, now=NOW + 100 * DAY) == "assessment_expired"
    assert code(admitted, now=NOW - 11 * DAY) == "assessment_expired"


def test_the_record_is_kept(admitted: Ledger):
    with admitted.reading() as connection:
        (record,) = list_institutions(connection)
    assert (record.name, record.assessment) == ("bank", "DSA-2026-17")
    assert record.assessment_digest == bytes(range(32))
    assert record.purposes == ("credit_granting", "guarantee")
    assert (record.assessed, record.expires, record.suspended) == (
        NOW - 10 * DAY,
        NOW + 100 * DAY,
        None,
    )


def test_suspension_and_release(admitted: Ledger):
    with admitted.transaction() as tx:
        suspend(tx, "bank", why="incident 44", by="li.na", now=NOW + 1)
    assert code(admitted) == "institution_suspended"
    with admitted.reading() as connection:
        (record,) = list_institutions(connection)
        (found,) = list_alarms(connection, open_only=True)
        with pytest.raises(Refusal, match="incident 44"):
            standing(connection, "bank", "guarantee", NOW)
    assert (record.suspended, record.suspended_why, record.suspended_by) == (
        NOW + 1,
        "incident 44",
        "li.na",
    )
    assert (found.code, found.detail, found.raised_by) == ("suspended", "incident 44", "li.na")
    with admitted.transaction() as tx:
        assert release(tx, "bank", why="closed", by="wang", now=NOW + 2) == 1
    assert code(admitted) == "stands"
    with admitted.reading() as connection:
        assert list_alarms(connection, open_only=True) == []
        (found,) = list_alarms(connection, institution="bank")
    assert (found.released, found.released_by, found.released_why) == (NOW + 2, "wang", "closed")


def test_an_alarm_of_the_rules_suspends_and_the_first_reason_stays(admitted: Ledger):
    with admitted.transaction() as tx:
        alarm(tx, "bank", "near_limit", "8 of 10", NOW, suspend=False)
    assert code(admitted) == "stands"
    with admitted.transaction() as tx:
        alarm(tx, "bank", "search_pattern", "verify tax.paid", NOW, suspend=True)
        alarm(tx, "bank", "scraping_pattern", "score card@1", NOW + 5, suspend=True)
    with admitted.reading() as connection:
        (record,) = list_institutions(connection)
    assert record.suspended == NOW
    assert "search for a value" in str(record.suspended_why)
    assert record.suspended_by == "rules"
    with admitted.transaction() as tx:
        assert release(tx, "bank", why="explained", by="li.na", now=NOW) == 2


def test_a_new_assessment_renews_but_does_not_release(admitted: Ledger):
    with admitted.transaction() as tx:
        suspend(tx, "bank", why="incident", by="li.na", now=NOW)
        onboard(
            tx,
            "bank",
            **{**GOOD, "assessment": "DSA-2027-02", "expires": NOW + 500 * DAY, "digest": None},
        )
    assert code(admitted) == "institution_suspended"
    with admitted.transaction() as tx:
        release(tx, "bank", why="done", by="li.na", now=NOW)
    assert code(admitted, now=NOW + 400 * DAY) == "stands"
    with admitted.reading() as connection:
        (record,) = list_institutions(connection)
    assert (record.assessment, record.assessment_digest) == ("DSA-2027-02", None)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"assessment": " "}, "no reference"),
        ({"assessed": NOW + 200 * DAY}, "expires before"),
        ({"assessed": NOW + DAY}, "dated in the future"),
        ({"expires": NOW - DAY}, "has expired"),
        ({"purposes": []}, "no purpose is given"),
        ({"purposes": ["guarantee", "marketing"]}, "'marketing' is no purpose"),
        ({"digest": b"short"}, "32 bytes"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(ledger: Ledger, change, match: str):
    with ledger.transaction() as tx, pytest.raises(InputError, match=match):
        onboard(tx, "bank", **{**GOOD, **change})


def test_names_are_party_names(ledger: Ledger):
    with ledger.transaction() as tx, pytest.raises(ConfigError):
        onboard(tx, "The Bank", **GOOD)


def test_who_and_why_must_be_said(admitted: Ledger):
    with admitted.transaction() as tx:
        for missing in ({"why": " ", "by": "li.na"}, {"why": "x", "by": ""}):
            with pytest.raises(InputError, match="who decides"):
                suspend(tx, "bank", **missing, now=NOW)
        with pytest.raises(InputError, match="not suspended"):
            release(tx, "bank", why="x", by="y", now=NOW)
        with pytest.raises(InputError, match="not been onboarded"):
            suspend(tx, "leasing", why="x", by="y", now=NOW)
