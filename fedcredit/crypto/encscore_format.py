"""Words, and the bytes of ciphertexts of :mod:`fedcredit.crypto.encscore`: checks and sums.

Nothing here needs a key. A ciphertext of n slots is a header of 24 bytes (kind, version, terms,
slots, the name of its key), n coefficients of c0 and all of c1, 25 bits per residue.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from fedcredit.crypto.encsum_bits import pack_bits
from fedcredit.crypto.ntt import JIT
from fedcredit.crypto.seal import SealContext
from fedcredit.errors import CiphertextError, InputError

__all__ = [
    "MAX_TERMS",
    "SLOTS",
    "TAG_BITS",
    "VALUE_BITS",
    "WORD_BITS",
    "WORD_MASK",
    "add_ciphertexts",
    "ciphertext_bytes",
    "ciphertext_digest",
    "ciphertext_slots",
    "decode_words",
    "encode_parts",
    "encode_values",
]

WORD_BITS = 59
TAG_BITS = 28
VALUE_BITS = WORD_BITS - TAG_BITS
SLOTS = 4096
"""Words of one ciphertext at most."""
MAX_TERMS = 64
"""Fresh ciphertexts in one sum at most; the noise has room for so many."""
WORD_MASK = np.uint64((1 << WORD_BITS) - 1)

KEY_ID_BYTES = 16
PRIME_BITS = 25
_BITS = (PRIME_BITS,) * 4
PRIMES = len(_BITS) - 1
VERSION = 1
_HEADER = struct.Struct("<4sBBH16s")  # magic, version, terms, slots, key id: 24 bytes
_MAGIC = b"fcsc"
C1_WORDS = PRIMES * SLOTS * PRIME_BITS // 64
_OFFSET = 1 << (VALUE_BITS - 1)
STEP = "encrypted scores"
RELEASE = "let every party run the same release of fedcredit"

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


# ------------------------------------------------------------------------------------- words


def encode_parts(values: I64) -> U64:
    """Write parts of a sum as words, modulo ``2^59``.

    Parameters
    ----------
    values : ndarray of int64
        Any shape; only the sum of all parts must lie in ``[-2^30, 2^30)``.

    Returns
    -------
    ndarray of uint64
        The same shape.
    """
    return values.astype(np.uint64) & WORD_MASK


def encode_values(values: I64) -> U64:
    """Write values as words of a zero tag and 31 bits, ``v + 2^30``.

    Exactly one party of a sum encodes so; the others' parts are those of :func:`encode_parts`.

    Parameters
    ----------
    values : ndarray of int64
        Any shape. A value outside ``[-2^30, 2^30)`` has a tag that is not zero, unless the other
        parts bring the sum back into the range.

    Returns
    -------
    ndarray of uint64
        The same shape.
    """
    return encode_parts(values + np.int64(_OFFSET))


def decode_words(words: U64) -> tuple[I64, NDArray[np.bool_]]:
    """Read words back.

    Parameters
    ----------
    words : ndarray of uint64
        Below ``2^59``; any shape.

    Returns
    -------
    values : ndarray of int64
        In ``[-2^30, 2^30)``; meaningless where the tag is not zero.
    ok : ndarray of bool
        Whether the tag is zero.
    """
    ok = (words >> np.uint64(VALUE_BITS)) == 0
    low = words & np.uint64((1 << VALUE_BITS) - 1)
    return low.astype(np.int64) - _OFFSET, ok


# -------------------------------------------------------------------------------- ciphertexts


def context_of_scores() -> SealContext:
    return SealContext.of(SLOTS, _BITS, 1 << WORD_BITS)


def primes_of_scores() -> U64:
    return np.array(context_of_scores().primes[:PRIMES], np.uint64)


def _c0_words(slots: int) -> int:
    return -(-slots * PRIMES * PRIME_BITS // 64)


def ciphertext_bytes(slots: int) -> int:
    """Give the size of a ciphertext of 1 to 4096 slots, in bytes."""
    return _HEADER.size + 8 * (_c0_words(slots) + C1_WORDS)


def pack_residues(values: U64, n_words: int) -> bytes:
    out = np.empty(n_words, np.uint64)
    pack_bits(values, PRIME_BITS, out)
    return out.astype("<u8", copy=False).tobytes()


def written(key_id: bytes, terms: int, slots: int, c0: U64, c1: U64) -> bytes:
    head = _HEADER.pack(_MAGIC, VERSION, terms, slots, key_id)
    return head + pack_residues(c0, _c0_words(slots)) + pack_residues(c1, C1_WORDS)


def _head(ciphertext: bytes) -> tuple[int, int, bytes]:
    """Give terms, slots and key id; the length has been checked."""
    if len(ciphertext) < _HEADER.size:
        raise CiphertextError("a ciphertext is cut off.", step=STEP, fix=RELEASE)
    magic, version, terms, slots, key_id = _HEADER.unpack_from(ciphertext)
    if magic != _MAGIC or version != VERSION:
        raise CiphertextError("a ciphertext is of another kind or version.", step=STEP, fix=RELEASE)
    if not 1 <= terms <= MAX_TERMS or not 1 <= slots <= SLOTS:
        raise CiphertextError("a ciphertext's header is out of range.", step=STEP, fix=RELEASE)
    if len(ciphertext) != ciphertext_bytes(slots):
        raise CiphertextError(
            "a ciphertext has another length than its header says.", step=STEP, fix=RELEASE
        )
    return terms, slots, key_id


@njit(**JIT)
def _add_packed(words: U64, width: int, primes: U64, degree: int, total: U64) -> int:
    """Add packed residues (L, degree) to ``total``; count those that are not below their prime."""
    mask = (uint64(1) << uint64(width)) - uint64(1)
    bad = 0
    i = 0
    for k in range(primes.size):
        p = primes[k]
        for _ in range(degree):
            at = i * width
            shift = uint64(at & 63)
            x = words[at >> 6] >> shift
            if (at & 63) + width > 64:
                x |= words[(at >> 6) + 1] << (uint64(64) - shift)
            x &= mask
            bad += int(x >= p)
            x += total[i]
            total[i] = min(x, x - p)
            i += 1
    return bad


def add_body(ciphertext: bytes, slots: int, primes: U64, total: tuple[U64, U64]) -> None:
    """Add the residues of c0 (L * slots,) and c1 (L * N,), every one checked, to ``total``."""
    words = np.frombuffer(ciphertext, "<u8", offset=_HEADER.size).astype(np.uint64, copy=False)
    first, second = words[: _c0_words(slots)], words[_c0_words(slots) :]
    spare = -slots * PRIMES * PRIME_BITS % 64
    if (
        (spare and first[-1] >> np.uint64(64 - spare))
        or _add_packed(first, PRIME_BITS, primes, slots, total[0])
        or _add_packed(second, PRIME_BITS, primes, SLOTS, total[1])
    ):
        raise CiphertextError(
            "a ciphertext has residues out of range: it was damaged on its way.",
            step=STEP,
            fix=RELEASE,
        )


def zero_residues(slots: int) -> tuple[U64, U64]:
    return np.zeros(PRIMES * slots, np.uint64), np.zeros(PRIMES * SLOTS, np.uint64)


def _foreign() -> CiphertextError:
    return CiphertextError(
        "a ciphertext is under another key.",
        step=STEP,
        fix="let every party use the public key that the institution sent in this session",
    )


def ciphertext_slots(ciphertext: bytes, key_id: bytes | None = None) -> int:
    """Check the header of a ciphertext and give its number of slots.

    Raises
    ------
    CiphertextError
        If it is no ciphertext of this kind, has another length than its header says, or is not
        under the key ``key_id`` where one is given.
    """
    _, slots, found = _head(ciphertext)
    if key_id is not None and found != key_id:
        raise _foreign()
    return slots


def ciphertext_digest(ciphertext: bytes) -> bytes:
    """Give the SHA-256 of a ciphertext, 32 bytes."""
    return hashlib.sha256(b"fedcredit score ciphertext v1\0" + ciphertext).digest()


def add_ciphertexts(ciphertexts: Sequence[bytes], key_id: bytes | None = None) -> bytes:
    """Add ciphertexts under one key, slot by slot modulo ``2^59``; needs no key.

    Parameters
    ----------
    ciphertexts : sequence of bytes
        At least one; all of the same number of slots. Everything in them is checked.
    key_id : bytes, optional
        Refuse any other key than this.

    Returns
    -------
    bytes
        Of the same length.

    Raises
    ------
    CiphertextError
        If one is malformed or out of range, keys or slots differ, or the sum has more than
        :data:`MAX_TERMS` terms.
    InputError
        If there is none.
    """
    if not ciphertexts:
        raise InputError("a sum needs a ciphertext.", step=STEP, fix="name at least one party")
    primes = primes_of_scores()
    heads = [_head(c) for c in ciphertexts]
    terms = sum(head[0] for head in heads)
    slots, key = heads[0][1], heads[0][2]
    if any(head[2] != (key if key_id is None else key_id) for head in heads):
        raise _foreign()
    if any(head[1] != slots for head in heads):
        raise CiphertextError(
            "the ciphertexts of a sum have different numbers of slots.", step=STEP, fix=RELEASE
        )
    if terms > MAX_TERMS:
        raise CiphertextError(
            f"a sum has more than {MAX_TERMS} terms.", step=STEP, fix="use fewer parties"
        )
    total = zero_residues(slots)
    for ciphertext in ciphertexts:
        add_body(ciphertext, slots, primes, total)
    return written(key, terms, slots, *total)
