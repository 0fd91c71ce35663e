"""Fixed point of the joint Gram matrix: one scale for all columns, so that none is told.

A provider's columns are divided by their root mean square. Then, for ``n`` rows and numbers
``|v| <= m``, every size that matters follows from n alone (Cauchy-Schwarz)::

    |x_i| <= sqrt(n)      |x_i z_i| <= n      |sum of v x| <= m n      |sum of v x z| <= m n

and both sides know the scales of the encrypted values and of the weights without a word about the
columns. Rounding is randomised (up with the probability of the fraction), since columns of a few
distinct values would otherwise be off by the same amount in thousands of rows.

A column travels to another provider as an angle, ``x = B sin(a)`` with ``B = 1.1 sqrt(n)``, in
units of 2π / 2^32 and plus a uniform mask modulo 2^32; the addition theorem takes it off::

    w x = B (w cos m) sin(a + m) - B (w sin m) cos(a + m)
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.prg import prg
from fedcredit.errors import InputError
from fedcredit.protocols.sum_schemes import AnyProfile

__all__ = [
    "GramScales",
    "angle_masks",
    "cross_pairs",
    "dithered",
    "exact_bits",
    "gram_profile",
    "own_pairs",
    "pair_groups",
    "unit_columns",
]

_STEP = "gram matrix"
_SUM_BITS = 46
_WEIGHT_BITS = 24
_ANGLES = 1 << 32
_UNIT = 2 * math.pi / _ANGLES
_PAIRS = 128  # of columns in one request: bounds the memory at the provider
_BEYOND = 1.1  # keeps the arcsine away from where it is steep

F64 = NDArray[np.float64]


def gram_profile(n_rows: int) -> SumProfile:
    """Give the profile of the encrypted sums that suits a Gram matrix over ``n_rows`` rows.

    Sums have 46 bits, shared between the values and the weights; the weights' limit, 24 bits,
    holds whatever the columns are.
    """
    bits = round((_SUM_BITS - 1 - math.log2(max(n_rows, 1))) / 2)
    return SumProfile.dense(
        n_rows,
        n_vectors=2,
        value_bits=min(bits, 20) + 1,
        weight_bits=_WEIGHT_BITS,
        sum_bits=_SUM_BITS,
    )


@dataclass(frozen=True)
class GramScales:
    """Scales that both sides derive from the profile and the number of rows.

    Attributes
    ----------
    n_rows : int
    value : float
        Largest magnitude of an encrypted value.
    column, product : float
        Weight of one root mean square of a column, and of the product of two columns.
    """

    n_rows: int
    value: float
    column: float
    product: float

    @classmethod
    def of(cls, profile: AnyProfile, n_rows: int) -> GramScales:
        """Derive the scales.

        Raises
        ------
        InputError
            If the profile is not for dense weights on so many rows and two vectors.
        """
        if (
            not isinstance(profile, SumProfile)
            or not profile.is_dense
            or profile.summed_vectors < 2
            or not 1 <= n_rows <= profile.max_rows
        ):
            raise InputError(
                "the profile is not for two dense vectors over these rows.",
                step=_STEP,
                fix="use gram_profile(n_rows)",
            )
        value = 2.0 ** (profile.value_bits - 1) - 1
        weight = 2.0 ** (profile.weight_bits - 1) - 2  # a weight is rounded up by less than one
        # Every weight is off by less than 1, hence a sum by n_rows * value beyond n * scale.
        fits = 2.0 ** (profile.plain_bits - 1) / (n_rows * value) - 2
        column = min(fits, weight / math.sqrt(n_rows))
        product = min(fits, weight / n_rows)
        if min(column, product) < 1:
            raise InputError(
                "the profile is too coarse for so many rows.",
                step=_STEP,
                fix="use gram_profile(n_rows)",
            )
        return cls(n_rows, value, column, product)

    @property
    def bound(self) -> float:
        """B, the column value at an angle of π / 2."""
        return _BEYOND * math.sqrt(self.n_rows)

    def values(self, rows: F64, largest: float) -> tuple[NDArray[np.int64], float]:
        """Scale and round rows (V, n) for encryption; give what one unit stands for as well.

        ``largest`` bounds the magnitudes, and with two vectors their combinations in
        :meth:`tables`.
        """
        if largest == 0.0:
            return np.zeros(rows.shape, np.int64), 0.0
        unit = largest / self.value
        # The quotient may be beyond an end by the last bit, and only then.
        rounded = np.clip(dithered(rows / unit), -self.value, self.value)
        return rounded.astype(np.int64), unit

    def angles(self, column: F64, masks: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Give a column's masked angles (n,); uniform for whoever does not know the masks."""
        own = np.rint(np.arcsin(column / self.bound) / _UNIT)
        return own.astype(np.int64).astype(np.uint32) + masks

    def tables(self, angles: NDArray[np.uint32]) -> F64:
        """Give the weights (2, n) that belong to masked angles and :meth:`mask_rows`."""
        radians = angles * _UNIT
        return np.stack([np.sin(radians), -np.cos(radians)])

    def mask_rows(self, weight: F64, masks: NDArray[np.uint32]) -> F64:
        """Give the rows (2, n) whose inner product with :meth:`tables` is weight times column."""
        radians = masks * _UNIT
        return self.bound * weight * np.stack([np.cos(radians), np.sin(radians)])


def dithered(values: F64) -> F64:
    """Round to whole numbers, up with the probability of the fraction.

    The randomness is no secret: it keeps errors independent and hides nothing.
    """
    rng = np.random.default_rng(secrets.randbits(128))
    rounded: F64 = np.floor(values + rng.random(values.shape))
    return rounded


def unit_columns(columns: F64) -> tuple[F64, F64]:
    """Divide columns (n, d) by their root mean squares.

    Returns
    -------
    columns : ndarray of float64, shape (d, n)
        Contiguous; a column of zeros stays.
    scale : ndarray of float64, shape (d,)
        The root mean squares, 1 for a column of zeros.

    Raises
    ------
    InputError
        If shape or type do not fit, or a value is not finite.
    """
    if columns.ndim != 2 or columns.dtype != np.float64 or not columns.size:
        raise InputError("columns must be a float64 array, rows by columns.", step=_STEP)
    if not np.isfinite(columns).all():
        raise InputError(
            "a column has a missing or infinite value.", step=_STEP, fix="fill or drop it"
        )
    largest = np.abs(columns).max(axis=0)
    largest[largest == 0.0] = 1.0
    parts = np.ascontiguousarray((columns / largest).T)  # squares neither overflow nor vanish
    scale = np.sqrt(np.mean(parts**2, axis=1))
    scale[scale == 0.0] = 1.0
    parts /= scale[:, None]
    return parts, scale * largest


def exact_bits(n_rows: int) -> int:
    """Give the fractional bits of a column whose exact inner products stay below 2^62."""
    return min(30, (62 - max(n_rows, 1).bit_length()) // 2)


def angle_masks(seed: bytes, column: int, n_rows: int) -> NDArray[np.uint32]:
    """Expand a seed into the masks (n,) of one column's angles, uniform modulo 2^32."""
    return prg(seed, 4 * n_rows, column).view("<u4").astype(np.uint32, copy=False)


def own_pairs(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the pairs (f, g), f <= g, of one party's columns in the order of the requests."""
    first, second = np.triu_indices(size)
    return first.astype(np.int64, copy=False), second.astype(np.int64, copy=False)


def pair_groups(size: int) -> list[slice]:
    """Cut the pairs of `own_pairs` into the groups of one request each."""
    count = size * (size + 1) // 2
    return [slice(at, min(at + _PAIRS, count)) for at in range(0, count, _PAIRS)]


def cross_pairs(providers: int) -> list[tuple[int, int]]:
    """Give the pairs (j, k), j < k, of providers in the order of their blocks."""
    return [(j, k) for k in range(providers) for j in range(k)]
