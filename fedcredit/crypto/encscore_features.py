"""The product of an institution's encrypted features with weights that it does not see.

BFV with ``N = 8192``, five data primes of 31 bits and the plain modulus ``t = 2^59``. Row r of F
features stands at the coefficients ``r F .. r F + F - 1``; times the polynomial of the weights in
reverse order, ``sum_j w_j X^(F - 1 - j)``, the coefficient of ``X^(r F + F - 1)`` is the row's
product (the packing of M. Naehrig, K. Lauter, V. Vaikuntanathan, *Can Homomorphic Encryption be
Practical?*, CCSW 2011, section 4.1). Only these coefficients of c0 go back.

What the institution must not learn is the weights. The evaluated ciphertext is added to a fresh
encryption of zero, so that its c1 hides the polynomial by RLWE; every coefficient that goes back
gets a uniform *blind* modulo ``2^59``, which hides the product itself until the blind is taken off
in another sum, and *flooding noise*, uniform in ``+-2^90``, which hides the noise
(C. Gentry, *A Fully Homomorphic Encryption Scheme*, 2009, chapter 21). The evaluated noise is below
``2^46``: an error of at most 21.5 per coefficient times up to 1024 weights below ``2^31``, and
``2^19`` of the fresh encryption. So the noise of a coefficient is within a statistical distance of
``2^-44`` of one that does not depend on the weights. Flooding leaves 5 bits of ``Q / 2t = 2^95``.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from fedcredit.crypto.encscore import encrypt_zero, random_small
from fedcredit.crypto.encscore_format import RELEASE, WORD_BITS, WORD_MASK
from fedcredit.crypto.encsum_bits import count_out_of_range, pack_bits, raise_modulus, unpack_bits
from fedcredit.crypto.encsum_packing import with_quotients
from fedcredit.crypto.ntt import JIT, RingTables, forward_ntt, inverse_ntt
from fedcredit.crypto.prg import prg_u64
from fedcredit.crypto.seal import SEED_BYTES, SealContext
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

__all__ = ["MAX_FEATURES", "OwnFeatureHolder", "OwnFeatureScorer"]

DEGREE = 8192
MAX_FEATURES = 1024
FLOOD_BITS = 90
PRIME_BITS = 31
_BITS = (PRIME_BITS,) * 6
_PRIMES = len(_BITS) - 1
_POLY_WORDS = _PRIMES * DEGREE * PRIME_BITS // 64
_MAX_WEIGHT = 1 << 31
_MAX_CIPHERTEXTS = 4096
_HEADER = struct.Struct("<4sBxHH16s")  # magic, version, rows, features, key id: 26 bytes
_QUESTION, _ANSWER, _KEY = b"fcfq", b"fcfa", b"fcfk\x01"
_STEP = "own features"

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@njit(**JIT)
def _add_product(
    values: U32,
    weights: U32,
    primes: U64,
    forward: U32,
    inverse: U32,
    n_inv: U64,
    out: U32,
) -> None:
    """Add ``values`` (L, N) times transformed weights (L, 2, N) to ``out`` (L, N)."""
    n = values.shape[1]
    transformed = np.empty(n, np.uint32)
    product = np.empty(n, np.uint32)
    scratch = np.empty(n, np.uint32)
    for k in range(values.shape[0]):
        p = primes[k]
        forward_ntt(transformed, values[k], forward[k, 0], forward[k, 1], p)
        w = weights[k, 0]
        ws = weights[k, 1]
        for i in range(n):
            x = uint64(transformed[i])
            x = x * uint64(w[i]) - ((x * uint64(ws[i])) >> uint64(32)) * p
            product[i] = uint32(min(x, x - p))
        inverse_ntt(transformed, product, inverse[k, 0], inverse[k, 1], p, n_inv[k], scratch)
        row = out[k]
        for i in range(n):
            x = uint64(row[i]) + uint64(transformed[i])
            row[i] = uint32(min(x, x - p))


def _context() -> SealContext:
    return SealContext.of(DEGREE, _BITS, 1 << WORD_BITS)


def _key_id(public: bytes) -> bytes:
    return hashlib.sha256(b"fedcredit own feature key v1\0" + public).digest()[:16]


def _pack(values: U64) -> bytes:
    out = np.empty(-(-values.size * PRIME_BITS // 64), np.uint64)
    pack_bits(values, PRIME_BITS, out)
    return out.astype("<u8", copy=False).tobytes()


def _words(count: int) -> int:
    return -(-_PRIMES * count * PRIME_BITS // 64)


def _unpack(words: U64, primes: U64, count: int) -> U64:
    """Read residues (L, count), every one below its prime."""
    spare = -count * _PRIMES * PRIME_BITS % 64
    if (spare and words[-1] >> np.uint64(64 - spare)) or count_out_of_range(
        words, PRIME_BITS, primes, count
    ):
        raise CiphertextError(
            "encrypted features have residues out of range: they were damaged on their way.",
            step=_STEP,
            fix=RELEASE,
        )
    out = np.empty(_PRIMES * count, np.uint64)
    unpack_bits(words, PRIME_BITS, out)
    return out.reshape(_PRIMES, count)


def _groups(n: int, features: int) -> list[int]:
    """Give the number of rows of every ciphertext."""
    if not 1 <= features <= MAX_FEATURES:
        raise InputError(
            f"own features are 1 to {MAX_FEATURES} per enterprise.",
            step=_STEP,
            fix="use fewer bins",
        )
    rows = DEGREE // features
    return [min(rows, n - start) for start in range(0, n, rows)]


def _read_head(
    data: bytes, magic: bytes, rows: int, features: int, key_id: bytes, size: int
) -> None:
    if len(data) != _HEADER.size + size or (
        _HEADER.unpack_from(data) != (magic, 1, rows, features, key_id)
    ):
        raise CiphertextError(
            "encrypted features are of another key, shape or version.", step=_STEP, fix=RELEASE
        )


class OwnFeatureHolder:
    """The institution's second key; make it with :meth:`generate`.

    The secret key stays inside SEAL; it is never printed, saved or pickled.

    Attributes
    ----------
    public : bytes
        The public key, 159 kB.
    """

    def __init__(self) -> None:
        context = _context()
        self._keys = context.new_keys()
        seed, residues = self._keys.encrypt(np.zeros(DEGREE, np.uint64))
        self.public = _KEY + seed + _pack(residues.reshape(-1))
        self._id = _key_id(self.public)
        self._primes = np.array(context.primes[:_PRIMES], np.uint64)

    @classmethod
    def generate(cls) -> OwnFeatureHolder:
        """Make a fresh key."""
        return cls()

    def __repr__(self) -> str:
        return f"<OwnFeatureHolder {self._id.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def encrypt(self, features: I64) -> tuple[bytes, ...]:
        """Encrypt rows of features.

        Parameters
        ----------
        features : ndarray of int64, shape (n, F)
            Indicators of bins, or fixed-point numbers, taken modulo ``2^59``.

        Returns
        -------
        tuple of bytes
            One ciphertext of 159 kB per ``floor(8192 / F)`` rows.

        Raises
        ------
        InputError
            If shape or type do not fit.
        """
        if features.ndim != 2 or features.dtype != np.int64 or not features.size:
            raise InputError(
                "own features must be an int64 array (rows, features).",
                step=_STEP,
                fix="give every enterprise a row",
            )
        n, count = features.shape
        out, start = [], 0
        for rows in _groups(n, count):
            plain = np.zeros(DEGREE, np.uint64)
            block = features[start : start + rows].reshape(-1)
            plain[: block.size] = block.astype(np.uint64) & WORD_MASK
            seed, residues = self._keys.encrypt(plain)
            head = _HEADER.pack(_QUESTION, 1, rows, count, self._id)
            out.append(head + seed + _pack(residues.reshape(-1)))
            start += rows
        return tuple(out)

    def decrypt(self, answers: Sequence[bytes], n: int, features: int) -> U64:
        """Decrypt blinded products.

        Parameters
        ----------
        answers : sequence of bytes
            From :meth:`OwnFeatureScorer.products`.
        n, features : int
            Rows and features that were encrypted.

        Returns
        -------
        ndarray of uint64, shape (n,)
            Product plus blind, modulo ``2^59``.

        Raises
        ------
        CiphertextError
            If an answer is malformed, out of range or does not fit what was asked.
        """
        groups = _groups(n, features)
        if len(answers) != len(groups):
            raise CiphertextError(
                "the encrypted products are not as many as were asked for.", step=_STEP, fix=RELEASE
            )
        out = np.empty(n, np.uint64)
        residues = np.zeros((2, _PRIMES, DEGREE), np.uint64)
        start = 0
        for answer, rows in zip(answers, groups, strict=True):
            size = 8 * (_words(rows) + _POLY_WORDS)
            _read_head(answer, _ANSWER, rows, features, self._id, size)
            words = np.frombuffer(answer[_HEADER.size :], "<u8").astype(np.uint64, copy=False)
            where = np.arange(rows) * features + features - 1
            residues[0] = 0
            residues[0][:, where] = _unpack(words[: _words(rows)], self._primes, rows)
            residues[1] = _unpack(words[_words(rows) :], self._primes, DEGREE)
            out[start : start + rows] = self._keys.decrypt(residues)[where]
            start += rows
        return out


class OwnFeatureScorer:
    """What the platform needs to multiply encrypted features by its weights.

    Parameters
    ----------
    public : bytes
        :attr:`OwnFeatureHolder.public`.

    Raises
    ------
    KeyMaterialError
        If the key is malformed or out of range.
    """

    def __init__(self, public: bytes) -> None:
        body = len(_KEY) + SEED_BYTES
        if len(public) != body + 8 * _POLY_WORDS or public[: len(_KEY)] != _KEY:
            raise KeyMaterialError(
                "the key of the institution's own features is of another kind or length.",
                step=_STEP,
                fix=RELEASE,
            )
        self._context = _context()
        self._tables = RingTables.of(DEGREE, self._context.primes)
        self._primes = np.array(self._context.primes[:_PRIMES], np.uint64)
        try:
            both = self._expanded(public[len(_KEY) : body], public[body:])
        except CiphertextError:
            raise KeyMaterialError(
                "a residue of the key of own features is not below its prime.",
                step=_STEP,
                fix=RELEASE,
            ) from None
        transformed = np.stack([self._tables.transform(part) for part in both])
        self._public = with_quotients(transformed, self._context.primes[:_PRIMES])
        modulus = 1
        for p in self._context.primes[:_PRIMES]:
            modulus *= p
        self._modulus_low = np.uint64(modulus % (1 << WORD_BITS))
        self._inverse = np.array([pow(1 << WORD_BITS, -1, int(p)) for p in self._primes], np.uint64)
        self._id = _key_id(public)

    def __repr__(self) -> str:
        return f"<OwnFeatureScorer {self._id.hex()}>"

    def _expanded(self, seed: bytes, packed: bytes) -> U32:
        words = np.frombuffer(packed, "<u8").astype(np.uint64, copy=False)
        c0 = _unpack(words, self._primes, DEGREE)
        return self._context.expand(seed, c0).astype(np.uint32)

    def _transformed_weights(self, weights: I64) -> U32:
        lifted = np.zeros((_PRIMES, DEGREE), np.uint32)
        reduced = weights[None, ::-1] % self._primes[:, None].astype(np.int64)
        lifted[:, : weights.size] = reduced.astype(np.uint32)
        return with_quotients(self._tables.transform(lifted), self._context.primes[:_PRIMES])

    def products(
        self, ciphertexts: Sequence[bytes], n: int, weights: I64
    ) -> tuple[tuple[bytes, ...], U64]:
        """Multiply every row of encrypted features by the weights, blinded.

        Parameters
        ----------
        ciphertexts : sequence of bytes
            From :meth:`OwnFeatureHolder.encrypt`.
        n : int
            Rows.
        weights : ndarray of int64, shape (F,)
            Below ``2^31`` in magnitude.

        Returns
        -------
        answers : tuple of bytes
            Encrypted products plus blinds; they tell the institution nothing about the weights.
        blinds : ndarray of uint64, shape (n,)
            Uniform below ``2^59``; take them off modulo ``2^59`` elsewhere.

        Raises
        ------
        InputError
            If the weights have another shape, type or range.
        CiphertextError
            If a ciphertext is malformed, out of range or does not fit.
        """
        if (
            weights.ndim != 1
            or weights.dtype != np.int64
            or not 1 <= weights.size <= MAX_FEATURES
            or np.abs(weights).max() >= _MAX_WEIGHT
        ):
            raise InputError(
                "weights of own features must be an int64 array of numbers below 2^31.",
                step=_STEP,
                fix="use a coarser fixed point",
            )
        groups = _groups(n, weights.size)
        if len(ciphertexts) != len(groups):
            raise CiphertextError(
                "the encrypted features are not as many as the enterprises need.",
                step=_STEP,
                fix=RELEASE,
            )
        transformed = self._transformed_weights(weights)
        blinds = prg_u64(secrets.token_bytes(32), n) & WORD_MASK
        out, start = [], 0
        for ciphertext, rows in zip(ciphertexts, groups, strict=True):
            mine = blinds[start : start + rows]
            out.append(self._product(ciphertext, rows, weights.size, transformed, mine))
            start += rows
        return tuple(out), blinds

    def _product(
        self, ciphertext: bytes, rows: int, features: int, weights: U32, blinds: U64
    ) -> bytes:
        _read_head(ciphertext, _QUESTION, rows, features, self._id, SEED_BYTES + 8 * _POLY_WORDS)
        body = _HEADER.size + SEED_BYTES
        both = self._expanded(ciphertext[_HEADER.size : body], ciphertext[body:])
        tables = self._tables
        arguments = (tables.primes, tables.forward, tables.inverse, tables.n_inv)
        u, errors = random_small(DEGREE)
        out = np.empty((2, _PRIMES, DEGREE), np.uint32)
        encrypt_zero(u, errors, self._public, *arguments, out)
        for half in range(2):
            _add_product(both[half], weights, *arguments, out[half])
        where = np.arange(rows) * features + features - 1
        kept = np.empty((_PRIMES, rows), np.uint64)
        raise_modulus(blinds, WORD_BITS, self._modulus_low, self._inverse, self._primes, kept)
        p = self._primes[:, None]
        kept = (kept + out[0][:, where] + self._flood(rows)) % p
        head = _HEADER.pack(_ANSWER, 1, rows, features, self._id)
        return head + _pack(kept.reshape(-1)) + _pack(out[1].astype(np.uint64).reshape(-1))

    def _flood(self, count: int) -> U64:
        """Draw numbers uniform in ``[-2^90, 2^90)``, as residues (L, count)."""
        drawn = prg_u64(secrets.token_bytes(32), 2 * count).reshape(2, count)
        high = drawn[1] >> np.uint64(64 - (FLOOD_BITS + 1 - 64))
        out = np.empty((_PRIMES, count), np.uint64)
        for k, prime in enumerate(self._primes):
            p = int(prime)
            top = high % prime * np.uint64((1 << 64) % p) % prime
            out[k] = (top + drawn[0] % prime + np.uint64(-(1 << FLOOD_BITS) % p)) % prime
        return out
