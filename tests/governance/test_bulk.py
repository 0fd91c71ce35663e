"""One text for every number of values, the same outcome on both databases."""

from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa

from fedcredit.errors import ParameterError, StorageError
from fedcredit.governance.bulk import Builder, Statement, insertion
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import CONSENT_TOKENS, COUNTERS, QUESTIONS

BACK = Statement(
    lambda build: sa.select(build.listed("rows", digest=bytes, text=str, number=int, share=float))
)
TEXTS = ["plain", 'quotes " and \\', "企业", "null", "[1]", "percent %s :x ?", ""]


def digests(count: int) -> list[bytes]:
    return [hashlib.sha256(bytes([i])).digest() for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_lists_arrive_as_they_were_sent(ledger: Ledger, count: int):
    sent = {
        "digest": digests(count),
        "text": TEXTS[:count],
        "number": [2**53 - i for i in range(count)],
        "share": [i + 0.1 for i in range(count)],
    }
    with ledger.reading() as tx:
        rows = [tuple(row) for row in BACK(tx, {"rows": sent})]
    assert sorted(rows) == sorted(zip(*sent.values(), strict=True))


@pytest.mark.parametrize(
    ("kind", "values", "others"),
    [(str, TEXTS, ["Plain"]), (int, [1, 5, 2**53], [2]), (bytes, digests(3), [bytes(32)])],
)
def test_values_are_among_a_list_or_not(ledger: Ledger, kind, values, others):
    def make(build: Builder):
        tested = build.listed("tested", value=kind)
        return sa.select(tested).where(build.among(tested.c.value, "values", kind))

    statement = Statement(make)
    with ledger.reading() as tx:
        for some in (values, values[:1]):
            lists = {"tested": {"value": [*values, *others]}, "values": {"value": some}}
            assert sorted(value for (value,) in statement(tx, lists)) == sorted(some)


def test_an_upsert_adds_and_returns(ledger: Ledger):
    def make(build: Builder):
        rows = build.listed("rows", what=str, period=int, questions=int)
        chosen = sa.select(sa.bindparam("who", type_=sa.Text).label("institution"), rows)
        added = build.upsert(COUNTERS, chosen, add=["questions"])
        return added.returning(COUNTERS.c.what, COUNTERS.c.questions)

    statement = Statement(make)
    with ledger.transaction() as tx:
        one = {"what": ["a", "b"], "period": [1, 1], "questions": [3, 4]}
        two = {"what": ["b", "c"], "period": [1, 1], "questions": [5, 6]}
        assert sorted(map(tuple, statement(tx, {"rows": one}, who="bank"))) == [("a", 3), ("b", 4)]
        assert sorted(map(tuple, statement(tx, {"rows": two}, who="bank"))) == [("b", 9), ("c", 6)]
        assert sorted(row[1] for row in statement(tx, {"rows": two}, who="other")) == [5, 6]


def test_insertions_of_one_and_of_many(ledger: Ledger):
    add = insertion(CONSENT_TOKENS)
    a, b, c = digests(3)
    with ledger.transaction() as tx:
        add(tx, digest=a, token="x")
        add.many(tx, [{"digest": b, "token": "y"}, {"digest": c, "token": "z"}])
    with ledger.reading() as tx:
        rows = tx.execute(sa.select(CONSENT_TOKENS.c.digest, CONSENT_TOKENS.c.token)).all()
    assert {(bytes(row.digest), row.token) for row in rows} == {(a, "x"), (b, "y"), (c, "z")}


def test_a_missing_value_and_a_broken_rule_are_errors(ledger: Ledger):
    add = insertion(QUESTIONS)
    with pytest.raises(KeyError), ledger.transaction() as tx:
        add(tx, time=1.0)
    tokens = insertion(CONSENT_TOKENS)
    with ledger.transaction() as tx:
        tokens(tx, digest=bytes(32), token="secret word")
    with pytest.raises(StorageError) as caught, ledger.transaction() as tx:
        tokens(tx, digest=bytes(32), token="secret word")
    assert "secret" not in str(caught.value)


def test_columns_of_different_length_never_meet(ledger: Ledger):
    rows = {"digest": digests(2), "text": ["a"], "number": [1, 2], "share": [0.5, 0.5]}
    with pytest.raises(ParameterError), ledger.reading() as tx:
        BACK(tx, {"rows": rows})
