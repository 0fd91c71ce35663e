"""What one question of a verification carries; the exchange is in :mod:`.verification`.

What the platform relays is one message each way. It can read the predicate's name and the
purpose, by which it keeps accounts, and the digest of the request, which a random nonce blinds.
All the rest is sealed between institution and provider and filled up to one length, so that
neither a subject, a threshold, a consent, a declared value nor an answer shows in a size.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, Protocol

from fedcredit.crypto.elgamal import CIPHERTEXT_BYTES
from fedcredit.crypto.group import POINT_BYTES
from fedcredit.crypto.sigma import EQUAL_PROOF_BYTES
from fedcredit.errors import InputError, PeerProtocolError, Refusal
from fedcredit.wire import Message

__all__ = [
    "NONCE_BYTES",
    "PLAIN_BYTES",
    "PairChannel",
    "SealedChannel",
    "VerifyAnswer",
    "VerifyQuery",
    "VerifyRequest",
    "answer_label",
    "blame",
    "canonical",
    "canonical_arguments",
    "from_canonical",
    "invalid",
    "pack",
    "request_digest",
    "request_label",
    "unpack",
]

#: Length of everything that is sealed, before sealing.
PLAIN_BYTES = 16 << 10
NONCE_BYTES = 32
#: Arguments of a predicate, as text.
MAX_ARGUMENTS = 200

MAX_NAME = 256

_STEP = "verify"
_VERSION = 1
_DIGEST_TAG = b"fedcredit/verify/request/1\x00"
_CONTEXT_TAG = b"fedcredit/verify/declared/1\x00"
_LENGTH_BYTES = 4


class SealedChannel(Protocol):
    """An encrypted and authenticated channel between the institution and one provider.

    Its keys were agreed when the session began; the platform, which relays, does not have them.
    """

    def seal(self, plain: bytes, purpose: bytes) -> bytes:
        """Seal bytes for the other end; a fixed number of bytes longer."""
        ...

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """Open what the other end sealed for the same purpose.

        Raises
        ------
        PeerProtocolError
            It was changed, or sealed for another purpose or session.
        """
        ...


class SessionKeys(Protocol):
    """What :class:`fedcredit.protocols.scoring_keys.ServiceKeys` offers for sealing."""

    def seal_to(self, name: str, plain: bytes, purpose: bytes) -> bytes:
        """Seal bytes that only the member ``name`` opens."""
        ...

    def open_from(self, name: str, sealed: bytes, purpose: bytes) -> bytes:
        """Open what the member ``name`` sealed for this one."""
        ...


class PairChannel:
    """The sealed channel to one other member of a session, from the session's keys.

    Parameters
    ----------
    keys : ServiceKeys
        This member's keys of the session.
    other : str
        The member at the other end.
    """

    def __init__(self, keys: SessionKeys, other: str) -> None:
        self._keys = keys
        self._other = other

    def __repr__(self) -> str:
        return f"PairChannel({self._other!r})"

    def seal(self, plain: bytes, purpose: bytes) -> bytes:
        """Seal bytes for the other end."""
        return self._keys.seal_to(self._other, plain, purpose)

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """Open what the other end sealed for the same purpose."""
        return self._keys.open_from(self._other, sealed, purpose)


@dataclass(frozen=True, eq=False, repr=False)
class VerifyRequest(
    Message,
    kind="verify.request",
    version=1,
    max_bytes=64 << 10,
    reveals="which predicate is asked about, for which purpose; all else is sealed to the provider",
):
    """Institution to provider: one question.

    ``digest`` (32 bytes) names the request; ``sealed`` is a :class:`VerifyQuery`.
    """

    target: str
    purpose: str
    digest: bytes
    sealed: bytes


@dataclass(frozen=True, eq=False, repr=False)
class VerifyAnswer(
    Message,
    kind="verify.answer",
    version=1,
    max_bytes=64 << 10,
    reveals="to the institution: the signed statement that it asked for",
):
    """Provider to institution: statement, signature, salt and response, sealed.

    ``digest`` (32 bytes) names the request that is answered.
    """

    digest: bytes
    sealed: bytes


# -------------------------------------------------------------------------------- canonical JSON


def canonical(value: Mapping[str, Any]) -> bytes:
    """Write an object as JSON with sorted keys, no blanks, no escapes beyond need, in UTF-8.

    Raises
    ------
    Refusal
        ``request_invalid``: it holds something that has no such form.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        invalid("a text, number or list in it has no canonical form.")


def from_canonical(data: bytes) -> dict[str, Any]:
    """Read what :func:`canonical` wrote, and nothing that is written another way.

    Raises
    ------
    Refusal
        ``request_invalid``.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        invalid("it is no JSON.")
    if not isinstance(value, dict) or canonical(value) != data:
        invalid("it is no JSON object in canonical form.")
    return value


def canonical_arguments(arguments: Mapping[str, Any]) -> str:
    """Write a predicate's arguments as canonical text, e.g. ``{"threshold":500000}``.

    Raises
    ------
    Refusal
        ``request_invalid``: something other than numbers and texts by name, or too long.
    """
    for name, value in arguments.items():
        if not isinstance(name, str) or not isinstance(value, int | float | str):
            invalid("the arguments are not numbers and texts by name.")
    text = canonical(arguments).decode()
    if len(text.encode()) > MAX_ARGUMENTS:
        invalid(f"the arguments are longer than {MAX_ARGUMENTS} bytes.")
    return text


def invalid(reason: str) -> NoReturn:
    """Refuse a request as malformed."""
    raise Refusal(
        f"the request is malformed: {reason}",
        code="request_invalid",
        step=_STEP,
        fix="ask through fedcredit.Institution or the command line of the same release",
    )


# ------------------------------------------------------------------------------------ one length


def pack(parts: Sequence[bytes]) -> bytes:
    """Join parts with their lengths and fill up to :data:`PLAIN_BYTES`.

    Raises
    ------
    InputError
        The parts are longer than that.
    """
    joined = b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)
    if len(joined) > PLAIN_BYTES:
        raise InputError(
            f"what is to be sealed is longer than {PLAIN_BYTES} bytes.",
            step=_STEP,
            fix="present the consent ahead and ask with its digest",
        )
    return joined.ljust(PLAIN_BYTES, b"\x00")


def unpack(data: bytes, count: int) -> list[bytes]:
    """Take ``count`` parts apart again.

    Raises
    ------
    Refusal
        ``request_invalid``: the length, a part's length or the filling is wrong.
    """
    parts, at = [], 0
    if len(data) != PLAIN_BYTES:
        invalid("it has a wrong length.")
    for _ in range(count):
        length = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        if at + length > PLAIN_BYTES:
            invalid("a part of it has a wrong length.")
        parts.append(data[at : at + length])
        at += length
    if any(data[at:]):
        invalid("it goes on after its end.")
    return parts


def request_label(digest: bytes) -> bytes:
    """Return the purpose under which a request is sealed."""
    return b"fedcredit verify request " + digest


def answer_label(digest: bytes) -> bytes:
    """Return the purpose under which the answer to a request is sealed."""
    return b"fedcredit verify answer " + digest


# ----------------------------------------------------------------------------------- the question


@dataclass(frozen=True, eq=False, repr=False)
class VerifyQuery:
    """One question, as institution and provider see it.

    Attributes
    ----------
    institution, provider : str
        Who asks whom.
    target : str
        The predicate as ``provider.id``.
    arguments : str
        Canonical JSON, e.g. ``{"threshold":500000}`` or ``{"tolerance":5}``.
    purpose : str
        One of the purposes of :mod:`fedcredit.governance.question`.
    subject : str
        The enterprise's normalised USCC.
    consent : str
        Its consent: a compact token, or ``sha256:<hex>`` of one that was presented before.
    nonce : bytes
        32 random bytes; they make the request unique and blind its digest.
    time : int
        When it was asked, in seconds since the epoch (UTC).
    declaration : str
        For a declared value: the enterprise's signed credit commitment; empty if the institution
        typed the value itself.
    key, ciphertext, proof : bytes
        For a declared value: the institution's key of this question (32), the encrypted value
        (64), and the proof that it is the committed one (128; empty without a declaration).

    Raises
    ------
    Refusal
        ``request_invalid``: a part is missing, malformed or does not go with the others. Points
        are checked where they are used.
    """

    institution: str
    provider: str
    target: str
    arguments: str
    purpose: str
    subject: str
    consent: str
    nonce: bytes
    time: int
    declaration: str = ""
    key: bytes = b""
    ciphertext: bytes = b""
    proof: bytes = b""

    def __post_init__(self) -> None:
        for field in fields(self):
            kind = {"nonce": bytes, "time": int}.get(field.name, str)
            kind = bytes if field.name in ("key", "ciphertext", "proof") else kind
            if type(getattr(self, field.name)) is not kind:
                invalid(f"{field.name} has another type.")
        if not all((self.institution, self.provider, self.purpose, self.subject, self.consent)):
            invalid("the institution, provider, purpose, subject or consent is missing.")
        names = (self.institution, self.provider, self.purpose, self.subject, self.target)
        if max(map(len, names)) > MAX_NAME:
            invalid(f"a name in it is longer than {MAX_NAME} characters.")
        if not self.target.startswith(f"{self.provider}."):
            invalid("the predicate is not this provider's.")
        if canonical_arguments(from_canonical(self.arguments.encode())) != self.arguments:
            invalid("the arguments are not in canonical form.")
        if len(self.nonce) != NONCE_BYTES or not 0 <= self.time < 2**53:
            invalid("the nonce or the time is out of range.")
        lengths = (len(self.key), len(self.ciphertext), len(self.proof))
        proof = EQUAL_PROOF_BYTES if self.declaration else 0
        if lengths != (POINT_BYTES, CIPHERTEXT_BYTES, proof) and (
            self.declaration or lengths != (0, 0, 0)
        ):
            invalid("the encrypted value is not complete.")

    def __repr__(self) -> str:
        return f"VerifyQuery({self.target!r}, institution={self.institution!r})"

    @property
    def declared(self) -> bool:
        """Whether a declared value is compared, rather than a predicate of the menu asked."""
        return bool(self.key)

    @property
    def typed(self) -> bool:
        """Whether the declared value comes without the enterprise's credit commitment."""
        return self.declared and not self.declaration

    @property
    def parsed_arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        return from_canonical(self.arguments.encode())

    def to_bytes(self) -> bytes:
        """Write the question as canonical JSON."""
        return canonical({"version": _VERSION, **_written(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> VerifyQuery:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        Refusal
            ``request_invalid``.
        """
        found = from_canonical(data)
        if found.pop("version", None) != _VERSION:
            invalid("it has another version.")
        names = {field.name for field in fields(cls)}
        if set(found) != names:
            invalid("a part is missing or unknown.")
        for name in _BINARY:
            found[name] = _from_hex(found[name])
        return cls(**found)

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of the whole question, 32 bytes."""
        return hashlib.sha256(_DIGEST_TAG + self.to_bytes()).digest()

    @functools.cached_property
    def proof_context(self) -> bytes:
        """What the proof about the declared value is bound to: all of the question but itself."""
        bare = _written(self)
        del bare["proof"]
        return hashlib.sha256(_CONTEXT_TAG + canonical(bare)).digest()

    def with_proof(self, proof: bytes) -> VerifyQuery:
        """Return the same question with its proof."""
        return replace(self, proof=proof)


_BINARY = ("nonce", "key", "ciphertext", "proof")


def _written(query: VerifyQuery) -> dict[str, Any]:
    values = {field.name: getattr(query, field.name) for field in fields(query)}
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in values.items()}


def _from_hex(text: object) -> bytes:
    try:
        data = bytes.fromhex(text) if isinstance(text, str) else None
    except ValueError:
        data = None
    if data is None or data.hex() != text:
        invalid("a part of it is no hexadecimal text.")
    return data


def request_digest(query: VerifyQuery) -> bytes:
    """Return the digest by which a question is named everywhere, 32 bytes."""
    return query.digest


def blame(refusal: Refusal, party: str) -> PeerProtocolError:
    """Say of a provider's answer what would be said of a malformed request."""
    reason = refusal.reason.replace("the request", "the answer", 1)
    return PeerProtocolError(reason, party=party, step=_STEP, fix="drop the answer and ask anew")
