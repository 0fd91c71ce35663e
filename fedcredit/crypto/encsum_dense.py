"""Inner products of a provider's integer weights with the label holder's encrypted vectors.

The label holder encrypts V vectors x_v of integers, ``N`` rows per ciphertext (coefficient
encoding, as in Cheetah; Z. Huang et al., USENIX Security 2022).  For every column f the provider
returns one encrypted number, ``sum_v sum_i w_fvi x_vi`` with ``w_fvi = rint(c_fi t_vi)``: column f
times the factor of vector v.  The answer is re-randomised, flooded and stripped of everything but
this number as bin sums are (:mod:`fedcredit.crypto.encsum_packing`).

Without ``masked`` the key holder learns the numbers.  With it every number carries a fresh uniform
mask modulo ``2^plain_bits`` that only the provider knows; the key holder sees uniform numbers and
returns them for the provider to unmask (:func:`unmasked`), or both go on with shares.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_answers import SumPass
from fedcredit.crypto.encsum_bits import count_out_of_range
from fedcredit.crypto.encsum_checks import check_dense_pass
from fedcredit.crypto.encsum_dense_kernels import (
    accumulate_columns,
    count_unfit,
    leave_montgomery,
)
from fedcredit.crypto.encsum_kernels import BLOCKS_PER_CHUNK, prepare_ciphertext
from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers, SumPublicKeys, words_of
from fedcredit.crypto.encsum_profile import PRIME_BITS, SumProfile
from fedcredit.crypto.prg import prg_u64
from fedcredit.errors import CiphertextError, InputError

__all__ = ["DenseAccumulator", "unmasked"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


class DenseAccumulator(SumPass):
    """One pass of ciphertexts over columns of weights: chunks in, one number per column out.

    Parameters
    ----------
    profile : SumProfile
        The agreed parameters, made by :meth:`SumProfile.dense`.
    public_keys : SumPublicKeys
        The key holder's keys, for the same profile.
    columns : ndarray of float64, shape (F, n)
        The provider's columns.
    tables : ndarray of float64, shape (V, n)
        Factor of every vector and row.  The weight of column f, vector v and row i is
        ``rint(columns[f, i] * tables[v, i])``, below ``2^(weight_bits - 1)`` in magnitude.
        Neither array is copied if it is C-contiguous, and neither may change during the pass.
    masked : bool
        Add a fresh uniform mask to every number.
    threads : int, default 1
        Threads.

    Raises
    ------
    KeyMaterialError
        If the keys are of another profile or cannot be read.
    InputError
        If the profile has no dense weights, shapes or types do not fit, or a weight is not a number
        or has too many bits.
    """

    def __init__(
        self,
        profile: SumProfile,
        public_keys: SumPublicKeys,
        columns: F64,
        tables: F64,
        *,
        masked: bool,
        threads: int = 1,
    ) -> None:
        check_dense_pass(profile, public_keys, columns, tables, threads)
        self._columns, self._tables = np.ascontiguousarray(columns), np.ascontiguousarray(tables)
        self._check_weights(profile.weight_bits)
        n_vectors, n_rows = tables.shape
        super().__init__(profile, public_keys, n_vectors, profile.blocks(n_rows), threads)
        self.masked = masked
        self._order = np.arange(profile.degree)
        self._montgomery = np.array(
            [[p, pow(p, -1, 1 << 32)] for p in profile.context.primes[:-1]], np.uint64
        )
        size = BLOCKS_PER_CHUNK * profile.degree
        self._cipher = np.zeros((profile.primes, 2, size), np.uint32)
        self._acc = np.zeros((len(columns), profile.primes, 2, profile.degree), np.uint32)

    def _check_weights(self, weight_bits: int) -> None:
        end = float(1 << (weight_bits - 1))
        largest = [
            np.array([max(-row.min(), row.max()) for row in rows])
            for rows in (self._columns, self._tables)
        ]
        if not all(np.all(np.isfinite(sizes)) for sizes in largest):
            raise InputError("a weight is not a finite number.", fix="fill missing values first")
        # Only pairs whose largest entries might meet are looked at row by row.
        for f, v in np.argwhere(~(np.multiply.outer(*largest) < end - 0.5)):
            if count_unfit(self._columns[f], self._tables[v], end):
                raise InputError(
                    "a weight has more bits than the profile says.", fix="scale the columns down"
                )

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
        primes, degree = self._montgomery[:, 0].copy(), self.profile.degree

        def count(span: range) -> int:
            return sum(count_out_of_range(c0[i], PRIME_BITS, primes, degree) for i in span)

        if sum(self._parallel(count, len(c0))):
            raise CiphertextError("a residue of a ciphertext is not below its prime.")
        first = self._next_block * self.n_vectors
        for begin in range(0, len(seeds), BLOCKS_PER_CHUNK):
            end = min(begin + BLOCKS_PER_CHUNK, len(seeds))
            self._accumulate(seeds[begin:end], c0[begin:end], first + begin)
        self._next_block += chunk.n_blocks

    def _accumulate(self, seeds: U64, c0: U64, first: int) -> None:
        """Take in up to sixteen ciphertexts, of which ``first`` is the first one's number."""
        forward = self._keys.tables.forward
        primes = self._montgomery[:, 0].copy()
        if len(seeds) < BLOCKS_PER_CHUNK:
            self._cipher[:] = 0

        def prepare(span: range) -> int:
            return sum(
                prepare_ciphertext(
                    seeds[i], c0[i], primes, forward, self._order, i, 0, self._cipher
                )
                for i in span
            )

        def accumulate(span: range) -> None:
            accumulate_columns(
                self._columns,
                self._tables,
                first,
                len(seeds),
                span.start,
                span.stop,
                forward,
                self._montgomery,
                self._cipher,
                self._acc,
            )

        list(self._parallel(prepare, len(seeds)))
        list(self._parallel(accumulate, len(self._acc)))

    # -------------------------------------------------------------------------------- finish

    def finish(self) -> tuple[SumAnswers, I64 | None]:
        """Mask (if asked to), hide, pack and switch the numbers.

        Returns
        -------
        answers : SumAnswers
            One number per column: one vector of F bins.
        masks : ndarray of int64, shape (F,), or None
            The masks, from 0 to ``2^plain_bits - 1``; None if ``masked`` is false.

        Raises
        ------
        CiphertextError
            If chunks are missing.
        CryptoError
            If the answers were already given.
        """
        self._close()
        count = len(self._acc)
        masks = None
        if self.masked:
            low = np.uint64((1 << self.profile.plain_bits) - 1)
            masks = prg_u64(secrets.token_bytes(32), count) & low
        answers = self._answer(1, count, masks)
        del self._acc, self._cipher
        return answers, None if masks is None else masks.astype(np.int64)

    def _source(self, number: int) -> tuple[U32, U32, I64]:
        factors = []
        for p in self.profile.context.primes[:-1]:
            w = (1 << 32) * pow(1 << self.profile.pack_steps, -1, p) % p
            factors.append((p, w, (w << 32) // p))
        out = np.empty((2, self.profile.primes, self.profile.degree), np.uint32)
        leave_montgomery(self._acc[number], np.array(factors, np.uint64), out)
        return out[0], out[1], self._order


def unmasked(values: I64, masks: I64, plain_bits: int) -> I64:
    """Take masks off decrypted numbers.

    Parameters
    ----------
    values : ndarray of int64
        Decrypted masked numbers.
    masks : ndarray of int64, same shape
        Their masks.
    plain_bits : int
        Of the profile.

    Returns
    -------
    ndarray of int64
        The numbers, from ``-2^(plain_bits - 1)`` to ``2^(plain_bits - 1) - 1``.

    Raises
    ------
    InputError
        If shapes or types do not fit.
    """
    if values.dtype != np.int64 or masks.dtype != np.int64 or values.shape != masks.shape:
        raise InputError("masked numbers and masks must be int64 arrays of one shape.")
    shift = np.int64(64 - plain_bits)
    return ((values - masks) << shift) >> shift
