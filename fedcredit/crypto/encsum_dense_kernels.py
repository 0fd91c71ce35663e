"""Compiled kernels of the inner products with dense weights.

A block of N samples stands in one ciphertext, sample j at ``X^(j - N + 1)``, and its weights in one
polynomial, weight j at ``X^(N - 1 - j)``; the constant coefficient of the product is the inner
product.  Sixteen ciphertexts are interleaved as blocks are in
:mod:`fedcredit.crypto.encsum_kernels`: ``[j][ciphertext][lane]`` with N / 16 rows j, so that the
products of sixteen are summed before one reduction.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from fedcredit.crypto.encsum_kernels import BLOCKS_PER_CHUNK, copy_lanes, multiply_accumulate
from fedcredit.crypto.lanes import JIT, LANES
from fedcredit.crypto.ntt import forward_ntt

__all__ = ["accumulate_columns", "count_unfit", "leave_montgomery"]

_SPAN = BLOCKS_PER_CHUNK * LANES

F64 = NDArray[np.float64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


@njit(**JIT)
def count_unfit(column: F64, table: F64, end: float) -> int:
    """Count the rows where ``rint(column * table)`` is not below ``end`` in magnitude, or NaN."""
    # Halves round to even: only what is below end - 1/2 stays below end, if end is even.
    most = end - 0.5
    bad = 0
    for i in range(column.size):
        bad += int(not abs(column[i] * table[i]) < most)
    return bad


@njit(**JIT)
def _weights(column: F64, table: F64, start: int, out: NDArray[np.int32]) -> None:
    """Set the weights of the block that begins at row ``start``, last row first."""
    n = out.size
    here = min(n, column.size - start)
    for j in range(n - here):
        out[j] = np.int32(0)
    last = start + here - 1
    first = n - here
    for j in range(here):
        out[first + j] = np.int32(np.rint(column[last - j] * table[last - j]))


@njit(**JIT)
def _residues(weights: NDArray[np.int32], p: np.uint32, out: U32) -> None:
    for j in range(out.size):
        w = uint32(weights[j])
        # Magnitudes are far below p, so of w and w + p modulo 2^32 the lower is the residue.
        out[j] = min(w, uint32(w + p))


@njit(**JIT)
def accumulate_columns(
    columns: F64,
    tables: F64,
    first: int,
    count: int,
    from_column: int,
    to_column: int,
    forward: U32,
    montgomery: U64,
    cipher: U32,
    acc: U32,
) -> None:
    """Multiply up to sixteen ciphertexts with the weights of some columns and add the products up.

    Parameters
    ----------
    columns : ndarray of float64, shape (F, n)
        Columns.
    tables : ndarray of float64, shape (V, n)
        Factor of every vector and row; weights are ``rint(columns[f] * tables[v])``.
    first, count : int
        The ciphertexts; that of block b and vector v is number ``b V + v`` of the pass.
    from_column, to_column : int
        The columns to work on.
    forward : ndarray of uint32, shape (L or more, 2, N)
        Twiddles.
    montgomery : ndarray of uint64, shape (L, 2)
        Primes and their inverses modulo 2^32.
    cipher : ndarray of uint32, shape (L, 2, 16 N)
        Transformed c0 and c1, interleaved; zero for those that are missing.
    acc : ndarray of uint32, shape (F, L, 2, N)
        Accumulators, added to; products are divided by 2^32.
    """
    n = forward.shape[2]
    rows = n // LANES
    vectors = tables.shape[0]
    weights = np.empty((BLOCKS_PER_CHUNK, n), np.int32)
    residues = np.empty(n, np.uint32)
    values = np.empty(n, np.uint32)
    masks = np.zeros(_SPAN * rows, np.uint32)
    for column in range(from_column, to_column):
        for slot in range(count):
            block = (first + slot) // vectors
            vector = (first + slot) % vectors
            _weights(columns[column], tables[vector], block * n, weights[slot])
        for i in range(montgomery.shape[0]):
            p = montgomery[i, 0]
            for slot in range(count):
                _residues(weights[slot], uint32(p), residues)
                forward_ntt(values, residues, forward[i, 0], forward[i, 1], p)
                for j in range(rows):
                    copy_lanes(values, j * LANES, masks, j * _SPAN + slot * LANES)
            for side in range(2):
                polynomial = cipher[i, side]
                target = acc[column, i, side]
                for j in range(rows):
                    k = j * _SPAN
                    multiply_accumulate(
                        masks, k, polynomial, k, target, j * LANES, p, montgomery[i, 1]
                    )


@njit(**JIT)
def leave_montgomery(acc: U32, factors: U64, out: U32) -> None:
    """Multiply accumulators (L, 2, N) by the constants ``factors`` (L, 3): p, w and Shoup's w'."""
    for i in range(acc.shape[0]):
        p = factors[i, 0]
        for side in range(acc.shape[1]):
            source = acc[i, side]
            target = out[side, i]
            for j in range(source.size):
                v = uint64(source[j])
                r = v * factors[i, 1] - ((v * factors[i, 2]) >> uint64(32)) * p
                target[j] = uint32(min(r, r - p))
