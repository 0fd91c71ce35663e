"""A provider's bins as masks of the encrypted sums, and the tables that transform them.

All bins of all features stand on one line; sixteen consecutive bins are a *row* of the kernel and
one *mask* is ``N / B`` of them, so small features share masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_checks import check_bins
from fedcredit.crypto.encsum_kernels import BLOCKS_PER_CHUNK, CACHE_FILL, CACHE_OFF, CACHE_USE
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.ntt import LANES, RingTables, point_exponents, shoup

__all__ = ["LaneLayout", "MaskPlan"]

NO_BIN = 0xFFFF

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LaneLayout:
    """Tables of the lane layout of one profile; see :mod:`fedcredit.crypto.encsum_kernels`."""

    lanes: I64  # (16 B,): position in a transformed polynomial
    answers: I64  # (16 / (N/B), N): positions of every mask's values
    tables: U32  # (L, 6 * 17 * 16): bin -> its monomial on the lanes, scaled, times twiddles
    tails: U32  # (L, 2, 16 B)
    montgomery: U64  # (L, 2)

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, degree: int, primes: tuple[int, ...], block: int, scale: int) -> LaneLayout:
        """Compute (once per process) the tables of a block size.

        ``scale`` is divided out of the masks: B where the packing multiplies by B, else 1.
        """
        ring = RingTables.of(degree, primes)
        width = degree // block
        copies = LANES // width
        _, factors, tail, points = point_exponents(degree, width)
        lanes = np.tile(ring.position[points], (1, copies)).ravel()
        slots = np.arange(LANES * block).reshape(block, copies, width)
        answers = np.empty((copies, degree), np.int64)
        for m in range(copies):
            answers[m, ring.position[points]] = slots[:, m, :]
        stages = np.zeros(LANES * block, np.int64)
        stages[LANES:] = np.concatenate([np.tile(s, (1, copies)) for s in tail]).ravel()
        tables = np.zeros((len(primes), 6, LANES + 1, LANES), np.uint32)
        tails = np.zeros((len(primes), 2, LANES * block), np.uint32)
        for i, p in enumerate(primes):
            factor = (1 << 32) * pow(scale, -1, p) % p
            for slot in range(LANES):
                mask, k = divmod(slot, width)
                powers = ring.powers[i][factors * k % (2 * degree)]
                where = slice(mask * width, (mask + 1) * width)
                tables[i, 0, slot, where] = powers * np.uint64(factor) % np.uint64(p)
            tails[i, 0] = ring.powers[i][stages]
            tails[i, 1] = shoup(tails[i, 0], p)
            w, w1, w2 = tails[i, 0, LANES : 4 * LANES].reshape(3, LANES).astype(np.uint64)
            modulus = np.uint64(p)
            for j, twiddle in enumerate((w, w1, w1 * w % modulus, w2, w2 * w % modulus)):
                tables[i, j + 1] = tables[i, 0] * twiddle % modulus
        montgomery = np.array([[p, pow(p, -1, 1 << 32)] for p in primes], np.uint64)
        return cls(lanes, answers, tables.reshape(len(primes), -1), tails, montgomery)


class MaskPlan:
    """A provider's bins in the row order of one pass, or of many passes.

    Parameters
    ----------
    bins : ndarray of uint8 or uint16, shape (F, n)
        Bin of every feature and row; a value of ``n_bins[f]`` or more puts the row in no bin.
    n_bins : sequence of int, length F
        Bins of every feature, 1 to 65535.
    profile : SumProfile
        The agreed parameters.
    threads : int, default 1
        Default number of threads of the accumulators.

    Raises
    ------
    InputError
        If shapes, types or sizes do not fit.
    """

    def __init__(
        self,
        bins: NDArray[np.uint8] | U16,
        n_bins: Sequence[int] | NDArray[np.integer[Any]],
        profile: SumProfile,
        threads: int = 1,
    ) -> None:
        counts = check_bins(bins, n_bins, profile, threads)
        self.profile = profile
        self.threads = threads
        self.n_rows = int(bins.shape[1])
        self.n_blocks = profile.blocks(self.n_rows)
        self.n_bins = tuple(int(k) for k in counts)
        self.total_bins = int(counts.sum())
        self.bins = np.full((bins.shape[0], self.n_blocks * profile.block), NO_BIN, np.uint16)
        self.bins[:, : self.n_rows] = np.where(bins < counts[:, None], bins, NO_BIN)
        self.segments, self.row_ends = self._cut(counts)
        self._cache: list[U32] = []
        self._cache_limit = 0
        self._cache_filled: list[bool] = []

    @staticmethod
    def _cut(counts: I64) -> tuple[I64, I64]:
        """Cut the line of all bins into rows of sixteen: (feature, first bin, number, slot)."""
        segments: list[tuple[int, int, int, int]] = []
        ends, position = [0], 0
        for feature, count in enumerate(counts.tolist()):
            first = 0
            while first < count:
                slot = position % LANES
                if slot == 0 and position:
                    ends.append(len(segments))
                number = min(count - first, LANES - slot)
                segments.append((feature, first, number, slot))
                first += number
                position += number
        ends.append(len(segments))
        return np.array(segments, np.int64), np.array(ends, np.int64)

    def __repr__(self) -> str:
        return f"MaskPlan(features={len(self.n_bins)}, rows={self.n_rows}, bins={self.total_bins})"

    @property
    def n_masks(self) -> int:
        """Masks per block."""
        return -(-self.total_bins // self.profile.bins_per_mask)

    @property
    def kernel_rows(self) -> int:
        """Rows of sixteen bins."""
        return self.row_ends.size - 1

    @property
    def mask_bytes(self) -> int:
        """Memory that the transformed masks of all blocks would take."""
        chunks = -(-self.n_blocks // BLOCKS_PER_CHUNK)
        return chunks * self._chunk_mask_words * 4

    @property
    def _chunk_mask_words(self) -> int:
        profile = self.profile
        span = BLOCKS_PER_CHUNK * LANES * profile.block
        return self.kernel_rows * profile.primes * span

    def cache_masks(self, max_bytes: int) -> int:
        """Keep transformed masks from the next pass on, for passes over the same rows.

        Parameters
        ----------
        max_bytes : int
            Memory to use at most; the first chunks that fit are kept. 0 drops the cache.

        Returns
        -------
        int
            Bytes that will be used.
        """
        size = self._chunk_mask_words * 4
        chunks = -(-self.n_blocks // BLOCKS_PER_CHUNK)
        self._cache_limit = min(max(max_bytes, 0) // size, chunks)
        del self._cache[self._cache_limit :], self._cache_filled[self._cache_limit :]
        return self._cache_limit * size

    def masks_of(self, chunk: int) -> tuple[U32, int]:
        """Give the cache of a chunk and what the kernel shall do with it."""
        if chunk >= self._cache_limit:
            return np.empty((1, 1, 1), np.uint32), CACHE_OFF
        shape = (self.kernel_rows, self.profile.primes, -1)
        if chunk == len(self._cache):
            self._cache.append(np.zeros(self._chunk_mask_words, np.uint32).reshape(shape))
            self._cache_filled.append(False)
        if chunk > len(self._cache):
            return np.empty((1, 1, 1), np.uint32), CACHE_OFF
        return self._cache[chunk], CACHE_USE if self._cache_filled[chunk] else CACHE_FILL

    def masks_filled(self, chunk: int) -> None:
        """Note that the cache of a chunk is complete."""
        if chunk < len(self._cache):
            self._cache_filled[chunk] = True
