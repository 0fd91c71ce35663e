"""How a provider's sums become answers: re-randomise, flood, pack, switch the modulus.

Every returned sum is first hidden: an encryption of zero under the label holder's public key is
added (fresh ternary u, fresh error on c1), a uniform flood goes onto the kept coefficients of c0,
and every other coefficient is dropped.  Only then do sums share a ciphertext:

*Packed* (PackRLWEs; H. Chen, W. Dai, M. Kim, Y. Song, *Efficient homomorphic conversion between
(ring) LWE ciphertexts*, ACNS 2021): merging A and B at step i gives
``A + X^h B + s(A - X^h B)`` with ``h = B / 2^(i+1)`` and the automorphism s, which cancels the
coefficients that are not kept and doubles the others; the factor ``1 / B`` is carried by the masks.
Key switching follows SEAL (one digit per prime, one special prime P); the division of c0 by P is
put off to the end, so a merge takes few transforms.  With fewer than ``log2 B`` steps (dense
weights) the coefficients between the sums carry nothing and stay behind.  The switching noise falls
on an already flooded sum and depends on nothing but a re-randomised c1 and public keys.

*Unpacked*: the kept coefficients of c0 and all of c1.

Last, answers are scaled from Q to ``2^answer_bits`` and rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from fedcredit.crypto.blake2x import uniform_polynomial
from fedcredit.crypto.encsum_bits import count_out_of_range, unpack_bits
from fedcredit.crypto.encsum_messages import SumPublicKeys
from fedcredit.crypto.encsum_profile import PRIME_BITS
from fedcredit.crypto.ntt import JIT, RingTables, forward_ntt, inverse_ntt, shoup
from fedcredit.crypto.seal import SEED_BYTES
from fedcredit.errors import KeyMaterialError

__all__ = ["PackingKeys"]

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

Node = tuple[U32, U32]
"""A ciphertext on its way: c0 over Q P (L + 1, N) and c1 over Q (L, N), both transformed."""

_S32 = np.uint64(32)


@njit(**JIT)
def _shoup_product(x: np.uint64, w: np.uint64, ws: np.uint64, p: np.uint64) -> np.uint64:
    """Give ``x w`` modulo p, below 2p."""
    return x * w - ((x * ws) >> _S32) * p


# ------------------------------------------------------------------------------- re-randomise


@njit(**JIT)
def sample_ternary(stream: NDArray[np.uint8], out: I64) -> bool:
    """Draw uniform ternary coefficients from bytes, rejecting 255; False if they run out."""
    j = 0
    for byte in stream:
        if j < out.size and byte < 255:
            out[j] = np.int64(byte % 3) - 1
            j += 1
    return j == out.size


@njit(**JIT)
def sample_error(stream: U64, out: I64) -> None:
    """Draw errors as SEAL does: the difference of the weights of 21 and 21 random bits."""
    mask = uint64((1 << 21) - 1)
    for i in range(out.size):
        total = np.int64(0)
        for side in range(2):
            x = (stream[i] >> uint64(21 * side)) & mask
            x = x - ((x >> uint64(1)) & uint64(0x555555))
            x = (x & uint64(0x333333)) + ((x >> uint64(2)) & uint64(0x333333))
            x = (x + (x >> uint64(4))) & uint64(0x0F0F0F)
            weight = np.int64((x * uint64(0x010101) >> uint64(16)) & uint64(0xFF))
            total += weight if side == 0 else -weight
        out[i] = total


@njit(**JIT)
def _lift(values: I64, p: np.uint64, out: U32) -> None:
    for i in range(values.size):
        v = values[i]
        out[i] = uint32(v + np.int64(p) if v < 0 else v)


@njit(**JIT)
def hide_sum(
    acc0: U32,
    acc1: U32,
    index: I64,
    u: I64,
    e: I64,
    flood: U64,
    stride: int,
    constants: U64,
    public: U32,
    forward: U32,
    c0: U32,
    c1: U32,
) -> None:
    """Re-randomise and flood one sum.

    Parameters
    ----------
    acc0, acc1 : ndarray of uint32, shape (L, 16 B)
        The accumulated c0 and c1 of a row, lane layout.
    index : ndarray of int64, shape (N,)
        Where in the lane layout the mask's values stand.
    u, e : ndarray of int64, shape (N,)
        Fresh ternary and error polynomials.
    flood : ndarray of uint64, shape (N / B, 2)
        Low and high words of ``flood + 2^flood_bits``.
    stride : int
        B, the distance of kept coefficients.
    constants : ndarray of uint64, shape (L, 6)
        p; ``2^64``; ``-2^flood_bits``; the scale of the masks (``1 / B`` or 1); the final factor
        (P or 1) and its Shoup quotient; all modulo p.
    public : ndarray of uint32, shape (2, L, 2, N)
        Public key and Shoup quotients.
    forward : ndarray of uint32, shape (L + 1, 2, N)
        Twiddles.
    c0, c1 : ndarray of uint32, shapes (L + 1, N) and (L, N)
        Receive the hidden sum; c0 is multiplied by the final factor, its last row is zero.
    """
    n = index.size
    coefficients = np.empty(n, np.uint32)
    masked = np.empty(n, np.uint32)
    added = np.empty(n, np.uint32)
    for i in range(c1.shape[0]):
        p = constants[i, 0]
        factor = constants[i, 4]
        factor_s = constants[i, 5]
        w = forward[i, 0]
        ws = forward[i, 1]
        _lift(u, p, coefficients)
        forward_ntt(masked, coefficients, w, ws, p)
        coefficients[:] = uint32(0)
        for k in range(flood.shape[0]):
            f = (flood[k, 1] % p) * constants[i, 1] + flood[k, 0] % p + constants[i, 2]
            coefficients[k * stride] = uint32(f % p * constants[i, 3] % p)
        forward_ntt(added, coefficients, w, ws, p)
        row = c0[i]
        source = acc0[i]
        key = public[0, i, 0]
        key_s = public[0, i, 1]
        for j in range(n):
            t = _shoup_product(uint64(masked[j]), uint64(key[j]), uint64(key_s[j]), p)
            x = uint64(source[index[j]]) + uint64(added[j]) + p + p - t
            x = min(x, x - p - p)
            x = min(x, x - p)
            x = _shoup_product(x, factor, factor_s, p)
            row[j] = uint32(min(x, x - p))
        _lift(e, p, coefficients)
        forward_ntt(added, coefficients, w, ws, p)
        row = c1[i]
        source = acc1[i]
        key = public[1, i, 0]
        key_s = public[1, i, 1]
        for j in range(n):
            t = _shoup_product(uint64(masked[j]), uint64(key[j]), uint64(key_s[j]), p)
            x = uint64(source[index[j]]) + uint64(added[j]) + p + p - t
            x = min(x, x - p - p)
            row[j] = uint32(min(x, x - p))
    c0[c0.shape[0] - 1] = uint32(0)


# ---------------------------------------------------------------------------------------- pack


@njit(**JIT)
def _sum_and_difference(a: U32, b: U32, has_b: bool, shift: U32, p: np.uint64, t: U32) -> None:
    """Set ``t = a - X^h b`` and ``a = a + X^h b``; without b, ``t = a``."""
    if not has_b:
        t[:] = a
        return
    w = shift[0]
    ws = shift[1]
    for i in range(a.size):
        v = _shoup_product(uint64(b[i]), uint64(w[i]), uint64(ws[i]), p)
        v = min(v, v - p)
        x = uint64(a[i])
        s = x + v
        d = x - v
        a[i] = uint32(min(s, s - p))
        t[i] = uint32(min(d, d + p))


@njit(**JIT)
def _add_products(acc: U64, digit: U32, key: U32, p: np.uint64) -> None:
    w = key[0]
    ws = key[1]
    for i in range(digit.size):
        acc[i] += _shoup_product(uint64(digit[i]), uint64(w[i]), uint64(ws[i]), p)


@njit(**JIT)
def _reduce16(x: np.uint64, p: np.uint64) -> np.uint64:
    """Reduce a value below 16p."""
    p2 = p + p
    p4 = p2 + p2
    p8 = p4 + p4
    x = min(x, x - p8)
    x = min(x, x - p4)
    x = min(x, x - p2)
    return min(x, x - p)


@njit(**JIT)
def merge(
    a0: U32,
    a1: U32,
    b0: U32,
    b1: U32,
    has_b: bool,
    shift: U32,
    permutation: I64,
    keys: U32,
    primes: U64,
    forward: U32,
    inverse: U32,
    n_inv: U64,
    special_inv: U64,
) -> None:
    """Merge B into A: ``A + X^h B + s(A - X^h B)``, with the key switched back.

    Parameters
    ----------
    a0, a1, b0, b1 : ndarray of uint32, shapes (L + 1, N) and (L, N)
        The two nodes; A receives the result.  B is ignored unless ``has_b``.
    shift : ndarray of uint32, shape (L + 1, 2, N)
        ``X^h`` at the points, with Shoup quotients.
    permutation : ndarray of int64, shape (N,)
        Gather index of the automorphism.
    keys : ndarray of uint32, shape (L, 2, L + 1, 2, N)
        Key-switching key of the automorphism, with Shoup quotients.
    primes : ndarray of uint64, shape (L + 1,)
        Data primes and the special prime.
    forward, inverse, n_inv : ndarray
        Tables of all L + 1 primes.
    special_inv : ndarray of uint64, shape (L, 2)
        ``1 / P`` modulo the data primes, with Shoup quotients.
    """
    levels = a1.shape[0]
    n = a1.shape[1]
    t = np.empty(n, np.uint32)
    turned = np.empty(n, np.uint32)
    digit = np.empty(n, np.uint32)
    other = np.empty(n, np.uint32)
    scratch = np.empty(n, np.uint32)
    acc = np.zeros((2, levels + 1, n), np.uint64)
    special = primes[levels]
    for j in range(levels + 1):
        _sum_and_difference(a0[j], b0[j], has_b, shift[j], primes[j], t)
        row = acc[0, j]
        for i in range(n):
            row[i] = uint64(t[permutation[i]])
    for k in range(levels):
        _sum_and_difference(a1[k], b1[k], has_b, shift[k], primes[k], t)
        for i in range(n):
            turned[i] = t[permutation[i]]
        other[:] = turned
        inverse_ntt(digit, other, inverse[k, 0], inverse[k, 1], primes[k], n_inv[k], scratch)
        for j in range(levels + 1):
            p = primes[j]
            if j == k:
                _add_products(acc[0, j], turned, keys[k, 0, j], p)
                _add_products(acc[1, j], turned, keys[k, 1, j], p)
                continue
            if j < levels:
                for i in range(n):
                    x = uint64(digit[i])
                    t[i] = uint32(min(x, x - p))
            else:
                reciprocal = 1.0 / np.float64(p)
                for i in range(n):
                    x = uint64(digit[i])
                    x = x - uint64(np.float64(x) * reciprocal) * p
                    x = min(x, x + p)
                    t[i] = uint32(min(x, x - p))
            forward_ntt(other, t, forward[j, 0], forward[j, 1], p)
            _add_products(acc[0, j], other, keys[k, 0, j], p)
            _add_products(acc[1, j], other, keys[k, 1, j], p)
    for j in range(levels + 1):
        p = primes[j]
        row = acc[0, j]
        target = a0[j]
        for i in range(n):
            target[i] = uint32(_reduce16(row[i] + uint64(target[i]), p))
    # c1: divide by P with rounding, that is, subtract the centred remainder modulo P.
    row = acc[1, levels]
    for i in range(n):
        t[i] = uint32(_reduce16(row[i], special))
    inverse_ntt(digit, t, inverse[levels, 0], inverse[levels, 1], special, n_inv[levels], scratch)
    half = special >> uint64(1)
    for j in range(levels):
        p = primes[j]
        for i in range(n):
            x = uint64(digit[i])
            t[i] = uint32(x if x <= half else x + p - special)
        forward_ntt(other, t, forward[j, 0], forward[j, 1], p)
        row = acc[1, j]
        target = a1[j]
        for i in range(n):
            v = _reduce16(row[i], p) + p - uint64(other[i])
            v = min(v, v - p)
            v = _shoup_product(v, special_inv[j, 0], special_inv[j, 1], p)
            v = min(v, v - p) + uint64(target[i])
            target[i] = uint32(min(v, v - p))


def _read_public_key(public_keys: SumPublicKeys, tables: RingTables) -> U32:
    """Give the public key (2, L, N), transformed."""
    profile, data = public_keys.profile, public_keys.public_key
    if len(data) != SEED_BYTES + 8 * profile.ciphertext_words:
        raise KeyMaterialError(
            "the public key has the wrong length.", fix="let both sides use the same profile"
        )
    words = np.frombuffer(data, "<u8").astype(np.uint64)
    seed, packed = words[: SEED_BYTES // 8], words[SEED_BYTES // 8 :]
    primes = tables.primes[: profile.primes]
    if count_out_of_range(packed, PRIME_BITS, primes, profile.degree):
        raise KeyMaterialError("a residue of the public key is not below its prime.")
    flat = np.empty(profile.primes * profile.degree, np.uint64)
    unpack_bits(packed, PRIME_BITS, flat)
    parts = np.empty((2, profile.primes, profile.degree), np.uint32)
    parts[0] = flat.reshape(parts.shape[1:])
    uniform_polynomial(seed, primes, flat, parts[1])
    return np.stack([tables.transform(part) for part in parts])


def with_quotients(values: U32, primes: tuple[int, ...]) -> U32:
    """Add Shoup quotients: (..., K, N) becomes (..., K, 2, N)."""
    quotients = np.stack([shoup(values[..., i, :], p) for i, p in enumerate(primes)], axis=-2)
    return np.ascontiguousarray(np.stack([values, quotients], axis=-2))


@dataclass(frozen=True, eq=False)
class PackingKeys:
    """A label holder's public keys in the form that the kernels read.

    Attributes
    ----------
    tables : RingTables
        Tables of the data primes and the special prime.
    constants : ndarray of uint64, shape (L, 6)
        See :func:`hide_sum`.
    public : ndarray of uint32, shape (2, L, 2, N)
        Public key.
    shifts : ndarray of uint32, shape (steps, L + 1, 2, N)
        ``X^h`` of every step.
    permutations : ndarray of int64, shape (steps, N)
        Automorphism of every step.
    keys : ndarray of uint32, shape (steps, L, 2, L + 1, 2, N)
        Key-switching keys of every step.
    special_inv : ndarray of uint64, shape (L, 2)
        ``1 / P``.
    """

    tables: RingTables
    constants: U64
    public: U32
    shifts: U32
    permutations: I64
    keys: U32
    special_inv: U64

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, public_keys: SumPublicKeys) -> PackingKeys:
        """Read the keys (once; the last few are kept).

        Raises
        ------
        KeyMaterialError
            If a key cannot be read or is missing.
        """
        profile = public_keys.profile
        context = profile.context
        primes = context.primes
        data, special = primes[:-1], primes[-1]
        tables = RingTables.of(profile.degree, primes)
        order = tables.seal_order()
        public = _read_public_key(public_keys, tables)
        steps, n = len(profile.galois_elements), profile.degree
        shifts = np.zeros((steps, len(primes), n), np.uint32)
        permutations = np.zeros((steps, n), np.int64)
        keys = np.zeros((steps, len(data), 2, len(primes), n), np.uint32)
        if profile.packed_answers:
            raw = context.load_galois_keys(public_keys.galois_keys, profile.galois_elements)
            keys = raw[..., order].astype(np.uint32)
            for i, element in enumerate(profile.galois_elements):
                permutations[i] = tables.automorphism(element)
                power = tables.exponents * (profile.block >> (i + 1)) % (2 * n)
                shifts[i] = tables.powers[:, power].astype(np.uint32)
        scale = 1 << profile.pack_steps
        factor = special if profile.packed_answers else 1
        constants = [
            [
                p,
                (1 << 64) % p,
                -(1 << profile.flood_bits) % p,
                pow(scale, -1, p),
                factor % p,
                ((factor % p) << 32) // p,
            ]
            for p in data
        ]
        special_inv = [pow(special, -1, p) for p in data]
        return cls(
            tables=tables,
            constants=np.array(constants, np.uint64),
            public=with_quotients(public, data),
            shifts=with_quotients(shifts, primes),
            permutations=permutations,
            keys=with_quotients(keys, primes),
            special_inv=np.array(
                [[v, (v << 32) // p] for v, p in zip(special_inv, data, strict=True)], np.uint64
            ),
        )

    def merge(self, a: Node, b: Node | None, step: int) -> Node:
        """Merge two nodes at a step; without ``b``, fold ``a`` alone. ``a`` is overwritten."""
        other = a if b is None else b
        merge(
            a[0],
            a[1],
            other[0],
            other[1],
            b is not None,
            self.shifts[step],
            self.permutations[step],
            self.keys[step],
            self.tables.primes,
            self.tables.forward,
            self.tables.inverse,
            self.tables.n_inv,
            self.special_inv,
        )
        return a
