"""Attacks on a verification, with and without their defence."""

import copy
import json
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.crypto import elgamal, group, pedersen, sigma
from fedcredit.errors import (
    AuthenticationError,
    PeerProtocolError,
    ProtocolError,
    Refusal,
)
from fedcredit.protocols.scoring_messages import Declined
from fedcredit.protocols.verification import (
    DeclaredValue,
    read_reply,
)
from fedcredit.protocols.verification_messages import (
    answer_label,
    canonical,
)
from fedcredit.protocols.verification_statement import (
    response_digest,
)
from fedcredit.wire import Identity
from tests.support.verification import (
    OTHER,
    RECORDS,
    SUBJECT,
    TAX,
    TAX_NODE,
    Office,
    answered,
    ask,
    channels,
    compare,
    declare,
    menu,
    parts_of,
    pending,
    query_of,
    sealed_answer,
    sealed_request,
    signature_on,
)

KEY = TAX_NODE.public_key


# ------------------------------------------------------------------- attacks: searching a value


def search(question, low, high, width):
    """Find a record by comparing self-chosen values; returns it and the questions it took."""
    asked = 0

    def matches(value):
        nonlocal asked
        asked += 1
        return question(value) == "yes"

    hit = next(v for v in range(low + width, high + width + 1, 2 * width + 1) if matches(v))
    # The record is within hit ± width: a window that is moved up halves it every time.
    first, last = hit - width, hit + width
    while first < last:
        middle = (first + last) // 2
        if matches(middle - width):
            last = middle
        else:
            first = middle + 1
    return first, asked


def test_freely_chosen_values_find_the_record_and_signed_ones_do_not():
    width = 16
    # Without the defence: the provider accepts what the institution types.
    open_office = Office(typed_values=True)

    def typed(value):
        return ask(compare(DeclaredValue(value), width), open_office).outcome

    found, asked = search(typed, 0, 2_000, width)
    assert found == RECORDS[SUBJECT]
    assert asked <= 2_000 / (2 * width + 1) + 7

    # With it: what is typed is refused, before the gate has spent anything.
    office = Office()
    answer = ask(compare(DeclaredValue(700), width), office)
    assert answer.code == "declaration_invalid"
    assert office.log == 0

    # The one declaration that the enterprise signed serves its own value and no other.
    signed = declare(900)
    assert ask(compare(signed, width), office).outcome == "no"
    for value in (730, 899, 901):
        attempt = forged_request(signed, value, width)
        before = office.log
        with pytest.raises(Refusal) as error:
            answered(attempt, office)
        assert error.value.code == "declaration_invalid"
        assert office.log == before
    # A declaration that the institution signs itself is none.
    own = declare(730, Ed25519PrivateKey.generate())
    assert ask(compare(own, width), office).code == "declaration_invalid"


def forged_request(signed, value, tolerance):
    """Another value under a declaration, with the best proof that can be had: about the own."""
    honest = query_of(pending(compare(signed, tolerance)).request)
    key = elgamal.DecryptionKey.generate()
    ciphertext, randomness = elgamal.encrypt(key.public, value)
    blinding = pedersen.random_blinding()
    query = replace(honest, key=key.public, ciphertext=ciphertext.to_bytes())
    own = pedersen.commit(value, blinding)
    return sealed_request(
        query.with_proof(
            sigma.prove_equal(
                key.public, ciphertext, randomness, own, value, blinding, query.proof_context
            )
        )
    )


def test_the_role_checks_the_proof_even_if_the_callback_does_not():
    class Careless(Office):
        """Lets everything pass, and looks at the declaration only after the record."""

        def __call__(self, query):
            self.typed_values = True
            finding = super().__call__(replace(query, declaration="", proof=b""))
            if query.typed:
                return replace(finding, typed_values=False)
            commitment = bytes.fromhex(query.declaration)[:32]
            return replace(finding, commitment=commitment, declaration="id")

    signed = declare(900)
    assert ask(compare(signed), Careless()).outcome == "no"
    for attempt in (
        forged_request(signed, 730, 5),
        pending(compare(DeclaredValue(730))).request,
    ):
        with pytest.raises(Refusal) as error:
            answered(attempt, Careless())
        assert error.value.code == "declaration_invalid"


def test_a_proof_serves_no_other_request():
    signed = declare(730)
    first = query_of(pending(compare(signed)).request)
    for change in (
        {"nonce": bytes(32)},
        {"subject": OTHER},
        {"arguments": '{"tolerance":16}'},
        {"consent": "other"},
        {"time": 1},
    ):
        with pytest.raises(Refusal) as error:
            answered(sealed_request(replace(first, **change)))
        assert error.value.code == "declaration_invalid"
    answered(sealed_request(first))


def test_an_error_tells_nothing_of_the_record():
    """A ciphertext that is an element of the group but no 64-bit value: one refusal for all."""
    key = elgamal.DecryptionKey.generate()
    lowest = (pedersen.MIN_VALUE - 1) % group.ORDER
    chosen = group.base_mult((5).to_bytes(32, "little")) + group.base_mult(
        lowest.to_bytes(32, "little")
    )
    query = replace(
        query_of(pending(compare(DeclaredValue(5))).request), key=key.public, ciphertext=chosen
    )
    for records in ({SUBJECT: 5}, {SUBJECT: 10**12}, {}):
        with pytest.raises(Refusal, match="out of range") as error:
            answered(sealed_request(query), Office(records=records, typed_values=True))
        assert error.value.code == "request_invalid"


# ------------------------------------------------------------------ attacks: answers that are not


def test_an_answer_to_another_question_is_refused():
    one, two = pending(menu()), pending(menu())
    answer = answered(one.request)
    with pytest.raises(PeerProtocolError):
        two.read(answer, KEY)
    # Renamed by the platform: it does not open.
    with pytest.raises(PeerProtocolError):
        two.read(replace(answer, digest=two.request.digest), KEY)
    # Sealed anew by the provider, or whoever has its session keys: the statement tells.
    with pytest.raises(PeerProtocolError, match="another question"):
        two.read(sealed_answer(answer, parts_of(answer), two.request.digest), KEY)
    assert one.read(answer, KEY).outcome == "yes"


def test_a_refusal_of_another_question_is_refused():
    one = pending(menu())
    declined = Declined.of(bytes(32), TAX, Refusal("no.", code="consent_revoked"))
    with pytest.raises(PeerProtocolError):
        read_reply(one, declined, KEY)
    with pytest.raises(Refusal) as error:
        read_reply(one, replace(declined, request=one.request.digest), KEY)
    assert error.value.code == "consent_revoked"


def test_the_response_about_another_enterprise_is_refused():
    # Same question about two enterprises; the answer of one is passed off as that of the other.
    for make in (lambda subject: menu(500, subject), lambda subject: compare(730, 5, subject)):
        one, two = pending(make(SUBJECT)), pending(make(OTHER))
        mine, other = answered(one.request), answered(two.request)
        statement, signature, salt, response = parts_of(mine)
        stated = json.loads(parts_of(other)[0])
        # Even one that the provider's key signs: the enterprise is committed to in it.
        swapped = canonical({**stated, "request": one.request.digest.hex()})
        resigned = signature_on(swapped)
        _, _, other_salt, other_response = parts_of(other)
        with pytest.raises(PeerProtocolError, match="another enterprise"):
            one.read(sealed_answer(mine, [swapped, resigned, other_salt, other_response]), KEY)
        with pytest.raises(PeerProtocolError, match="another enterprise"):
            one.read(sealed_answer(mine, [statement, signature, other_salt, response]), KEY)
        if response:
            with pytest.raises(PeerProtocolError, match="something else"):
                one.read(sealed_answer(mine, [statement, signature, salt, other_response]), KEY)
        assert one.read(mine, KEY).outcome == "yes"


def test_forged_statements_and_foreign_keys_are_refused():
    one = pending(menu())
    good = answered(one.request)
    statement, signature, salt, response = parts_of(good)
    lie = statement.replace(b'"answer":"yes"', b'"answer":"no"')
    assert lie != statement
    for parts in (
        [lie, signature, salt, response],
        [statement, bytes(64), salt, response],
        [statement, b"", salt, response],
        [statement, TAX_NODE.sign(statement), salt, response],
    ):
        with pytest.raises(AuthenticationError):
            one.read(sealed_answer(good, parts), KEY)
    impostor = Identity.generate(TAX)
    with pytest.raises(AuthenticationError):
        one.read(answered(one.request, identity=impostor), KEY)
    with pytest.raises(AuthenticationError):
        one.read(good, impostor.public_key)
    assert one.read(good, KEY).outcome == "yes"


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "social"},
        {"institution": "another-bank"},
        {"predicate": "tax.paid"},
        {"arguments": {"threshold": 100}},
        {"purpose": "guarantee"},
        {"request": "00" * 32},
        {"subject": "00" * 32},
        {
            "answer": "",
            "declared": {
                "declaration": "",
                "key": "",
                "no_record": True,
                "response": "",
                "tolerance": 0,
            },
        },
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_signed_statement_about_something_else_is_refused(changes):
    one = pending(menu())
    good = answered(one.request)
    statement, _, salt, response = parts_of(good)
    changed = canonical({**json.loads(statement), **changes})
    signature = signature_on(changed)
    with pytest.raises(PeerProtocolError):
        one.read(sealed_answer(good, [changed, signature, salt, response]), KEY)


@pytest.mark.parametrize("change", ["key", "declaration", "tolerance", "response"])
def test_a_comparison_of_something_else_is_refused(change):
    one = pending(compare(730))
    good = answered(one.request)
    statement, _, salt, response = parts_of(good)
    values = json.loads(statement)
    other = {"key": KEY.public_bytes_raw().hex(), "declaration": "", "tolerance": 4}
    if change == "response":
        response = response[:-64]
        other["response"] = response_digest(response)
    values["declared"][change] = other[change]
    changed = canonical(values)
    signature = signature_on(changed)
    with pytest.raises(PeerProtocolError, match="something else"):
        one.read(sealed_answer(good, [changed, signature, salt, response]), KEY)


def test_a_response_of_malformed_points_is_the_providers_fault():
    one = pending(compare(730, 0))
    good = answered(one.request)
    short = channels()[1].seal(b"short", answer_label(good.digest))
    with pytest.raises(PeerProtocolError, match="malformed"):
        one.read(replace(good, sealed=short), KEY)
    statement, _, salt, _ = parts_of(good)
    values = json.loads(statement)
    values["declared"]["response"] = response_digest(bytes(64))
    changed = canonical(values)
    with pytest.raises(PeerProtocolError, match="no ciphertext") as error:
        one.read(sealed_answer(good, [changed, signature_on(changed), salt, bytes(64)]), KEY)
    assert error.value.party == TAX


# -------------------------------------------------------------------------------------- secrets


def test_secrets_show_nowhere_and_are_used_once():
    declared = declare(730)
    one = pending(compare(declared))
    for secret in (declared, one):
        for use in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                use(secret)
    assert "730" not in repr(declared) + repr(one) + repr(compare(declared))
    assert SUBJECT not in repr(one) + repr(menu()) + repr(one.request)
    answer = one.read(reply := answered(one.request), KEY)
    assert "yes" not in repr(answer)
    assert one._key is None
    with pytest.raises(ProtocolError, match="read before"):
        one.read(reply, KEY)
