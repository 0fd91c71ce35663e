"""Numbers that several parties add up under the key of an institution, and nobody else reads.

BFV (J. Fan and F. Vercauteren, *Somewhat Practical Fully Homomorphic Encryption*, 2012/144) with
``N = 4096``, three data primes of 25 bits and the plain modulus ``t = 2^59``; slot i is the
coefficient of ``X^i``. Keys and decryption are SEAL's; encryption under the public key is done
here with the transforms of :mod:`fedcredit.crypto.ntt`.

*Public key*: SEAL's seeded encryption of zero ``(c0, c1)``, ``c1`` as a seed of 64 bytes, so that
its half cannot be chosen. *Encryption*: ``(c0 u + e0 + round(Q m / t), c1 u + e1)`` with fresh
ternary u and errors as SEAL draws them (V. Lyubashevsky, C. Peikert, O. Regev, EUROCRYPT 2010).
*Sum*: residue by residue. *Decryption* of coefficient i needs ``c0[i]`` and the whole of ``c1``,
so a ciphertext of n slots carries n coefficients of c0 only.

The modulus of 75 bits is the smallest of three equal primes that leaves room: fresh noise has a
standard deviation of about 240, a sum of 64 ciphertexts 1900, and ``Q / 2t`` is 16 of them.
At N = 4096 the Homomorphic Encryption Standard allows 109 bits (100 are used, with the special
prime that SEAL wants). A sum travels at the same modulus as its summands: ``2^68``, the smallest
that would still decrypt, would save but a tenth of its bytes.

The noise of a sum is what the key's owner sees besides the sum. It consists of fresh randomness of
every party and of the rounding of ``Q m / t``; where the m of every party is uniform given their
sum, it tells nothing about the summands.

A word of 59 bits is 28 zero bits (the *tag*) and 31 bits of value: a word that was not meant, for
instance because a mask is missing, has a tag that is not zero but for a chance of ``2^-28``.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NoReturn

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from fedcredit.crypto.encscore_format import (
    C1_WORDS,
    KEY_ID_BYTES,
    MAX_TERMS,
    PRIME_BITS,
    PRIMES,
    RELEASE,
    SLOTS,
    STEP,
    TAG_BITS,
    VALUE_BITS,
    VERSION,
    WORD_BITS,
    WORD_MASK,
    add_body,
    add_ciphertexts,
    ciphertext_bytes,
    ciphertext_digest,
    ciphertext_slots,
    context_of_scores,
    decode_words,
    encode_parts,
    encode_values,
    pack_residues,
    primes_of_scores,
    written,
    zero_residues,
)
from fedcredit.crypto.encsum_bits import count_out_of_range, raise_modulus, unpack_bits
from fedcredit.crypto.encsum_packing import sample_error, sample_ternary, with_quotients
from fedcredit.crypto.ntt import JIT, RingTables, forward_ntt, inverse_ntt
from fedcredit.crypto.prg import prg
from fedcredit.crypto.seal import SEED_BYTES
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

__all__ = [
    "MAX_TERMS",
    "SLOTS",
    "TAG_BITS",
    "VALUE_BITS",
    "WORD_BITS",
    "WORD_MASK",
    "ScoreEncryptor",
    "ScoreKeyHolder",
    "add_ciphertexts",
    "ciphertext_bytes",
    "ciphertext_digest",
    "ciphertext_slots",
    "decode_words",
    "encode_parts",
    "encode_values",
]

_KEY_HEAD = b"fcsk" + bytes([VERSION])

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@njit(**JIT)
def _add_error(row: U32, error: I64, p: np.uint64) -> None:
    for i in range(row.size):
        e = error[i]
        x = uint64(row[i]) + uint64(e + np.int64(p) if e < 0 else e)
        row[i] = uint32(min(x, x - p))


@njit(**JIT)
def encrypt_zero(
    u: I64,
    errors: I64,
    public: U32,
    primes: U64,
    forward: U32,
    inverse: U32,
    n_inv: U64,
    out: U32,
) -> None:
    """Encrypt zero under a public key: ``(c0 u + e0, c1 u + e1)``, coefficients.

    Parameters
    ----------
    u : ndarray of int64, shape (N,)
        Ternary.
    errors : ndarray of int64, shape (2, N)
        Small.
    public : ndarray of uint32, shape (2, L, 2, N)
        The public key, transformed, and its Shoup quotients.
    primes : ndarray of uint64, shape (L or more,)
        The primes.
    forward, inverse, n_inv : ndarray
        Tables of :class:`~fedcredit.crypto.ntt.RingTables`.
    out : ndarray of uint32, shape (2, L, N)
        Receives the residues.
    """
    n = u.size
    lifted = np.empty(n, np.uint32)
    mask = np.empty(n, np.uint32)
    product = np.empty(n, np.uint32)
    scratch = np.empty(n, np.uint32)
    for k in range(out.shape[1]):
        p = primes[k]
        for i in range(n):
            v = u[i]
            lifted[i] = uint32(v + np.int64(p) if v < 0 else v)
        forward_ntt(mask, lifted, forward[k, 0], forward[k, 1], p)
        for half in range(2):
            w = public[half, k, 0]
            ws = public[half, k, 1]
            for i in range(n):
                x = uint64(mask[i])
                x = x * uint64(w[i]) - ((x * uint64(ws[i])) >> uint64(32)) * p
                product[i] = uint32(min(x, x - p))
            row = out[half, k]
            inverse_ntt(row, product, inverse[k, 0], inverse[k, 1], p, n_inv[k], scratch)
            _add_error(row, errors[half], p)


def random_small(n: int) -> tuple[I64, I64]:
    """Draw a ternary polynomial (n,) and two errors (2, n) from fresh randomness of the system.

    The expansion is AES-256 in counter mode, the distributions are SEAL's.
    """
    stream = prg(secrets.token_bytes(32), 16 * n + n + n // 16)
    u, errors = np.empty(n, np.int64), np.empty((2, n), np.int64)
    sample_error(stream[: 16 * n].view(np.uint64), errors.reshape(-1))
    while not sample_ternary(stream[16 * n :], u):
        stream = prg(secrets.token_bytes(32), 16 * n + n + n // 16)
    return u, errors


def public_key_id(public: bytes) -> bytes:
    """Give the 16 bytes by which ciphertexts name a public key (of its SHA-256)."""
    return hashlib.sha256(b"fedcredit score key v1\0" + public).digest()[:KEY_ID_BYTES]


class ScoreEncryptor:
    """What a party needs to encrypt words for an institution.

    Parameters
    ----------
    public : bytes
        The institution's public key, as :attr:`ScoreKeyHolder.public` gives it.

    Attributes
    ----------
    key_id : bytes
        The 16 bytes that name the key.

    Raises
    ------
    KeyMaterialError
        If the key is malformed or out of range.
    """

    def __init__(self, public: bytes) -> None:
        if len(public) != len(_KEY_HEAD) + SEED_BYTES + 8 * C1_WORDS or (
            public[: len(_KEY_HEAD)] != _KEY_HEAD
        ):
            raise KeyMaterialError(
                "the institution's public key is of another kind, version or length.",
                step=STEP,
                fix=RELEASE,
            )
        context, primes = context_of_scores(), primes_of_scores()
        body = len(_KEY_HEAD) + SEED_BYTES
        words = np.frombuffer(public, "<u8", offset=body).astype(np.uint64)
        if count_out_of_range(words, PRIME_BITS, primes, SLOTS):
            raise KeyMaterialError(
                "a residue of the public key is not below its prime.", step=STEP, fix=RELEASE
            )
        c0 = np.empty(PRIMES * SLOTS, np.uint64)
        unpack_bits(words, PRIME_BITS, c0)
        seed = public[len(_KEY_HEAD) : body]
        both = context.expand(seed, c0.reshape(PRIMES, SLOTS)).astype(np.uint32)
        self._tables = RingTables.of(SLOTS, context.primes)
        transformed = np.stack([self._tables.transform(part) for part in both])
        self._public = with_quotients(transformed, context.primes[:PRIMES])
        self._primes = primes
        modulus = 1
        for p in context.primes[:PRIMES]:
            modulus *= p
        self._modulus_low = np.uint64(modulus % (1 << WORD_BITS))
        self._inverse = np.array([pow(1 << WORD_BITS, -1, int(p)) for p in primes], np.uint64)
        self.key_id = public_key_id(public)

    def __repr__(self) -> str:
        return f"<ScoreEncryptor {self.key_id.hex()}>"

    def encrypt(self, words: U64) -> bytes:
        """Encrypt words.

        Parameters
        ----------
        words : ndarray of uint64, shape (n,)
            1 to 4096, each below ``2^59``.

        Returns
        -------
        bytes
            ``ciphertext_bytes(n)`` of them.

        Raises
        ------
        InputError
            If shape, type or range do not fit.
        """
        if words.ndim != 1 or words.dtype != np.uint64 or not 1 <= words.size <= SLOTS:
            raise InputError(
                f"words must be a uint64 array of 1 to {SLOTS}.", step=STEP, fix="split the batch"
            )
        if words.max() > WORD_MASK:
            raise InputError(
                f"a word has more than {WORD_BITS} bits.", step=STEP, fix="reduce modulo 2^59"
            )
        slots = words.size
        u, errors = random_small(SLOTS)
        tables = self._tables
        out = np.empty((2, PRIMES, SLOTS), np.uint32)
        encrypt_zero(
            u,
            errors,
            self._public,
            tables.primes,
            tables.forward,
            tables.inverse,
            tables.n_inv,
            out,
        )
        scaled = np.empty((PRIMES, slots), np.uint64)
        raise_modulus(words, WORD_BITS, self._modulus_low, self._inverse, self._primes, scaled)
        scaled += out[0, :, :slots]
        scaled %= self._primes[:, None]
        c1 = out[1].astype(np.uint64).reshape(-1)
        return written(self.key_id, 1, slots, scaled.reshape(-1), c1)


class ScoreKeyHolder:
    """The institution's key; make it with :meth:`generate`.

    The secret key stays inside SEAL; it is never printed, saved or pickled.

    Attributes
    ----------
    public : bytes
        The public key, 38 kB.
    key_id : bytes
        The 16 bytes that name it.
    """

    def __init__(self) -> None:
        context = context_of_scores()
        self._keys = context.new_keys()
        seed, residues = self._keys.encrypt(np.zeros(SLOTS, np.uint64))
        self.public = _KEY_HEAD + seed + pack_residues(residues.reshape(-1), C1_WORDS)
        self.key_id = public_key_id(self.public)
        self._primes = primes_of_scores()

    @classmethod
    def generate(cls) -> ScoreKeyHolder:
        """Make a fresh key."""
        return cls()

    def __repr__(self) -> str:
        return f"<ScoreKeyHolder {self.key_id.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def decrypt(self, ciphertext: bytes) -> U64:
        """Decrypt a sum.

        Parameters
        ----------
        ciphertext : bytes
            Of this key.

        Returns
        -------
        ndarray of uint64, shape (4096,)
            Words below ``2^59``; zero beyond the ciphertext's slots.

        Raises
        ------
        CiphertextError
            If it is malformed, out of range or under another key.
        """
        slots = ciphertext_slots(ciphertext, self.key_id)
        words = self._keys.decrypt(self._residues(ciphertext, slots))
        words[slots:] = 0
        return words

    def noise_budget(self, ciphertext: bytes) -> int:
        """Give the invariant noise budget of a ciphertext of 4096 slots, in bits.

        Raises
        ------
        CiphertextError
            As for :meth:`decrypt`, or if the ciphertext does not have all slots, since the noise
            of a coefficient that is not there is none.
        """
        slots = ciphertext_slots(ciphertext, self.key_id)
        if slots != SLOTS:
            raise CiphertextError("the noise of a part of a ciphertext.", step=STEP)
        return self._keys.noise_budget(self._residues(ciphertext, slots))

    def _residues(self, ciphertext: bytes, slots: int) -> U64:
        c0, c1 = zero_residues(slots)
        add_body(ciphertext, slots, self._primes, (c0, c1))
        residues = np.zeros((2, PRIMES, SLOTS), np.uint64)
        residues[0, :, :slots] = c0.reshape(PRIMES, slots)
        residues[1] = c1.reshape(PRIMES, SLOTS)
        return residues
