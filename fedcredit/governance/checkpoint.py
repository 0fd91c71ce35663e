"""Checkpoints: an audit log's size and root, signed, so that its history can no longer change.

A checkpoint is a C2SP tlog-checkpoint, which is a C2SP signed note (the format of the Go checksum
database)::

    tax/fedcredit-audit                                  origin: which log
    20852163                                             its number of entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=         its root

    — tax/fedcredit-audit <base64 of key id and Ed25519 signature over the text above>

Other parties witness it: they keep the largest they saw of every log, ask for the consistency proof
to a new one, and refuse a log that shows two histories; both notes stay as evidence, since both
bear the log's signature. A witness adds a C2SP tlog-cosignature (``cosignature/v1``, Ed25519 with
the time), so that its copy stands for itself.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.crypto import merkle
from fedcredit.errors import AuthenticationError, InputError
from fedcredit.wire import Identity

__all__ = [
    "Checkpoint",
    "check_origin",
    "cosign",
    "cosigned_at",
    "is_signed",
    "key_id",
    "merge_signatures",
    "only_signers",
    "open_checkpoint",
    "open_note",
    "same_history",
    "sign_checkpoint",
    "sign_note",
    "verify_cosignature",
]

_STEP = "checkpoint"
_SIGNATURE, _COSIGNATURE = 1, 4
_MAX_NOTE = 65536
_MAX_SIGNATURES = 100
#: Key names as C2SP has them, and short enough for the database.
_NAME = re.compile(r"[^\s+\x00-\x20]{1,160}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_LINE = re.compile(r"— (\S+) ([A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


def check_origin(origin: str) -> str:
    """Return ``origin`` if it can name a log.

    Raises
    ------
    InputError
        It contains blanks, ``+``, ``#`` or control characters, or is empty or too long.
    """
    # Nothing that is signed as a note may start like what is signed as an envelope.
    if not _NAME.fullmatch(origin) or "#" in origin or origin.startswith("fedcredit/envelope"):
        raise InputError(
            "this cannot name an audit log.",
            step=_STEP,
            fix="use up to 160 characters without blanks, '+' and '#', such as tax/fedcredit-audit",
        )
    return origin


@dataclass(frozen=True)
class Checkpoint:
    """An audit log's size and root at some moment.

    Attributes
    ----------
    origin : str
    size : int
    root : bytes
        32 bytes.
    note : str
        The signed note.
    """

    origin: str
    size: int
    root: bytes
    note: str = field(repr=False)

    @property
    def text(self) -> str:
        """The note without its signatures."""
        return _split(self.note)[0]

    @property
    def signers(self) -> tuple[str, ...]:
        """The names under its signatures; nothing is checked."""
        return tuple(dict.fromkeys(name for name, _ in _split(self.note)[1]))

    @classmethod
    def parse(cls, note: str) -> Checkpoint:
        """Read a checkpoint; no signature is checked.

        Raises
        ------
        AuthenticationError
            It is malformed.
        """
        lines = _split(note)[0].split("\n")
        if len(lines) < 4 or "" in lines[:-1] or not _SIZE.fullmatch(lines[1]):
            _refuse("is no checkpoint")
        root = _base64(lines[2])
        if len(root) != merkle.HASH_BYTES:
            _refuse("has a root of the wrong length")
        return cls(lines[0], int(lines[1]), root, note)


def key_id(name: str, key: Ed25519PublicKey, kind: int = _SIGNATURE) -> bytes:
    """Return the four bytes that point to a key in a note.

    Parameters
    ----------
    name : str
    key : Ed25519PublicKey
    kind : int
        1 for signatures, 4 for cosignatures (C2SP signed-note).
    """
    return sha256(name.encode() + b"\n" + bytes([kind]) + key.public_bytes_raw()).digest()[:4]


def sign_note(text: str, identity: Identity, name: str) -> str:
    """Return a text as a signed note.

    Parameters
    ----------
    text : str
        Ends in a newline.
    identity : Identity
    name : str
        The key's name in the signature line.

    Raises
    ------
    InputError
        Text or name cannot stand in a note.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not _NAME.fullmatch(name):
        raise InputError("this text cannot be signed as a note.", step=_STEP)
    signature = key_id(name, identity.public_key) + identity.sign(text.encode())
    return f"{text}\n{_line(name, signature)}"


def open_note(note: str, name: str, key: Ed25519PublicKey) -> str:
    """Check the signature of a note and return its text.

    Raises
    ------
    AuthenticationError
        It is malformed, not signed with this key, or the signature does not check.
    """
    text, signatures = _split(note)
    mine = [raw for found, raw in signatures if (found, raw[:4]) == (name, key_id(name, key))]
    if not mine:
        _refuse("is not signed with the key of this log")
    for raw in mine:
        _verify(key, raw[4:], text.encode())
    return text


def sign_checkpoint(origin: str, size: int, root: bytes, identity: Identity) -> Checkpoint:
    """Sign a log's size and root; the key's name is the origin."""
    text = f"{check_origin(origin)}\n{size}\n{base64.b64encode(root).decode()}\n"
    return Checkpoint(origin, size, root, sign_note(text, identity, origin))


def open_checkpoint(note: str, key: Ed25519PublicKey, origin: str | None = None) -> Checkpoint:
    """Check a log's checkpoint.

    Parameters
    ----------
    note : str
    key : Ed25519PublicKey
        The log's.
    origin : str, optional
        The log it must be of.

    Raises
    ------
    AuthenticationError
        Malformed, of another log, or its signature does not check.
    """
    checkpoint = Checkpoint.parse(note)
    if origin is not None and checkpoint.origin != origin:
        _refuse("is of another log")
    open_note(note, checkpoint.origin, key)
    return checkpoint


def cosign(checkpoint: Checkpoint, identity: Identity, now: float) -> Checkpoint:
    """Add a witness's cosignature: of all that it saw of the log, this is the largest state.

    Parameters
    ----------
    checkpoint : Checkpoint
        Checked by the caller, with everything before it.
    identity : Identity
        The witness; its name is the key's.
    now : float
        Seconds since the epoch.
    """
    name, second = identity.name, int(now)
    if not _NAME.fullmatch(name):
        raise InputError("this party's name cannot stand in a note.", step=_STEP)
    signed = identity.sign(_cosigned(checkpoint.text, second))
    raw = key_id(name, identity.public_key, _COSIGNATURE) + second.to_bytes(8, "big") + signed
    note = merge_signatures(checkpoint.note, checkpoint.text + "\n" + _line(name, raw))
    return Checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root, note)


def cosigned_at(note: str, name: str) -> float:
    """Return the time that a witness's cosignature claims, unchecked; 0 if there is none."""
    times = [raw[4:12] for found, raw in _split(note)[1] if found == name and len(raw) == 76]
    return float(min((int.from_bytes(raw, "big") for raw in times), default=0))


def verify_cosignature(note: str, name: str, key: Ed25519PublicKey) -> float:
    """Check a witness's cosignature and return its time, seconds since the epoch.

    Raises
    ------
    AuthenticationError
        There is none of this witness, or it does not check.
    """
    text, signatures = _split(note)
    wanted = key_id(name, key, _COSIGNATURE)
    mine = [raw[4:] for found, raw in signatures if (found, raw[:4]) == (name, wanted)]
    if not mine:
        _refuse("is not cosigned by this witness")
    times = []
    for raw in mine:
        second = int.from_bytes(raw[:8], "big")
        _verify(key, raw[8:], _cosigned(text, second))
        times.append(second)
    return float(min(times))


def merge_signatures(note: str, other: str) -> str:
    """Return ``note`` with the signature lines that ``other``, of the same text, has beyond it.

    Raises
    ------
    AuthenticationError
        The texts differ, or a note is malformed.
    """
    (text, mine), (same, theirs) = _split(note), _split(other)
    if text != same:
        _refuse("is another one")
    added = [_line(name, raw) for name, raw in theirs if (name, raw) not in mine]
    merged = note + "".join(added)
    _split(merged)
    return merged


def only_signers(note: str, names: Collection[str]) -> str:
    """Return a note without the signature lines of others than ``names``.

    Raises
    ------
    AuthenticationError
        It is malformed, or nobody of them signed it.
    """
    text, signatures = _split(note)
    kept = [_line(name, raw) for name, raw in signatures if name in names]
    if not kept:
        _refuse("is not signed with the key of this log")
    return text + "\n" + "".join(kept)


def is_signed(note: str, name: str, key: Ed25519PublicKey) -> bool:
    """Return whether a note has a valid signature of this key."""
    try:
        open_note(note, name, key)
    except AuthenticationError:
        return False
    return True


def _cosigned(text: str, second: int) -> bytes:
    return f"cosignature/v1\ntime {second}\n{text}".encode()


def _line(name: str, raw: bytes) -> str:
    return f"— {name} {base64.b64encode(raw).decode()}\n"


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    text, blank, block = note.rpartition("\n\n")
    if len(note) > _MAX_NOTE or not blank or not block.endswith("\n") or _CONTROL.search(note):
        _refuse("is malformed")
    lines = block[:-1].split("\n")
    found = [_LINE.fullmatch(line) for line in lines]
    if not text or len(lines) > _MAX_SIGNATURES:
        _refuse("is malformed")
    signatures: list[tuple[str, bytes]] = []
    for match in found:
        if match is None or not _NAME.fullmatch(match[1]):
            _refuse("is malformed")
        raw = _base64(match[2])
        if len(raw) <= 4:
            _refuse("is malformed")
        signatures.append((match[1], raw))
    return text + "\n", signatures


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        _refuse("is malformed")
    if base64.b64encode(raw).decode() != text:
        _refuse("is malformed")
    return raw


def _verify(key: Ed25519PublicKey, signature: bytes, data: bytes) -> None:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        _refuse("has an invalid signature")


def _refuse(why: str) -> NoReturn:
    raise AuthenticationError(
        f"a checkpoint {why}.",
        step=_STEP,
        fix="ask the party for its checkpoint and its certificate, and tell the regulator if it "
        "insists",
    ) from None


def same_history(first: Checkpoint, second: Checkpoint, proof: Sequence[bytes]) -> bool:
    """Return whether a consistency proof leads from one checkpoint to a larger one."""
    return merkle.verify_consistency(first.size, second.size, first.root, second.root, proof)
