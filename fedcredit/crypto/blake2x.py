"""Expansion of the seeds of SEAL's ciphertexts: BLAKE2Xb, eight blocks at a time.

SEAL's default generator fills its buffer of 4096 bytes with the keyed extendable-output function
BLAKE2Xb (J.-P. Aumasson, S. Neves, Z. Wilcox-O'Hearn, C. Winnerlein, *BLAKE2X*, 2016; the
compression function is RFC 7693's): buffer c is ``BLAKE2Xb(key=seed, message=c as 8 bytes)``.  A
uniform polynomial takes 8 bytes of the stream per residue and reduces them modulo the prime;
values at the biased upper end are drawn again from the stream behind the polynomial.

A seed is public (it stands for c1, the half of a ciphertext that is uniform), so nothing here
touches a secret.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, uint32, uint64
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fedcredit.crypto.lanes import JIT, array_data, load_vector, splat, store_vector

__all__ = ["expand_seed", "uniform_polynomial"]

U64 = NDArray[np.uint64]

BUFFER_BYTES = 4096
WAYS = 8
MESSAGE_WORDS = 8

_IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))

_I64 = ir.IntType(64)
_V8 = ir.VectorType(_I64, WAYS)


@intrinsic
def _compress(typing: Any, h: Any, m: Any, counter: Any, last: Any):  # type: ignore[no-untyped-def]
    """Compress a message block of at most 64 bytes (the rest zero) into each of eight states.

    ``h`` and ``m`` are (8, 8): word by state.
    """
    signature = types.void(h, m, types.int64, types.int64)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        states, message = (array_data(context, b, sig.args[i], args[i]) for i in range(2))

        def constant(value: int) -> Any:
            return ir.Constant(_V8, [value] * WAYS)

        def row(pointer: Any, i: int) -> Any:
            return load_vector(b, pointer, ir.Constant(_I64, i * WAYS), _V8, 8)

        def rotate(x: Any, bits: int) -> Any:
            return b.or_(b.lshr(x, constant(bits)), b.shl(x, constant(64 - bits)))

        before = [row(states, i) for i in range(8)]
        words = [row(message, i) for i in range(MESSAGE_WORDS)]
        v = before + [constant(x) for x in _IV]
        v[12] = b.xor(v[12], splat(b, args[2], _V8))
        v[14] = b.xor(v[14], splat(b, b.neg(args[3]), _V8))
        for r in range(12):
            sigma = _SIGMA[r % 10]
            for g, (i, j, k, n) in enumerate(_COLUMNS + _DIAGONALS):
                for half, (turn_d, turn_b) in enumerate(((32, 24), (16, 63))):
                    v[i] = b.add(v[i], v[j])
                    word = sigma[2 * g + half]
                    if word < MESSAGE_WORDS:
                        v[i] = b.add(v[i], words[word])
                    v[n] = rotate(b.xor(v[n], v[i]), turn_d)
                    v[k] = b.add(v[k], v[n])
                    v[j] = rotate(b.xor(v[j], v[k]), turn_b)
        for i in range(8):
            after = b.xor(before[i], b.xor(v[i], v[i + 8]))
            store_vector(b, after, states, ir.Constant(_I64, i * WAYS), 8)
        return context.get_dummy_value()

    return signature, generate


@njit(**JIT)
def _block(h: U64, m: U64, counter: int, last: int) -> None:
    """Call the compression once per block, so that its long code exists once."""
    _compress(h, m, counter, last)


# First words of the states: the parameter block is digest length, key length, fanout, depth, leaf
# length; node offset and output length; node depth and inner length.
_ROOT = np.array(_IV, np.uint64)
_ROOT[:2] ^= np.array([64 | 64 << 8 | 1 << 16 | 1 << 24, BUFFER_BYTES << 32], np.uint64)
_LEAF = np.array(_IV, np.uint64)
_LEAF[:3] ^= np.array([64 | 64 << 32, BUFFER_BYTES << 32, 64 << 8], np.uint64)


@njit(**JIT)
def expand_seed(seed: U64, first: int, out: U64) -> None:
    """Write SEAL's stream of a seed.

    Parameters
    ----------
    seed : ndarray of uint64, shape (8,)
        The seed, little-endian words.
    first : int
        Number of the first buffer (512 words each).
    out : ndarray of uint64, shape (512 * buffers,)
        Receives the stream.
    """
    buffers = out.size // 512
    h = np.empty((8, WAYS), np.uint64)
    roots = np.empty((8, WAYS), np.uint64)
    m = np.empty((8, WAYS), np.uint64)
    for base in range(0, buffers, WAYS):
        for i in range(8):
            for k in range(WAYS):
                roots[i, k] = _ROOT[i]
                m[i, k] = seed[i]
        _block(roots, m, 128, 0)
        m[:] = uint64(0)
        for k in range(WAYS):
            m[0, k] = uint64(first + base + k)
        _block(roots, m, 136, 1)
        for j in range(min(WAYS, buffers - base)):
            for i in range(8):
                for k in range(WAYS):
                    m[i, k] = roots[i, j]
            for block in range(0, BUFFER_BYTES // 64, WAYS):
                for i in range(8):
                    for k in range(WAYS):
                        h[i, k] = _LEAF[i]
                for k in range(WAYS):
                    h[1, k] ^= uint64(block + k)
                _block(h, m, 64, 1)
                start = (base + j) * 512 + block * 8
                for k in range(WAYS):
                    for i in range(8):
                        out[start + k * 8 + i] = h[i, k]


@njit(**JIT)
def uniform_polynomial(seed: U64, primes: U64, stream: U64, out: NDArray[np.uint32]) -> None:
    """Expand a seed into the uniform polynomial that SEAL makes of it.

    Parameters
    ----------
    seed : ndarray of uint64, shape (8,)
        The seed.
    primes : ndarray of uint64, shape (L,)
        The moduli, each ``2^31 - delta`` with ``delta < 2^21``.
    stream : ndarray of uint64, shape (L * N,)
        Working space; L N must be a multiple of 512.
    out : ndarray of uint32, shape (L, N)
        Receives the residues.
    """
    n = out.shape[1]
    expand_seed(seed, 0, stream)
    low = uint64((1 << 31) - 1)
    s31 = uint64(31)
    drawn = 0
    for i in range(primes.size):
        p = primes[i]
        delta = low + uint64(1) - p
        limit = ~uint64(0) - ~uint64(0) % p - uint64(1)
        biased = 0
        row = stream[i * n : (i + 1) * n]
        for j in range(n):
            x = row[j]
            biased += int(x >= limit)
            # 2^31 = delta modulo p; every fold takes at least 9 bits off.
            x = (x >> uint64(32)) * (delta + delta) + (x & uint64(0xFFFFFFFF))
            x = (x >> s31) * delta + (x & low)
            x = (x >> s31) * delta + (x & low)
            x = (x >> s31) * delta + (x & low)
            out[i, j] = uint32(min(x, x - p))
        if biased:
            # Once in 2^33 residues: these are drawn on from the stream behind the polynomial.
            for j in range(n):
                x = row[j]
                if x >= limit:
                    while x >= limit:
                        extra = np.empty(512, np.uint64)
                        expand_seed(seed, stream.size // 512 + drawn // 512, extra)
                        x = extra[drawn % 512]
                        drawn += 1
                    out[i, j] = uint32(x % p)
