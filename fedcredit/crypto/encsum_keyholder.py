"""The label holder's side of the encrypted sums: keys, encryption, decryption, all by SEAL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.crypto.encsum_bits import bit_reversed, pack_bits, raise_modulus, unpack_bits
from fedcredit.crypto.encsum_checks import check_dense_values, check_values
from fedcredit.crypto.encsum_kernels import BLOCKS_PER_CHUNK
from fedcredit.crypto.encsum_messages import (
    CiphertextChunk,
    SumAnswers,
    SumPublicKeys,
    bytes_of,
    words_of,
)
from fedcredit.crypto.encsum_profile import PRIME_BITS, SumProfile
from fedcredit.crypto.seal import SEED_BYTES
from fedcredit.errors import CiphertextError

__all__ = ["CiphertextChunk", "SumAnswers", "SumKeyHolder", "SumPublicKeys", "check_totals"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class SumKeyHolder:
    """Fresh keys for one job, and what is done with them.

    The secret key stays inside SEAL; it is never printed, saved or pickled.

    Parameters
    ----------
    profile : SumProfile
        The agreed parameters.
    """

    def __init__(self, profile: SumProfile) -> None:
        self.profile = profile
        self._keys = profile.context.new_keys()
        seed, residues = self._keys.encrypt(np.zeros(profile.degree, np.uint64))
        zero = np.empty(profile.ciphertext_words, np.uint64)
        pack_bits(residues.reshape(-1), PRIME_BITS, zero)
        self._public = SumPublicKeys(
            profile,
            seed + bytes_of(zero).tobytes(),
            self._keys.galois_keys(profile.galois_elements) if profile.packed_answers else b"",
        )
        primes = profile.context.primes[:-1]
        self._primes = np.array(primes, np.uint64)
        modulus = 1
        for p in primes:
            modulus *= p
        self._modulus_low = np.uint64(modulus % (1 << profile.answer_bits))
        self._raise_inverse = np.array(
            [pow(1 << profile.answer_bits, -1, p) for p in primes], np.uint64
        )

    def __repr__(self) -> str:
        return f"<SumKeyHolder {self._public.fingerprint()[:16]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def public_keys(self) -> SumPublicKeys:
        """Give the keys that providers need."""
        return self._public

    def encrypt(self, values: I64) -> Iterator[CiphertextChunk]:
        """Encrypt vectors, chunk by chunk, as the chunks are asked for.

        Parameters
        ----------
        values : ndarray of int64, shape (V, n)
            Numbers whose sums stay in ``[-2^(plain_bits - 1), 2^(plain_bits - 1))``; with dense
            weights numbers below ``2^(value_bits - 1)`` in magnitude.

        Yields
        ------
        CiphertextChunk
            Sixteen blocks of all vectors, in order; fewer in the last chunk.

        Raises
        ------
        InputError
            If shape or type do not fit, or the sum of a vector's magnitudes may overflow.
        """
        if self.profile.is_dense:
            check_dense_values(values, self.profile)
        else:
            check_values(values, self.profile)
        return self._chunks(values)

    def _chunks(self, values: I64) -> Iterator[CiphertextChunk]:
        profile = self.profile
        n_vectors, n_rows = values.shape
        n_blocks, block = profile.blocks(n_rows), profile.block
        plain = np.zeros(profile.degree, np.uint64)
        mask = np.int64((1 << profile.plain_bits) - 1)
        # Row j of a block stands at X^(j - B + 1), that is -X^(N + j - B + 1) except for the last.
        where = (np.arange(block) - block + 1) % profile.degree
        sign = np.where(np.arange(block) == block - 1, 1, -1)
        for first in range(0, n_blocks, BLOCKS_PER_CHUNK):
            count = min(BLOCKS_PER_CHUNK, n_blocks - first)
            seeds = np.empty((count * n_vectors, SEED_BYTES), np.uint8)
            c0 = np.empty((count * n_vectors, profile.ciphertext_words), np.uint64)
            for i in range(count * n_vectors):
                b, v = divmod(i, n_vectors)
                rows = values[v, (first + b) * block : (first + b + 1) * block]
                plain[where] = 0
                plain[where[: rows.size]] = (sign[: rows.size] * rows & mask).astype(np.uint64)
                seed, residues = self._keys.encrypt(plain)
                seeds[i] = np.frombuffer(seed, np.uint8)
                pack_bits(residues.reshape(-1), PRIME_BITS, c0[i])
            yield CiphertextChunk(first, count, n_vectors, seeds, bytes_of(c0))

    def decrypt(self, answers: SumAnswers, n_vectors: int, bins: Sequence[int]) -> I64:
        """Decrypt the answers of one pass.

        Parameters
        ----------
        answers : SumAnswers
            From one provider.
        n_vectors : int
            V; 1 for dense weights.
        bins : sequence of int
            Number of bins of every feature, in the provider's order; 1 per column for dense
            weights.

        Returns
        -------
        ndarray of int64, shape (V, sum(bins))
            Exact centred sums, feature after feature.

        Raises
        ------
        CiphertextError
            If the answers do not fit what was asked, or carry something where nothing should be,
            which shows an overflow of the noise or a foreign ciphertext.
        """
        profile = self.profile
        total = int(sum(bins))
        answers.validate(profile, n_vectors, total)
        width, per_answer = profile.bins_per_mask, 1 << profile.pack_steps
        kept = profile.kept_coefficients
        stride = profile.degree // kept
        masks = -(-total // width)
        sums = np.zeros((n_vectors * masks, width), np.int64)
        first, second = words_of(answers.c0), words_of(answers.c1)
        residues = np.zeros((2, profile.primes, profile.degree), np.uint64)
        order = bit_reversed(per_answer)
        values = np.empty((profile.primes, kept), np.uint64)
        for i in range(len(first)):
            self._raise(first[i], values)
            residues[0][:, ::stride] = values
            self._raise(second[i], residues[1])
            plain = self._centred(self._keys.decrypt(residues))[::stride]
            ordered = plain.reshape(width, per_answer)[:, order].T
            start = i * per_answer
            here = min(per_answer, len(sums) - start)
            sums[start : start + here] = ordered[:here]
            if np.any(ordered[here:]):
                raise CiphertextError("an answer carries more sums than were asked for.")
        table = sums.reshape(n_vectors, masks * width)
        if np.any(table[:, total:]):
            raise CiphertextError("a sum of no bin is not zero.")
        return np.ascontiguousarray(table[:, :total])

    def _raise(self, words: U64, out: U64) -> None:
        values = np.empty(out.shape[1], np.uint64)
        bits = self.profile.answer_bits
        unpack_bits(words, bits, values)
        raise_modulus(values, bits, self._modulus_low, self._raise_inverse, self._primes, out)

    def _centred(self, plain: U64) -> I64:
        shift = np.int64(64 - self.profile.plain_bits)
        return (plain.astype(np.int64) << shift) >> shift


def check_totals(sums: I64, bins: Sequence[int], totals: ArrayLike) -> None:
    """Check that the bins of every feature add up to the known totals, or fail loudly.

    Little noise budget remains by design, so this is the guard against an answer that decrypts to
    something else; it holds where every row lies in exactly one bin of every feature.

    Parameters
    ----------
    sums : ndarray of int64, shape (V, sum(bins))
        Decrypted sums.
    bins : sequence of int
        Number of bins of every feature.
    totals : array_like of int, shape (V,)
        The known sum of every vector.

    Raises
    ------
    CiphertextError
        If a feature's bins add up to something else.
    """
    expected = np.asarray(totals, np.int64)
    if sums.ndim != 2 or sums.shape != (expected.size, sum(bins)):
        raise CiphertextError("the sums have another shape than the features and totals.")
    starts = np.concatenate([[0], np.cumsum(bins)[:-1]]).astype(np.int64)
    found = np.add.reduceat(sums, starts, axis=1)
    wrong = np.flatnonzero(np.any(found != expected[:, None], axis=0))
    if wrong.size:
        raise CiphertextError(
            f"the bins of {wrong.size} features do not add up to the known total; "
            f"the first is feature {wrong[0]}.",
            fix="put every row in a bin, and use a profile made for the number of rows",
        )
