"""How a provider answers a pass: every sum is hidden, packed and switched to a smaller modulus.

The steps are those of :mod:`fedcredit.crypto.encsum_packing`; passes over bins and passes over
dense weights differ in what they accumulate only.
"""

from __future__ import annotations

import itertools
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_bits import bit_reversed, crt_factors, pack_bits, switch_modulus
from fedcredit.crypto.encsum_kernels import BLOCKS_PER_CHUNK
from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers, SumPublicKeys, bytes_of
from fedcredit.crypto.encsum_packing import (
    Node,
    PackingKeys,
    hide_sum,
    sample_error,
    sample_ternary,
)
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.ntt import inverse_ntt
from fedcredit.crypto.prg import prg
from fedcredit.errors import CiphertextError, CryptoError

__all__ = ["SumPass"]

_SUBTREE_STEPS = 4
"""One task packs ``2^4`` sums."""

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class SumPass(ABC):
    """One pass of ciphertexts: what passes over bins and over dense weights have in common.

    Parameters
    ----------
    profile : SumProfile
        The agreed parameters.
    public_keys : SumPublicKeys
        The label holder's keys, for the same profile.
    n_vectors : int
        V, vectors of values per block.
    n_blocks : int
        Blocks of the whole pass.
    threads : int
        Threads.

    Raises
    ------
    KeyMaterialError
        If the keys cannot be read.
    """

    _flooded = True

    def __init__(
        self,
        profile: SumProfile,
        public_keys: SumPublicKeys,
        n_vectors: int,
        n_blocks: int,
        threads: int,
    ) -> None:
        self.profile = profile
        self.n_vectors = n_vectors
        self.n_blocks = n_blocks
        self.threads = threads
        self._keys = PackingKeys.of(public_keys)
        self._next_block = 0
        self._finished = False

    @classmethod
    def _without_flood_for_attack_test(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a pass that leaks, to show that the flood is what stops the attack."""
        leaking = cls(*args, **kwargs)
        leaking._flooded = False
        return leaking

    def __repr__(self) -> str:
        return f"{type(self).__name__}(block {self._next_block} of {self.n_blocks})"

    @abstractmethod
    def _source(self, number: int) -> tuple[U32, U32, I64]:
        """Give c0 and c1 (L, ...) of a sum, and where their values (N,) stand."""

    def _check_next(self, chunk: CiphertextChunk) -> None:
        """Check that a chunk is the next one, of the right size.

        Raises
        ------
        CiphertextError
            If it is not.
        """
        chunk.check_shape(self.profile)
        left = self.n_blocks - self._next_block
        if self._finished or chunk.first_block != self._next_block or left < 1:
            raise CiphertextError("a chunk of ciphertexts is missing, repeated or too much.")
        if chunk.n_blocks != min(left, BLOCKS_PER_CHUNK) or chunk.n_vectors != self.n_vectors:
            raise CiphertextError("a chunk has another number of blocks or vectors than agreed.")

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

    def _close(self) -> None:
        """Note that the pass is over.

        Raises
        ------
        CiphertextError
            If chunks are missing.
        CryptoError
            If the answers were already given: each returned value costs statistical distance.
        """
        if self._finished:
            raise CryptoError("the answers of this pass were already given.")
        if self._next_block != self.n_blocks:
            raise CiphertextError("chunks of ciphertexts are missing at the end of a pass.")
        self._finished = True

    def _answer(self, n_vectors: int, total_bins: int, masks: U64 | None = None) -> SumAnswers:
        """Hide, pack and switch all sums.

        ``masks`` (sums,), if given, are added to the sums: an answer modulo ``2^answer_bits``
        carries its sum times ``2^(answer_bits - plain_bits)``, so the addition is exact.
        """
        profile = self.profile
        seed = secrets.token_bytes(32)
        per_mask, steps = profile.bins_per_mask, profile.pack_steps
        sums = n_vectors * -(-total_bins // per_mask)
        words0, words1 = SumAnswers.words(profile)
        count = SumAnswers.count(profile, n_vectors, total_bins)
        c0 = np.zeros((count, words0), np.uint64)
        c1 = np.zeros((count, words1), np.uint64)

        def answer(span: range) -> None:
            for i in span:
                members = range(i << steps, min((i + 1) << steps, sums))
                node = self._pack(members, seed) if steps else self._hidden(i, seed)
                self._switch(node, members, masks, c0[i], c1[i])

        if steps <= _SUBTREE_STEPS:
            list(self._parallel(answer, count))
        else:
            answer(range(count))
        return SumAnswers(n_vectors, total_bins, bytes_of(c0), bytes_of(c1))

    def _hidden(self, number: int, seed: bytes) -> Node:
        """Give sum ``number``, re-randomised and flooded."""
        profile = self.profile
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
        acc0, acc1, index = self._source(number)
        hide_sum(
            acc0,
            acc1,
            index,
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
        """Pack ``2^steps`` sums; sum r ends at kept coefficient ``bitrev(r) + k 2^steps``."""
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

    def _switch(self, node: Node, members: range, masks: U64 | None, c0: U64, c1: U64) -> None:
        """Leave the transformed domain and switch to the answer modulus, packed into words."""
        profile = self.profile
        stride = profile.degree // profile.kept_coefficients
        # Packed sums carry the special prime's factor on c0 still; the switch divides it out.
        first = node[0] if profile.packed_answers else node[0][:-1]
        kept = self._switched(np.ascontiguousarray(self._coefficients(first)[:, ::stride]))
        if masks is not None:
            here = bit_reversed(1 << profile.pack_steps)[: len(members)]
            shift = np.uint64(profile.answer_bits - profile.plain_bits)
            kept[here] += masks[members.start : members.stop] << shift
            kept &= np.uint64((1 << profile.answer_bits) - 1)
        pack_bits(kept, profile.answer_bits, c0)
        pack_bits(self._switched(self._coefficients(node[1])), profile.answer_bits, c1)

    def _coefficients(self, values: U32) -> U32:
        tables = self._keys.tables
        out, scratch = np.empty_like(values), np.empty(values.shape[1], np.uint32)
        for i, (row, p) in enumerate(zip(values, tables.primes, strict=False)):
            inverse_ntt(out[i], row, *tables.inverse[i], p, tables.n_inv[i], scratch)
        return out

    def _switched(self, residues: U32) -> U64:
        primes = self.profile.context.primes[: len(residues)]
        bits = self.profile.answer_bits
        switched = np.empty(residues.shape[1], np.uint64)
        moduli = self._keys.tables.primes[: len(residues)]
        switch_modulus(residues, moduli, crt_factors(primes), bits, switched)
        return switched


def _words(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFFFFFFFFFF, value >> 64


def _truncate(words: U64, bits: int) -> U64:
    """Keep the lowest ``bits`` of 128-bit numbers (n, 2)."""
    low, high = _words((1 << bits) - 1)
    return words & np.array([low, high], np.uint64)
