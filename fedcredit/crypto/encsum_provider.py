"""The provider's side of the encrypted sums: its bins times the label holder's ciphertexts.

The provider holds no secret key.  It multiplies ciphertexts with plaintext masks of its bins, adds
up over blocks, hides the sums (see :mod:`fedcredit.crypto.encsum_packing`) and returns them.

All bins of all features stand on one line; sixteen consecutive bins are a *row* of the kernel and
one *mask* is ``N / B`` of them, so small features share masks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_kernels import (
    BLOCKS_PER_CHUNK,
    CACHE_FILL,
    CACHE_OFF,
    CACHE_USE,
    accumulate_rows,
    pack_bits,
    prepare_ciphertext,
)
from fedcredit.crypto.encsum_messages import (
    CiphertextChunk,
    SumAnswers,
    SumPublicKeys,
    bytes_of,
    words_of,
)
from fedcredit.crypto.encsum_packing import (
    Node,
    PackingKeys,
    crt_factors,
    hide_sum,
    sample_error,
    sample_ternary,
    switch_modulus,
)
from fedcredit.crypto.encsum_pairs import decode_pair, encode_pair
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.ntt import LANES, RingTables, inverse_ntt, point_exponents, shoup
from fedcredit.crypto.prg import prg
from fedcredit.errors import CiphertextError, CryptoError, InputError, KeyMaterialError

__all__ = ["MaskPlan", "SumAccumulator", "decode_pair", "encode_pair"]

NO_BIN = 0xFFFF

_SUBTREE = 16  # sums packed by one task

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _LaneLayout:
    """Tables of the lane layout of one profile; see :mod:`fedcredit.crypto.encsum_kernels`."""

    lanes: I64  # (16 B,): position in a transformed polynomial
    answers: I64  # (16 / (N/B), N): positions of every mask's values
    tables: U32  # (L, 17 * 16): bin -> its monomial on the lanes, scaled
    tails: U32  # (L, 2, 16 B)
    montgomery: U64  # (L, 2)

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, degree: int, primes: tuple[int, ...], block: int, scale: int) -> _LaneLayout:
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
        tables = np.zeros((len(primes), LANES + 1, LANES), np.uint32)
        tails = np.zeros((len(primes), 2, LANES * block), np.uint32)
        for i, p in enumerate(primes):
            factor = (1 << 32) * pow(scale, -1, p) % p
            for slot in range(LANES):
                mask, k = divmod(slot, width)
                powers = ring.powers[i][factors * k % (2 * degree)]
                where = slice(mask * width, (mask + 1) * width)
                tables[i, slot, where] = powers * np.uint64(factor) % np.uint64(p)
            tails[i, 0] = ring.powers[i][stages]
            tails[i, 1] = shoup(tails[i, 0], p)
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
        if bins.ndim != 2 or bins.dtype not in (np.uint8, np.uint16):
            raise InputError("bins must be a uint8 or uint16 array, features by rows.")
        counts = np.asarray(n_bins, np.int64)
        if counts.shape != (bins.shape[0],) or not counts.size:
            raise InputError("n_bins must give one number per feature.")
        if counts.min() < 1 or counts.max() > NO_BIN:
            raise InputError("every feature needs 1 to 65535 bins.")
        if not 1 <= bins.shape[1] <= profile.max_rows:
            raise InputError(
                f"a pass of this profile takes 1 to {profile.max_rows} rows.",
                fix="make the profile for the number of rows",
            )
        if threads < 1:
            raise InputError("threads must be at least 1.")
        self.profile = profile
        self.threads = threads
        self.n_rows = int(bins.shape[1])
        self.n_blocks = profile.blocks(self.n_rows)
        self.n_bins = tuple(int(k) for k in counts)
        self.total_bins = int(counts.sum())
        self._bins = np.full((bins.shape[0], self.n_blocks * profile.block), NO_BIN, np.uint16)
        self._bins[:, : self.n_rows] = np.where(bins < counts[:, None], bins, NO_BIN)
        self._segments, self._row_ends = self._cut(counts)
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
        return self._row_ends.size - 1

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

    def _masks_of(self, chunk: int) -> tuple[U32, int]:
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

    def _masks_filled(self, chunk: int) -> None:
        if chunk < len(self._cache):
            self._cache_filled[chunk] = True


class SumAccumulator:
    """One pass of ciphertexts over a plan: chunks in, answers out.

    Parameters
    ----------
    profile : SumProfile
        The agreed parameters.
    public_keys : SumPublicKeys
        The label holder's keys, for the same profile.
    plan : MaskPlan
        The provider's bins.
    n_vectors : int
        V, vectors of values per block.
    threads : int, optional
        Threads; the plan's by default.

    Raises
    ------
    KeyMaterialError
        If the keys are of another profile or cannot be read.
    InputError
        If the plan is of another profile or the numbers make no sense.
    """

    _flooded = True

    def __init__(
        self,
        profile: SumProfile,
        public_keys: SumPublicKeys,
        plan: MaskPlan,
        n_vectors: int,
        threads: int | None = None,
    ) -> None:
        if public_keys.profile != profile:
            raise KeyMaterialError("the public keys belong to another profile.")
        if plan.profile != profile:
            raise InputError("the mask plan belongs to another profile.")
        if n_vectors < 1:
            raise InputError("a pass has at least one vector.")
        self.profile = profile
        self.plan = plan
        self.n_vectors = n_vectors
        self.threads = plan.threads if threads is None else threads
        if self.threads < 1:
            raise InputError("threads must be at least 1.")
        self._keys = PackingKeys.of(public_keys)
        scale = profile.block if profile.packed_answers else 1
        data = profile.context.primes[:-1]
        self._layout = _LaneLayout.of(profile.degree, data, profile.block, scale)
        size = LANES * profile.block
        self._cipher = np.zeros(
            (profile.primes, 2 * n_vectors, BLOCKS_PER_CHUNK * size), np.uint32
        )
        self._acc = np.zeros(
            (plan.kernel_rows, profile.primes, 2 * n_vectors, size), np.uint32
        )
        self._next_block = 0
        self._finished = False

    @classmethod
    def _without_flood_for_attack_test(cls, *args: Any, **kwargs: Any) -> SumAccumulator:
        """Make an accumulator that leaks, to show that the flood is what stops the attack."""
        leaking = cls(*args, **kwargs)
        leaking._flooded = False
        return leaking

    def __repr__(self) -> str:
        return f"SumAccumulator(block {self._next_block} of {self.plan.n_blocks})"

    # ---------------------------------------------------------------------------- accumulate

    def add(self, chunk: CiphertextChunk) -> None:
        """Take in the next chunk.

        Parameters
        ----------
        chunk : CiphertextChunk
            In order, without gaps.

        Raises
        ------
        CiphertextError
            If the chunk is not the next one, of another size, or a residue is out of range; the
            accumulator is then unchanged.
        """
        chunk.check_shape(self.profile)
        left = self.plan.n_blocks - self._next_block
        if self._finished or chunk.first_block != self._next_block or left < 1:
            raise CiphertextError("a chunk of ciphertexts is missing, repeated or too much.")
        if chunk.n_blocks != min(left, BLOCKS_PER_CHUNK) or chunk.n_vectors != self.n_vectors:
            raise CiphertextError("a chunk has another number of blocks or vectors than agreed.")
        seeds, c0 = words_of(chunk.seeds), words_of(chunk.c0)
        primes = self._layout.montgomery[:, 0].copy()
        if chunk.n_blocks < BLOCKS_PER_CHUNK:
            self._cipher[:] = 0

        def prepare(span: range) -> int:
            return sum(
                prepare_ciphertext(
                    seeds[i],
                    c0[i],
                    primes,
                    self._keys.tables.forward,
                    self._layout.lanes,
                    i // self.n_vectors,
                    i % self.n_vectors,
                    self._cipher,
                )
                for i in span
            )

        number = self._next_block // BLOCKS_PER_CHUNK
        masks, mode = self.plan._masks_of(number)

        def accumulate(span: range) -> None:
            accumulate_rows(
                self.plan._bins,
                self._next_block * self.profile.block,
                chunk.n_blocks,
                self.plan._segments,
                self.plan._row_ends,
                span.start,
                span.stop,
                self._layout.tables,
                self._layout.tails,
                self._layout.montgomery,
                self._cipher,
                self._acc,
                masks,
                mode,
            )

        if sum(self._parallel(prepare, len(seeds))):
            raise CiphertextError("a residue of a ciphertext is not below its prime.")
        list(self._parallel(accumulate, self.plan.kernel_rows))
        if mode == CACHE_FILL:
            self.plan._masks_filled(number)
        self._next_block += chunk.n_blocks

    def _parallel(self, work: Callable[[range], Any], count: int) -> Iterator[Any]:
        """Run ``work`` over ``range(count)``, cut into one span per thread."""
        ways = min(self.threads, count)
        cuts = [count * i // ways for i in range(ways + 1)]
        spans = [range(a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
        if ways == 1:
            yield work(spans[0])
            return
        with ThreadPoolExecutor(ways) as pool:
            yield from pool.map(work, spans)

    # -------------------------------------------------------------------------------- finish

    def finish(self) -> SumAnswers:
        """Hide, pack and switch the sums.

        Returns
        -------
        SumAnswers
            For every vector and bin.

        Raises
        ------
        CiphertextError
            If chunks are missing.
        CryptoError
            If the answers were already given: hiding a sum twice would halve the flood's worth.
        """
        if self._finished:
            raise CryptoError("the answers of this pass were already given.")
        if self._next_block != self.plan.n_blocks:
            raise CiphertextError("chunks of ciphertexts are missing at the end of a pass.")
        self._finished = True
        profile = self.profile
        seed = secrets.token_bytes(32)
        sums = self.n_vectors * self.plan.n_masks
        words0, words1 = SumAnswers.words(profile)
        count = SumAnswers.count(profile, self.n_vectors, self.plan.total_bins)
        c0 = np.zeros((count, words0), np.uint64)
        c1 = np.zeros((count, words1), np.uint64)
        if profile.packed_answers:
            for i in range(count):
                members = range(i * profile.block, min((i + 1) * profile.block, sums))
                self._switch(self._pack(members, seed), c0[i], c1[i])
        else:

            def answer(span: range) -> None:
                for i in span:
                    self._switch(self._hidden(i, seed), c0[i], c1[i])

            list(self._parallel(answer, count))
        return SumAnswers(self.n_vectors, self.plan.total_bins, bytes_of(c0), bytes_of(c1))

    def _hidden(self, number: int, seed: bytes) -> Node:
        """Give sum ``number`` (vector by mask), re-randomised and flooded."""
        profile = self.profile
        vector, mask = divmod(number, self.plan.n_masks)
        row, part = divmod(mask, LANES // profile.bins_per_mask)
        n, width = profile.degree, profile.bins_per_mask
        u, e = np.empty(n, np.int64), np.empty(n, np.int64)
        retry = 0
        # One stream of the seed per sum and try; running out of bytes has probability 2^-100.
        while True:
            stream = prg(seed, 8 * n + 16 * width + n + 256, (number << 8) + retry)
            if sample_ternary(stream[8 * n + 16 * width :], u):
                break
            retry += 1
        sample_error(stream[: 8 * n].view("<u8"), e)
        flood = stream[8 * n : 8 * n + 16 * width].view("<u8").reshape(width, 2)
        flood = _truncate(flood, profile.flood_bits + 1)
        if not self._flooded:
            flood[:] = _words(1 << profile.flood_bits)
        levels = profile.primes
        c0, c1 = np.empty((levels + 1, n), np.uint32), np.empty((levels, n), np.uint32)
        hide_sum(
            self._acc[row, :, 2 * vector],
            self._acc[row, :, 2 * vector + 1],
            self._layout.answers[part],
            u,
            e,
            flood,
            profile.block,
            self._keys.constants,
            self._keys.public,
            self._keys.tables.forward,
            c0,
            c1,
        )
        return c0, c1

    def _pack(self, members: range, seed: bytes) -> Node:
        """Pack up to B sums into one ciphertext; sum r ends at coefficient bitrev(r) + k B."""
        steps = len(self.profile.galois_elements)
        low = min(_SUBTREE.bit_length() - 1, steps)
        groups = [members[i : i + (1 << low)] for i in range(0, len(members), 1 << low)]

        def subtrees(span: range) -> list[Node]:
            return [
                self._fold([self._hidden(i, seed) for i in groups[j]], 0, low) for j in span
            ]

        nodes = [node for part in self._parallel(subtrees, len(groups)) for node in part]
        return self._fold(nodes, low, steps)

    def _fold(self, nodes: list[Node], step: int, last: int) -> Node:
        """Merge neighbours, step by step, into one node."""
        for i in range(step, last):
            pairs = [(nodes[j], nodes[j + 1] if j + 1 < len(nodes) else None) for j in range(0, len(nodes), 2)]
            nodes = [self._keys.merge(a, b, i) for a, b in pairs]
        return nodes[0]

    def _switch(self, node: Node, c0: U64, c1: U64) -> None:
        """Leave the transformed domain and switch to the answer modulus, packed into words."""
        profile = self.profile
        tables = self._keys.tables
        primes = profile.context.primes
        for values, out, kept in zip(node, (c0, c1), (not profile.packed_answers, False), strict=True):
            levels = profile.primes + (out is c0 and profile.packed_answers)
            residues = np.empty((levels, profile.degree), np.uint32)
            scratch = np.empty(profile.degree, np.uint32)
            for i in range(levels):
                p = tables.primes[i]
                inverse_ntt(residues[i], values[i], *tables.inverse[i], p, tables.n_inv[i], scratch)
            if kept:
                residues = np.ascontiguousarray(residues[:, :: profile.block])
            switched = np.empty(residues.shape[1], np.uint64)
            switch_modulus(
                residues, tables.primes[:levels], crt_factors(primes[:levels]), profile.answer_bits, switched
            )
            pack_bits(switched, profile.answer_bits, out)


def _words(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFFFFFFFFFF, value >> 64


def _truncate(words: U64, bits: int) -> U64:
    """Keep the lowest ``bits`` of 128-bit numbers (n, 2)."""
    low, high = _words((1 << bits) - 1)
    return words & np.array([low, high], np.uint64)
