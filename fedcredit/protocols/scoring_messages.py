"""The messages of :mod:`fedcredit.protocols.scoring`, and the digest that names a request."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fedcredit.errors import FedCreditError, Refusal
from fedcredit.protocols.pairwise import PairKey
from fedcredit.wire import Message

__all__ = [
    "MODES",
    "PROTOCOL",
    "Declined",
    "OwnFeatures",
    "ScoreAnswer",
    "ScoreRepeat",
    "ScoreRequest",
    "ScoreShare",
    "ServiceHello",
    "ServiceKey",
    "ServiceSeed",
    "own_digest",
    "repeat_digest",
    "request_digest",
]

PROTOCOL = 1
"""Raised with every change of what the messages mean."""
MODES = ("homomorphic", "masked")
MAX_SUBJECTS = 4096
DIGEST_BYTES = 32

_STEP = "score request"
_FIX = "ask through fedcredit.Institution or the command line of the same release"
_CODE = re.compile(r"[a-z][a-z_]{0,39}")
_TEXT = 600
_NAME = 128


# ----------------------------------------------------------------------------------- a session


@dataclass(frozen=True, eq=False, repr=False)
class ServiceKey(
    PairKey,
    kind="scoring.key",
    version=1,
    max_bytes=4 << 10,
    reveals="nothing: a random public key",
):
    """Every member to every other: a fresh X25519 public key, 32 bytes."""


@dataclass(frozen=True, eq=False, repr=False)
class ServiceSeed(
    Message,
    kind="scoring.seed",
    version=1,
    max_bytes=4 << 10,
    reveals="randomness that platform and providers have in common; it is sealed between them",
):
    """Platform to provider: 32 random bytes, sealed."""

    sealed: bytes


@dataclass(frozen=True, eq=False, repr=False)
class ServiceHello(
    Message,
    kind="scoring.hello",
    version=1,
    max_bytes=4 << 20,
    reveals="public keys of the institution",
):
    """Institution to every party: the protocol's version and the keys to encrypt under.

    ``own`` is the key of its own features, for the platform only; empty if there are none.
    """

    protocol: int
    public: bytes
    own: bytes


# ----------------------------------------------------------------------------------- a request


@dataclass(frozen=True, eq=False, repr=False)
class ScoreRequest(
    Message,
    kind="scoring.request",
    version=1,
    max_bytes=32 << 20,
    reveals="which enterprises are asked about, for what purpose, with which model",
):
    """Institution to the platform and every participant: score these enterprises.

    Attributes
    ----------
    institution : str
        Who asks.
    target : str
        The model, ``name@version``.
    purpose : str
        What for.
    mode : str
        ``"homomorphic"`` or ``"masked"``.
    subjects, consents : tuple of str
        1 to 4096 different enterprises, and what each agreed to.
    reasons : int
        How many reasons are asked for, 0 for none.
    participants : tuple of str
        The providers that take part, in the model's order; the platform always does.
    key_id : bytes
        Names the public key of the session, 16 bytes, so that all encrypt under the same.
    nonce : bytes
        32 fresh random bytes.
    time : float
        When it was asked, unix seconds UTC.
    own : bytes
        Digest of the :class:`OwnFeatures` that go to the platform; empty if none do.
    detail : str
        Further options as canonical text.
    """

    institution: str
    target: str
    purpose: str
    mode: str
    subjects: tuple[str, ...]
    consents: tuple[str, ...]
    reasons: int
    participants: tuple[str, ...]
    key_id: bytes
    nonce: bytes
    time: float
    own: bytes = b""
    detail: str = ""

    def check(self) -> None:
        """Check everything that needs no knowledge of models and consents.

        Raises
        ------
        Refusal
            ``request_invalid``.
        """
        n = len(self.subjects)
        for wrong, reason in (
            (not 1 <= n <= MAX_SUBJECTS, f"a request is about 1 to {MAX_SUBJECTS} enterprises."),
            (len(set(self.subjects)) != n, "an enterprise stands in the request more than once."),
            (len(self.consents) != n, "the request does not have one consent per enterprise."),
            (self.mode not in MODES, "the request's mode is neither homomorphic nor masked."),
            (
                len(set(self.participants)) != len(self.participants),
                "the request does not name its providers, each once.",
            ),
            (
                len(self.nonce) != DIGEST_BYTES or len(self.own) not in (0, DIGEST_BYTES),
                "the request's nonce or digest has the wrong length.",
            ),
            (
                not math.isfinite(self.time) or not 0 <= self.reasons <= 100,
                "the request's time or number of reasons is out of range.",
            ),
            (
                max(map(len, (self.institution, self.target, self.purpose, self.detail))) > _TEXT,
                "a text of the request is too long.",
            ),
        ):
            if wrong:
                raise Refusal(reason, code="request_invalid", step=_STEP, fix=_FIX)


def request_digest(message: ScoreRequest) -> bytes:
    """Give the SHA-256 of the canonical encoding of a request, 32 bytes.

    Every text and byte string is preceded by its length; a tuple is its count and its items
    joined by zero characters, of which no item may contain one. So no two requests have the same
    encoding.

    Raises
    ------
    Refusal
        ``request_invalid``: an item contains a zero character.
    """
    digest = hashlib.sha256(b"fedcredit score request v1\0")

    def add(value: bytes) -> None:
        digest.update(len(value).to_bytes(8, "little"))
        digest.update(value)

    for text in (message.institution, message.target, message.purpose, message.mode):
        add(text.encode())
    for items in (message.subjects, message.consents, message.participants):
        joined = "\0".join(items)
        if joined.count("\0") != max(0, len(items) - 1):
            raise Refusal(
                "an item of the request contains a zero character.",
                code="request_invalid",
                step=_STEP,
                fix=_FIX,
            )
        digest.update(len(items).to_bytes(8, "little"))
        add(joined.encode())
    digest.update(struct.pack("<qd", message.reasons, message.time))
    for value in (message.key_id, message.nonce, message.own, message.detail.encode()):
        add(value)
    return digest.digest()


@dataclass(frozen=True, eq=False, repr=False)
class ScoreRepeat(
    Message,
    kind="scoring.repeat",
    version=1,
    max_bytes=4 << 10,
    reveals="that a score of the last request could not be read, which happens by chance",
):
    """Institution to the platform and every participant: the last request again, freshly masked.

    ``request`` is its digest, ``attempt`` counts from 1.
    """

    request: bytes
    attempt: int


def repeat_digest(request: bytes, attempt: int) -> bytes:
    """Give the digest under which a request is masked again, 32 bytes."""
    return hashlib.sha256(
        b"fedcredit score repeat v1\0" + request + attempt.to_bytes(8, "little")
    ).digest()


@dataclass(frozen=True, eq=False, repr=False)
class OwnFeatures(
    Message,
    kind="scoring.own",
    version=1,
    max_bytes=64 << 20,
    reveals="nothing but its size: encrypted under the institution's key",
):
    """Institution to platform, behind a request: its own features, encrypted; ``count`` each."""

    request: bytes
    count: int
    ciphertexts: tuple[bytes, ...]


def own_digest(ciphertexts: Sequence[bytes], count: int) -> bytes:
    """Give the digest by which a request names its :class:`OwnFeatures`, 32 bytes."""
    digest = hashlib.sha256(b"fedcredit own features v1\0" + count.to_bytes(8, "little"))
    for ciphertext in ciphertexts:
        digest.update(len(ciphertext).to_bytes(8, "little") + ciphertext)
    return digest.digest()


@dataclass(frozen=True, eq=False, repr=False)
class ScoreShare(
    Message,
    kind="scoring.share",
    version=1,
    max_bytes=1 << 30,
    reveals="nothing: ciphertexts or sealed bytes of the institution, and that the party agreed",
):
    """Provider to platform: its words of a request, masked, and encrypted for the institution.

    Attributes
    ----------
    request : bytes
        The request's digest.
    rows, slots : int
        Shape of the words.
    ciphertexts : tuple of bytes
        One per row; empty in mode ``masked``.
    sealed : bytes
        The masked words, sealed; empty in mode ``homomorphic``.
    note : bytes
        Sealed to the institution: digests of words and receipt, and what the party adds.
    receipt : bytes
        What the party signs, as it is.
    """

    request: bytes
    rows: int
    slots: int
    ciphertexts: tuple[bytes, ...]
    sealed: bytes
    note: bytes
    receipt: bytes


@dataclass(frozen=True, eq=False, repr=False)
class ScoreAnswer(
    Message,
    kind="scoring.answer",
    version=1,
    max_bytes=1 << 30,
    reveals="the sum of all parties' words, which is the score, and the parties' receipts",
):
    """Platform to institution: the sum, encrypted, and what every party says about it.

    Attributes
    ----------
    request : bytes
        The request's digest.
    rows, slots : int
        Shape of the words.
    ciphertexts : tuple of bytes
        The sums, one per row; empty in mode ``masked``.
    sealed : tuple of bytes
        In mode ``masked`` every party's sealed words: the platform's, then the participants'.
    notes, receipts : tuple of bytes
        In the same order.
    own : tuple of bytes
        Encrypted products of the institution's own features; empty if it sent none.
    metadata : bytes
        A JSON object of the platform.
    seal : bytes
        What the platform signs of the sums, as it is; may be empty.
    """

    request: bytes
    rows: int
    slots: int
    ciphertexts: tuple[bytes, ...]
    sealed: tuple[bytes, ...]
    notes: tuple[bytes, ...]
    receipts: tuple[bytes, ...]
    own: tuple[bytes, ...]
    metadata: bytes
    seal: bytes = b""


def _cleaned(text: str | None, limit: int = _TEXT) -> str:
    return "".join(c if c.isprintable() else "?" for c in (text or "")[:limit])


@dataclass(frozen=True, eq=False, repr=False)
class Declined(
    Message,
    kind="scoring.declined",
    version=1,
    max_bytes=1 << 20,
    reveals="which party did not answer, and by which rule",
):
    """Provider to platform, platform to institution: no answer, and why; one item per party."""

    request: bytes
    parties: tuple[str, ...]
    codes: tuple[str, ...]
    reasons: tuple[str, ...]
    fixes: tuple[str, ...]

    @classmethod
    def of(cls, request: bytes, party: str, error: FedCreditError) -> Declined:
        """Describe why ``party`` does not answer."""
        code = error.code if isinstance(error, Refusal) else "part_failed"
        return cls(
            request,
            (_cleaned(party, _NAME),),
            (code,),
            (_cleaned(error.reason),),
            (_cleaned(error.fix),),
        )

    @classmethod
    def joined(cls, request: bytes, parts: Sequence[tuple[str, Declined]]) -> Declined:
        """Join what several parties said; each speaks for itself alone, whatever it wrote."""
        return cls(
            request,
            tuple(name for name, _ in parts),
            tuple(part._first(part.codes) for _, part in parts),
            tuple(_cleaned(part._first(part.reasons)) for _, part in parts),
            tuple(_cleaned(part._first(part.fixes)) for _, part in parts),
        )

    @staticmethod
    def _first(items: tuple[str, ...]) -> str:
        return items[0] if items else ""

    def to_error(self, sender: str) -> Refusal:
        """Give the first party's refusal; the reason names the others and their codes."""
        party = _cleaned(self._first(self.parties), _NAME) or sender
        code = self._first(self.codes)
        reason = _cleaned(self._first(self.reasons)) or "the request was declined."
        others = [
            f"{_cleaned(name, _NAME)} ({_known(other)})"
            for name, other in zip(self.parties[1:9], self.codes[1:9], strict=False)
        ]
        if others:
            reason = f"{reason} Declined as well by {', '.join(others)}."
        return Refusal(
            reason,
            code=_known(code),
            party=party,
            step="score",
            fix=_cleaned(self._first(self.fixes)) or None,
        )


def _known(code: str) -> str:
    return code if _CODE.fullmatch(code) else "refused"
