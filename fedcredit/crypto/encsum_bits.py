"""Numbers on the wire of the encrypted sums: bit packing and the switch of the modulus."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from fedcredit.crypto.ntt import JIT

__all__ = [
    "bit_reversed",
    "count_out_of_range",
    "crt_factors",
    "pack_bits",
    "raise_modulus",
    "switch_modulus",
    "unpack_bits",
]

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


@njit(**JIT)
def pack_bits(values: U64, width: int, out: U64) -> None:
    """Write ``values``, each below ``2^width``, one after another into 64-bit words.

    Parameters
    ----------
    values : ndarray of uint64, shape (n,)
        The values; n width must be a multiple of 64 or ``out`` is padded with zeros.
    width : int
        1 to 63 bits.
    out : ndarray of uint64, shape (ceil(n width / 64),)
        Receives the words.
    """
    out[:] = uint64(0)
    for i in range(values.size):
        at = i * width
        word = at >> 6
        shift = uint64(at & 63)
        out[word] |= values[i] << shift
        if (at & 63) + width > 64:
            out[word + 1] |= values[i] >> (uint64(64) - shift)


@njit(**JIT)
def unpack_bits(words: U64, width: int, out: U64) -> None:
    """Undo :func:`pack_bits`: read ``out.size`` values of ``width`` bits."""
    mask = (uint64(1) << uint64(width)) - uint64(1)
    for i in range(out.size):
        at = i * width
        word = at >> 6
        shift = uint64(at & 63)
        x = words[word] >> shift
        if (at & 63) + width > 64:
            x |= words[word + 1] << (uint64(64) - shift)
        out[i] = x & mask


@njit(**JIT)
def count_out_of_range(words: U64, width: int, primes: U64, degree: int) -> int:
    """Count the residues of a packed polynomial (L, N) that are not below their prime."""
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
            bad += int((x & mask) >= p)
            i += 1
    return bad


@njit(**JIT)
def switch_modulus(residues: U32, primes: U64, crt: U64, bits: int, out: U64) -> None:
    """Scale residues (K, n) modulo the product M of K primes to ``round(2^bits x / M)``.

    ``x / M`` is the sum of the fractions ``(x_k crt_k mod p_k) / p_k`` modulo 1, taken to 64 bits;
    the truncations, whose mean ``K / 2`` is made good, move a rounding by one at most once in
    ``2^(60 - bits)`` values and then by no more than ``K 2^(bits - 65)`` beyond it.
    """
    half = (uint64(1) << uint64(63 - bits)) + uint64(primes.size // 2)
    for i in range(out.size):
        total = half
        for k in range(primes.size):
            p = primes[k]
            y = (uint64(residues[k, i]) * crt[k] % p) << uint64(32)
            high = y // p
            low = ((y - high * p) << uint64(32)) // p
            total += (high << uint64(32)) + low
        out[i] = total >> uint64(64 - bits)


@njit(**JIT)
def raise_modulus(
    values: U64, bits: int, modulus_low: np.uint64, inverse: U64, primes: U64, out: U64
) -> None:
    """Scale values modulo ``2^bits`` back to Q: ``round(Q v / 2^bits)`` as residues (L, n).

    With r the remainder of ``Q v + 2^(bits - 1)`` modulo ``2^bits`` the rounded quotient is
    ``(2^(bits - 1) - r) / 2^bits`` modulo every prime of Q, since these divide ``Q v``.
    """
    mask = (uint64(1) << uint64(bits)) - uint64(1)
    half = uint64(1) << uint64(bits - 1)
    for i in range(values.size):
        r = (values[i] * modulus_low + half) & mask
        for k in range(primes.size):
            p = primes[k]
            out[k, i] = (half % p + p - r % p) % p * inverse[k] % p


def crt_factors(primes: tuple[int, ...]) -> U64:
    """Give ``(M / p)^-1`` modulo every prime p, M being their product."""
    product = 1
    for p in primes:
        product *= p
    return np.array([pow(product // p, -1, p) for p in primes], np.uint64)


def bit_reversed(size: int) -> NDArray[np.int64]:
    """Give the numbers below ``size``, a power of two, each with its bits reversed."""
    bits = size.bit_length() - 1
    numbers = np.arange(size)
    out = np.zeros(size, np.int64)
    for b in range(bits):
        out |= ((numbers >> b) & 1) << (bits - 1 - b)
    return out
