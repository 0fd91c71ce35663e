"""Verification: answers, statements, refusals, and attacks with and without their defence."""

import json
from dataclasses import replace

import pytest

from fedcredit.crypto import pedersen
from fedcredit.errors import (
    InputError,
    PeerProtocolError,
    Refusal,
    StorageError,
)
from fedcredit.governance.declaration import verify_declaration
from fedcredit.protocols.scoring_messages import Declined
from fedcredit.protocols.verification import (
    DeclaredFinding,
    DeclaredValue,
    MenuFinding,
    reply_to,
)
from fedcredit.protocols.verification_messages import (
    PLAIN_BYTES,
    VerifyRequest,
    canonical,
    pack,
    request_digest,
    request_label,
)
from fedcredit.protocols.verification_statement import (
    subject_commitment,
)
from fedcredit.wire import Identity
from tests.support import consents
from tests.support.verification import (
    BANK,
    MENU,
    OTHER,
    RECORDS,
    STRANGER,
    SUBJECT,
    TAX,
    TAX_NODE,
    Office,
    answered,
    ask,
    channels,
    compare,
    menu,
    opened,
    pending,
    query_of,
    sealed_request,
    verify,
)

KEY = TAX_NODE.public_key


# -------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("threshold", MENU)
@pytest.mark.parametrize("subject", [SUBJECT, OTHER, STRANGER])
def test_a_predicate_of_the_menu(threshold, subject):
    answer = ask(menu(threshold, subject))
    value = RECORDS.get(subject)
    expected = "no_record" if value is None else "yes" if value >= threshold else "no"
    assert answer.outcome == expected
    assert answer.response == answer.opening == b""
    stated, outcome = opened(answer)
    assert outcome == stated.answer == expected
    assert stated == answer.stated
    assert (stated.provider, stated.institution, stated.predicate) == (
        TAX,
        BANK,
        "tax.paid_at_least",
    )
    assert json.loads(stated.arguments) == {"threshold": threshold}
    assert (stated.entry, stated.as_of, stated.declared) == (1, "2026-10-31", None)
    assert stated.subject == subject_commitment(subject, answer.salt)


@pytest.mark.parametrize("tolerance", [0, 2, 5, 16])
def test_a_declared_value_matches_within_the_tolerance_only(tolerance):
    value = RECORDS[SUBJECT]
    for off in {0, tolerance, -tolerance, tolerance + 1, -tolerance - 1, 10**6}:
        answer = ask(compare(value + off, tolerance))
        assert answer.outcome == ("yes" if abs(off) <= tolerance else "no")
        stated, outcome = opened(answer)
        assert outcome == answer.outcome
        assert stated.declared.tolerance == tolerance
        assert stated.declared.declaration
        assert stated.answer == ""


def test_a_declared_value_of_zero_or_below_and_of_a_stranger():
    office = Office(records={SUBJECT: 0, OTHER: -3})
    for question, expected in (
        (compare(0, 0), "yes"),
        (compare(1, 0), "no"),
        (compare(-5, 2, OTHER), "yes"),
        (compare(0, 2, OTHER), "no"),
        (compare(0, 2, STRANGER), "no_record"),
    ):
        answer = ask(question, office)
        assert answer.outcome == expected
        assert opened(answer)[1] == expected


def test_a_long_session_with_refusals_goes_on():
    questions = [menu(), menu(501), compare(730), compare(9, 3), menu(1_000), compare(730, 0)]
    answers, served = verify(questions)
    outcomes = [getattr(a, "code", None) or a.outcome for a in answers]
    assert outcomes == ["yes", "threshold_denied", "yes", "threshold_denied", "no", "yes"]
    assert [s.outcome for s in served] == [
        "answered" if o in ("yes", "no") else o for o in outcomes
    ]
    assert len({s.digest for s in served}) == len(served)


def test_the_declarations_of_governance_serve():
    """A credit commitment as enterprises sign it, read by the provider with its key registry."""
    keys, subject = consents.Book(subjects=2).keys, consents.uscc(1)

    class Bureau(Office):
        def read_declaration(self, query):
            declared = verify_declaration(query.declaration, keys, consents.NOW)
            if declared.subject != query.subject:
                raise Refusal("another's declaration.", code="declaration_invalid")
            return declared.item("paid").commitment

    def question(number, value, about=subject):
        made = consents.enterprise(number).declare(
            field="paid", value=value, unit="CNY", resolution=1000, now=consents.NOW
        )
        opening = made.opening("paid")
        return compare(DeclaredValue(opening.steps, made.token, opening.blinding), 2, about)

    office = Bureau(records={subject: 730})
    for value, expected in ((731_700, "yes"), (733_000, "no"), (-5, "no")):
        answer = ask(question(1, value), office)
        assert answer.outcome == opened(answer)[1] == expected
    # Another's pledge does not serve, nor one whose key the provider does not know.
    assert ask(question(2, 730_000), office).code == "declaration_invalid"
    assert ask(question(3, 730_000, consents.uscc(3)), office).code == "declaration_invalid"


# ------------------------------------------------------------------------------------- refusals


def test_a_refusal_keeps_code_reason_and_fix_and_names_the_provider():
    refusal = Refusal("the day's questions are used up.", code="budget_exhausted", fix="wait")
    answer = ask(menu(), Office(refuse=refusal))
    assert (answer.code, answer.party, answer.step) == ("budget_exhausted", TAX, "verify")
    assert (answer.reason, answer.fix) == (refusal.reason, "wait")


def test_an_unreadable_record_declines_and_the_session_goes_on():
    office = Office(refuse=StorageError("the table cannot be read.", fix="mount it"))
    answers, served = verify([menu(), menu()], office)
    assert [a.code for a in answers] == ["part_failed"] * 2
    assert [s.outcome for s in served] == ["part_failed"] * 2


def test_a_finding_must_fit_the_question():
    class Confused(Office):
        def __call__(self, query):
            finding = super().__call__(query)
            shared = {k: getattr(finding, k) for k in ("text", "consent", "as_of", "time", "entry")}
            if isinstance(finding, MenuFinding):
                return DeclaredFinding(**shared, value=1, tolerance=0)
            return MenuFinding(**shared, holds=True)

    for question in (menu(), compare(730)):
        assert ask(question, Confused()).code == "request_invalid"

    class Wider(Office):
        def __call__(self, query):
            return replace(super().__call__(query), tolerance=16)

    assert ask(compare(730, 5), Wider()).code == "request_invalid"
    finding = MenuFinding(text="t", consent=bytes(32), as_of="", time=1, entry=1, holds=True)
    shared = {k: getattr(finding, k) for k in ("text", "consent", "as_of", "time", "entry")}
    for bad in (
        {"value": 1, "tolerance": -1},
        {"value": 1, "tolerance": 65},
        {"value": pedersen.MAX_VALUE, "tolerance": 1},
        {"value": 1, "tolerance": 1, "commitment": bytes(32)},
        {"value": 1, "tolerance": 1, "declaration": "x"},
    ):
        with pytest.raises(InputError):
            DeclaredFinding(**shared, **bad)
    for bad in ({"text": ""}, {"text": "x" * 1001}, {"consent": b"x"}, {"as_of": "x" * 33}):
        with pytest.raises(InputError):
            replace(finding, **bad)


def test_a_malformed_question_is_told_at_once():
    long = menu(consent="x" * PLAIN_BYTES)
    with pytest.raises(InputError):
        pending(long)
    for question in (
        replace(menu(), target="social.staff"),
        replace(menu(), subject=""),
        replace(menu(), consent=""),
        replace(menu(), time=-1),
        replace(menu(), time=1.5),
        replace(menu(), arguments={"threshold": [1]}),
        replace(menu(), arguments={"threshold": float("nan")}),
        replace(menu(), arguments={"threshold": "x" * 300}),
        replace(menu(), target="tax." + "x" * 300),
        replace(menu(), subject="\ud800"),
    ):
        with pytest.raises(Refusal) as error:
            pending(question)
        assert error.value.code == "request_invalid"
        assert error.value.fix
    with pytest.raises(InputError):
        DeclaredValue(5, "token")
    with pytest.raises(InputError):
        DeclaredValue(5, "", bytes(32))


def test_a_request_is_read_back_and_its_digest_covers_every_part():
    query = query_of(pending(compare(730)).request)
    assert request_digest(query) == query.digest
    changes = {
        "institution": "bank2",
        "provider": "ta",
        "target": "tax.paid2",
        "arguments": '{"tolerance":2}',
        "purpose": "guarantee",
        "subject": OTHER,
        "consent": "other",
        "nonce": bytes(32),
        "time": 5,
        "declaration": "other",
        "key": bytes(32),
        "ciphertext": bytes(64),
        "proof": bytes(128),
    }
    digests, contexts = {query.digest}, {query.proof_context}
    for name, value in changes.items():
        extra = {"target": "ta.x"} if name == "provider" else {}
        changed = replace(query, **{name: value}, **extra)
        digests.add(changed.digest)
        contexts.add(changed.proof_context)
    assert len(digests) == 1 + len(changes)
    assert len(contexts) == len(changes)  # all but the proof itself
    assert replace(query).digest == query.digest
    assert SUBJECT not in repr(query)


def test_manipulated_requests_are_refused_as_malformed():
    query = query_of(pending(compare(730)).request)
    plain = query_of(pending(menu()).request)
    for request in (
        sealed_request(query, target="tax.paid_at_least"),
        sealed_request(query, purpose="guarantee"),
        sealed_request(query, digest=bytes(32)),
        sealed_request(replace(query, key=bytes(32))),
        sealed_request(replace(query, ciphertext=query.ciphertext[:32] + bytes(32))),
        sealed_request(replace(query, ciphertext=b"\xff" * 64)),
        sealed_request(replace(plain, institution="another-bank")),
    ):
        with pytest.raises(Refusal) as error:
            answered(request)
        assert error.value.code == "request_invalid"
    with pytest.raises(Refusal, match="another party"):
        answered(sealed_request(query), institution="another-bank")
    with pytest.raises(Refusal, match="another party"):
        answered(sealed_request(query), identity=Identity.generate("social"))
    # None of these reached the gate.
    office = Office()
    reply = reply_to(
        sealed_request(query, purpose="guarantee"),
        institution=BANK,
        identity=TAX_NODE,
        channel=channels()[1],
        answer=office,
    )
    assert isinstance(reply, Declined)
    assert reply.codes == ("request_invalid",)
    assert not office.asked


def test_hostile_bytes_inside_a_request_are_refused():
    good = query_of(pending(compare(730)).request).to_bytes()
    values = json.loads(good)
    bad = [
        b"",
        b"{",
        b"[]",
        b"[" * 9_000,
        b"\xff\xfe",
        good + b" ",
        good.replace(b'{"arguments"', b'{"x":1,"arguments"'),
        json.dumps(values).encode(),
        canonical({**values, "version": 2}),
        canonical({**values, "nonce": "00"}),
        canonical({**values, "nonce": "zz" * 32}),
        canonical({**values, "nonce": 5}),
        canonical({**values, "nonce": values["nonce"].upper()}),
        canonical({**values, "time": "5"}),
        canonical({**values, "time": True}),
        canonical({**values, "subject": None}),
        canonical({**values, "arguments": '{ "tolerance":5}'}),
        canonical({**values, "arguments": "[]"}),
        canonical({**values, "arguments": '{"a":{"b":1}}'}),
        canonical({**values, "key": ""}),
        canonical({**values, "proof": ""}),
        canonical({**values, "declaration": ""}),
        canonical({k: v for k, v in values.items() if k != "consent"}),
        good[:-2] + b',"x":"\\ud800"}',
    ]
    for data in bad:
        digest = bytes(32)
        request = VerifyRequest(
            "tax.paid",
            "credit_granting",
            digest,
            channels()[0].seal(pack([data]), request_label(digest)),
        )
        with pytest.raises(Refusal) as error:
            answered(request)
        assert error.value.code == "request_invalid", data
    filled = pack([good])
    for plain in (b"", filled[:-1], filled[:-1] + b"x", b"\xff" * PLAIN_BYTES):
        request = VerifyRequest(
            "tax.paid",
            "credit_granting",
            bytes(32),
            channels()[0].seal(plain, request_label(bytes(32))),
        )
        with pytest.raises(Refusal):
            answered(request)


def test_what_was_sealed_for_another_request_does_not_open():
    one, two = pending(menu()).request, pending(menu()).request
    with pytest.raises(PeerProtocolError):
        answered(replace(one, sealed=two.sealed))
    with pytest.raises(PeerProtocolError):
        answered(replace(one, sealed=one.sealed[:-1] + bytes([one.sealed[-1] ^ 1])))
