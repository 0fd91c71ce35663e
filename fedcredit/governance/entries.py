"""Entries of the audit log: canonical JSON with salted commitments in the place of enterprises.

An entry is this object in canonical JSON (RFC 8785: keys sorted, no blanks; numbers are integers,
so that no rule for fractions is needed), and those bytes are the leaf of the log's Merkle tree::

    {"facts": {...}, "kind": "score", "number": 17, "origin": "tax/fedcredit-audit",
     "subjects": {"count": 3, "root": "<hex>"}, "time": 1764000000123, "v": 1}

``time`` is in milliseconds since the epoch (UTC). ``root`` is the Merkle root (RFC 9162, 2.1) over
one commitment per enterprise, in the order of the question::

    commitment_i = HMAC-SHA-256(key = salt_i, tag || length(consent_i) || consent_i || subject_i)
    salt_0 || salt_1 || ... = SHAKE-256(tag || salt)            32 bytes each (FIPS 202)

with one fresh random ``salt`` of 32 bytes per entry. The commitment hides (its key is random and
unknown) and binds (keys have one length, and SHA-256 is collision resistant); each ``salt_i``
opens one enterprise and says nothing of the others. Once ``salt`` is deleted nobody can tell any
more whom the entry was about, not even by trying all enterprises there are.
"""

from __future__ import annotations

import hmac
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256, shake_256
from typing import Any

from fedcredit.crypto import merkle
from fedcredit.errors import InputError

__all__ = [
    "CONSENT_BYTES",
    "SALT_BYTES",
    "Disclosure",
    "Entry",
    "canonical",
    "disclose",
    "subject_leaves",
]

SALT_BYTES = 32
#: A consent stands in a commitment as a SHA-256 digest.
CONSENT_BYTES = 32
_VERSION = 1
_SALTS_TAG = b"fedcredit/audit-salts/1\x00"
_SUBJECT_TAG = b"fedcredit/audit-subject/1\x00"
_MAX_INTEGER = 2**53 - 1
_KEYS = {"facts", "kind", "number", "origin", "subjects", "time", "v"}
_STEP = "audit log"


def canonical(value: Any) -> bytes:
    """Return a value as canonical JSON (RFC 8785), UTF-8.

    Parameters
    ----------
    value : object
        Mappings with ASCII keys, sequences, text, integers of at most 53 bits, booleans, None.

    Raises
    ------
    InputError
        Anything else, fractions above all.
    """
    _check(value)
    try:
        return json.dumps(
            value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()
    except UnicodeEncodeError:
        raise _bad("an entry contains text that is not Unicode.") from None


def _check(value: Any) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise _bad("an entry contains an integer of more than 53 bits.")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise _bad("an entry contains a key that is not ASCII text.")
            _check(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    else:
        raise _bad(f"an entry contains a value of type {type(value).__name__}.")


def _bad(reason: str) -> InputError:
    return InputError(
        reason, step=_STEP, fix="log text, integers, booleans, None, lists and mappings of these"
    )


@dataclass(frozen=True)
class Entry:
    """One entry of an audit log.

    Attributes
    ----------
    number : int
    time : float
        Seconds since the epoch, whole milliseconds.
    kind : str
    origin : str
        The log that it stands in.
    facts : mapping
    subjects : int
        How many enterprises it is about.
    root : bytes
        Merkle root over their commitments; empty without enterprises.
    data : bytes
        The entry as it is logged.
    """

    number: int
    time: float
    kind: str
    origin: str
    facts: Mapping[str, Any]
    subjects: int
    root: bytes
    data: bytes = field(repr=False)

    @classmethod
    def make(
        cls,
        number: int,
        kind: str,
        origin: str,
        facts: Mapping[str, Any],
        *,
        now: float,
        leaves: Sequence[bytes] = (),
    ) -> Entry:
        """Put an entry together.

        Parameters
        ----------
        number : int
        kind, origin : str
        facts : mapping
        now : float
            Seconds since the epoch.
        leaves : sequence of bytes
            :func:`subject_leaves`.

        Raises
        ------
        InputError
            The facts have no canonical form.
        """
        milliseconds, root = round(now * 1000), merkle.root_of(leaves) if leaves else b""
        data = canonical(
            {
                "facts": dict(facts),
                "kind": kind,
                "number": number,
                "origin": origin,
                "subjects": {"count": len(leaves), "root": root.hex()} if leaves else None,
                "time": milliseconds,
                "v": _VERSION,
            }
        )
        return cls(number, milliseconds / 1000, kind, origin, dict(facts), len(leaves), root, data)

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read an entry.

        Raises
        ------
        InputError
            These bytes are no entry in canonical form.
        """
        problem = InputError("these bytes are no entry of an audit log.", step=_STEP)
        try:
            value = json.loads(data)
            if not isinstance(value, dict) or set(value) != _KEYS or canonical(value) != data:
                raise problem
            facts, subjects = value["facts"], value["subjects"] or {"count": 0, "root": ""}
            root, count = bytes.fromhex(subjects["root"]), subjects["count"]
            number, moment = value["number"], value["time"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise problem from None
        texts, numbers = (value["kind"], value["origin"]), (number, moment, count)
        if (
            value["v"] != _VERSION
            or not isinstance(facts, dict)
            or not all(isinstance(text, str) for text in texts)
            or not all(type(item) is int for item in numbers)
            or min(number, count) < 0
            or len(root) != (merkle.HASH_BYTES if count else 0)
        ):
            raise problem
        return cls(number, moment / 1000, *texts, facts, count, root, bytes(data))


def subject_leaves(
    salt: bytes, subjects: Sequence[str], consents: Sequence[bytes] = ()
) -> list[bytes]:
    """Return the leaf hashes over the commitments to an entry's enterprises.

    Parameters
    ----------
    salt : bytes
        The entry's salt, 32 random bytes.
    subjects : sequence of str
    consents : sequence of bytes
        Of each subject the SHA-256 of its consent token; or nothing.

    Raises
    ------
    InputError
        Not one consent of 32 bytes per subject.
    """
    if consents and (
        len(consents) != len(subjects) or any(len(item) != CONSENT_BYTES for item in consents)
    ):
        raise InputError(
            "an entry does not have one consent per enterprise.",
            step=_STEP,
            fix="give the SHA-256 of every consent token, in the order of the enterprises",
        )
    # merkle.leaf_hash of _commit, without a call of either per enterprise.
    salts, commit = _salts(salt, len(subjects)), hmac.digest
    start = _SUBJECT_TAG + bytes([CONSENT_BYTES if consents else 0])
    return [
        sha256(b"\x00" + commit(s, start + consent + subject.encode(), "sha256")).digest()
        for s, subject, consent in zip(
            salts, subjects, consents or itertools.repeat(b""), strict=False
        )
    ]


def _salts(salt: bytes, count: int) -> list[bytes]:
    if len(salt) != SALT_BYTES:
        raise InputError("the salt of an entry has 32 bytes.", step=_STEP)
    stream = shake_256(_SALTS_TAG + salt).digest(SALT_BYTES * count)
    return [stream[at : at + SALT_BYTES] for at in range(0, len(stream), SALT_BYTES)]


def _commit(salt: bytes, subject: str, consent: bytes) -> bytes:
    message = _SUBJECT_TAG + bytes([len(consent)]) + consent + subject.encode()
    return hmac.digest(salt, message, "sha256")


@dataclass(frozen=True)
class Disclosure:
    """Opens an entry for one enterprise, and for no other.

    Attributes
    ----------
    subject : str
    consent : bytes
        SHA-256 of its consent token, 32 bytes, or empty.
    position : int
        Its place among the entry's enterprises.
    salt : bytes
        Of this enterprise alone, 32 bytes.
    path : tuple of bytes
        Inclusion proof of its commitment.
    """

    subject: str = field(repr=False)
    consent: bytes = field(repr=False)
    position: int
    salt: bytes = field(repr=False)
    path: tuple[bytes, ...] = field(repr=False)

    def opens(self, entry: Entry) -> bool:
        """Return whether ``entry`` is about this enterprise, with this consent."""
        if len(self.salt) != SALT_BYTES or len(self.consent) not in (0, CONSENT_BYTES):
            return False
        leaf = merkle.leaf_hash(_commit(self.salt, self.subject, self.consent))
        return merkle.verify_inclusion(self.position, entry.subjects, leaf, self.path, entry.root)


def disclose(
    salt: bytes, subjects: Sequence[str], consents: Sequence[bytes], subject: str
) -> Disclosure:
    """Return what opens an entry for one of its enterprises.

    Parameters
    ----------
    salt : bytes
        The entry's salt.
    subjects, consents : sequences
        All of the entry.
    subject : str
        Whom to disclose.

    Raises
    ------
    InputError
        The entry is not about this enterprise.
    """
    if subject not in subjects:
        raise InputError(
            "the entry is not about this enterprise.", step=_STEP, fix="name another entry"
        )
    at = subjects.index(subject)
    path = merkle.list_inclusion_proof(subject_leaves(salt, subjects, consents), at)
    consent = consents[at] if consents else b""
    return Disclosure(subject, consent, at, _salts(salt, at + 1)[at], tuple(path))
