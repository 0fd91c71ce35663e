"""The usage tables: every use once, by field, party, purpose and target."""

from __future__ import annotations

import pandas as pd
import pytest

from fedcredit.errors import InputError
from fedcredit.governance import usage
from fedcredit.governance.ledger import Ledger
from tests.governance.test_budgets import question, subjects

DAY = 86_400.0
NOW = 20_000 * DAY


@pytest.fixture
def used(ledger: Ledger) -> Ledger:
    card = question(subjects(30))
    paid = question(subjects(2), use="verify", target="tax.paid", fields=("paid",))
    with ledger.transaction() as tx:
        usage.record(tx, card, "admitted", 1, NOW)
        usage.record(tx, card, "admitted", 2, NOW + 3 * DAY - 0.001)
        usage.record(tx, card, "consent_expired", 3, NOW + DAY)
        usage.record(tx, paid, "search_pattern", 4, NOW + 5)
        usage.record(tx, question(institution="leasing"), "answered", 5, NOW + 3 * DAY)
        usage.record_job(
            tx, "platform", "train", ["paid", "staff", "age"], 900, "admitted", 6, NOW - DAY / 2,
            target="card@1",
        )  # fmt: skip
        usage.contributions(tx, "card@1", {"paid": 0.3, "staff": 0.1, "age": 0.0}, "iv", NOW)
    return ledger


def row(frame: pd.DataFrame, **chosen: str) -> pd.Series:
    for name, value in chosen.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_uses_by_field_and_party(used: Ledger):
    frame = usage.usage_table(used)
    assert len(frame) == 8
    card = row(frame, field="paid", institution="bank", use="score")
    assert card[["questions", "answered", "refused", "enterprises"]].tolist() == [3, 2, 1, 60]
    assert (card["target"], card["purpose"]) == ("card@1", "credit_granting")
    assert card["first"] == pd.Timestamp(NOW, unit="s", tz="UTC")
    assert abs(card["last"].timestamp() - NOW - 3 * DAY) < 0.01
    assert (card["contribution"], card["measure"]) == (0.3, "iv")
    paid = row(frame, field="paid", institution="bank", use="verify")
    assert paid[["questions", "answered", "refused", "enterprises"]].tolist() == [1, 0, 1, 0]
    assert pd.isna(paid["contribution"])
    job = row(frame, field="age", institution="platform")
    assert (job["use"], job["purpose"], job["enterprises"]) == ("train", "joint_modelling", 900)
    assert frame["enterprises"].tolist() == sorted(frame["enterprises"], reverse=True)


@pytest.mark.parametrize(
    ("chosen", "rows", "questions"),
    [
        ({"institution": "bank"}, 3, 7),
        ({"field": "age"}, 1, 1),
        ({"field": "paid", "institution": "bank"}, 2, 4),
        ({"since": NOW + 3 * DAY}, 2, 2),
        ({"since": NOW, "until": NOW + DAY}, 3, 3),
        ({"institution": "nobody"}, 0, 0),
    ],
)
def test_uses_are_filtered(used: Ledger, chosen, rows: int, questions: int):
    frame = usage.usage_table(used, **chosen)
    assert (len(frame), int(frame["questions"].sum())) == (rows, questions)
    assert list(frame.columns) == [
        "field", "institution", "purpose", "use", "target", "questions", "answered", "refused",
        "enterprises", "first", "last", "contribution", "measure",
    ]  # fmt: skip


def test_days_are_cut_at_midnight(used: Ledger):
    frame = usage.daily_table(used)
    days = ((frame["day"].dt.as_unit("s").astype("int64")) // 86_400 - 20_000).tolist()
    assert list(zip(days, frame["institution"], frame["use"], frame["questions"], strict=True)) == [
        (-1, "platform", "train", 1),
        (0, "bank", "score", 1),
        (0, "bank", "verify", 1),
        (1, "bank", "score", 1),
        (2, "bank", "score", 1),
        (3, "leasing", "score", 1),
    ]
    assert frame["enterprises"].tolist() == [900, 30, 0, 0, 30, 1]
    assert usage.daily_table(used, field="age")["institution"].tolist() == ["platform"]


def test_outcomes(used: Ledger):
    found = usage.outcome_table(used, institution="bank").values.tolist()
    assert found == [
        ["bank", "admitted", 2],
        ["bank", "consent_expired", 1],
        ["bank", "search_pattern", 1],
    ]


def test_contributions_are_replaced_per_model_and_measure(used: Ledger):
    with used.transaction() as tx:
        usage.contributions(tx, "card@1", {"paid": 0.2}, "iv", NOW + 1)
        usage.contributions(tx, "card@1", {"paid": 31.0}, "points", NOW + 1)
        usage.contributions(tx, "trees@1", {"paid": 0.5}, "gain", NOW + 1)
    frame = usage.contribution_table(used)
    assert frame[["model", "measure", "field", "contribution"]].values.tolist() == [
        ["card@1", "iv", "paid", 0.2],
        ["card@1", "points", "paid", 31.0],
        ["trees@1", "gain", "paid", 0.5],
    ]
    assert len(usage.usage_table(used)) == 8, "two measures do not double a use"


def test_an_unused_database_gives_empty_tables(ledger: Ledger):
    assert usage.usage_table(ledger).empty
    assert usage.daily_table(ledger).empty
    assert usage.outcome_table(ledger).empty
    assert usage.contribution_table(ledger).empty


def test_wrong_facts_are_refused(ledger: Ledger):
    with ledger.transaction() as tx:
        with pytest.raises(InputError, match="no use of a job"):
            usage.record_job(tx, "platform", "copy", [], 1, "admitted", 1, NOW)
        with pytest.raises(InputError, match="measures no contribution"):
            usage.contributions(tx, "m@1", {}, "shap", NOW)
        for bad in (-0.1, float("nan"), float("inf")):
            with pytest.raises(InputError, match="contribution of 'paid'"):
                usage.contributions(tx, "m@1", {"paid": bad}, "iv", NOW)
