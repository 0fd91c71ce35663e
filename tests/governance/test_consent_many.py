"""Registered consents held to the rules all at once: the same outcome as one by one."""

import pytest
import sqlalchemy as sa

from fedcredit.errors import Refusal
from fedcredit.governance.schema import KEYS
from tests.support.consents import DAY, NOW, SCORE, Book, grant, uscc
from tests.support.databases import new_postgres


@pytest.fixture
def book():
    return Book(subjects=3)


@pytest.fixture
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'governance.db'}"
    else:
        with new_postgres() as made:
            yield made


def refused(code, call, *args, **kwargs):
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code, caught.value
    return caught.value


OTHER = {"institution": "leasing"}
#: What may be wrong with one of several registered consents, or with the question.
FAULTS = {
    "none": (None, {}),
    "another subject": ("consent_subject", {"subjects": [uscc(1), uscc(3), uscc(2)]}),
    "another institution": ("consent_audience", OTHER),
    "another purpose": ("consent_purpose", {"purpose": "guarantee"}),
    "a longer model": ("consent_scope", {"target": "sme-card@11"}),
    "a shorter model": ("consent_scope", {"target": "sme-card@"}),
    "a pattern": ("consent_scope", {"target": "sme-c_rd@1"}),
    "expired": ("consent_expired", {"now": NOW + 30 * DAY + 60}),
    "just not expired": (None, {"now": NOW + 30 * DAY + 59.9}),
    "too early": ("consent_not_yet", {"now": NOW - 60.1}),
    "just early enough": (None, {"now": NOW - 60}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("reasons", [False, True])
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_all_at_once_and_each_by_itself_agree(url, fault, reasons, monkeypatch):
    book = Book(url, subjects=3)
    code, changes = FAULTS[fault]
    references = book.present(*(grant(one, max_uses=9) for one in book.enterprises))
    asked = book.question(*references, reasons=reasons, **changes)
    outcomes = []
    for alone in (False, True):
        if alone:
            monkeypatch.setattr(book.book, "_covered", lambda *_, **__: ())
        with book.ledger.reading() as tx:
            try:
                checked = book.book.check(tx, **asked)
                outcomes.append((None, sorted(checked.ids), checked.digests))
            except Refusal as refusal:
                outcomes.append((refusal.code, str(refusal), None))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == code
    book.ledger.close()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("key", "consent_key"),
        ("key forgotten", "consent_key"),
        ("withdrawn", "consent_revoked"),
        ("used", "consent_used"),
        ("no reasons", "consent_scope"),
        ("other", "consent_audience"),
        ("unknown", "consent_missing"),
    ],
)
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_one_of_many_registered_consents_stops_the_question(url, spoil, code):
    """All are held to the rules by one statement; one that does not do is found and named."""
    book = Book(url, subjects=5)
    bad = {"used": {"max_uses": 1}, "no reasons": {"scope": [SCORE]}, "other": OTHER}.get(spoil)
    tokens = [
        grant(one, **({"max_uses": 9} | (bad or {} if i == 3 else {})))
        for i, one in enumerate(book.enterprises)
    ]
    references = book.present(*tokens)
    if spoil == "used":
        book.ask(references[3], subjects=[uscc(4)])
    elif spoil == "withdrawn":
        book.revoke(book.enterprises[3].revoke(tokens[3], now=NOW))
    elif spoil == "unknown":
        references[3] = "sha256:" + "0" * 64
    elif spoil.startswith("key"):
        with book.ledger.transaction() as tx:
            if spoil == "key":
                book.keys.revoke(book.enterprises[3].kid, NOW, tx=tx)
            else:
                tx.execute(sa.delete(KEYS).where(KEYS.c.kid == book.enterprises[3].kid))
    before = [one.used for one in book.listing()]
    caught = refused(code, book.ask, *references, reasons=True)
    assert "number 4 of 5" in str(caught)
    assert [one.used for one in book.listing()] == before
    book.ledger.close()


def test_a_use_between_check_and_use_takes_none_of_many(book):
    tokens = [grant(one) for one in book.enterprises]
    references = book.present(*tokens)

    def race():
        with book.ledger.transaction() as tx:
            early = book.book.check(tx, **book.question(*references))
            one = book.book.check(tx, **book.question(references[1], subjects=[uscc(2)]))
            book.book.consume(tx, one, NOW)
            book.book.consume(tx, early, NOW)

    refused("consent_used", race)
    assert [one.used for one in book.listing()] == [0, 0, 0]
    book.ask(*references)
    assert [one.used for one in book.listing()] == [1, 1, 1]


def test_text_that_hides_in_a_list_of_references_is_none(book):
    a, b, c = book.present(*(grant(one) for one in book.enterprises))
    for broken in (f"{a}\n{b}", f"{a}\n", f" {a}", a.upper(), a[:-1], f"{a}0"):
        with pytest.raises(Refusal) as caught:
            book.ask(broken, b, c)
        assert caught.value.code in ("consent_missing", "consent_malformed"), broken
    book.ask(a, b, c)
