"""Compiled kernels over F_16 vectors that are stored as bit planes.

A vector over F_16 = F_2[α]/(α⁴ + α + 1) with up to ``64·w`` entries is an array ``(4, w)`` of
uint64: bit ``r % 64`` of word ``r // 64`` of plane ``b`` is bit ``b`` of entry ``r``. Addition is
XOR, and multiplication by α only renames planes and adds one, so that 64 entries are handled per
instruction and no table is needed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["fold_leaves", "gf16_multiply", "pick_bits", "planes_to_rows"]

_TILE: Final = 256
_LINE: Final = 8


def gf16_multiply(left: int, right: int) -> int:
    """Multiply two elements of F_16 = F_2[α]/(α⁴ + α + 1).

    Parameters
    ----------
    left, right : int
        0 to 15; bit ``b`` is the coefficient of α^b.

    Returns
    -------
    int
        0 to 15.
    """
    product = 0
    for bit in range(4):
        product ^= (left << bit) * (right >> bit & 1)
    for bit in (6, 5, 4):
        product ^= (0b10011 << (bit - 4)) * (product >> bit & 1)
    return product


@njit(cache=True, nogil=True)
def fold_leaves(
    leaves: NDArray[np.uint64],
    addend: NDArray[np.uint64],
    masks: NDArray[np.uint64],
    total: NDArray[np.uint64],
    value: NDArray[np.uint64],
) -> None:
    """Fold the 16 leaf vectors of one column into its two sums over F_16.

    With leaf vectors ``G_x`` and the scalar ``δ`` of ``masks``::

        total = Σ_x G_x + addend
        value = Σ_x x·G_x + δ·total

    Parameters
    ----------
    leaves : ndarray of uint64, shape (16, 4, w)
        The leaf vectors as planes.
    addend : ndarray of uint64, shape (4, w)
        The vector that is added to the plain sum.
    masks : ndarray of uint64, shape (4,)
        Bit ``b`` of δ, spread over a word: 0 or 2**64 − 1.
    total, value : ndarray of uint64, shape (4, w)
        Where the results go.
    """
    width = leaves.shape[2]
    s = np.empty((4, 4, _TILE), np.uint64)
    m0, m1, m2, m3 = masks[0], masks[1], masks[2], masks[3]
    for start in range(0, width, _TILE):
        size = min(_TILE, width - start)
        for p in range(4):
            for i in range(size):
                k = start + i
                # Pairwise sums; the odd halves of each round add up to one bit of x.
                o0, o1 = leaves[1, p, k], leaves[3, p, k]
                o2, o3 = leaves[5, p, k], leaves[7, p, k]
                o4, o5 = leaves[9, p, k], leaves[11, p, k]
                o6, o7 = leaves[13, p, k], leaves[15, p, k]
                a0, a1 = leaves[0, p, k] ^ o0, leaves[2, p, k] ^ o1
                a2, a3 = leaves[4, p, k] ^ o2, leaves[6, p, k] ^ o3
                a4, a5 = leaves[8, p, k] ^ o4, leaves[10, p, k] ^ o5
                a6, a7 = leaves[12, p, k] ^ o6, leaves[14, p, k] ^ o7
                b0, b1, b2, b3 = a0 ^ a1, a2 ^ a3, a4 ^ a5, a6 ^ a7
                c1 = b2 ^ b3
                t = b0 ^ b1 ^ c1 ^ addend[p, k]
                total[p, k] = t
                s[0, p, i] = o0 ^ o1 ^ o2 ^ o3 ^ o4 ^ o5 ^ o6 ^ o7 ^ (t & m0)
                s[1, p, i] = a1 ^ a3 ^ a5 ^ a7 ^ (t & m1)
                s[2, p, i] = b1 ^ b3 ^ (t & m2)
                s[3, p, i] = c1 ^ (t & m3)
        # value = s0 + α·s1 + α²·s2 + α³·s3, with α·(p0, p1, p2, p3) = (p3, p0 + p3, p1, p2).
        for i in range(size):
            k = start + i
            s23 = s[2, 2, i] ^ s[3, 1, i]
            s33 = s[2, 3, i] ^ s[3, 2, i]
            value[0, k] = s[0, 0, i] ^ s[1, 3, i] ^ s23
            value[1, k] = s[0, 1, i] ^ s[1, 0, i] ^ s[1, 3, i] ^ s23 ^ s33
            value[2, k] = s[0, 2, i] ^ s[1, 1, i] ^ s[2, 0, i] ^ s33 ^ s[3, 3, i]
            value[3, k] = s[0, 3, i] ^ s[1, 2, i] ^ s[2, 1, i] ^ s[3, 0, i] ^ s[3, 3, i]


@njit(cache=True, nogil=True)
def planes_to_rows(planes: NDArray[np.uint64], words: int) -> NDArray[np.uint64]:
    """Transpose 128 bit planes into rows of 128 bits.

    Parameters
    ----------
    planes : ndarray of uint64, shape (128, w)
        Bit ``r % 64`` of word ``r // 64`` of plane ``b`` becomes bit ``b`` of row ``r``.
    words : int
        How many words of each plane are used, at most ``w``.

    Returns
    -------
    ndarray of uint64, shape (64·words, 2)
    """
    rows = np.empty((64 * words, 2), np.uint64)
    # Eight words of every plane at a time: that is one cache line of each.
    tile = np.empty((_LINE, 64), np.uint64)
    for first in range(0, words, _LINE):
        count = min(_LINE, words - first)
        for half in range(2):
            for b in range(64):
                for i in range(count):
                    tile[i, b] = planes[64 * half + b, first + i]
            for i in range(count):
                # Transposition of a 64 × 64 bit matrix by swapping ever smaller blocks
                # (Warren, "Hacker's Delight", section 7-3).
                j = 32
                mask = np.uint64(0x00000000FFFFFFFF)
                while j > 0:
                    shift = np.uint64(j)
                    for base in range(0, 64, 2 * j):
                        for b in range(base, base + j):
                            swap = ((tile[i, b] >> shift) ^ tile[i, b + j]) & mask
                            tile[i, b + j] ^= swap
                            tile[i, b] ^= swap << shift
                    j //= 2
                    mask ^= mask << np.uint64(j)
                for r in range(64):
                    rows[64 * (first + i) + r, half] = tile[i, r]
    return rows


@njit(cache=True, nogil=True)
def pick_bits(
    choices: NDArray[np.uint8],
    own: NDArray[np.uint8],
    position: NDArray[np.int64],
    pads: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Take one bit per row from the pad that the row chose.

    Parameters
    ----------
    choices : ndarray of uint8, shape (n,)
        Which slot each row chose, 0 to 15.
    own : ndarray of uint8, shape (>= n/8,)
        The key bit of every row, packed, least significant bit first.
    position : ndarray of int64, shape (16,)
        Where the pad of a slot is in ``pads``; −1 if there is none.
    pads : ndarray of uint8, shape (slots, >= n/8)
        The masked bits of every slot, packed the same way.

    Returns
    -------
    ndarray of uint8, shape (n,)
        0 or 1; 0 for a row whose slot has no pad.
    """
    n = len(choices)
    out = np.zeros(n, np.uint8)
    for i in range(n):
        k = position[choices[i]]
        if k >= 0:
            out[i] = ((pads[k, i >> 3] ^ own[i >> 3]) >> (i & 7)) & 1
    return out
