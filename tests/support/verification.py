"""One institution and one provider that verify, every byte recorded, and an enterprise that signs.

The enterprise's token is the smallest thing that a provider can check: Ed25519 over a commitment.
What a consent, a catalog and a budget look like is not the protocol's business.
"""

import hashlib
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.crypto import pedersen
from fedcredit.errors import Refusal
from fedcredit.protocols.scoring_keys import ServiceKeys
from fedcredit.protocols.verification import (
    DeclaredFinding,
    DeclaredValue,
    MenuFinding,
    PairChannel,
    PendingVerification,
    VerifyQuestion,
    answer_verification,
    check_committed,
    institution_verify,
    provider_verify,
)
from fedcredit.protocols.verification_messages import (
    VerifyQuery,
    VerifyRequest,
    answer_label,
    pack,
    request_label,
    unpack,
)
from fedcredit.protocols.verification_statement import open_statement
from fedcredit.wire import Identity, Peer, Transcript, run_in_process

BANK, TAX, PLATFORM = "bank", "tax", "platform"
SUBJECT, OTHER, STRANGER = "91350100M000100Y43", "91110000600037341L", "92440300MA5F7XCQ0A"
TIME = 1_790_000_000
#: Tax paid, in steps of 1,000 CNY; a stranger has no record.
RECORDS = {SUBJECT: 730, OTHER: 120}
MENU = (100, 500, 1_000, 10_000_000)

TAX_NODE = Identity.generate(TAX)
ENTERPRISE = Ed25519PrivateKey.generate()


def declare(value, key=ENTERPRISE):
    """The enterprise signs a commitment to ``value``; the institution gets it with its opening."""
    blinding = pedersen.random_blinding()
    commitment = pedersen.commit(value, blinding)
    return DeclaredValue(value, (commitment + key.sign(commitment)).hex(), blinding)


@dataclass
class Office:
    """The provider's callback: a menu, records, and a count of what was answered."""

    records: dict = field(default_factory=lambda: dict(RECORDS))
    typed_values: bool = False
    tolerances: tuple = (0, 2, 5, 16)
    refuse: object = None
    asked: list = field(default_factory=list)
    log: int = 0

    def read_declaration(self, query):
        """Check the signature; return what the declaration commits to."""
        data = bytes.fromhex(query.declaration)
        try:
            ENTERPRISE.public_key().verify(data[32:], data[:32])
        except InvalidSignature:
            raise Refusal("the signature does not check.", code="declaration_invalid") from None
        return data[:32]

    def __call__(self, query):
        self.asked.append(query)
        arguments = query.parsed_arguments
        commitment, name = b"", ""
        if query.declaration:
            commitment = self.read_declaration(query)
            name = hashlib.sha256(commitment).hexdigest()[:32]
        if query.declared:
            check_committed(query, commitment, typed_values=self.typed_values)
        if self.refuse is not None:
            raise self.refuse
        self.log += 1
        common = {
            "text": f"tax paid in 2025, with {query.arguments}",
            "consent": hashlib.sha256(query.consent.encode()).digest(),
            "as_of": "2026-10-31",
            "time": TIME + 1,
            "entry": self.log,
        }
        value = self.records.get(query.subject)
        if query.target == "tax.paid":
            if arguments.get("tolerance") not in self.tolerances:
                raise Refusal("not on the menu.", code="threshold_denied")
            return DeclaredFinding(
                **common,
                value=value,
                tolerance=arguments["tolerance"],
                commitment=commitment,
                declaration=name,
                typed_values=self.typed_values,
            )
        if query.target != "tax.paid_at_least" or arguments.get("threshold") not in MENU:
            raise Refusal("not on the menu.", code="threshold_denied")
        return MenuFinding(
            **common, holds=None if value is None else value >= arguments["threshold"]
        )


def channels():
    """Both ends of a sealed channel, from keys such as a session agrees on."""
    key = bytes(range(32))
    names = (BANK, PLATFORM, [TAX])
    bank = ServiceKeys(BANK, *names, {TAX: key, PLATFORM: bytes(32)}, b"")
    tax = ServiceKeys(TAX, *names, {BANK: key, PLATFORM: bytes(32)}, bytes(32))
    return PairChannel(bank, TAX), PairChannel(tax, BANK)


def menu(threshold=500, subject=SUBJECT, consent="consent-token"):
    return VerifyQuestion(
        "tax.paid_at_least", {"threshold": threshold}, "credit_granting", subject, consent, TIME
    )


def compare(declared, tolerance=5, subject=SUBJECT, consent="consent-token"):
    if isinstance(declared, int):
        declared = declare(declared)
    return VerifyQuestion(
        "tax.paid",
        {"tolerance": tolerance},
        "credit_granting",
        subject,
        consent,
        TIME,
        declared,
    )


async def asking(questions, channel, key=None):
    """The institution: every question in turn; a refusal does not end the session."""
    got = []
    for question in questions:
        try:
            got.append(
                await institution_verify(
                    Peer(TAX),
                    channel,
                    question,
                    institution=BANK,
                    provider_key=key or TAX_NODE.public_key,
                )
            )
        except Refusal as refusal:
            got.append(refusal)
    return got


async def serving(n, channel, office, identity=TAX_NODE):
    return [await provider_verify(Peer(BANK), channel, identity, office) for _ in range(n)]


def verify(questions, office=None, *, transcript=None, identity=TAX_NODE, key=None):
    """Run one session; returns the institution's answers and what the provider served."""
    at_bank, at_tax = channels()
    office = office or Office()
    done = run_in_process(
        {
            BANK: asking(questions, at_bank, key),
            TAX: serving(len(questions), at_tax, office, identity),
        },
        transcript=transcript,
    )
    return done[BANK], done[TAX]


def recorded(questions, office=None):
    """The answers, and every message that crossed the wire."""
    transcript = Transcript(keep=True)
    answers, _ = verify(questions, office, transcript=transcript)
    return answers, transcript.records


# ---------------------------------------------------------------------------- pieces by hand


def ask(question, office=None, **options):
    (answer,), (served,) = verify([question], office, **options)
    if isinstance(answer, Refusal):
        assert served.outcome == answer.code
    else:
        assert served.outcome == "answered"
        assert served.digest == answer.digest
    return answer


def opened(answer):
    return open_statement(
        answer.statement,
        answer.signature,
        TAX_NODE.public_key,
        response=answer.response,
        opening=answer.opening,
    )


def pending(question, at_bank=None):
    return PendingVerification(
        question, institution=BANK, provider=TAX, channel=at_bank or channels()[0]
    )


def answered(request, office=None, at_tax=None, *, institution=BANK, identity=TAX_NODE):
    return answer_verification(
        request,
        institution=institution,
        identity=identity,
        channel=at_tax or channels()[1],
        answer=office or Office(),
    )


def query_of(request, at_tax=None):
    plain = (at_tax or channels()[1]).open(request.sealed, request_label(request.digest))
    return VerifyQuery.from_bytes(unpack(plain, 1)[0])


def sealed_request(query, **outside):
    """A request whose sealed part is ``query``, as a manipulated institution would send it."""
    digest = outside.pop("digest", query.digest)
    data = channels()[0].seal(pack([query.to_bytes()]), request_label(digest))
    return VerifyRequest(
        outside.pop("target", query.target), outside.pop("purpose", query.purpose), digest, data
    )


def parts_of(answer, at_bank=None):
    plain = (at_bank or channels()[0]).open(answer.sealed, answer_label(answer.digest))
    return unpack(plain, 4)


def sealed_answer(answer, parts, digest=None):
    digest = digest or answer.digest
    return replace(
        answer, digest=digest, sealed=channels()[1].seal(pack(parts), answer_label(digest))
    )


def signature_on(statement):
    """The provider's signature on whatever it is."""
    return TAX_NODE.sign(b"fedcredit/statement/1\x00" + statement)
