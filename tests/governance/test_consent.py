"""Consents: every rule has its code, each use is counted, a withdrawal holds at once."""

import dataclasses
import os

import pytest
import sqlalchemy as sa

from fedcredit.errors import Refusal
from fedcredit.governance.codes import CODES
from fedcredit.governance.question import Question
from fedcredit.governance.schema import CONSENTS, REQUESTS
from tests.support.consents import (
    BANK,
    DAY,
    NOW,
    SCORE,
    Book,
    enterprise,
    forge,
    grant,
    key_of,
    taken_apart,
    uscc,
)


@pytest.fixture
def book():
    return Book(subjects=3)


def refused(code, call, *args, **kwargs):
    assert code in CODES
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code, caught.value
    assert caught.value.fix
    text = str(caught.value)
    assert not any(uscc(i) in text for i in range(9))
    return caught.value


def both_ways(book, *tokens):
    """The consents as they are, and as references to their registration."""
    return [tokens, tuple(book.present(*tokens))]


def test_a_consent_answers_a_question_once(book):
    token = grant(enterprise())
    checked = book.ask(token)
    assert checked.digests == tuple(bytes.fromhex(one[7:]) for one in book.present(token))
    refused("consent_used", book.ask, token)
    assert [(one.used, one.state) for one in book.listing()] == [(1, "used")]
    with book.ledger.reading() as tx:
        assert len(tx.execute(sa.select(REQUESTS)).all()) == 1


def test_checking_alone_uses_nothing(book):
    token = grant(enterprise())
    with book.ledger.transaction() as tx:
        for _ in range(3):
            book.book.check(tx, **book.question(token))
    assert book.listing() == ()


def test_a_consent_of_several_uses(book):
    (reference,) = book.present(grant(enterprise(), max_uses=3))
    for _ in range(3):
        book.ask(reference)
    refused("consent_used", book.ask, reference)


def test_a_request_is_answered_once(book):
    token, request = grant(enterprise(), max_uses=9), os.urandom(32)
    book.ask(token, request=request)
    refused("request_repeated", book.ask, token, request=request)
    single = grant(enterprise(2))
    refused("request_repeated", book.ask, single, subjects=[uscc(2)], request=request)
    (reference,) = book.present(token)
    refused("request_repeated", book.ask, reference, request=request)
    assert [one.used for one in book.listing()] == [1]
    leasing = grant(enterprise(2), institution="leasing")
    book.ask(leasing, subjects=[uscc(2)], request=request, institution="leasing")


def test_a_question_object_is_admitted(book):
    tokens = tuple(grant(one) for one in book.enterprises)
    question = Question(
        institution=BANK,
        purpose="credit_granting",
        use="score",
        target="sme-card@1",
        fields=("annual_paid",),
        subjects=tuple(one.uscc for one in book.enterprises),
        consents=tokens,
        request=os.urandom(32),
        reasons=True,
    )
    with book.ledger.transaction() as tx:
        assert len(set(book.book.admit(tx, question, NOW))) == 3
    again = dataclasses.replace(question, request=os.urandom(32))
    with pytest.raises(Refusal) as caught, book.ledger.transaction() as tx:
        book.book.admit(tx, again, NOW)
    assert caught.value.code == "consent_used"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"subjects": [uscc(2)]}, "consent_subject"),
        ({"institution": "insurer"}, "consent_audience"),
        ({"purpose": "guarantee"}, "consent_purpose"),
        ({"target": "sme-card@2"}, "consent_scope"),
        ({"target": "sme-card@11"}, "consent_scope"),
        ({"use": "verify"}, "consent_scope"),
        ({"use": "verify", "target": "tax.paid_at_least"}, "consent_scope"),
        ({"now": NOW + 30 * DAY + 60}, "consent_expired"),
        ({"now": NOW - 61}, "consent_not_yet"),
    ],
)
def test_a_consent_covers_what_it_says_and_nothing_else(book, changes, code):
    token = grant(enterprise(), scope=[SCORE])
    refused(code, book.ask, token, **changes)
    (reference,) = book.present(token)
    for given in (token, reference):
        refused(code, book.ask, given, **changes)
        refused("consent_scope", book.ask, given, reasons=True)
    book.ask(reference)


def test_clocks_may_differ_a_little(book):
    token = grant(enterprise(), max_uses=9)
    (reference,) = book.present(token)
    for given in (token, reference):
        book.ask(given, now=NOW + 30 * DAY + 59)
        book.ask(given, now=NOW - 60)
    fresh = grant(enterprise())
    book.ask(fresh, now=NOW - 60)


def test_verification_and_reasons_are_consented_to_by_name(book):
    token = grant(enterprise(), scope=["verify:tax.paid_at_least", "reasons"], max_uses=2)
    at = {"use": "verify", "target": "tax.paid_at_least"}
    book.ask(token, **at)
    book.ask(token, **at, reasons=True)


def test_missing_consents(book):
    refused("consent_missing", book.ask, "")
    refused("consent_missing", book.ask, "sha256:" + "0" * 64)
    refused("consent_missing", book.ask, grant(enterprise()), subjects=[uscc(1), uscc(2)])
    refused("consent_malformed", book.ask, "sha256:" + "0" * 63)


def test_the_consent_that_fails_is_named_by_its_place(book):
    good, other = grant(enterprise(1)), grant(enterprise(2), purpose="guarantee")
    for pair in ((good, other), *both_ways(book, good, other)):
        error = refused("consent_purpose", book.ask, *pair)
        assert "number 2 of 2" in str(error)
    error = refused("consent_malformed", book.ask, good, grant(enterprise(2)), "x.y")
    assert "number 3 of 3" in str(error)
    error = refused("consent_subject", book.ask, good, good)
    assert "number 2 of 2" in str(error)


def test_one_bad_consent_uses_none(book):
    good, bad = grant(enterprise(1)), grant(enterprise(2), institution="insurer")
    refused("consent_audience", book.ask, good, bad)
    book.ask(good)


def test_the_registration_of_a_refused_question_does_not_stay(book):
    refused("consent_scope", book.ask, grant(enterprise()), target="other@1")
    assert book.listing() == ()


def test_keys_that_do_not_count(book):
    stranger = enterprise(9)
    refused("consent_key", book.ask, grant(stranger), subjects=[stranger.uscc])
    claims = taken_apart(grant(enterprise()))[1]
    head = {"alg": "EdDSA", "typ": "fedcredit-consent+jwt", "kid": enterprise(2).kid}
    refused("consent_key", book.ask, forge(key_of(2), head, claims))  # another enterprise's key
    head["kid"] = enterprise(1).kid
    refused("consent_signature", book.ask, forge(key_of(2), head, claims))
    book.ask(forge(key_of(1), head, claims))


def test_an_institutions_key_cannot_consent(book):
    bank = enterprise(8)
    book.keys.add("institution", bank.uscc, bank.public_key, NOW - DAY)
    refused("consent_key", book.ask, grant(bank), subjects=[bank.uscc])


def test_a_revoked_key_takes_its_consents_along(book):
    fresh, known = grant(enterprise()), grant(enterprise(), max_uses=9)
    (reference,) = book.present(known)
    book.ask(reference)
    book.keys.revoke(enterprise().kid, NOW)
    for token in (fresh, known, reference):
        refused("consent_key", book.ask, token)
    refused("consent_key", book.present, fresh)
    assert [one.state for one in book.listing()] == ["key revoked"]
    refused("consent_key", book.revoke, enterprise().revoke(known, now=NOW))


def test_a_retired_key_counts_for_what_was_presented_in_time(book):
    known, fresh = (grant(enterprise(), valid_days=90, max_uses=9) for _ in range(2))
    (reference,) = book.present(known)
    book.keys.rotate(enterprise().kid, enterprise(7).public_key, NOW, grace=10 * DAY)
    later = NOW + 11 * DAY
    book.ask(reference, now=later)
    book.ask(known, now=later)
    refused("consent_key", book.ask, fresh, now=later)
    book.ask(fresh, now=NOW + 9 * DAY)
    # To withdraw stays possible with the old key.
    book.revoke(enterprise().revoke(known, now=later), now=later)
    refused("consent_revoked", book.ask, reference, now=later)


def test_a_withdrawal_holds_at_once(book):
    token = grant(enterprise(), max_uses=9)
    (reference,) = book.present(token)
    book.ask(reference)
    word = enterprise().revoke(token, now=NOW + 5)
    jti = taken_apart(token)[1]["jti"]
    assert book.revoke(word, now=NOW + 5) == jti
    assert book.revoke(word, now=NOW + 9) == jti
    for given in (token, reference):
        refused("consent_revoked", book.ask, given, now=NOW + 6)
    assert [(one.state, one.revoked) for one in book.listing()] == [("revoked", NOW + 5)]


def test_a_consent_can_be_withdrawn_before_it_is_seen(book):
    token = grant(enterprise())
    book.revoke(enterprise().revoke(token, now=NOW))
    refused("consent_revoked", book.ask, token)
    refused("consent_revoked", book.present, token)


def test_only_the_subject_withdraws(book):
    token = grant(enterprise(1), max_uses=9)
    jti = taken_apart(token)[1]["jti"]
    # Another enterprise's word about the same id concerns a consent of its own.
    book.revoke(enterprise(2).revoke(jti, now=NOW))
    book.ask(token)
    head, claims = taken_apart(enterprise(1).revoke(jti, now=NOW))
    head["kid"] = enterprise(2).kid
    refused("consent_key", book.revoke, forge(key_of(2), head, claims))
    head["kid"] = enterprise(1).kid
    refused("consent_signature", book.revoke, forge(key_of(2), head, claims))
    refused("consent_malformed", book.revoke, token)
    refused("consent_malformed", book.ask, enterprise(1).revoke(jti, now=NOW))
    refused("consent_not_yet", book.revoke, enterprise(1).revoke(jti, now=NOW + 90))
    book.ask(token)


def test_ids_of_one_enterprise_are_not_taken_by_another(book):
    token = grant(enterprise(1))
    head, claims = taken_apart(grant(enterprise(2)))
    claims["jti"] = taken_apart(token)[1]["jti"]
    book.present(forge(key_of(2), head, claims))
    book.ask(token)


def test_an_id_stands_for_one_token(book):
    head, claims = taken_apart(grant(enterprise()))
    first = forge(key_of(), head, claims)
    second = forge(key_of(), head, claims | {"max_uses": 1000})
    book.ask(first)
    refused("consent_malformed", book.ask, second)
    refused("consent_malformed", book.present, second)
    claims["jti"] = "0" * 32
    pair = [forge(key_of(), head, claims | {"max_uses": uses}) for uses in (1, 2)]
    refused("consent_malformed", book.present, *pair)


def test_presenting_is_all_or_nothing_and_may_be_repeated(book):
    tokens = [grant(one, max_uses=4) for one in book.enterprises]
    refused("consent_key", book.present, *tokens, grant(enterprise(9)))
    assert book.listing() == ()
    references = book.present(*tokens)
    book.ask(*references)
    assert book.present(*tokens, tokens[0]) == [*references, references[0]]
    assert [one.used for one in book.listing()] == [1, 1, 1]
    refused("consent_malformed", book.present, references[0])
    refused("consent_missing", book.present, "")


def test_presenting_ahead_of_the_start(book):
    token = grant(enterprise(), not_before=NOW + DAY)
    (reference,) = book.present(token)
    for given in (token, reference):
        refused("consent_not_yet", book.ask, given)
    assert [one.state for one in book.listing()] == ["not yet"]
    book.ask(reference, now=NOW + DAY)
    refused("consent_not_yet", book.present, grant(enterprise(), now=NOW + 90))
    refused("consent_expired", book.present, grant(enterprise()), now=NOW + 31 * DAY)


def test_a_party_may_limit_the_validity():
    book = Book(max_validity_days=10)
    refused("consent_malformed", book.ask, grant(enterprise(), valid_days=11))
    book.ask(grant(enterprise(), valid_days=10))


def test_the_listing(book):
    book.present(grant(enterprise(1), max_uses=4), grant(enterprise(2), institution="insurer"))
    assert {one.subject for one in book.listing()} == {uscc(1), uscc(2)}
    (one,) = book.listing(subject=uscc(1))
    assert (one.institution, one.purpose, one.scope) == (
        BANK,
        "credit_granting",
        ("reasons", SCORE),
    )
    assert (one.max_uses, one.used, one.state, one.registered) == (4, 0, "valid", NOW)
    assert [one.subject for one in book.listing(institution="insurer")] == [uscc(2)]
    assert [one.state for one in book.listing(now=NOW + 31 * DAY)] == ["expired"] * 2
    assert book.listing(jti=one.jti) == (one,)
    assert uscc(1) not in repr(one)


def test_the_database_holds_a_consent_to_its_uses(book):
    """Even if the check was made before another transaction used the consent."""
    token = grant(enterprise())
    book.present(token)
    with book.ledger.transaction() as tx:
        early = book.book.check(tx, **book.question(token))
        late = book.book.check(tx, **book.question(token))
        book.book.consume(tx, early, NOW)
        with pytest.raises(Refusal) as caught:
            book.book.consume(tx, late, NOW)
        assert caught.value.code == "consent_used"
        with pytest.raises(Refusal) as caught:
            book.book.consume(tx, early, NOW)
        assert caught.value.code == "request_repeated"


def test_many_at_once(book):
    large = Book(subjects=300)
    tokens = [grant(one, max_uses=2) for one in large.enterprises]
    references = large.present(*tokens[:200])
    large.ask(*references, *tokens[200:])
    large.ask(*tokens)
    refused("consent_used", large.ask, *references)
    with large.ledger.reading() as tx:
        assert tx.execute(sa.select(sa.func.sum(CONSENTS.c.used))).scalar() == 600
