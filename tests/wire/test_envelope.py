"""Signed envelopes: known answers, and everything a relay could do to them."""

import copy
import dataclasses
import hashlib
import json
import pickle
import random
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedcredit.errors import (
    AuthenticationError,
    InputError,
    KeyMaterialError,
    PeerProtocolError,
)
from fedcredit.wire import Envelope, Identity, Opener, Sealer, new_session
from fedcredit.wire.envelope import MAX_HEADER_BYTES

VECTORS = Path(__file__).parents[1] / "vectors"
RFC8032 = json.loads((VECTORS / "ed25519_rfc8032.json").read_text())
KNOWN = json.loads((VECTORS / "envelope.json").read_text())
BODY = pa.py_buffer(b"the body of a message")


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.fixture
def session() -> bytes:
    return bytes(range(32))


@pytest.fixture
def tax() -> Identity:
    return Identity("tax", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))


@pytest.fixture
def bank() -> Identity:
    return Identity("bank", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))


@pytest.fixture
def sealer(tax, session) -> Sealer:
    return Sealer(tax, session)


@pytest.fixture
def opener(tax, bank, session) -> Opener:
    return Opener("platform", session, {"tax": tax.public_key, "bank": bank.public_key})


# --- known answers --------------------------------------------------------------------------


@pytest.mark.parametrize("vector", RFC8032["vectors"], ids=lambda v: v["name"])
def test_identity_signs_as_rfc_8032_says(vector):
    identity = Identity("tax", Ed25519PrivateKey.from_private_bytes(_hex(vector["secret_key"])))
    assert identity.public_key.public_bytes_raw() == _hex(vector["public_key"])
    assert identity.sign(_hex(vector["message"])) == _hex(vector["signature"])
    identity.public_key.verify(_hex(vector["signature"]), _hex(vector["message"]))


@pytest.mark.parametrize("vector", RFC8032["bad_vectors"], ids=lambda v: v["name"])
def test_bad_signatures_do_not_verify(vector):
    key = Ed25519PublicKey.from_public_bytes(_hex(vector["public_key"]))
    with pytest.raises(InvalidSignature):
        key.verify(_hex(vector["signature"]), _hex(vector["message"]))


def _known_identity() -> Identity:
    return Identity("tax", Ed25519PrivateKey.from_private_bytes(_hex(KNOWN["secret_key"])))


def test_an_envelope_is_signed_over_the_documented_bytes():
    envelope = Envelope.parse(_hex(KNOWN["header"]), pa.py_buffer(_hex(KNOWN["body"])))
    for name in ("sender", "recipient", "kind", "sequence"):
        assert getattr(envelope, name) == KNOWN[name]
    assert envelope.session == _hex(KNOWN["session"])
    _known_identity().public_key.verify(envelope.signature, _hex(KNOWN["signed"]))
    assert _hex(KNOWN["signed"]).endswith(hashlib.sha256(_hex(KNOWN["body"])).digest())


def test_sealing_gives_the_known_header():
    sealer = Sealer(_known_identity(), _hex(KNOWN["session"]))
    for _ in range(KNOWN["sequence"]):
        sealer.seal(KNOWN["recipient"], "align.other", BODY)
    envelope = sealer.seal(KNOWN["recipient"], KNOWN["kind"], pa.py_buffer(_hex(KNOWN["body"])))
    assert envelope.header() == _hex(KNOWN["header"])


# --- the good path --------------------------------------------------------------------------


def _carry(envelope: Envelope) -> Envelope:
    return Envelope.parse(envelope.header(), envelope.body)


def test_round_trip_over_the_wire_format(sealer, opener):
    for number in range(5):
        envelope = _carry(sealer.seal("platform", "align.tags", BODY))
        assert envelope.sequence == number == opener.expected("tax")
        assert opener.open(envelope).equals(BODY)
    assert opener.expected("tax") == 5
    assert opener.expected("bank") == 0


def test_an_empty_body(sealer, opener):
    assert opener.open(sealer.seal("platform", "align.tags", pa.py_buffer(b""))).size == 0


def test_every_pair_counts_for_itself(tax, bank, session, opener):
    from_tax, from_bank = Sealer(tax, session), Sealer(bank, session)
    from_tax.seal("bank", "align.tags", BODY)
    first = from_tax.seal("platform", "align.tags", BODY)
    other = from_bank.seal("platform", "align.tags", BODY)
    assert first.sequence == other.sequence == 0
    opener.open(other)
    opener.open(first)


def test_sessions_are_fresh():
    assert len({new_session() for _ in range(100)}) == 100
    assert len(new_session()) == 32


def test_the_repr_of_an_envelope_shows_neither_body_nor_signature(sealer):
    shown = repr(sealer.seal("platform", "align.tags", BODY))
    assert "body" not in shown
    assert "signature" not in shown


# --- what a relay may do --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"session": bytes(32)}, "belongs to another session"),
        ({"sequence": 1}, "invalid signature"),
        ({"sequence": 2**64 - 1}, "invalid signature"),
        ({"sender": "bank"}, "invalid signature"),
        ({"sender": "customs"}, "outside this session"),
        ({"recipient": "bank"}, "addressed to another party"),
        ({"kind": "align.tag"}, "invalid signature"),
        ({"body": pa.py_buffer(b"the body of a messagf")}, "invalid signature"),
        ({"body": pa.py_buffer(b"")}, "invalid signature"),
        ({"signature": bytes(64)}, "invalid signature"),
        ({"signature": b""}, "invalid signature"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_a_changed_envelope_is_refused_and_changes_nothing(sealer, opener, change, match):
    envelope = sealer.seal("platform", "align.tags", BODY)
    with pytest.raises(AuthenticationError, match=match) as caught:
        opener.open(dataclasses.replace(envelope, **change))
    assert caught.value.party == "platform"
    assert caught.value.__cause__ is None
    assert opener.open(envelope).equals(BODY)


def test_names_cannot_be_shifted_between_header_fields(tax, session):
    """``tax``+``platform`` must not sign like ``taxp``+``latform``."""
    envelope = Sealer(tax, session).seal("platform", "align.tags", BODY)
    opener = Opener("latform", session, {"taxp": tax.public_key})
    with pytest.raises(AuthenticationError, match="invalid signature"):
        opener.open(dataclasses.replace(envelope, sender="taxp", recipient="latform"))


def test_every_bit_of_the_header_counts(sealer, opener):
    envelope = sealer.seal("platform", "align.tags", BODY)
    header = envelope.header()
    for at in range(8 * len(header)):
        changed = bytearray(header)
        changed[at // 8] ^= 1 << (at % 8)
        with pytest.raises((PeerProtocolError, AuthenticationError)):
            opener.open(Envelope.parse(bytes(changed), BODY))
    assert opener.expected("tax") == 0


def test_every_bit_of_the_body_counts(sealer, opener):
    envelope = sealer.seal("platform", "align.tags", BODY)
    for at in range(8 * BODY.size):
        changed = bytearray(BODY)
        changed[at // 8] ^= 1 << (at % 8)
        with pytest.raises(AuthenticationError, match="invalid signature"):
            opener.open(dataclasses.replace(envelope, body=pa.py_buffer(changed)))


def test_replay_gap_and_reordering(sealer, opener):
    first, second, third = (sealer.seal("platform", "align.tags", BODY) for _ in range(3))
    with pytest.raises(AuthenticationError, match="is out of order"):
        opener.open(second)
    opener.open(first)
    with pytest.raises(AuthenticationError, match="is replayed"):
        opener.open(first)
    with pytest.raises(AuthenticationError, match="is out of order"):
        opener.open(third)
    opener.open(second)
    opener.open(third)


def test_reflection_to_its_own_sender(tax, session, sealer):
    own = Opener("tax", session, {"platform": tax.public_key})
    with pytest.raises(AuthenticationError, match="outside this session"):
        own.open(sealer.seal("platform", "align.tags", BODY))


def test_verify_alone_moves_no_counter(sealer, opener):
    envelope = sealer.seal("platform", "align.tags", BODY)
    opener.verify(envelope)
    opener.verify(envelope)
    assert opener.open(envelope).equals(BODY)
    opener.verify(envelope)


def test_an_unknown_sender_is_expected_nowhere(opener):
    assert opener.expected("customs") == 0


# --- malformed headers ----------------------------------------------------------------------


def test_thousands_of_malformed_headers(sealer, opener):
    rng = random.Random(5)
    header = sealer.seal("platform", "align.tags", BODY).header()
    for _ in range(5000):
        kind = rng.randrange(4)
        if kind == 0:
            data = rng.randbytes(rng.randrange(2 * MAX_HEADER_BYTES))
        elif kind == 1:
            data = header[: rng.randrange(len(header))]
        elif kind == 2:
            data = header + rng.randbytes(rng.randrange(1, 64))
        else:
            changed = bytearray(header)
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(len(header))] = rng.randrange(256)
            data = bytes(changed)
        if data == header:
            continue
        with pytest.raises((PeerProtocolError, AuthenticationError)):
            opener.open(Envelope.parse(data, BODY))


def _header(sender: bytes, recipient: bytes, kind: bytes, lengths=None) -> bytes:
    lengths = lengths or (len(sender), len(recipient), len(kind))
    fixed = struct.pack("<32sQ64sHHH", bytes(32), 0, bytes(64), *lengths)
    return fixed + sender + recipient + kind


@pytest.mark.parametrize(
    "header",
    [
        _header(b"", b"b", b"k"),
        _header(b"a", b"", b"k"),
        _header(b"a", b"b", b""),
        _header(b"a b", b"b", b"k"),
        _header(b"a\n", b"b", b"k"),
        _header(b"a\x1b[2J", b"b", b"k"),
        _header("é".encode(), b"b", b"k"),
        _header(b"a" * 129, b"b", b"k"),
        _header(b"a", b"b", b"k", (1, 1, 0)),
        _header(b"a", b"b", b"k", (65535, 65535, 65535)),
        _header(b"a" * 400, b"b" * 400, b"k" * 400),
    ],
)
def test_malformed_headers(header):
    with pytest.raises(PeerProtocolError, match="malformed header"):
        Envelope.parse(header, BODY)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "税务局", "a" * 129, "\x7f"])
def test_names_that_could_not_travel_are_refused_at_home(name, session, sealer):
    with pytest.raises(InputError, match="party name"):
        Identity.generate(name)
    with pytest.raises(InputError, match="party name"):
        sealer.seal(name, "align.tags", BODY)
    with pytest.raises(InputError, match="message kind"):
        sealer.seal("platform", name, BODY)
    assert sealer.seal("platform", "align.tags", BODY).sequence == 0


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_session_identifier_has_32_bytes(size, tax):
    with pytest.raises(AuthenticationError, match="32 bytes"):
        Sealer(tax, bytes(size))
    with pytest.raises(AuthenticationError, match="32 bytes"):
        Opener("platform", bytes(size), {})


# --- the key --------------------------------------------------------------------------------


def test_an_identity_is_neither_pickled_nor_copied(tax):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(KeyMaterialError):
            pickle.dumps(tax, protocol)
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(KeyMaterialError):
            duplicate(tax)
    with pytest.raises(KeyMaterialError):
        pickle.dumps([Sealer(tax, bytes(32))])


def test_no_text_of_an_identity_shows_its_key():
    key = Ed25519PrivateKey.generate()
    identity = Identity("tax", key)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    assert repr(identity) == str(identity) == "Identity('tax')"
    shown = f"{identity} {vars(identity)} {vars(Sealer(identity, bytes(32)))}"
    assert raw.hex() not in shown
    assert repr(raw)[2:-1] not in shown
