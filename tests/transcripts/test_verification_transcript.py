"""What crosses the wire in a verification, held to the table of its protocol."""

import json
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from fedcredit.crypto import elgamal, group
from fedcredit.errors import Refusal
from fedcredit.protocols.verification import DeclaredValue
from fedcredit.wire import message_class
from tests.support.verification import (
    BANK,
    OTHER,
    STRANGER,
    SUBJECT,
    TAX,
    TAX_NODE,
    Office,
    answered,
    compare,
    declare,
    menu,
    opened,
    pending,
    query_of,
    recorded,
    verify,
)

TAX_KEY = TAX_NODE.public_key
MENU_QUESTIONS = {
    "yes": menu(500),
    "no": menu(1_000),
    "no record": menu(500, STRANGER),
    "another threshold": menu(10_000_000),
    "another enterprise": menu(500, OTHER),
    "a long consent": menu(500, consent="x" * 4_000),
}
DECLARED_QUESTIONS = {
    "match": compare(730),
    "no match": compare(900),
    "no record": compare(730, subject=STRANGER),
    "no tolerance": compare(730, 0),
    "another tolerance": compare(730, 16),
    "a large value": compare(2**61),
    "a negative value": compare(-5),
    "a long consent": compare(730, consent="x" * 4_000),
}


@pytest.mark.parametrize(
    "questions", [MENU_QUESTIONS, DECLARED_QUESTIONS], ids=["menu", "declared"]
)
def test_the_hub_sees_the_same_messages_and_sizes_for_every_question_and_answer(questions):
    seen = {}
    for name, question in questions.items():
        (answer,), records = recorded([question])
        assert not isinstance(answer, Refusal), name
        seen[name] = [(r.sender, r.recipient, r.message.kind, r.data.size) for r in records]
        request, reply = (r.message for r in records)
        assert (request.target, request.purpose) == (question.target, "credit_granting")
        assert request.digest == reply.digest == answer.digest
    assert [(s, r, k) for s, r, k, _ in seen[name]] == [
        (BANK, TAX, "verify.request"),
        (TAX, BANK, "verify.answer"),
    ]
    assert len({tuple(messages) for messages in seen.values()}) == 1
    assert all(message_class(kind).reveals for _, _, kind, _ in seen[name])


def test_a_typed_value_has_the_size_of_a_committed_one():
    sizes = set()
    for declared in (declare(730), DeclaredValue(730)):
        _, records = recorded([compare(declared)], Office(typed_values=True))
        sizes.add(tuple(r.data.size for r in records))
    assert len(sizes) == 1


def test_a_refusal_shows_its_rule_and_nothing_of_the_question():
    refusal = Refusal("the subject has withdrawn the consent.", code="consent_revoked")
    seen = set()
    for question in (menu(), menu(1_000, OTHER, "y" * 900), menu(500, STRANGER)):
        _, records = recorded([question], Office(refuse=refusal))
        message = records[1].message
        assert message.kind == "scoring.declined"
        assert message.codes == ("consent_revoked",)
        seen.add((records[1].data.size, message.parties, message.reasons, message.fixes))
    assert len(seen) == 1


def encodings(value):
    yield str(value).encode()
    for size in (4, 8):
        for order in ("little", "big"):
            yield value.to_bytes(size, order, signed=True)


def test_nothing_that_names_or_describes_the_enterprise_is_on_the_wire():
    consent = "eyJhbGciOiJFZERTQSJ9.this-is-the-consent.of-the-enterprise"
    # Numbers long enough not to be found by chance.
    threshold, value = 10_000_000, 123_456_789
    office = Office(records={SUBJECT: value})
    signed = declare(value)
    questions = [menu(threshold, consent=consent), compare(signed, 16, consent=consent)]
    answers, records = recorded(questions, office)
    assert [answer.outcome for answer in answers] == ["yes", "yes"]
    wire = b"|".join(r.data.to_pybytes() for r in records)
    secrets = [SUBJECT.encode(), consent.encode(), signed.declaration.encode(), signed.blinding]
    secrets += [*encodings(threshold), *encodings(value), b"threshold", b"tolerance"]
    for query in office.asked:
        secrets += [query.nonce, query.nonce.hex().encode(), query.arguments.encode()]
        if query.declared:
            secrets += [query.key, query.ciphertext, query.ciphertext[:32], query.proof]
            secrets += [query.key.hex().encode(), bytes.fromhex(query.declaration)[:32]]
    for answer in answers:
        stated = answer.stated
        secrets += [answer.statement, answer.signature, answer.salt, stated.subject.encode()]
        secrets += [bytes.fromhex(stated.subject), stated.as_of.encode(), stated.consent.encode()]
        if answer.response:
            secrets += [answer.response, answer.response[:32], answer.opening]
    for secret in secrets:
        assert secret, "nothing to look for"
        assert secret not in wire
    # The search sees what is there.
    assert b"tax.paid_at_least" in wire
    assert answers[0].digest in wire


def test_the_same_question_twice_has_nothing_in_common():
    question = compare(730)
    _, records = recorded([question, question])
    requests = [r.message for r in records if r.message.kind == "verify.request"]
    replies = [r.message for r in records if r.message.kind == "verify.answer"]
    assert requests[0].digest != requests[1].digest
    for one, two in (requests, replies):
        a, b = (np.frombuffer(m.sealed, np.uint8) for m in (one, two))
        # Two uniform strings of 16 KiB agree in 1 byte of 256; 6 standard deviations are allowed.
        assert abs((a == b).mean() - 1 / 256) < 6 * (1 / 256 / a.size) ** 0.5
        counts = np.bincount(a, minlength=256)
        mean = a.size / 256
        assert (((counts - mean) ** 2 / mean).sum() - 255) / (2 * 255) ** 0.5 < 6


# ------------------------------------------------------------------------------- the provider


def views(value, n):
    """What the provider has of ``n`` questions about a declared value: every part, as bits."""
    rows = []
    for _ in range(n):
        query = query_of(pending(compare(declare(value))).request)
        points = query.key + query.ciphertext + bytes.fromhex(query.declaration)[:32]
        rows.append(points + query.proof)
    return np.unpackbits(np.frombuffer(b"".join(rows), np.uint8).reshape(n, -1), axis=1)


def test_the_provider_sees_the_same_of_every_declared_value():
    n = 120
    zero, other = views(0, n), views(123_456_789, n)
    assert zero.shape == other.shape
    # Bits that are constant by encoding are so in both; the rest differ as by chance.
    apart = np.abs(zero.mean(axis=0) - other.mean(axis=0))
    assert apart.max() < 6 * (0.5 / n) ** 0.5
    # One and the same view of equal and unequal values: no element repeats or cancels.
    for bits in (zero, other):
        assert len(np.unique(bits, axis=0)) == n
    query = query_of(pending(compare(declare(123_456_789))).request)
    for field in fields(query):
        held = getattr(query, field.name)
        data = held if isinstance(held, bytes) else str(held).encode()
        assert not [e for e in encodings(123_456_789) if e in data], field.name


def test_the_provider_cannot_see_whether_it_matched():
    """It works the same, returns the same size and logs the same, and gets no message after."""
    office = Office()
    answers, served = verify([compare(730), compare(10**9)], office)
    assert [a.outcome for a in answers] == ["yes", "no"]
    assert [s.outcome for s in served] == ["answered", "answered"]
    _, records = recorded([compare(730), compare(10**9)], Office())
    assert [r.message.kind for r in records] == ["verify.request", "verify.answer"] * 2


# ---------------------------------------------------------------------------- the institution


def stripped(answer):
    """A statement without what is random in every run."""
    values = json.loads(answer.statement)
    for name in ("request", "subject"):
        values[name] = ""
    for name in ("declaration", "key", "response"):
        values["declared"][name] = ""
    return values


def elements(record, n, tolerance=2):
    """What the institution decrypts of ``n`` questions that do not match."""
    found, statements = [], []
    for _ in range(n):
        one = pending(compare(100, tolerance))
        key = one._key
        office = Office(records={} if record is None else {SUBJECT: record})
        answer = one.read(answered(one.request, office), TAX_KEY)
        assert answer.outcome == ("no_record" if record is None else "no")
        made = elgamal.split(answer.response)
        found.extend(group.sub(each.second, key.shared(each)) for each in made)
        statements.append(stripped(answer))
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32), statements


def test_the_institution_sees_the_same_of_every_record_that_does_not_match():
    n = 60
    near, stated_near = elements(103, n)
    far, stated_far = elements(10**15, n)
    none, _ = elements(None, n)
    assert all(stated == stated_near[0] for stated in stated_near + stated_far)
    for points in (near, far, none):
        assert len(np.unique(points, axis=0)) == len(points) == 5 * n
        # Encodings are even and below 2^255 (RFC 9496, 4.3.1); between the ends they are uniform.
        bits = np.unpackbits(points[:, 1:31], axis=1).mean(axis=0)
        assert np.abs(bits - 0.5).max() < 6 * 0.5 / len(points) ** 0.5
    # Nor are the elements of one answer related: a fixed step of one s would show here.
    first = [bytes(p) for p in near[:5]]
    steps = {group.sub(b, a) for i, a in enumerate(first) for b in first[i + 1 :]}
    assert len(steps) == 10


def test_where_the_match_stands_is_uniform_whatever_the_offset():
    runs, places = 90, {}
    for off in (-1, 0, 1):
        counts = Counter()
        for _ in range(runs):
            one = pending(compare(100 + off, 1))
            key = one._key
            office = Office(records={SUBJECT: 100}, tolerances=(1,))
            answer = one.read(answered(one.request, office), TAX_KEY)
            counts[[key.is_zero(c) for c in elgamal.split(answer.response)].index(True)] += 1
        places[off] = np.array([counts[i] for i in range(3)])
    for counts in places.values():
        # 2 degrees of freedom: 27.6 is exceeded once in a million runs.
        assert ((counts - runs / 3) ** 2 / (runs / 3)).sum() < 27.6


def test_the_opening_shows_an_auditor_the_outcome_but_not_the_record():
    """Elements of a mismatch are uniform to the auditor as well; a match hides its candidate."""
    for value, outcome in ((100, "yes"), (5_000, "no")):
        one = pending(compare(value, 2))
        answer = one.read(answered(one.request, Office(records={SUBJECT: 101})), TAX_KEY)
        assert opened(answer)[1] == outcome
        assert not [e for e in encodings(101_000) if e in answer.opening]


# ------------------------------------------------------------------------------------- the work


def test_the_provider_works_as_much_whatever_the_record(monkeypatch):
    """Time is seen by all; the number of operations does not depend on the record or the value."""
    counts = Counter()
    for name in ("mult", "base_mult", "add", "sub", "scalar_mult"):
        plain = getattr(group, name)

        def counted(*arguments, name=name, plain=plain):
            counts[name] += 1
            return plain(*arguments)

        monkeypatch.setattr(group, name, counted)
    work = {}
    for record in (730, 731, 0, 10**15, -5, None):
        request = pending(compare(730)).request
        counts.clear()
        answered(request, Office(records={} if record is None else {SUBJECT: record}))
        work[record] = dict(counts)
    assert len({tuple(sorted(each.items())) for each in work.values()}) == 1
