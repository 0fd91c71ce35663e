"""Public parameters of the encrypted sums.

BFV (J. Fan, F. Vercauteren, 2012) with a plain modulus ``t = 2^plain_bits`` and a modulus of three
to five 31-bit primes; coefficient encoding as in Cheetah (Z. Huang et al., USENIX Security 2022)
and Squirrel (W. Lu et al., USENIX Security 2023): B samples per ciphertext, ``N / B`` bin sums per
product.

Noise, in units of the coefficient modulus Q: a returned sum carries the noise of the fresh
ciphertexts, which depends on the bins of the samples, and a uniform flood on
``[-2^flood_bits, 2^flood_bits)``, which hides it.  The flood is the largest that decryption bears.
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
ANSWER_EXTRA_BITS = 10
"""Bits of an answer beyond the plain modulus: room for the flood and the rounding."""

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
        B, samples per ciphertext: a power of two from N / 16 to N / 2.
    flood_bits : int
        The flood is uniform on ``[-2^flood_bits, 2^flood_bits)``.
    answer_bits : int
        Answers are switched to the modulus ``2^answer_bits``.
    packed_answers : bool
        Pack B returned ciphertexts into one, with Galois keys.
    max_rows : int
        Largest number of rows in one pass.

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
        if self.block & (self.block - 1) or not 2 <= self.degree // max(self.block, 1) <= 16:
            raise ParameterError(
                "the block size does not divide the degree into 2 to 16 parts.",
                fix="use a power of two from degree / 16 to degree / 2",
            )
        if not 1 <= self.max_rows <= MAX_ROWS:
            raise ParameterError(f"a pass takes 1 to {MAX_ROWS} rows.")
        if not 8 <= self.plain_bits <= 52 or not self.plain_bits < self.answer_bits <= 62:
            raise ParameterError("plain_bits must be 8 to 52 and below answer_bits, at most 62.")
        if not 1 <= self.flood_bits <= 120:
            raise ParameterError("flood_bits must be 1 to 120.")
        if self._noise_bound() > 2.0 ** (self._modulus_log2() - self.plain_bits - 1):
            raise ParameterError(
                "the flood and the rounding leave no certain decryption.",
                fix="lower flood_bits or plain_bits, or raise answer_bits",
            )

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
    def high_assurance(cls, n_rows: int, block: int | None = None) -> SumProfile:
        """Degree 8192: a flood so wide that the statistical distance is below 2^-60."""
        return cls._fitting(8192, 4, 42, 2048 if block is None else block, n_rows)

    @classmethod
    def _fitting(
        cls, degree: int, primes: int, plain_bits: int, block: int, n_rows: int
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
        )

    # --------------------------------------------------------------------------- derived sizes

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
        """Automorphisms of the packing: ``2N / B' + 1`` for B' = B, B/2, ..., 2."""
        if not self.packed_answers:
            return ()
        steps = self.block.bit_length() - 1
        return tuple(2 * self.degree // (self.block >> i) + 1 for i in range(steps))

    def blocks(self, n_rows: int) -> int:
        """Give the number of blocks of ``n_rows`` rows, at least one."""
        return max(1, -(-n_rows // self.block))

    def ciphertext_bytes(self, n_rows: int, n_vectors: int = 1) -> int:
        """Give the bytes of the ciphertexts of one pass on the wire."""
        return self.blocks(n_rows) * n_vectors * (8 * self.ciphertext_words + 64)

    # ----------------------------------------------------------------------------------- noise

    def statistical_distance(self, returned_values: int = 1) -> float:
        """Bound what the noise of the answers tells about the bins, as log2 of a distance.

        Two assignments of samples to bins give noises x and x' of a returned sum; the statistical
        distance between the flooded sums is ``|x - x'| / 2^(flood_bits + 1)``.  The figure is its
        mean for ``max_rows`` fresh ciphertext coefficients, times the number of returned values
        (union bound).  Without flooding the key holder recovers the bins from the noise.

        Parameters
        ----------
        returned_values : int, default 1
            Bin sums returned over the whole job.

        Returns
        -------
        float
            log2 of the distance.
        """
        spread = 2 / math.sqrt(math.pi) * self._fresh_noise_std()
        return math.log2(spread * returned_values) - (self.flood_bits + 1)

    def _modulus_log2(self) -> float:
        return PRIME_BITS * self.primes - 0.01  # the primes lie within 0.1 % of 2^31

    def _fresh_noise_std(self) -> float:
        """Noise of a sum of ``max_rows`` fresh coefficients, with the rounding of Q m / t."""
        return math.sqrt(self.max_rows * (_NOISE_STD**2 + 1 / 12))

    def _noise_bound(self) -> float:
        """Bound the noise of a returned value, in units of Q."""
        growth = self.block if self.packed_answers else 1
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
