"""Lists of pseudorandom tags: an exact join, and a compact sorted list (Elias-Fano).

A sorted list of n uniform tags of ``h + 8k`` bits, with 2^h close to n, is stored as Elias and
Fano do (Elias, J. ACM 21(2), 1974; Fano, MIT Project MAC Memo 61, 1971): the upper h bits as a bit
vector in which tag ``i`` with upper part ``u`` sets bit ``u + i``, and the lower 8k bits as they
are. That is 8k + 2 bits or a little more per tag, and a lookup reads one short bucket. Whole bytes
for the lower part cost at most 7 bits per tag and spare all shifting.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import CiphertextError, InputError, ParameterError

__all__ = ["DIGEST_BYTES", "STATISTICAL_BITS", "TagList", "TagShape", "join_tags", "tag_bytes"]

STATISTICAL_BITS = 40
DIGEST_BYTES = 16

_MIN_TAG_BYTES = 8


def tag_bytes(n_left: int, n_right: int) -> int:
    """Return the tag length for which chance meetings have probability at most 2^-40.

    Neither do foreign tags of the two lists meet, nor does one list hold a tag twice.

    Parameters
    ----------
    n_left, n_right : int
        Sizes of the lists, 1 or more.

    Returns
    -------
    int
        Bytes, 8 to 16.
    """
    bits = STATISTICAL_BITS + 2 * math.log2(max(n_left, n_right))
    return min(DIGEST_BYTES, max(_MIN_TAG_BYTES, math.ceil(bits / 8)))


def _as_words(tags: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return tags of 8 to 16 bytes as little-endian words, uint64 of shape (n, 2)."""
    if tags.dtype != np.uint8 or tags.ndim != 2 or not 8 <= tags.shape[1] <= 16:
        raise InputError("tags must be a uint8 array of shape (n, 8 to 16).")
    padded = np.zeros((len(tags), 16), np.uint8)
    padded[:, : tags.shape[1]] = tags
    return padded.view("<u8").astype(np.uint64, copy=False)


@nb.njit(cache=True, nogil=True)
def _join(needles, haystack, multiplier, log_size, out):  # type: ignore[no-untyped-def]
    """Hash join with open addressing; return False if a tag of the haystack occurs twice."""
    shift = np.uint64(64 - log_size)
    mask = (1 << log_size) - 1
    table = np.full(1 << log_size, -1, np.int32)
    for i in range(haystack.shape[0]):
        at = np.int64((haystack[i, 0] * multiplier) >> shift)
        while table[at] >= 0:
            other = table[at]
            if haystack[other, 0] == haystack[i, 0] and haystack[other, 1] == haystack[i, 1]:
                return False
            at = (at + 1) & mask
        table[at] = i
    for i in range(needles.shape[0]):
        at = np.int64((needles[i, 0] * multiplier) >> shift)
        out[i] = -1
        while table[at] >= 0:
            other = table[at]
            if haystack[other, 0] == needles[i, 0] and haystack[other, 1] == needles[i, 1]:
                out[i] = other
                break
            at = (at + 1) & mask
    return True


def join_tags(needles: NDArray[np.uint8], haystack: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find every needle in a list of distinct tags, exactly.

    Parameters
    ----------
    needles : ndarray of uint8, shape (a, t)
        Tags of t bytes, 8 ≤ t ≤ 16.
    haystack : ndarray of uint8, shape (b, t)
        Distinct tags of the same length, in any order; at most 2^30.

    Returns
    -------
    ndarray of int64, shape (a,)
        The place in ``haystack``, or −1.

    Raises
    ------
    InputError
        If the shapes do not fit.
    CiphertextError
        If a tag occurs twice in ``haystack``.
    """
    left, right = _as_words(needles), _as_words(haystack)
    if needles.shape[1] != haystack.shape[1] or len(haystack) > 1 << 30:
        raise InputError("the two lists of tags differ in tag length, or one is too long.")
    out = np.empty(len(left), np.int64)
    # At most half full. The multiplier is secret, so that nobody can choose tags that pile up.
    log_size = max(4, (2 * len(right)).bit_length())
    multiplier = np.uint64(secrets.randbits(64) | 1)
    if not _join(left, right, multiplier, log_size, out):
        raise CiphertextError("a list of tags holds a tag twice.")
    return out


@dataclass(frozen=True)
class TagShape:
    """How the tags of a list are cut.

    Parameters
    ----------
    n : int
        Tags in the list, 1 to 2^30.
    capacity : int
        Lookups over the list's whole life, 1 or more. All of them together hit a foreign tag with
        probability at most 2^-40.

    Raises
    ------
    ParameterError
        If the sizes are out of range or too large for 64 lower bits.
    """

    n: int
    capacity: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 1 << 30 or self.capacity < 1:
            raise ParameterError("a tag list needs 1 to 2^30 tags and a positive capacity.")
        if self.low_bytes > 8:
            raise ParameterError(
                "a tag list of this size and capacity needs tags that are too long.",
                fix="lower the capacity and renew the key more often",
            )

    @property
    def high_bits(self) -> int:
        """Bits of the upper part."""
        return max(1, (self.n - 1).bit_length())

    @property
    def low_bytes(self) -> int:
        """Bytes of the lower part."""
        bits = STATISTICAL_BITS + math.log2(self.n) + math.log2(self.capacity)
        return max(1, math.ceil((bits - self.high_bits) / 8))

    @property
    def upper_bytes(self) -> int:
        """Bytes of the bit vector."""
        return ((1 << self.high_bits) + self.n + 7) // 8

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole list."""
        return self.upper_bytes + self.n * self.low_bytes

    def cut(self, digests: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Cut 16-byte digests into upper and lower parts.

        Parameters
        ----------
        digests : ndarray of uint8, shape (m, 16)

        Returns
        -------
        high, low : ndarray of uint64, shape (m,)
        """
        if digests.shape[1:] != (DIGEST_BYTES,):
            raise InputError("digests must be a uint8 array of shape (n, 16).")
        words = _as_words(digests)
        high = words[:, 0] >> np.uint64(64 - self.high_bits)
        low = words[:, 1] >> np.uint64(64 - 8 * self.low_bytes)
        return high, low


@nb.njit(cache=True, nogil=True)
def _find(high, low, starts, lower, out):  # type: ignore[no-untyped-def]
    for i in range(high.shape[0]):
        out[i] = -1
        bucket = np.int64(high[i])
        for at in range(starts[bucket], starts[bucket + 1]):
            if lower[at] == low[i]:
                out[i] = at
                break


class TagList:
    """A compact sorted list of distinct tags.

    Parameters
    ----------
    shape : TagShape
        Sizes that both sides know.
    data : ndarray of uint8, shape (shape.n_bytes,)
        The encoded list, as `data` gives it.

    Raises
    ------
    CiphertextError
        If the bytes are not a strictly ascending list of exactly ``shape.n`` tags.
    """

    def __init__(self, shape: TagShape, data: NDArray[np.uint8]) -> None:
        if data.dtype != np.uint8 or data.shape != (shape.n_bytes,):
            raise CiphertextError("a tag list has the wrong number of bytes.")
        self.shape = shape
        self.data = data
        n_buckets = 1 << shape.high_bits
        ones = np.flatnonzero(np.unpackbits(data[: shape.upper_bytes], bitorder="little"))
        if len(ones) != shape.n:
            raise CiphertextError("a tag list holds another number of tags than announced.")
        high = ones - np.arange(shape.n)
        if high[-1] >= n_buckets:
            raise CiphertextError("a tag list has a tag out of range.")
        padded = np.zeros((shape.n, 8), np.uint8)
        padded[:, : shape.low_bytes] = data[shape.upper_bytes :].reshape(shape.n, -1)
        self._lower = padded.view("<u8").astype(np.uint64, copy=False).reshape(-1)
        same = high[1:] == high[:-1]
        if np.any(self._lower[1:][same] <= self._lower[:-1][same]):
            raise CiphertextError("a tag list is not strictly ascending.")
        counts = np.bincount(high, minlength=n_buckets)
        self._starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)

    def __len__(self) -> int:
        return self.shape.n

    def __repr__(self) -> str:
        return f"TagList(n={self.shape.n}, bytes={self.shape.n_bytes})"

    @classmethod
    def build(cls, digests: NDArray[np.uint8], capacity: int) -> tuple[TagList, NDArray[np.int64]]:
        """Sort digests into a list.

        Parameters
        ----------
        digests : ndarray of uint8, shape (n, 16)
            Pseudorandom and distinct.
        capacity : int
            Lookups over the list's life (`TagShape`).

        Returns
        -------
        tags : TagList
        order : ndarray of int64, shape (n,)
            Row of ``digests`` that stands at every place of the list.

        Raises
        ------
        CiphertextError
            If two tags are equal.
        """
        shape = TagShape(len(digests), capacity)
        high, low = shape.cut(digests)
        order: NDArray[Any] = np.lexsort((low, high))
        upper = np.zeros(8 * shape.upper_bytes, np.uint8)
        upper[high[order].astype(np.int64) + np.arange(shape.n)] = 1
        lower = low[order].astype("<u8").view(np.uint8).reshape(-1, 8)[:, : shape.low_bytes]
        data = np.concatenate((np.packbits(upper, bitorder="little"), lower.reshape(-1)))
        return cls(shape, data), order.astype(np.int64, copy=False)

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Look digests up.

        Parameters
        ----------
        digests : ndarray of uint8, shape (m, 16)

        Returns
        -------
        ndarray of int64, shape (m,)
            The place in the list, or −1.
        """
        high, low = self.shape.cut(digests)
        out = np.empty(len(digests), np.int64)
        _find(high, low, self._starts, self._lower, out)
        return out
