"""A whole service, every message between all parties recorded, held to who may see what.

The protocols have tables and tests of their own; here they run together with consents,
verifications, revocations and the list of models, over a scorecard that was fitted and deployed.
"""

from __future__ import annotations

import base64
import itertools

import numpy as np
import pytest

from fedcredit.errors import CryptoError, FedCreditError
from fedcredit.protocols.scoring_messages import MODES
from fedcredit.wire import message_class
from tests.support.service import BANK, CARD, PLATFORM, Case, captured_sides, generous

N = 600
#: What only an institution's session start, and its every question, may contain.
START = {"service.start", "scoring.hello", "scoring.key"}
ASKED = {"scoring.request", "service.consents", "service.revocation"}
#: Who sends which kinds besides keys and checkpoints of audit logs.
KINDS = {
    ("bank", "platform"): START | ASKED | {"service.model_query"},
    ("bank", "provider"): START | ASKED | {"verify.request"},
    ("platform", "bank"): {
        "scoring.answer",
        "scoring.declined",
        "service.model_header",
        "service.tokens_checked",
    },
    ("platform", "provider"): {"scoring.seed"},
    ("provider", "bank"): {
        "service.tokens_checked",
        "verify.answer",
    },
    ("provider", "platform"): {"scoring.share", "scoring.declined"},
    ("provider", "provider"): set(),
}
#: Of a request that was not answered, between everybody that took part in it.
VOID = {"service.void", "service.void_word", "service.uses_returned"}


def role(name):
    return name if name in (BANK, PLATFORM) else "provider"


@pytest.fixture(scope="module", params=MODES)
def served(request):
    """Two batches with reasons, verifications, a refused question and a revocation."""
    monkeypatch = pytest.MonkeyPatch()
    sides = captured_sides(monkeypatch)
    case = Case(3, (CARD,), budgets=generous(), keep=True)
    case.mode, case.sides = request.param, sides
    codes = case.codes(N)
    tokens = case.consents(codes, CARD, max_uses=3)
    case.tokens = tokens
    assert case.bank.models()
    references = case.bank.present(tokens)
    case.batches = [
        case.bank.score_batch(codes, references, model=CARD, mode=case.mode, reasons=4)
        for _ in range(2)
    ]
    case.verified = [case.verify(code, threshold=17) for code in codes[:2]]
    declaration = case.world.enterprise(codes[0]).declare(
        field="zero_declaration_months", value=11, resolution=1, now=case.clock()
    )
    case.verified.append(
        case.verify(predicate="declared_zero_months", declared=declaration, tolerance=2)
    )
    case.bank.deliver_revocation(
        case.world.enterprise(codes[0]).revoke(tokens[0], now=case.clock())
    )
    with pytest.raises(FedCreditError):
        case.bank.score(codes[0], tokens[0], model=CARD, mode=case.mode)
    monkeypatch.undo()
    case.records = case.service.transcript.records
    case.bank.close()
    return case


def bytes_of(records):
    return b"|".join(record.data.to_pybytes() for record in records)


def test_everybody_sends_what_the_tables_say(served):
    names = (BANK, *served.parties)
    for sender, recipient in itertools.permutations(names, 2):
        kinds = {r.message.kind for r in served.service.transcript.between(sender, recipient)}
        other = {kind for kind in kinds if kind.startswith("checkpoint") or kind in VOID}
        assert kinds - other - {"scoring.key"} <= KINDS[role(sender), role(recipient)]
        assert all(message_class(kind).reveals for kind in kinds)
    assert len([r for r in served.records if r.message.kind == "scoring.answer"]) == 2


def test_enterprises_and_consents_are_named_where_they_are_asked_about(served):
    """As themselves, and inside of tokens, which are base64 of JSON."""
    codes = served.codes(N)
    marks = [code.encode() for code in codes]
    # Three ways in which base64 may cut a code up.
    for code, shift in itertools.product(codes[:20], range(3)):
        text = base64.urlsafe_b64encode(b"x" * shift + code.encode())
        marks.append(text[4 if shift else 0 : -4])
    marks += [token.encode() for token in served.tokens]
    for record in served.records:
        data = record.data.to_pybytes()
        named = any(mark in data for mark in marks)
        assert named == (record.message.kind in ASKED), record.message.kind
        assert not named or record.sender == BANK


def test_no_score_band_reason_or_threshold_is_on_the_wire(served):
    wire = bytes_of(served.records)
    scores = served.batches[0].scores
    for dtype in ("<f8", "<i8", "<i4", "<u8", "<f4"):
        assert scores[:6].astype(dtype).tobytes() not in wire
    for text in (",", ", ", "\n"):
        assert text.join(f"{s:.0f}" for s in scores[:6]).encode() not in wire
    # Every party's points, too: nobody sends its addends to anybody.
    for party in served.parties:
        desk = served.desks[party]
        header = served.world.deploy(CARD)
        everybody = desk._everybody(header, desk._part(header))
        values = everybody[desk.index.rows(served.codes(N))]
        for dtype in ("<i8", "<f8", "<i4", "<u8"):
            assert values[:12].astype(dtype).tobytes() not in wire
    labels = {reason.label for result in served.batches[0] for reason in result.reasons}
    assert labels
    # A header names the features that an institution supplies itself; there, labels may stand.
    rest = bytes_of(r for r in served.records if r.message.kind != "service.model_header")
    for label in labels:
        assert label.encode() not in rest
    # Bands are named in the header, never with an enterprise.
    for record in served.records:
        if b"basalt" in record.data.to_pybytes():
            assert record.message.kind in {"service.model_header", "scoring.answer"}
    # What is asked of a provider is sealed to it: threshold, subject, text, and the answer.
    for result in served.verified:
        assert result.outcome in ("yes", "no")
        assert result.text.encode() not in wire
    assert b"threshold=17" not in wire
    assert b'"threshold"' not in wire
    # The search sees what is there.
    assert b"filed_late_at_most" in wire
    assert b"declared_zero_months" in wire
    assert CARD.encode() in wire


def test_sizes_of_answers_do_not_depend_on_the_enterprises(served):
    """Both batches, and the answers to both thresholds, whatever they say."""
    for kind in ("scoring.share", "scoring.answer"):
        by_sender = {}
        for record in served.records:
            if record.message.kind == kind:
                by_sender.setdefault(record.sender, []).append(record.data.size)
        # The number of the log entry and the time stand in a receipt as text.
        assert all(max(sizes) - min(sizes) <= 8 for sizes in by_sender.values()), by_sender
    sizes = [r.data.size for r in served.records if r.message.kind == "verify.answer"]
    assert abs(sizes[0] - sizes[1]) <= 8


def test_nobody_but_the_institution_opens_what_is_sealed_to_it(served):
    """Notes, sealed words and verifications, tried with every key of every other member."""
    sides = served.sides
    answers = [r.message for r in served.records if r.message.kind == "scoring.answer"]
    shares = [r for r in served.records if r.message.kind == "scoring.share"]
    assert shares
    # The session of the scores: the one in which all parties take part.
    bank = next(s for s in sides.institution if len(s.keys.providers) == 3)
    sealed = [(r.sender, r.message.note, b"note of " + r.message.request) for r in shares]
    for answer in answers:
        names = (PLATFORM, *served.world.deploy(CARD).providers)
        sealed += [
            (name, words, b"words of " + answer.request)
            for name, words in zip(names, answer.sealed, strict=False)
        ]
    tried = 0
    for sender, data, purpose in sealed:
        assert bank.keys.open_from(sender, data, purpose)
        for name, side in sides.parties.items():
            for other in (BANK, *served.parties):
                if other == name:
                    continue
                with pytest.raises(FedCreditError):
                    side.keys.open_from(other, data, purpose)
                tried += 1
    assert tried


def test_platform_and_providers_have_no_key_that_decrypts(served):
    """They hold public keys; what reaches them is under the institution's."""
    for side in served.sides.parties.values():
        assert not hasattr(side, "holder")
        assert "secret" not in " ".join(vars(side.encryptor)).lower()
    for record in served.records:
        if record.recipient != BANK:
            assert record.message.kind not in {"scoring.answer", "verify.answer"}
    for share in (r for r in served.records if r.message.kind == "scoring.share"):
        assert share.recipient == PLATFORM
        for ciphertext in share.message.ciphertexts:
            with pytest.raises((CryptoError, AttributeError)):
                served.sides.parties[PLATFORM].encryptor.decrypt(ciphertext)


def chi_square(data, classes=256):
    counts = np.bincount(data, minlength=classes)
    mean = data.size / classes
    return (((counts - mean) ** 2 / mean).sum() - (classes - 1)) / (2 * (classes - 1)) ** 0.5


def test_what_a_single_party_contributes_is_uniform(served):
    """With the institution's own key in hand, the words of one party are random numbers."""
    bank = next(s for s in served.sides.institution if len(s.keys.providers) == 3)
    shares = [r for r in served.records if r.message.kind == "scoring.share"]
    by_party = {}
    for record in shares:
        message = record.message
        if message.slots != N:
            continue
        if served.mode == "homomorphic":
            words = bank.holder.decrypt(message.ciphertexts[0])[:N]
        else:
            plain = bank.keys.open_from(
                record.sender, message.sealed, b"words of " + message.request
            )
            words = np.frombuffer(plain, "<u8")
        by_party.setdefault(record.sender, []).append(words)
    assert set(by_party) == set(served.world.providers)
    for words in by_party.values():
        both = np.concatenate(words)
        assert len(both) == 2 * N
        for shift in (51, 31, 23, 8, 0):
            part = (both >> np.uint64(shift)) & np.uint64(63)
            assert abs(chi_square(part.astype(np.int64), 64)) < 6
        # The same enterprises twice: nothing in common.
        assert not np.any(words[0] == words[1])
        r = np.corrcoef(both.astype(float), np.tile(served.batches[0].scores, 2))[0, 1]
        assert abs(r) < 5 / (2 * N) ** 0.5


def test_the_logs_hold_no_enterprise_score_or_value(served):
    for party in served.parties:
        text = b"".join(entry.data for entry in served.entries(party))
        assert text
        for code in served.codes(N):
            assert code.encode() not in text
        for token in served.tokens[:50]:
            assert token.encode() not in text
