"""Signed, sequenced envelopes: end-to-end authentication between two parties.

The hub that carries envelopes is not trusted with their content's integrity. Each envelope is
signed with the sender's Ed25519 key (RFC 8032) over::

    "fedcredit/envelope/1" | session (32) | sequence (8) | sender | recipient | kind | SHA-256(body)

with every variable part preceded by its length, so that no two headers sign alike. The receiver
keeps one counter per sender and session: a replayed, reordered, dropped or foreign envelope does
not match and is refused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import pyarrow as pa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcredit.errors import (
    AuthenticationError,
    InputError,
    KeyMaterialError,
    PeerProtocolError,
)

__all__ = ["SESSION_BYTES", "Envelope", "Identity", "Opener", "Sealer", "new_session"]

SESSION_BYTES = 32
MAX_HEADER_BYTES = 1024
_DOMAIN = b"fedcredit/envelope/1"
_FIXED = struct.Struct("<32sQ64sHHH")
#: Party names and kinds: visible ASCII, so that what is signed, sent and logged is the same text.
_NAME = re.compile(r"[!-~]{1,128}\Z")


def _check_name(name: str, what: str) -> None:
    if not _NAME.match(name):
        raise InputError(f"a {what} is 1 to 128 visible ASCII characters without blanks.")


def new_session() -> bytes:
    """Return a fresh random session identifier of 32 bytes."""
    return secrets.token_bytes(SESSION_BYTES)


class Identity:
    """A party's name and signing key. The key shows neither in ``repr`` nor in a pickle.

    Parameters
    ----------
    name : str
        1 to 128 visible ASCII characters.
    key : Ed25519PrivateKey

    Raises
    ------
    InputError
        The name could not travel in an envelope.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        _check_name(name, "party name")
        self.name = name
        self._key = key

    @classmethod
    def generate(cls, name: str) -> Identity:
        """Make an identity with a fresh key (simulations and tests)."""
        return cls(name, Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The verification key."""
        return self._key.public_key()

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (Ed25519, 64 bytes)."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"

    def __reduce__(self) -> NoReturn:
        raise KeyMaterialError("a signing identity cannot be pickled.", party=self.name)


@dataclass(frozen=True)
class Envelope:
    """A message body with its signed header."""

    session: bytes
    sequence: int
    sender: str
    recipient: str
    kind: str
    body: pa.Buffer = field(repr=False)
    signature: bytes = field(repr=False)

    def header(self) -> bytes:
        """Return the header as it travels beside the body."""
        names = [text.encode() for text in (self.sender, self.recipient, self.kind)]
        fixed = _FIXED.pack(
            self.session, self.sequence, self.signature, *(len(name) for name in names)
        )
        return fixed + b"".join(names)

    @classmethod
    def parse(cls, header: bytes, body: pa.Buffer) -> Envelope:
        """Read a header; nothing is verified yet.

        Raises
        ------
        PeerProtocolError
            The header is malformed.
        """
        if not _FIXED.size <= len(header) <= MAX_HEADER_BYTES:
            raise PeerProtocolError("an envelope has a malformed header.")
        session, sequence, signature, *lengths = _FIXED.unpack_from(header)
        if _FIXED.size + sum(lengths) != len(header):
            raise PeerProtocolError("an envelope has a malformed header.")
        names, at = [], _FIXED.size
        for length in lengths:
            name = header[at : at + length].decode("ascii", "replace")
            if not _NAME.match(name):
                raise PeerProtocolError("an envelope has a malformed header.")
            names.append(name)
            at += length
        sender, recipient, kind = names
        return cls(session, sequence, sender, recipient, kind, body, signature)


def _signed_bytes(
    session: bytes, sequence: int, sender: str, recipient: str, kind: str, body: pa.Buffer
) -> bytes:
    parts = [_DOMAIN, session, sequence.to_bytes(8, "big")]
    for text in (sender, recipient, kind):
        raw = text.encode()
        parts += [len(raw).to_bytes(2, "big"), raw]
    parts.append(hashlib.sha256(memoryview(body)).digest())
    return b"".join(parts)


class Sealer:
    """Signs and numbers what one party sends in one session."""

    def __init__(self, identity: Identity, session: bytes) -> None:
        if len(session) != SESSION_BYTES:
            raise AuthenticationError("a session identifier has 32 bytes.", party=identity.name)
        self._identity = identity
        self._session = session
        self._next: dict[str, int] = {}

    def seal(self, recipient: str, kind: str, body: pa.Buffer) -> Envelope:
        """Wrap ``body`` for ``recipient`` under the next sequence number.

        Raises
        ------
        InputError
            ``recipient`` or ``kind`` could not travel in a header.
        """
        _check_name(recipient, "party name")
        _check_name(kind, "message kind")
        sequence = self._next.get(recipient, 0)
        name = self._identity.name
        signature = self._identity.sign(
            _signed_bytes(self._session, sequence, name, recipient, kind, body)
        )
        self._next[recipient] = sequence + 1
        return Envelope(self._session, sequence, name, recipient, kind, body, signature)


class Opener:
    """Verifies what one party receives in one session.

    Parameters
    ----------
    party : str
        The receiving party.
    session : bytes
        The session's identifier.
    keys : mapping of party name to Ed25519 public key
        Exactly the peers of the session.
    """

    def __init__(self, party: str, session: bytes, keys: Mapping[str, Ed25519PublicKey]) -> None:
        if len(session) != SESSION_BYTES:
            raise AuthenticationError("a session identifier has 32 bytes.", party=party)
        self._party = party
        self._session = session
        self._keys = dict(keys)
        self._next: dict[str, int] = dict.fromkeys(self._keys, 0)

    def expected(self, sender: str) -> int:
        """Return the next sequence number expected of ``sender``."""
        return self._next.get(sender, 0)

    def open(self, envelope: Envelope) -> pa.Buffer:
        """Verify an envelope and return its body.

        Raises
        ------
        AuthenticationError
            Unknown sender, foreign session, other recipient, bad signature, or a sequence
            number that is not the next one (replayed, reordered or lost envelope).
        """
        self.verify(envelope)
        if envelope.sequence != self._next[envelope.sender]:
            what = "replayed" if envelope.sequence < self._next[envelope.sender] else "out of order"
            self._refuse(envelope, f"is {what}")
        self._next[envelope.sender] += 1
        return envelope.body

    def verify(self, envelope: Envelope) -> None:
        """Check everything but the sequence number; same errors as :meth:`open`."""
        key = self._keys.get(envelope.sender)
        if key is None:
            self._refuse(envelope, "comes from a party outside this session")
        if envelope.session != self._session:
            self._refuse(envelope, "belongs to another session")
        if envelope.recipient != self._party:
            self._refuse(envelope, "is addressed to another party")
        signed = _signed_bytes(
            envelope.session,
            envelope.sequence,
            envelope.sender,
            envelope.recipient,
            envelope.kind,
            envelope.body,
        )
        try:
            key.verify(envelope.signature, signed)
        except InvalidSignature:
            self._refuse(envelope, "has an invalid signature")

    def _refuse(self, envelope: Envelope, why: str) -> NoReturn:
        raise AuthenticationError(
            f"an envelope from {envelope.sender!r} {why}.", party=self._party, step="receive"
        ) from None
