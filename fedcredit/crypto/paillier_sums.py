"""The encrypted sums of :mod:`fedcredit.crypto.encsum_keyholder` under Paillier: slow and simple.

A reference for the BFV kernel and a second scheme where one is asked for: one ciphertext per row
and vector, one modular multiplication per row, vector and feature, one answer per vector and bin.
It costs about a thousand times as much; see :mod:`fedcredit.crypto.paillier` for the scheme.

What an answer tells the label holder is a sum modulo ``2^plain_bits`` and nothing else:

- it is multiplied by a fresh ``r^n``, which makes it a uniform encryption of its plaintext, so
  there is no noise to flood and the statistical distance is zero;
- a Paillier plaintext has thousands of bits, in which a dishonest label holder could mark every row
  with a power of two of its own and read bins from the sums.  The provider therefore adds a random
  multiple of ``2^plain_bits``, uniform over all that fit below n: of an honest sum everything is
  left, of such a plaintext the lower bits, and whether the addition passed n.

Chunks and answers travel in the classes of the BFV sums: ``c0`` has one ciphertext per row,
``seeds`` and ``c1`` are empty.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_checks import check_bins, check_pass, check_values
from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers
from fedcredit.crypto.paillier import PaillierSecret
from fedcredit.crypto.paillier_profile import BLOCK_ROWS, PaillierProfile, PaillierPublicKeys
from fedcredit.errors import CiphertextError, CryptoError

__all__ = [
    "PaillierAccumulator",
    "PaillierKeyHolder",
    "PaillierPlan",
    "PaillierProfile",
    "PaillierPublicKeys",
]

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]


class PaillierKeyHolder:
    """Fresh keys for one job, and what is done with them.

    Parameters
    ----------
    profile : PaillierProfile
        The agreed parameters.
    threads : int, optional
        Threads of the encryption; as many as there are cores by default.

    Raises
    ------
    ConfigError
        If the packages of the extra ``paillier`` are not installed.
    """

    def __init__(self, profile: PaillierProfile, threads: int | None = None) -> None:
        self.profile = profile
        self.threads = len(os.sched_getaffinity(0)) if threads is None else threads
        self._secret = PaillierSecret(profile.key_bits)
        self._public = PaillierPublicKeys(profile, self._secret.proof())

    def __repr__(self) -> str:
        return f"<PaillierKeyHolder {self._public.fingerprint()[:16]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def public_keys(self) -> PaillierPublicKeys:
        """Give the key that providers need."""
        return self._public

    def encrypt(self, values: I64) -> Iterator[CiphertextChunk]:
        """Encrypt vectors, chunk by chunk, as the chunks are asked for.

        Parameters
        ----------
        values : ndarray of int64, shape (V, n)
            Numbers whose sums stay in ``[-2^(plain_bits - 1), 2^(plain_bits - 1))``.

        Yields
        ------
        CiphertextChunk
            One block of rows of all vectors; row j of vector v is row ``v * rows + j`` of ``c0``.

        Raises
        ------
        InputError
            If shape or type do not fit, or the sum of a vector's magnitudes may overflow.
        """
        check_values(values, self.profile)
        return self._chunks(values)

    def _chunks(self, values: I64) -> Iterator[CiphertextChunk]:
        n_vectors, n_rows = values.shape
        empty = np.zeros((0, 0), np.uint8)
        for block in range(self.profile.blocks(n_rows)):
            rows = values[:, block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS]
            ciphertexts = self._secret.encrypt(rows.ravel().tolist(), self.threads)
            c0 = self._secret.modulus.write(ciphertexts)
            yield CiphertextChunk(block, 1, n_vectors, empty, c0)

    def decrypt(self, answers: SumAnswers, n_vectors: int, bins: Sequence[int]) -> I64:
        """Decrypt the answers of one pass.

        Parameters
        ----------
        answers : SumAnswers
            From one provider.
        n_vectors : int
            V.
        bins : sequence of int
            Number of bins of every feature, in the provider's order.

        Returns
        -------
        ndarray of int64, shape (V, sum(bins))
            Exact centred sums, feature after feature.

        Raises
        ------
        CiphertextError
            If the answers do not fit what was asked or are no ciphertexts of this key; nothing is
            decrypted then.
        """
        total = int(sum(bins))
        if (answers.n_vectors, answers.total_bins) != (n_vectors, total):
            raise CiphertextError("the answers are for another number of vectors or bins.")
        _check_count(answers.c0, n_vectors * total, answers.c1)
        modulus = 1 << self.profile.plain_bits
        sums = [x % modulus - modulus // 2 for x in self._secret.decrypt(answers.c0)]
        return np.array(sums, np.int64).reshape(n_vectors, total)


class PaillierPlan:
    """A provider's bins in the row order of one pass, or of many passes.

    Parameters
    ----------
    bins : ndarray of uint8 or uint16, shape (F, n)
        Bin of every feature and row; a value of ``n_bins[f]`` or more puts the row in no bin.
    n_bins : sequence of int, length F
        Bins of every feature, 1 to 65535.
    profile : PaillierProfile
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
        bins: NDArray[np.unsignedinteger[Any]],
        n_bins: Sequence[int] | NDArray[np.integer[Any]],
        profile: PaillierProfile,
        threads: int = 1,
    ) -> None:
        counts = check_bins(bins, n_bins, profile, threads)
        self.profile = profile
        self.threads = threads
        self.n_rows = int(bins.shape[1])
        self.n_blocks = profile.blocks(self.n_rows)
        self.total_bins = int(counts.sum())
        starts = (np.cumsum(counts) - counts)[:, None]
        # Place of the sum that a row of a feature belongs to; one place too many for "no bin".
        self.places = np.where(bins < counts[:, None], starts + bins, self.total_bins)

    def __repr__(self) -> str:
        return (
            f"PaillierPlan(features={len(self.places)}, rows={self.n_rows}, bins={self.total_bins})"
        )

    def cache_masks(self, max_bytes: int) -> int:
        """Keep nothing between passes: there are no masks to transform. Returns 0."""
        return 0


class PaillierAccumulator:
    """One pass of ciphertexts over a plan: chunks in, answers out.

    Parameters
    ----------
    profile : PaillierProfile
        The agreed parameters.
    public_keys : PaillierPublicKeys
        The label holder's key, for the same profile.
    plan : PaillierPlan
        The provider's bins.
    n_vectors : int
        V, vectors of values per row.
    threads : int, optional
        Threads of the re-randomisation; the plan's by default.

    Raises
    ------
    KeyMaterialError
        If the key is of another profile or its proof does not hold.
    InputError
        If the plan is of another profile or the numbers make no sense.
    ConfigError
        If the packages of the extra ``paillier`` are not installed.
    """

    def __init__(
        self,
        profile: PaillierProfile,
        public_keys: PaillierPublicKeys,
        plan: PaillierPlan,
        n_vectors: int,
        threads: int | None = None,
    ) -> None:
        self.threads = check_pass(profile, public_keys, plan, n_vectors, threads)
        self.profile = profile
        self.plan = plan
        self.n_vectors = n_vectors
        self._key = public_keys.modulus()
        self._sums = [[self._key.plain(0)] * (plan.total_bins + 1) for _ in range(n_vectors)]
        self._next_block = 0
        self._finished = False

    def __repr__(self) -> str:
        return f"PaillierAccumulator(block {self._next_block} of {self.plan.n_blocks})"

    def add(self, chunk: CiphertextChunk) -> None:
        """Take in the next chunk.

        Parameters
        ----------
        chunk : CiphertextChunk
            In order, without gaps.

        Raises
        ------
        CiphertextError
            If the chunk is not the next one or of another size, or a number is no ciphertext; the
            accumulator is then unchanged.
        """
        left = self.plan.n_blocks - self._next_block
        if self._finished or chunk.first_block != self._next_block or left < 1:
            raise CiphertextError("a chunk of ciphertexts is missing, repeated or too much.")
        if chunk.n_blocks != 1 or chunk.n_vectors != self.n_vectors:
            raise CiphertextError("a chunk has another number of blocks or vectors than agreed.")
        first = self._next_block * BLOCK_ROWS
        places = self.plan.places[:, first : first + BLOCK_ROWS].tolist()
        rows = len(places[0])
        _check_count(chunk.c0, rows * self.n_vectors, chunk.seeds)
        ciphertexts = self._key.read(chunk.c0)
        square = self._key.square
        for v, sums in enumerate(self._sums):
            column = ciphertexts[v * rows : (v + 1) * rows]
            for feature in places:
                for place, ciphertext in zip(feature, column, strict=True):
                    sums[place] = sums[place] * ciphertext % square
        self._next_block += 1

    def finish(self) -> SumAnswers:
        """Re-randomise the sums and blind everything above ``plain_bits``.

        Returns
        -------
        SumAnswers
            For every vector and bin; ``c0`` has one row each, vector after vector.

        Raises
        ------
        CiphertextError
            If chunks are missing.
        CryptoError
            If the answers were already given.
        """
        if self._finished:
            raise CryptoError("the answers of this pass were already given.")
        if self._next_block != self.plan.n_blocks:
            raise CiphertextError("chunks of ciphertexts are missing at the end of a pass.")
        self._finished = True
        key, bits, total = self._key, self.profile.plain_bits, self.plan.total_bins
        sums = [c for vector in self._sums for c in vector[:total]]
        self._sums = []
        room = int(key.n) >> bits
        answers = []
        for c, zero in zip(sums, key.zeros(len(sums), self.threads), strict=True):
            # An honest sum moved by half the range is in [0, 2^bits), so nothing here passes n.
            blind = (1 << (bits - 1)) + (secrets.randbelow(room) << bits)
            answers.append(c * key.plain(blind) % key.square * zero % key.square)
        empty = np.zeros((0, 0), np.uint8)
        return SumAnswers(self.n_vectors, total, key.write(answers), empty)


def _check_count(c0: U8, count: int, unused: U8) -> None:
    if not isinstance(c0, np.ndarray) or c0.ndim != 2 or len(c0) != count:
        raise CiphertextError(f"not the expected number of ciphertexts, {count}.")
    if not isinstance(unused, np.ndarray) or unused.size:
        raise CiphertextError("a part that Paillier does not have is not empty.")
