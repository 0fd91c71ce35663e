"""The provider's side of the encrypted sums: its bins times the label holder's ciphertexts.

The provider holds no secret key.  It multiplies ciphertexts with plaintext masks of its bins, adds
up over blocks, hides the sums (see :mod:`fedcredit.crypto.encsum_packing`) and returns them.

Every pass over fresh ciphertexts is one :class:`SumAccumulator` over a :class:`MaskPlan`.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_bits import crt_factors, pack_bits, switch_modulus
from fedcredit.crypto.encsum_checks import check_pass
from fedcredit.crypto.encsum_kernels import (
    BLOCKS_PER_CHUNK,
    CACHE_FILL,
    accumulate_rows,
    prepare_ciphertext,
)
from fedcredit.crypto.encsum_masks import LaneLayout, MaskPlan
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
    hide_sum,
    sample_error,
    sample_ternary,
)
from fedcredit.crypto.encsum_pairs import decode_pair, encode_pair
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.ntt import LANES, inverse_ntt
from fedcredit.crypto.prg import prg
from fedcredit.errors import CiphertextError, CryptoError

__all__ = ["MaskPlan", "SumAccumulator", "decode_pair", "encode_pair"]

_SUBTREE_STEPS = 4
"""One task packs ``2^4`` sums."""

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


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
        self.threads = check_pass(profile, public_keys, plan, n_vectors, threads)
        self.profile = profile
        self.plan = plan
        self.n_vectors = n_vectors
        self._keys = PackingKeys.of(public_keys)
        scale = profile.block if profile.packed_answers else 1
        data = profile.context.primes[:-1]
        self._layout = LaneLayout.of(profile.degree, data, profile.block, scale)
        size = LANES * profile.block
        self._cipher = np.zeros((profile.primes, 2 * n_vectors, BLOCKS_PER_CHUNK * size), np.uint32)
        self._acc = np.zeros((plan.kernel_rows, profile.primes, 2 * n_vectors, size), np.uint32)
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
        masks, mode = self.plan.masks_of(number)

        def accumulate(span: range) -> None:
            accumulate_rows(
                self.plan.bins,
                self._next_block * self.profile.block,
                chunk.n_blocks,
                self.plan.segments,
                self.plan.row_ends,
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
            self.plan.masks_filled(number)
        self._next_block += chunk.n_blocks

    def _parallel(self, work: Callable[[range], Any], count: int) -> Iterator[Any]:
        """Run ``work`` over ``range(count)``, cut into one span per thread."""
        ways = min(self.threads, count)
        cuts = [count * i // ways for i in range(ways + 1)]
        spans = [range(a, b) for a, b in itertools.pairwise(cuts)]
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
            If the answers were already given: each returned value costs statistical distance.
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
        # Hundreds of megabytes for many vectors: give them back at once.
        del self._acc, self._cipher
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
        low = min(_SUBTREE_STEPS, steps)
        groups = [members[i : i + (1 << low)] for i in range(0, len(members), 1 << low)]

        def subtrees(span: range) -> list[Node]:
            return [self._fold([self._hidden(i, seed) for i in groups[j]], 0, low) for j in span]

        nodes = [node for part in self._parallel(subtrees, len(groups)) for node in part]
        return self._fold(nodes, low, steps)

    def _fold(self, nodes: list[Node], step: int, last: int) -> Node:
        """Merge neighbours, step by step, into one node."""
        for i in range(step, last):
            partners = [*nodes[1::2], None]
            nodes = [self._keys.merge(a, b, i) for a, b in zip(nodes[::2], partners, strict=False)]
        return nodes[0]

    def _switch(self, node: Node, c0: U64, c1: U64) -> None:
        """Leave the transformed domain and switch to the answer modulus, packed into words."""
        profile = self.profile
        if profile.packed_answers:
            self._write(self._coefficients(node[0]), c0)
        else:
            kept = self._coefficients(node[0][:-1])[:, :: profile.block]
            self._write(np.ascontiguousarray(kept), c0)
        self._write(self._coefficients(node[1]), c1)

    def _coefficients(self, values: U32) -> U32:
        tables = self._keys.tables
        out, scratch = np.empty_like(values), np.empty(values.shape[1], np.uint32)
        for i, (row, p) in enumerate(zip(values, tables.primes, strict=False)):
            inverse_ntt(out[i], row, *tables.inverse[i], p, tables.n_inv[i], scratch)
        return out

    def _write(self, residues: U32, out: U64) -> None:
        primes = self.profile.context.primes[: len(residues)]
        bits = self.profile.answer_bits
        switched = np.empty(residues.shape[1], np.uint64)
        moduli = self._keys.tables.primes[: len(residues)]
        switch_modulus(residues, moduli, crt_factors(primes), bits, switched)
        pack_bits(switched, bits, out)


def _words(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFFFFFFFFFF, value >> 64


def _truncate(words: U64, bits: int) -> U64:
    """Keep the lowest ``bits`` of 128-bit numbers (n, 2)."""
    low, high = _words((1 << bits) - 1)
    return words & np.array([low, high], np.uint64)
