"""Two integers in one plaintext value: ``g + h 2^s``, the low digit signed.

Sums of such values are sums of both digits as long as neither overflows, which the label holder
checks before anything is encrypted (it knows every g and h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import InputError

__all__ = ["PairFit", "decode_pair", "encode_pair", "fit_pair"]

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class PairFit:
    """How g and h fit into one value.

    Attributes
    ----------
    split_bits : int
        Where h starts.
    halvings : int
        How many times both must be halved (in scale) first; 0 if they fit.
    """

    split_bits: int
    halvings: int

    @property
    def fits(self) -> bool:
        """Whether no reduction is needed."""
        return self.halvings == 0


def fit_pair(g: I64, h: I64, plain_bits: int) -> PairFit:
    """Check that every sum over a subset of rows fits, and choose the split.

    A sum of g over any rows lies between the sum of its negative and the sum of its positive
    entries; h is not negative.

    Parameters
    ----------
    g, h : ndarray of int64, shape (n,)
        The two numbers of every row; h >= 0.
    plain_bits : int
        Bits of the plain modulus.

    Returns
    -------
    PairFit
        The split, and by how many halvings of the scale the pair is too wide.

    Raises
    ------
    InputError
        If shapes differ or an h is negative.
    """
    if g.shape != h.shape or g.ndim != 1:
        raise InputError("g and h must be vectors of one length.")
    if h.size and int(h.min()) < 0:
        raise InputError("h must not be negative.", fix="clip h at 0")
    widest = max(int(g[g > 0].sum()), -int(g[g < 0].sum()))
    g_bits = widest.bit_length() + 1
    h_bits = int(h.sum()).bit_length() + 1
    excess = g_bits + h_bits - plain_bits
    if excess <= 0:
        return PairFit(g_bits + (-excess) // 2, 0)
    halvings = (excess + 1) // 2
    return PairFit(g_bits - halvings, halvings)


def encode_pair(g: I64, h: I64, split_bits: int) -> I64:
    """Give ``g + h 2^split_bits``.

    Raises
    ------
    InputError
        If the values are not int64 vectors of one shape, or ``split_bits`` is not 1 to 61.
    """
    if g.shape != h.shape or g.dtype != np.int64 or h.dtype != np.int64:
        raise InputError("g and h must be int64 arrays of one shape.")
    if not 1 <= split_bits <= 61:
        raise InputError("split_bits must be 1 to 61.")
    return g + (h << np.int64(split_bits))


def decode_pair(values: I64, split_bits: int) -> tuple[I64, I64]:
    """Split sums of encoded pairs into the sums of g and of h.

    Parameters
    ----------
    values : ndarray of int64, any shape
        Centred sums as :meth:`SumKeyHolder.decrypt` gives them.
    split_bits : int
        As in :func:`encode_pair`.

    Returns
    -------
    g, h : ndarray of int64
        The sums.
    """
    half = np.int64(1 << (split_bits - 1))
    low = ((values + half) & np.int64((1 << split_bits) - 1)) - half
    return low, (values - low) >> np.int64(split_bits)
