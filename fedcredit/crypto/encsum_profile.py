"""Public parameters of the encrypted sums.

BFV (J. Fan, F. Vercauteren, 2012) with a plain modulus ``t = 2^plain_bits`` and a modulus of three
to five 31-bit primes; coefficient encoding as in Cheetah (Z. Huang et al., USENIX Security 2022)
and Squirrel (W. Lu et al., USENIX Security 2023): B samples per ciphertext, ``N / B`` bin sums per
product.  *Bin* profiles sum over the samples of a bin; *dense* profiles take the inner product with
integer weights, one per block of B = N samples, and add the products of several vectors up.

Noise, in units of the coefficient modulus Q: a returned sum carries the noise of the fresh
ciphertexts, each times its weight (0 or 1 for a bin), which depends on what the provider holds, and
a uniform flood on ``[-2^flood_bits, 2^flood_bits)``, which hides it.  The flood is the largest that
decryption bears.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fedcredit.crypto.seal import SealContext
from fedcredit.errors import ParameterError

__all__ = ["MAX_ROWS", "SumProfile"]

MAX_ROWS = 1 << 20
"""Largest number of rows of one pass."""

PRIME_BITS = 31
MAX_PLAIN_BITS = 52
ANSWER_EXTRA_BITS = 10
"""Bits of an answer beyond the plain modulus: room for the flood and the rounding."""

DENSE_PACK_STEPS = 4
"""A dense answer carries ``2^4`` sums.

Every further step halves the answers but costs a Galois key, 0.7 MB once per job; at sixteen sums
the answers are below a hundredth of the ciphertexts that they answer.
"""

DENSE_DISTANCE = -40.0
"""Statistical distance of one sum of a dense preset, as log2."""

MAX_WEIGHT_BITS, MAX_VALUE_BITS, MAX_SUMMED_VECTORS = 24, 40, 64

_PRIMES = {4096: (3,), 8192: (4, 5)}
_SPECIAL_BITS = {4096: 16, 8192: 31}
_NOISE_STD = math.sqrt(21 / 2)  # centred binomial, 21 + 21 bits: SEAL's error distribution
_TAIL = 8.0  # standard deviations: 1e-15 per value
_KEY_VARIANCE = 2 / 3  # uniform ternary


@dataclass(frozen=True)
class SumProfile:
    """What both sides must agree on before the first ciphertext.

    Attributes
    ----------
    degree : int
        N, 4096 or 8192.
    primes : int
        Number of 31-bit primes of the modulus Q: 3 at 4096, 4 or 5 at 8192.
    plain_bits : int
        The plain modulus is ``2^plain_bits``.  Keep it no larger than needed: it bounds how much a
        malicious label holder can pack into one value.
    block : int
        B, samples per ciphertext: a power of two from N / 16 to N / 2 for bins, N for dense
        weights.
    flood_bits : int
        The flood is uniform on ``[-2^flood_bits, 2^flood_bits)``.
    answer_bits : int
        Answers are switched to the modulus ``2^answer_bits``.
    packed_answers : bool
        Pack ``2^pack_steps`` returned sums into one ciphertext, with Galois keys.
    max_rows : int
        Largest number of rows in one pass.
    weight_bits : int
        Weights are below ``2^(weight_bits - 1)`` in magnitude; 1 for bins, whose masks are 0 or 1.
    value_bits : int
        Values of a dense profile are below ``2^(value_bits - 1)`` in magnitude; 0 for bins.
    summed_vectors : int
        Largest number of vectors whose products a dense profile adds up; 1 for bins.

    Raises
    ------
    ParameterError
        If the parameters leave the 128-bit table, or decryption would not be certain.
    """

    degree: int
    primes: int
    plain_bits: int
    block: int
    flood_bits: int
    answer_bits: int
    packed_answers: bool
    max_rows: int = MAX_ROWS
    weight_bits: int = 1
    value_bits: int = 0
    summed_vectors: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            kind = bool if field.name == "packed_answers" else int
            if type(getattr(self, field.name)) is not kind:
                raise ParameterError(f"the profile's {field.name} is not of type {kind.__name__}.")
        if self.primes not in _PRIMES.get(self.degree, ()):
            raise ParameterError(
                f"degree {self.degree} with {self.primes} primes is outside the standard table.",
                fix="use 4096 with 3 primes, or 8192 with 4 or 5",
            )
        if self.is_dense:
            self._check_dense()
        elif (self.weight_bits, self.value_bits, self.summed_vectors) != (1, 0, 1):
            raise ParameterError("a profile of bins has no weights, value bits or summed vectors.")
        elif self.block & (self.block - 1) or not 2 <= self.degree // max(self.block, 1) <= 16:
            raise ParameterError(
                "the block size does not divide the degree into 2 to 16 parts.",
                fix="use a power of two from degree / 16 to degree / 2",
            )
        if not 1 <= self.max_rows <= MAX_ROWS:
            raise ParameterError(f"a pass takes 1 to {MAX_ROWS} rows.")
        if (
            not 8 <= self.plain_bits <= MAX_PLAIN_BITS
            or not self.plain_bits < self.answer_bits <= MAX_PLAIN_BITS + ANSWER_EXTRA_BITS
        ):
            raise ParameterError("plain_bits must be 8 to 52 and below answer_bits, at most 62.")
        if not 1 <= self.flood_bits <= 120:
            raise ParameterError("flood_bits must be 1 to 120.")
        if self._noise_bound() > 2.0 ** (self._modulus_log2() - self.plain_bits - 1):
            raise ParameterError(
                "the flood and the rounding leave no certain decryption.",
                fix="lower flood_bits or plain_bits, or raise answer_bits",
            )

    def _check_dense(self) -> None:
        if self.degree != 8192:
            raise ParameterError(
                "dense weights need a flood that degree 4096 does not bear.", fix="use degree 8192"
            )
        if not 2 <= self.weight_bits <= MAX_WEIGHT_BITS:
            raise ParameterError(f"dense weights have 2 to {MAX_WEIGHT_BITS} bits.")
        if not 2 <= self.value_bits <= min(MAX_VALUE_BITS, self.plain_bits):
            raise ParameterError(
                f"dense values have 2 to {MAX_VALUE_BITS} bits and fit the plain modulus."
            )
        if not 1 <= self.summed_vectors <= MAX_SUMMED_VECTORS:
            raise ParameterError(f"a dense sum takes 1 to {MAX_SUMMED_VECTORS} vectors.")

    # ------------------------------------------------------------------------------- presets

    @classmethod
    def packed(cls, n_rows: int, block: int | None = None) -> SumProfile:
        """Two quantised numbers in one vector (``encode_pair``): least traffic.

        Parameters
        ----------
        n_rows : int
            Rows of the largest pass.
        block : int, optional
            B; 512 by default, 1024 halves the upload for a third more provider time.
        """
        return cls._fitting(4096, 3, 42, 512 if block is None else block, n_rows)

    @classmethod
    def exact(cls, n_rows: int, block: int | None = None, value_bits: int = 17) -> SumProfile:
        """One number per vector with ``value_bits`` bits and sign, the sums always fitting.

        Parameters
        ----------
        n_rows : int
            Rows of the largest pass.
        block : int, optional
            B; 512 by default.
        value_bits : int, default 17
            The values are below ``2^(value_bits - 1)`` in magnitude.
        """
        plain = max(8, value_bits + max(n_rows, 1).bit_length())
        return cls._fitting(4096, 3, plain, 512 if block is None else block, n_rows)

    @classmethod
    def counts(cls, n_rows: int, block: int | None = None) -> SumProfile:
        """Numbers 0 and 1, at most half of them 1: the smallest plain modulus above ``n_rows``.

        A label holder that packs powers of two into its numbers learns the bins of no more than
        ``plain_bits`` rows from a pass.

        Parameters
        ----------
        n_rows : int
            Rows of the largest pass.
        block : int, optional
            B; 2048 by default: with one pass there is little but the upload.
        """
        plain = max(8, max(n_rows, 1).bit_length())
        return cls._fitting(4096, 3, plain, 2048 if block is None else block, n_rows)

    @classmethod
    def high_assurance(cls, n_rows: int, block: int | None = None) -> SumProfile:
        """Degree 8192: a flood so wide that the statistical distance is below 2^-60."""
        return cls._fitting(8192, 4, 42, 2048 if block is None else block, n_rows)

    @classmethod
    def dense(
        cls,
        n_rows: int,
        *,
        n_vectors: int,
        value_bits: int,
        weight_bits: int,
        sum_bits: int | None = None,
    ) -> SumProfile:
        """Inner products with integer weights, added up over vectors.

        Parameters
        ----------
        n_rows : int
            Rows of the largest pass.
        n_vectors : int
            Largest number of vectors of a pass.
        value_bits : int
            The encrypted values are below ``2^(value_bits - 1)`` in magnitude.
        weight_bits : int
            The weights are below ``2^(weight_bits - 1)`` in magnitude.
        sum_bits : int, optional
            Bits of a sum with its sign, where the caller knows a bound; by default the sums fit
            whatever the values and weights are.

        Returns
        -------
        SumProfile
            Degree 8192; the statistical distance of a returned sum is below 2^-40.

        Raises
        ------
        ParameterError
            If a number is out of range, or the sums need more bits than the scheme has.
        """
        if min(n_rows, n_vectors, value_bits - 1, weight_bits - 1) < 1:
            raise ParameterError(
                "a dense profile needs a row, a vector, and values and weights of 2 bits or more."
            )
        if max(value_bits, weight_bits) > MAX_VALUE_BITS:
            raise ParameterError("the values or weights have too many bits.", fix="scale them down")
        largest = ((1 << (value_bits - 1)) - 1) * ((1 << (weight_bits - 1)) - 1)
        plain_bits = (n_rows * n_vectors * largest).bit_length() + 1
        plain_bits = max(8, value_bits, plain_bits if sum_bits is None else sum_bits)
        if plain_bits > MAX_PLAIN_BITS:
            raise ParameterError(
                f"the sums may need {plain_bits} bits, and {MAX_PLAIN_BITS} is the most.",
                fix="use fewer value or weight bits, or declare the bits of the sums",
            )
        dense = {
            "weight_bits": weight_bits,
            "value_bits": value_bits,
            "summed_vectors": n_vectors,
        }
        narrow = cls._fitting(8192, 4, plain_bits, 8192, n_rows, **dense)
        if narrow.statistical_distance() <= DENSE_DISTANCE:
            return narrow
        return cls._fitting(8192, 5, plain_bits, 8192, n_rows, **dense)

    @classmethod
    def _fitting(
        cls,
        degree: int,
        primes: int,
        plain_bits: int,
        block: int,
        n_rows: int,
        **dense: int,
    ) -> SumProfile:
        return cls(
            degree=degree,
            primes=primes,
            plain_bits=plain_bits,
            block=block,
            flood_bits=min(PRIME_BITS * primes - plain_bits - 2, 120),
            answer_bits=plain_bits + ANSWER_EXTRA_BITS,
            packed_answers=True,
            max_rows=n_rows,
            **dense,
        )

    # --------------------------------------------------------------------------- derived sizes

    @property
    def is_dense(self) -> bool:
        """Whether the provider's side has integer weights instead of bins."""
        return self.block == self.degree

    @property
    def pack_steps(self) -> int:
        """Steps of the packing: ``2^pack_steps`` sums share an answer."""
        if not self.packed_answers:
            return 0
        return DENSE_PACK_STEPS if self.is_dense else self.block.bit_length() - 1

    @property
    def kept_coefficients(self) -> int:
        """Coefficients of c0 that an answer has: those that carry sums, at even distances."""
        return self.bins_per_mask << self.pack_steps

    @property
    def bins_per_mask(self) -> int:
        """Bin sums of one product: N / B."""
        return self.degree // self.block

    @property
    def coefficient_bits(self) -> tuple[int, ...]:
        """Bits of the primes, the special prime of key switching last."""
        return (PRIME_BITS,) * self.primes + (_SPECIAL_BITS[self.degree],)

    @property
    def context(self) -> SealContext:
        """SEAL's context of these parameters."""
        return SealContext.of(self.degree, self.coefficient_bits, 1 << self.plain_bits)

    @property
    def ciphertext_words(self) -> int:
        """64-bit words of the packed c0 of one ciphertext on the wire."""
        return self.degree * self.primes * PRIME_BITS // 64

    @property
    def galois_elements(self) -> tuple[int, ...]:
        """Automorphisms of the packing: ``2N / B' + 1`` for B' = B, B/2, ..., one per step."""
        return tuple(2 * self.degree // (self.block >> i) + 1 for i in range(self.pack_steps))

    def blocks(self, n_rows: int) -> int:
        """Give the number of blocks of ``n_rows`` rows, at least one."""
        return max(1, -(-n_rows // self.block))

    def ciphertext_bytes(self, n_rows: int, n_vectors: int = 1) -> int:
        """Give the bytes of the ciphertexts of one pass on the wire."""
        return self.blocks(n_rows) * n_vectors * (8 * self.ciphertext_words + 64)

    # ----------------------------------------------------------------------------------- noise

    def statistical_distance(self, returned_values: int = 1) -> float:
        """Bound what the noise of the answers tells about the provider's side, as log2.

        Two assignments of samples to bins, or two vectors of weights, give noises x and x' of a
        returned sum; the statistical distance between the flooded sums is
        ``|x - x'| / 2^(flood_bits + 1)``.  The figure is its mean for ``max_rows`` fresh ciphertext
        coefficients (of ``summed_vectors`` vectors, with opposite weights of the largest
        magnitude), times the number of returned values (union bound).  Without flooding the key
        holder recovers bins and weights from the noise.

        Parameters
        ----------
        returned_values : int, default 1
            Sums returned over the whole job.

        Returns
        -------
        float
            log2 of the distance.
        """
        apart = math.sqrt(8 / math.pi) if self.is_dense else 2 / math.sqrt(math.pi)
        spread = apart * self._fresh_noise_std()
        return math.log2(spread * returned_values) - (self.flood_bits + 1)

    def _modulus_log2(self) -> float:
        return PRIME_BITS * self.primes - 0.01  # the primes lie within 0.1 % of 2^31

    def _fresh_noise_std(self) -> float:
        """Noise of a sum of ``max_rows`` fresh coefficients, with the rounding of Q m / t."""
        terms = self.max_rows * self.summed_vectors
        return math.sqrt(terms * (_NOISE_STD**2 + 1 / 12)) * 2.0 ** (self.weight_bits - 1)

    def _noise_bound(self) -> float:
        """Bound the noise of a returned value, in units of Q."""
        growth = 1 << self.pack_steps
        zero = _NOISE_STD * math.sqrt(2 * _KEY_VARIANCE * self.degree) * growth
        digit = 2.0**PRIME_BITS / math.sqrt(3)
        switch = digit * _NOISE_STD * math.sqrt(self.primes * self.degree)
        switch = switch / 2.0 ** (_SPECIAL_BITS[self.degree] - 1) * 2 * growth
        rounding = math.sqrt((_KEY_VARIANCE * self.degree + 1) / 12)
        rounding *= 2.0 ** (self._modulus_log2() - self.answer_bits)
        spread = math.hypot(
            self._fresh_noise_std(), zero, switch if self.packed_answers else 0.0, rounding
        )
        return 2.0**self.flood_bits + _TAIL * spread

    # ------------------------------------------------------------------------------------ wire

    def to_dict(self) -> dict[str, int]:
        """Give the fields as plain integers."""
        return {name: int(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SumProfile:
        """Read what :meth:`to_dict` wrote, for instance from the peer.

        Raises
        ------
        ParameterError
            If a field is missing, unknown or not an integer, or the profile is not valid.
        """
        names = [field.name for field in fields(cls)]
        if sorted(values) != sorted(names) or any(type(v) is not int for v in values.values()):
            raise ParameterError("the profile does not have the expected integer fields.")
        if values["packed_answers"] not in (0, 1):
            raise ParameterError("the profile's packed_answers is neither 0 nor 1.")
        return cls(**{**values, "packed_answers": bool(values["packed_answers"])})
