"""What the two sides of the encrypted sums exchange, and the checks of everything received."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_bits import count_out_of_range
from fedcredit.crypto.encsum_kernels import BLOCKS_PER_CHUNK
from fedcredit.crypto.encsum_profile import PRIME_BITS, SumProfile
from fedcredit.crypto.seal import SEED_BYTES
from fedcredit.errors import CiphertextError

__all__ = ["CiphertextChunk", "SumAnswers", "SumPublicKeys"]

U8 = NDArray[np.uint8]


def _check_bytes(array: U8, shape: tuple[int, int], what: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.shape != shape:
        raise CiphertextError(
            f"{what} is not a uint8 array of the expected shape {shape}.",
            fix="let both sides use the same profile",
        )


def words_of(rows: U8) -> NDArray[np.uint64]:
    """View rows of bytes, whole words long, as little-endian 64-bit words."""
    return np.ascontiguousarray(rows).view("<u8").astype(np.uint64, copy=False)


def bytes_of(words: NDArray[np.uint64]) -> U8:
    """View rows of 64-bit words as little-endian bytes."""
    return np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)


@dataclass(frozen=True, eq=False)
class CiphertextChunk:
    """Encrypted values of at most sixteen consecutive blocks, label holder to provider.

    Semantically secure under the label holder's key; reveals only the number of rows and vectors.

    Attributes
    ----------
    first_block : int
        Number of the first block, a multiple of sixteen.
    n_blocks : int
        Number of blocks; below sixteen in the last chunk of a pass only.
    n_vectors : int
        V, vectors of values.
    seeds : ndarray of uint8, shape (n_blocks * V, 64)
        Seeds of c1; the ciphertext of block b and vector v is row ``b * V + v``.
    c0 : ndarray of uint8, shape (n_blocks * V, 31 L N / 8)
        Residues of c0, 31 bits each.
    """

    first_block: int
    n_blocks: int
    n_vectors: int
    seeds: U8
    c0: U8

    def check_shape(self, profile: SumProfile) -> None:
        """Check everything but the residues, which the accumulator checks as it reads them.

        Raises
        ------
        CiphertextError
            If sizes or types do not fit the profile.
        """
        if not 1 <= self.n_blocks <= BLOCKS_PER_CHUNK or self.n_vectors < 1:
            raise CiphertextError("a chunk must hold 1 to 16 blocks and at least one vector.")
        if self.first_block < 0 or self.first_block % BLOCKS_PER_CHUNK:
            raise CiphertextError("a chunk does not start at a multiple of sixteen blocks.")
        count = self.n_blocks * self.n_vectors
        _check_bytes(self.seeds, (count, SEED_BYTES), "the seeds")
        _check_bytes(self.c0, (count, 8 * profile.ciphertext_words), "c0")

    def validate(self, profile: SumProfile) -> None:
        """Check shape, types and that every residue is below its prime.

        Raises
        ------
        CiphertextError
            If anything does not fit the profile.
        """
        self.check_shape(profile)
        primes = np.array(profile.context.primes[:-1], np.uint64)
        for row in words_of(self.c0):
            if count_out_of_range(row, PRIME_BITS, primes, profile.degree):
                raise CiphertextError("a residue of a ciphertext is not below its prime.")


@dataclass(frozen=True, eq=False)
class SumAnswers:
    """Encrypted sums, provider to label holder.

    The label holder learns the sum of every bin and vector (of every column, if weights are dense
    and no mask was added), and from the noise at most ``SumProfile.statistical_distance`` about
    anything else.

    Attributes
    ----------
    n_vectors : int
        V; 1 if weights are dense, as vectors are then added up.
    total_bins : int
        Bins of all features together; columns if weights are dense.
    c0 : ndarray of uint8, shape (C, bytes)
        First polynomials, ``answer_bits`` per coefficient: the kept coefficients only, which are
        all N where a profile of bins packs its answers.
    c1 : ndarray of uint8, shape (C, N answer_bits / 8)
        Second polynomials.
    """

    n_vectors: int
    total_bins: int
    c0: U8
    c1: U8

    @staticmethod
    def count(profile: SumProfile, n_vectors: int, total_bins: int) -> int:
        """Give the number of ciphertexts that answer ``total_bins`` bins of ``n_vectors``."""
        sums = n_vectors * -(-total_bins // profile.bins_per_mask)
        return -(-sums // (1 << profile.pack_steps))

    @staticmethod
    def words(profile: SumProfile) -> tuple[int, int]:
        """Give the 64-bit words of c0 and of c1."""
        kept = profile.kept_coefficients
        return -(-kept * profile.answer_bits // 64), profile.degree * profile.answer_bits // 64

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.c0.nbytes + self.c1.nbytes

    def validate(self, profile: SumProfile, n_vectors: int, total_bins: int) -> None:
        """Check against what the label holder asked for.

        Every bit pattern is a valid answer modulo ``2^answer_bits``, so sizes are all there is.

        Raises
        ------
        CiphertextError
            If anything does not fit.
        """
        if (self.n_vectors, self.total_bins) != (n_vectors, total_bins):
            raise CiphertextError("the answers are for another number of vectors or bins.")
        count = self.count(profile, n_vectors, total_bins)
        words0, words1 = self.words(profile)
        _check_bytes(self.c0, (count, 8 * words0), "c0 of the answers")
        _check_bytes(self.c1, (count, 8 * words1), "c1 of the answers")
        spare = -profile.kept_coefficients * profile.answer_bits % 64
        if spare and count:
            last = words_of(self.c0)[:, -1]
            if np.any(last >> np.uint64(64 - spare)):
                raise CiphertextError("the padding of an answer is not zero.")


@dataclass(frozen=True)
class SumPublicKeys:
    """The label holder's public keys, to every provider, once per job.

    Attributes
    ----------
    profile : SumProfile
        Parameters of the keys.
    public_key : bytes
        An encryption of zero, with which providers re-randomise answers: 64 bytes of seed and the
        residues of c0, 31 bits each.  That c1 is the expansion of a seed keeps a dishonest label
        holder from choosing one that hides nothing.
    galois_keys : bytes
        SEAL's Galois keys of the packing, empty if answers are not packed.
    """

    profile: SumProfile
    public_key: bytes
    galois_keys: bytes

    def __repr__(self) -> str:
        return f"SumPublicKeys({self.fingerprint()[:16]}, {len(self.galois_keys)} B Galois keys)"

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return len(self.public_key) + len(self.galois_keys)

    def fingerprint(self) -> str:
        """Give the SHA-256, in hexadecimal, of profile and keys."""
        digest = hashlib.sha256(b"fedcredit encrypted sums v1\0")
        digest.update(json.dumps(self.profile.to_dict(), sort_keys=True).encode())
        for part in (self.public_key, self.galois_keys):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()
