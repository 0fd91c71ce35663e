"""Compiled kernels of the encrypted sums: ciphertexts in, masks, multiply-accumulate.

Layouts
-------
*lane layout* of a polynomial at block size B: ``16 B`` values, position ``j * 16 + lane``; the
sixteen lanes hold ``16 / (N/B)`` masks of ``N/B`` bins side by side, sixteen bins (a *row*) in all.
*interleaved layout* of up to sixteen blocks: ``[j][block][lane]``.

The accumulators hold, per row, prime and ciphertext polynomial, residues below ``p`` in lane
layout.  Products of sixteen blocks are summed in 64 bits (four products of 31-bit factors fit),
split into halves ``hi 2^32 + lo`` and reduced once by a Montgomery step (P. Montgomery,
1985), which divides by ``2^32``; the mask tables carry the factor ``2^32`` in advance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, uint32
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fedcredit.crypto.blake2x import uniform_polynomial
from fedcredit.crypto.encsum_bits import unpack_bits
from fedcredit.crypto.lanes import JIT, LANES, array_data, load_vector, splat, store_vector
from fedcredit.crypto.ntt import forward_ntt, tail_stages

__all__ = [
    "BLOCKS_PER_CHUNK",
    "accumulate_rows",
    "copy_lanes",
    "multiply_accumulate",
    "prepare_ciphertext",
]

BLOCKS_PER_CHUNK = 16
"""Blocks whose products are summed before one reduction."""

EMPTY = 16
"""Row of a mask table for a sample that is in no bin of the row."""

CACHE_OFF, CACHE_FILL, CACHE_USE = 0, 1, 2

_TILE = 8
_ROW_GROUP = 4
_FEW_POLYNOMIALS = 4
_SPAN = BLOCKS_PER_CHUNK * LANES

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_I64 = ir.IntType(64)
_V32 = ir.VectorType(ir.IntType(32), LANES)
_V64 = ir.VectorType(_I64, LANES // 2)


@intrinsic
def copy_lanes(typing: Any, source: Any, i: Any, target: Any, k: Any):  # type: ignore[no-untyped-def]
    """Copy sixteen lanes."""
    signature = types.void(source, types.int64, target, types.int64)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        s = array_data(context, b, sig.args[0], args[0])
        t = array_data(context, b, sig.args[2], args[2])
        store_vector(b, load_vector(b, s, args[1], _V32, 4), t, args[3], 4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _add_lanes(typing: Any, source: Any, i: Any, target: Any, k: Any, p: Any):  # type: ignore[no-untyped-def]
    """Add sixteen lanes onto others modulo p."""
    signature = types.void(source, types.int64, target, types.int64, types.uint64)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        s = array_data(context, b, sig.args[0], args[0])
        t = array_data(context, b, sig.args[2], args[2])
        p_ = splat(b, b.trunc(args[4], _V32.element), _V32)
        total = b.add(load_vector(b, s, args[1], _V32, 4), load_vector(b, t, args[3], _V32, 4))
        under = b.sub(total, p_)
        store_vector(b, b.select(b.icmp_unsigned("<", total, under), total, under), t, args[3], 4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _open_four(  # type: ignore[no-untyped-def]
    typing: Any, tables: Any, k0: Any, k1: Any, k2: Any, k3: Any, a: Any, i: Any, step: Any, p: Any
):
    """Run the first two tail stages of four one-hot rows by table look-ups and sums.

    Rows ``i``, ``i + step``, ... hold x0..x3; with the twiddles w, w1 and w2 of the two stages they
    become ``(x0 + w x2) +- (w1 x1 + w1 w x3)`` and ``(x0 - w x2) +- (w2 x1 - w2 w x3)``.  The six
    tables hold the monomials times 1, w, w1, w1 w, w2 and w2 w.
    """
    i64 = types.int64
    signature = types.void(tables, i64, i64, i64, i64, a, i64, i64, types.uint64)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        tables_, at0, at1, at2, at3, target, first, distance, prime = args
        source = array_data(context, b, sig.args[0], tables_)
        data = array_data(context, b, sig.args[5], target)
        p_ = splat(b, b.trunc(prime, _V32.element), _V32)

        def entry(table: int, at: Any) -> Any:
            offset = ir.Constant(_I64, table * (EMPTY + 1) * LANES)
            return load_vector(b, source, b.add(at, offset), _V32, 4)

        def lower(x: Any, y: Any) -> Any:
            return b.select(b.icmp_unsigned("<", x, y), x, y)

        def plus(x: Any, y: Any) -> Any:
            total = b.add(x, y)
            return lower(total, b.sub(total, p_))

        def minus(x: Any, y: Any) -> Any:
            difference = b.sub(x, y)
            return lower(difference, b.add(difference, p_))

        x0, wx2 = entry(0, at0), entry(1, at2)
        upper = plus(entry(2, at1), entry(3, at3))
        under = minus(entry(4, at1), entry(5, at3))
        even, odd = plus(x0, wx2), minus(x0, wx2)
        results = plus(even, upper), minus(even, upper), plus(odd, under), minus(odd, under)
        for value in results:
            store_vector(b, value, data, first, 4)
            first = b.add(first, distance)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def multiply_accumulate(  # type: ignore[no-untyped-def]
    typing: Any, masks: Any, i: Any, cipher: Any, k: Any, acc: Any, a: Any, p: Any, pinv: Any
):
    """Add sixteen blocks' products, divided by 2^32, onto sixteen lanes of an accumulator.

    Even and odd lanes are the lower and upper halves of 64-bit words.  ``p = 2^31 - delta`` with
    ``delta < 2^25``; ``pinv`` is ``1 / p`` modulo ``2^32``.
    """
    i64, u64 = types.int64, types.uint64
    signature = types.void(masks, i64, cipher, i64, acc, i64, u64, u64)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        masks_, at_m, cipher_, at_c, acc_, at_a, prime, inverse = args
        m_ptr = array_data(context, b, sig.args[0], masks_)
        c_ptr = array_data(context, b, sig.args[2], cipher_)
        a_ptr = array_data(context, b, sig.args[4], acc_)

        def constant(value: int) -> Any:
            return ir.Constant(_V64, [value] * (LANES // 2))

        low32, s32, s31 = constant(0xFFFFFFFF), constant(32), constant(31)
        low31 = constant(0x7FFFFFFF)
        # The masks tell LLVM that 32-bit factors suffice.
        p_, pinv_ = (b.and_(splat(b, x, _V64), low32) for x in (prime, inverse))
        delta = b.and_(b.sub(constant(1 << 31), p_), low32)

        def even(x: Any) -> Any:
            return b.and_(x, low32)

        def odd(x: Any) -> Any:
            return b.lshr(x, s32)

        sums: list[list[Any]] = [[], []]
        for group in range(4):
            partial: list[Any] = [None, None]
            for block in range(4 * group, 4 * group + 4):
                offset = ir.Constant(_I64, block * LANES)
                m = load_vector(b, m_ptr, b.add(at_m, offset), _V64, 4)
                c = load_vector(b, c_ptr, b.add(at_c, offset), _V64, 4)
                for side, half in enumerate((even, odd)):
                    product = b.mul(half(m), half(c))
                    partial[side] = (
                        product if partial[side] is None else b.add(partial[side], product)
                    )
            for side in range(2):
                sums[side].append(partial[side])

        old = load_vector(b, a_ptr, at_a, _V64, 4)
        reduced = []
        for side, half in enumerate((even, odd)):
            low = high = None
            for s in sums[side]:
                lo, hi = even(s), odd(s)
                low = lo if low is None else b.add(low, lo)
                high = hi if high is None else b.add(high, hi)
            quotient = even(b.mul(even(low), pinv_))
            carry = b.sub(odd(low), odd(b.mul(quotient, p_)))
            total = b.add(b.add(b.add(high, carry), p_), half(old))  # below 2^35
            folds = b.and_(b.lshr(total, s31), low32)
            total = b.add(b.mul(folds, delta), b.and_(total, low31))
            reduced.append(total)
        joined = b.bitcast(b.or_(reduced[0], b.shl(reduced[1], s32)), _V32)
        p32 = splat(b, b.trunc(prime, _V32.element), _V32)
        under = b.sub(joined, p32)
        result = b.select(b.icmp_unsigned("<", joined, under), joined, under)
        store_vector(b, result, a_ptr, at_a, 4)
        return context.get_dummy_value()

    return signature, generate


@njit(**JIT)
def prepare_ciphertext(
    seed: U64, c0: U64, primes: U64, forward: U32, lanes: I64, block: int, vector: int, out: U32
) -> int:
    """Expand, transform and interleave one received ciphertext.

    Parameters
    ----------
    seed : ndarray of uint64, shape (8,)
        Seed of c1.
    c0 : ndarray of uint64, shape (31 L N / 64,)
        Packed residues of c0.
    primes : ndarray of uint64, shape (L,)
        The data primes.
    forward : ndarray of uint32, shape (L or more, 2, N)
        Twiddles.
    lanes : ndarray of int64, shape (16 B,)
        Position in the transformed polynomial for every position of the lane layout.
    block : int
        Number of the block within the chunk.
    vector : int
        Number of the vector.
    out : ndarray of uint32, shape (L, 2 V, 256 B)
        Receives c0 and c1 at ``2 * vector`` and ``2 * vector + 1``, interleaved.

    Returns
    -------
    int
        How many residues of c0 are not below their prime; 0 is right.
    """
    n = forward.shape[2]
    stream = np.empty(primes.size * n, np.uint64)
    parts = np.empty((2, primes.size, n), np.uint32)
    unpack_bits(c0, 31, stream)
    bad = 0
    for i in range(primes.size):
        for j in range(n):
            x = stream[i * n + j]
            bad += int(x >= primes[i])
            parts[0, i, j] = uint32(x)
    if bad:
        return bad
    uniform_polynomial(seed, primes, stream, parts[1])
    values = np.empty(n, np.uint32)
    for side in range(2):
        for i in range(primes.size):
            forward_ntt(values, parts[side, i], forward[i, 0], forward[i, 1], primes[i])
            target = out[i, 2 * vector + side]
            for j in range(lanes.size // LANES):
                start = j * _SPAN + block * LANES
                for u in range(LANES):
                    target[start + u] = values[lanes[j * LANES + u]]
    return 0


@njit(**JIT)
def _mask(
    bins: U16, start: int, segments: I64, table: U32, tail: U32, p: np.uint64, a: U32
) -> None:
    """Transform the mask of one block of one row: table look-ups per sample, then the tail.

    ``segments`` (S, 4) are the row's bins: feature, first bin, number of bins, first lane slot.
    Sample j stands in row ``B - 1 - j`` of ``a``.
    """
    block = a.size // LANES
    if segments.shape[0] == 1:
        feature = segments[0, 0]
        first = segments[0, 1]
        count = segments[0, 2]
        shift = segments[0, 3] - first
        row = bins[feature, start : start + block]
        quarter = block // 4
        entry = np.empty(4, np.int64)
        for i in range(quarter):
            for q in range(4):
                k = np.int64(row[block - 1 - i - q * quarter])
                inside = k >= first and k < first + count
                entry[q] = (k + shift if inside else EMPTY) * LANES
            step = quarter * LANES
            _open_four(table, entry[0], entry[1], entry[2], entry[3], a, i * LANES, step, p)
        tail_stages(a, tail[0], tail[1], p, 4)
        return
    for s in range(segments.shape[0]):
        feature = segments[s, 0]
        first = segments[s, 1]
        count = segments[s, 2]
        slot = segments[s, 3]
        for j in range(block):
            k = np.int64(bins[feature, start + j]) - first
            inside = k >= 0 and k < count
            at = (block - 1 - j) * LANES
            if s == 0:
                copy_lanes(table, (k + slot if inside else EMPTY) * LANES, a, at)
            elif inside:
                _add_lanes(table, (k + slot) * LANES, a, at, p)
    tail_stages(a, tail[0], tail[1], p, 1)


@njit(**JIT)
def accumulate_rows(
    bins: U16,
    start: int,
    n_blocks: int,
    segments: I64,
    row_ends: I64,
    row_from: int,
    row_to: int,
    tables: U32,
    tails: U32,
    montgomery: U64,
    cipher: U32,
    acc: U32,
    cache: U32,
    mode: int,
) -> None:
    """Multiply one chunk of ciphertexts with the masks of some rows and add the products up.

    Parameters
    ----------
    bins : ndarray of uint16, shape (F, n)
        Bin of every sample, padded to whole blocks.
    start : int
        First sample of the chunk.
    n_blocks : int
        Blocks in the chunk, at most 16.
    segments, row_ends : ndarray of int64, shapes (S, 4) and (R + 1,)
        The bins that make up every row.
    row_from, row_to : int
        The rows to work on.
    tables : ndarray of uint32, shape (L, 6 * 17 * 16)
        Mask tables, see :func:`_open_four`; the last entry of each is zero.
    tails : ndarray of uint32, shape (L, 2, 16 B)
        Twiddles of the lane layout.
    montgomery : ndarray of uint64, shape (L, 2)
        Primes and their inverses modulo 2^32.
    cipher : ndarray of uint32, shape (L, P, 256 B)
        Interleaved ciphertext polynomials; zero for blocks that are missing.
    acc : ndarray of uint32, shape (R, L, P, 16 B)
        Accumulators, added to.
    cache : ndarray of uint32, shape (R, L, 256 B)
        Interleaved masks of this chunk; one element if ``mode`` is ``CACHE_OFF``.
    mode : int
        ``CACHE_OFF``, ``CACHE_FILL`` or ``CACHE_USE``.
    """
    size = tails.shape[2]
    block = size // LANES
    vectors = cipher.shape[1]
    # Many ciphertext polynomials overflow the cache: let each piece of them serve several rows.
    group = _ROW_GROUP if vectors > _FEW_POLYNOMIALS else 1
    one = np.empty(size, np.uint32)
    own = np.zeros((group, _SPAN * block if mode == CACHE_OFF else 1), np.uint32)
    tile = min(_TILE, block)
    for i in range(tables.shape[0]):
        p = montgomery[i, 0]
        pinv = montgomery[i, 1]
        for lowest in range(row_from, row_to, group):
            highest = min(lowest + group, row_to)
            if mode != CACHE_USE:
                for row in range(lowest, highest):
                    masks = own[row - lowest] if mode == CACHE_OFF else cache[row, i]
                    parts = segments[row_ends[row] : row_ends[row + 1]]
                    for b in range(n_blocks):
                        _mask(bins, start + b * block, parts, tables[i], tails[i], p, one)
                        for j in range(block):
                            copy_lanes(one, j * LANES, masks, j * _SPAN + b * LANES)
            for first in range(0, block, tile):
                for q in range(vectors):
                    polynomial = cipher[i, q]
                    for row in range(lowest, highest):
                        masks = own[row - lowest] if mode == CACHE_OFF else cache[row, i]
                        target = acc[row, i, q]
                        for j in range(first, first + tile):
                            multiply_accumulate(
                                masks, j * _SPAN, polynomial, j * _SPAN, target, j * LANES, p, pinv
                            )
