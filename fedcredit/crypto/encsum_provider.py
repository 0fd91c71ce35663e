"""The provider's side of the encrypted sums: its bins times the label holder's ciphertexts.

The provider holds no secret key.  It multiplies ciphertexts with plaintext masks of its bins, adds
up over blocks, hides the sums (see :mod:`fedcredit.crypto.encsum_packing`) and returns them.

Every pass over fresh ciphertexts is one :class:`SumAccumulator` over a :class:`MaskPlan`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_answers import SumPass
from fedcredit.crypto.encsum_checks import check_pass
from fedcredit.crypto.encsum_kernels import (
    BLOCKS_PER_CHUNK,
    CACHE_FILL,
    accumulate_rows,
    prepare_ciphertext,
)
from fedcredit.crypto.encsum_masks import LaneLayout, MaskPlan
from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers, SumPublicKeys, words_of
from fedcredit.crypto.encsum_pairs import decode_pair, encode_pair
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.ntt import LANES
from fedcredit.errors import CiphertextError

__all__ = ["MaskPlan", "SumAccumulator", "decode_pair", "encode_pair"]

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


class SumAccumulator(SumPass):
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

    def __init__(
        self,
        profile: SumProfile,
        public_keys: SumPublicKeys,
        plan: MaskPlan,
        n_vectors: int,
        threads: int | None = None,
    ) -> None:
        chosen = check_pass(profile, public_keys, plan, n_vectors, threads)
        super().__init__(profile, public_keys, n_vectors, plan.n_blocks, chosen)
        self.plan = plan
        data = profile.context.primes[:-1]
        self._layout = LaneLayout.of(profile.degree, data, profile.block, 1 << profile.pack_steps)
        size = LANES * profile.block
        self._cipher = np.zeros((profile.primes, 2 * n_vectors, BLOCKS_PER_CHUNK * size), np.uint32)
        self._acc = np.zeros((plan.kernel_rows, profile.primes, 2 * n_vectors, size), np.uint32)

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
        self._check_next(chunk)
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
        self._close()
        answers = self._answer(self.n_vectors, self.plan.total_bins)
        # Hundreds of megabytes for many vectors: give them back at once.
        del self._acc, self._cipher
        return answers

    def _source(self, number: int) -> tuple[U32, U32, I64]:
        vector, mask = divmod(number, self.plan.n_masks)
        row, part = divmod(mask, LANES // self.profile.bins_per_mask)
        first, second = self._acc[row, :, 2 * vector], self._acc[row, :, 2 * vector + 1]
        return first, second, self._layout.answers[part]
