"""One party's part of a request in bytes, their sum at the platform, and the reading of the answer.

Nothing here sends anything; the roles of :mod:`fedcredit.protocols.scoring` do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encscore import (
    SLOTS,
    WORD_MASK,
    ScoreEncryptor,
    ScoreKeyHolder,
    add_ciphertexts,
    ciphertext_digest,
    ciphertext_slots,
    decode_words,
)
from fedcredit.errors import CiphertextError, InputError, PeerProtocolError, Refusal
from fedcredit.protocols.scoring_keys import SEAL_OVERHEAD, ServiceKeys
from fedcredit.protocols.scoring_messages import (
    DIGEST_BYTES,
    ScoreAnswer,
    ScoreRequest,
    ScoreShare,
)

__all__ = [
    "RoundAnswer",
    "WordsAndNotes",
    "combine",
    "open_answer",
    "party_share",
    "result_digest",
]

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_STEP = "score"
_WORDS, _NOTE = b"words of ", b"note of "
_PREFIX = 3 * DIGEST_BYTES


def _no_receipt(payload: bytes) -> bytes:
    return b""


@dataclass(frozen=True, eq=False)
class WordsAndNotes:
    """What a party's callback answers to a request.

    Attributes
    ----------
    words : ndarray of uint64, shape (rows, slots)
        Before masks, each below ``2^59``: one row of slots per enterprise, or all enterprises in
        one row; at most 4096 slots. The platform encodes its values with
        :func:`~fedcredit.crypto.encscore.encode_values`, the providers theirs with
        :func:`~fedcredit.crypto.encscore.encode_parts`.
    note : bytes
        For the institution alone.
    receipt : callable
        Given the digest of what leaves (32 bytes), what the party signs; it goes along in the
        clear.
    metadata : bytes
        A JSON object; the platform's only.
    own_weights : ndarray of int64, shape (F,), optional
        The platform's only: weights of the institution's own features.
    """

    words: U64 = field(repr=False)
    note: bytes = field(default=b"", repr=False)
    receipt: Callable[[bytes], bytes] = field(default=_no_receipt, repr=False)
    metadata: bytes = field(default=b"", repr=False)
    own_weights: I64 | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class RoundAnswer:
    """What the institution reads out of an answer.

    Attributes
    ----------
    request : bytes
        The request's digest.
    words : ndarray of uint64, shape (rows, slots)
        Sums modulo ``2^59``.
    notes, receipts, payloads : dict
        Per party, the platform first: its note, its receipt, and the digest of what it sent, as
        its sealed note says.
    metadata : bytes
        The platform's; what arrived is what the platform's sealed note names.
    seal, result : bytes
        What the platform signed of the sums, and their digest.
    """

    request: bytes
    words: U64 = field(repr=False)
    notes: dict[str, bytes] = field(repr=False)
    receipts: dict[str, bytes] = field(repr=False)
    payloads: dict[str, bytes] = field(repr=False)
    metadata: bytes = field(repr=False)
    seal: bytes = field(repr=False)
    result: bytes = field(repr=False)

    def values(self) -> I64:
        """Give the sums of the first row as numbers.

        Returns
        -------
        ndarray of int64, shape (slots,)

        Raises
        ------
        PeerProtocolError
            If a tag is not zero: a mask or a part is not the request's.
        """
        values, ok = decode_words(self.words[0])
        if not ok.all():
            raise PeerProtocolError(
                f"the parts of {int((~ok).sum())} scores do not belong together: a party used "
                "another request's masks, or its words were altered.",
                step=_STEP,
                fix="ask again; if it stays so, compare the receipts with the parties' logs",
            )
        return values


def payload_digest(ciphertexts: Sequence[bytes], sealed: bytes, rows: int, slots: int) -> bytes:
    """Give the SHA-256 of what a party sends: its ciphertexts or its sealed words, 32 bytes."""
    digest = hashlib.sha256(b"fedcredit score payload v1\0")
    digest.update(rows.to_bytes(8, "little") + slots.to_bytes(8, "little"))
    digest.update(len(ciphertexts).to_bytes(8, "little"))
    for ciphertext in ciphertexts:
        digest.update(ciphertext_digest(ciphertext))
    digest.update(sealed)
    return digest.digest()


def result_digest(answer: ScoreAnswer) -> bytes:
    """Give the SHA-256 of the sums of an answer, 32 bytes."""
    return payload_digest(answer.ciphertexts, b"".join(answer.sealed), answer.rows, answer.slots)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def party_share(
    keys: ServiceKeys,
    encryptor: ScoreEncryptor,
    request: ScoreRequest,
    digest: bytes,
    given: WordsAndNotes,
) -> ScoreShare:
    """Mask a party's words and encrypt or seal them.

    Parameters
    ----------
    keys : ServiceKeys
        The party's.
    encryptor : ScoreEncryptor
        Of the session's public key.
    request : ScoreRequest
        What is asked; its mode and participants matter here.
    digest : bytes
        Its digest. The mask of a digest is given once.
    given : WordsAndNotes
        What the party answers.

    Raises
    ------
    InputError
        If the words have another shape, type or range.
    Refusal
        ``request_repeated``: the mask of this request was used before.
    """
    words = given.words
    if words.dtype != np.uint64 or words.ndim != 2 or not words.size or words.shape[1] > SLOTS:
        raise InputError(
            f"words must be a uint64 array (rows, slots) of at most {SLOTS} slots.",
            party=keys.me,
            step=_STEP,
            fix="give every enterprise a row, or all of them one row",
        )
    if words.max() > WORD_MASK:
        raise InputError(
            "a word has more than 59 bits.",
            party=keys.me,
            step=_STEP,
            fix="reduce modulo 2^59",
        )
    rows, slots = words.shape
    mask = keys.mask_words(digest, request.participants, rows * slots)
    masked = (words + mask.reshape(rows, slots)) & WORD_MASK
    ciphertexts: tuple[bytes, ...] = ()
    sealed = b""
    if request.mode == "homomorphic":
        ciphertexts = tuple(encryptor.encrypt(row) for row in masked)
    else:
        plain = masked.astype("<u8", copy=False).tobytes()
        sealed = keys.seal_to_institution(plain, _WORDS + digest)
    payload = payload_digest(ciphertexts, sealed, rows, slots)
    receipt = given.receipt(payload)
    prefix = payload + _digest(receipt) + _digest(given.metadata)
    note = keys.seal_to_institution(prefix + given.note, _NOTE + digest)
    return ScoreShare(digest, rows, slots, ciphertexts, sealed, note, receipt)


# ------------------------------------------------------------------------------- the platform


def _invalid(party: str | None, reason: str) -> Refusal:
    return Refusal(
        reason,
        code="share_invalid",
        party=party,
        step=_STEP,
        fix="run the same release and the same version of the model at every party",
    )


def _check_share(share: ScoreShare, like: ScoreShare, party: str, key_id: bytes) -> None:
    if share.request != like.request:
        raise _invalid(party, "a part answers another request.")
    if (share.rows, share.slots) != (like.rows, like.slots):
        raise _invalid(party, "a part has another shape than the model's.")
    if len(share.ciphertexts) != len(like.ciphertexts) or len(share.sealed) != len(like.sealed):
        raise _invalid(party, "a part has another size or mode than was asked for.")
    try:
        for ciphertext in share.ciphertexts:
            if ciphertext_slots(ciphertext, key_id) != share.slots:
                raise _invalid(party, "a ciphertext has another number of slots.")
    except CiphertextError as error:
        raise _invalid(party, error.reason) from None


def combine(
    mine: ScoreShare,
    shares: Mapping[str, ScoreShare],
    key_id: bytes,
    *,
    own: tuple[bytes, ...] = (),
    metadata: bytes = b"",
) -> ScoreAnswer:
    """Add up the parts of a request.

    Parameters
    ----------
    mine : ScoreShare
        The platform's.
    shares : mapping of str to ScoreShare
        The participants', in the request's order.
    key_id : bytes
        Names the key under which all must be.
    own : tuple of bytes
        Encrypted products of the institution's own features.
    metadata : bytes
        What the platform's note names.

    Raises
    ------
    Refusal
        ``share_invalid``, with the party whose part does not check.
    """
    for party, share in shares.items():
        _check_share(share, mine, party, key_id)
    everyone = [mine, *shares.values()]
    try:
        sums = [
            add_ciphertexts(row, key_id)
            for row in zip(*(share.ciphertexts for share in everyone), strict=True)
        ]
    except CiphertextError as error:
        # Rare: only now find out whose it was.
        for party, share in shares.items():
            for ciphertext in share.ciphertexts:
                try:
                    add_ciphertexts([ciphertext], key_id)
                except CiphertextError as own_error:
                    raise _invalid(party, own_error.reason) from None
        raise _invalid(None, error.reason) from None
    return ScoreAnswer(
        mine.request,
        mine.rows,
        mine.slots,
        tuple(sums),
        tuple(share.sealed for share in everyone if share.sealed),
        tuple(share.note for share in everyone),
        tuple(share.receipt for share in everyone),
        own,
        metadata,
    )


# ---------------------------------------------------------------------------- the institution


def _malformed(party: str, reason: str) -> PeerProtocolError:
    return PeerProtocolError(
        reason,
        party=party,
        step=_STEP,
        fix=f"ask again; if it stays so, let {party} check its node",
    )


def open_answer(
    keys: ServiceKeys,
    holder: ScoreKeyHolder,
    request: ScoreRequest,
    digest: bytes,
    answer: ScoreAnswer,
) -> RoundAnswer:
    """Read an answer and check that everything in it belongs to the request.

    Raises
    ------
    PeerProtocolError
        If anything does not belong to the request or was altered; names the party where that is
        known.
    """
    platform = keys.platform
    parties = (platform, *request.participants)
    homomorphic = request.mode == "homomorphic"
    rows, slots = answer.rows, answer.slots
    if answer.request != digest:
        raise _malformed(platform, "the answer is to another request.")
    if (
        not 1 <= slots <= SLOTS
        or rows < 1
        or (len(answer.ciphertexts), len(answer.sealed))
        != ((rows, 0) if homomorphic else (0, len(parties)))
        or len(answer.notes) != len(parties)
        or len(answer.receipts) != len(parties)
        or bool(answer.own) != bool(request.own)
    ):
        raise _malformed(platform, "the answer does not have the parts that were asked for.")
    notes: dict[str, bytes] = {}
    payloads: dict[str, bytes] = {}
    for i, party in enumerate(parties):
        plain = keys.open_from(party, answer.notes[i], _NOTE + digest)
        if len(plain) < _PREFIX:
            raise _malformed(party, "a note is too short.")
        payload, receipt, metadata = (
            plain[k : k + DIGEST_BYTES] for k in range(0, _PREFIX, DIGEST_BYTES)
        )
        if receipt != _digest(answer.receipts[i]):
            raise _malformed(party, "a receipt is not the one that its party sent.")
        if party == platform and metadata != _digest(answer.metadata):
            raise _malformed(party, "the metadata are not those that the platform sent.")
        notes[party], payloads[party] = plain[_PREFIX:], payload
    # Before anything of that size is made; the number of ciphertexts is checked above.
    size = 8 * rows * slots + SEAL_OVERHEAD
    for party, sealed in zip(parties, answer.sealed, strict=False):
        if len(sealed) != size:
            raise _malformed(party, "sealed words have another length.")
    words = np.zeros((rows, slots), np.uint64)
    if homomorphic:
        try:
            for row, ciphertext in zip(words, answer.ciphertexts, strict=True):
                if ciphertext_slots(ciphertext) != slots:
                    raise _malformed(platform, "a sum has another number of slots.")
                row[:] = holder.decrypt(ciphertext)[:slots]
        except CiphertextError as error:
            raise _malformed(platform, error.reason) from None
    else:
        for party, sealed in zip(parties, answer.sealed, strict=True):
            if payloads[party] != payload_digest((), sealed, rows, slots):
                raise _malformed(party, "sealed words are not those that their party sent.")
            plain = keys.open_from(party, sealed, _WORDS + digest)
            words += np.frombuffer(plain, "<u8").reshape(words.shape)
        words &= WORD_MASK
    receipts = dict(zip(parties, answer.receipts, strict=True))
    return RoundAnswer(
        digest,
        words,
        notes,
        receipts,
        payloads,
        answer.metadata,
        answer.seal,
        result_digest(answer),
    )
