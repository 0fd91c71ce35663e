"""Statements of a verification, as an auditor or a court checks them."""

import datetime
import json
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from fedcredit.crypto import elgamal, group, sigma
from fedcredit.errors import (
    AuthenticationError,
    InputError,
)
from fedcredit.protocols import verification_statement as statements
from fedcredit.protocols.verification_messages import (
    canonical,
)
from fedcredit.protocols.verification_statement import (
    Statement,
    subject_commitment,
    verify_statement,
)
from fedcredit.wire import Identity
from tests.support.verification import (
    OTHER,
    SUBJECT,
    TAX,
    TAX_NODE,
    answered,
    ask,
    compare,
    menu,
    opened,
    pending,
    signature_on,
)

KEY = TAX_NODE.public_key


@pytest.mark.parametrize("declared", [730, 900])
def test_an_auditor_sees_what_the_institution_saw_and_lies_fail(declared):
    answer = ask(compare(declared))
    outcome = "yes" if declared == 730 else "no"
    assert opened(answer)[1] == answer.outcome == outcome
    other = ask(compare(730 if declared != 730 else 900))
    for changed in (
        {"response": other.response},
        {"opening": other.opening},
        {"response": other.response, "opening": other.opening},
        {"opening": b""},
        {"response": b""},
        {"signature": other.signature},
        {"statement": other.statement},
        {"statement": other.statement, "signature": other.signature},
    ):
        with pytest.raises(AuthenticationError):
            opened(replace(answer, **changed))
    for at in range(0, len(answer.opening), 7):
        wrong = bytearray(answer.opening)
        wrong[at] ^= 4
        with pytest.raises(AuthenticationError):
            opened(replace(answer, opening=bytes(wrong)))


def test_a_lying_institution_cannot_open_to_the_opposite(monkeypatch):
    """It computes the opening itself, with points that say what it wants and another key."""
    for declared in (730, 900):
        one = pending(compare(declared))
        answer = one.read(answered(one.request), KEY)
        ciphertexts = elgamal.split(answer.response)
        context = statements._opening_context(answer.statement)
        shared = [answer.opening[at : at + 32] for at in range(0, 32 * len(ciphertexts), 32)]
        # Deny the match, or claim one: replace the point that decides.
        seconds = [one.second for one in ciphertexts]
        place = next((i for i, s in enumerate(shared) if s == seconds[i]), None)
        lie = list(shared)
        lie[place or 0] = seconds[0] if place is None else KEY_POINT
        liar = Liar(lie)
        opening = sigma.prove_decryption(liar, ciphertexts, context)
        with pytest.raises(AuthenticationError):
            opened(replace(answer, opening=opening))


def test_a_lying_institution_that_kept_its_key_cannot_open_other_ciphertexts():
    """With the key it can make any ciphertexts and prove truly how they decrypt."""
    for declared in (730, 900):
        one = pending(compare(declared))
        key = one._key
        answer = one.read(answered(one.request), KEY)
        held = [5] * 11 if answer.outcome == "yes" else [*[5] * 10, 0]
        response = elgamal.join([elgamal.encrypt(key.public, v)[0] for v in held])
        opening = statements.prove_opening(key, answer.statement, response)
        with pytest.raises(AuthenticationError, match="not those of the statement"):
            opened(replace(answer, response=response, opening=opening))
        # Nor does a proof made for another statement serve this one.
        opening = statements.prove_opening(key, answer.statement + b" ", answer.response)
        with pytest.raises(AuthenticationError, match="does not hold"):
            opened(replace(answer, opening=opening))
        opening = statements.prove_opening(key, answer.statement, answer.response)
        assert opened(replace(answer, opening=opening))[1] == answer.outcome


KEY_POINT = group.base_mult((7).to_bytes(32, "little"))


class Liar(elgamal.DecryptionKey):
    """Hands out the given points instead of those of a key."""

    __slots__ = ("points",)

    def __init__(self, points):
        super().__init__(group.random_scalar())
        self.points = list(points)

    def shared(self, ciphertext):
        return self.points.pop(0)


def certificate(key, public):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tax")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
    builder = builder.serial_number(1).not_valid_before(now)
    builder = builder.not_valid_after(now + datetime.timedelta(days=365))
    return builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())


def test_a_statement_checks_against_a_certificate():
    key = Ed25519PrivateKey.generate()
    node = Identity(TAX, key)
    answer = ask(menu(), identity=node, key=node.public_key)
    held = certificate(key, key.public_key())
    assert verify_statement(answer.statement, answer.signature, held) == answer.stated
    curve = generate_private_key(SECP256R1())
    with pytest.raises(AuthenticationError, match="no Ed25519"):
        verify_statement(answer.statement, answer.signature, certificate(curve, curve.public_key()))
    with pytest.raises(AuthenticationError):
        verify_statement(answer.statement, answer.signature, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"extra": 1},
        {"entry": -1},
        {"entry": "1"},
        {"time": 1.5},
        {"time": True},
        {"text": 5},
        {"answer": "perhaps"},
        {"answer": ""},
        {"answer": None},
        {"answer": ["yes"]},
        {"arguments": "x"},
        {"arguments": {"a": [1]}},
        {"declared": {"x": 1}},
        {"declared": [1]},
        {"declared": "x"},
    ],
    ids=repr,
)
def test_what_is_signed_but_no_statement_is_refused(change):
    values = json.loads(ask(menu()).statement)
    data = canonical({**values, **change})
    signature = signature_on(data)
    with pytest.raises(AuthenticationError, match="canonical form"):
        verify_statement(data, signature, KEY)


def test_statements_are_canonical_json_and_signed_in_a_domain_of_their_own():
    answer = ask(menu())
    values = json.loads(answer.statement)
    assert list(values) == sorted(values)
    assert Statement.from_bytes(answer.statement).to_bytes() == answer.statement
    spaced = json.dumps(values).encode()
    with pytest.raises(AuthenticationError):
        verify_statement(spaced, signature_on(spaced), KEY)
    with pytest.raises(AuthenticationError):
        verify_statement(answer.statement, TAX_NODE.sign(answer.statement), KEY)
    for bad in ("answer", "subject"):
        with pytest.raises(AuthenticationError):
            Statement.from_bytes(canonical({k: v for k, v in values.items() if k != bad}))


def test_the_statement_names_no_enterprise_and_no_value():
    for answer in (ask(menu()), ask(compare(730))):
        assert SUBJECT.encode() not in answer.statement
        assert b"730" not in json.dumps(json.loads(answer.statement)["text"]).encode()
        assert subject_commitment(SUBJECT, answer.salt) == answer.stated.subject
        assert subject_commitment(OTHER, answer.salt) != answer.stated.subject
    with pytest.raises(InputError):
        subject_commitment(SUBJECT, b"short")
