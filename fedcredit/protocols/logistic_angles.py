"""Integers of a logistic regression: masked angles, tables of factors, digits of exact passes.

A predictor travels as an angle, 2^16 steps to a full turn, so that a uniform mask modulo 2^16
hides it and one period of the series is one turn. What is encrypted and what it is multiplied by
are integers; their scales are chosen such that no sum can leave the plain modulus.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.errors import InputError
from fedcredit.protocols.gram_scales import gram_profile
from fedcredit.stats.sigmoid_series import SigmoidSeries

__all__ = [
    "MAX_TERMS",
    "Digits",
    "FixedPoint",
    "Scaled",
    "ceil_range",
    "from_fixed",
    "logistic_profile",
    "mask_factors",
    "radians",
    "to_angle",
    "to_fixed",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_TURN = 1 << 16
_RANGE_STEP = 0.5
_MOMENT_SCALE, _MOMENT_END = 2.0**48, 2.0**12
#: Harmonics of the longest series.
MAX_TERMS = 24


def logistic_profile(n_rows: int) -> SumProfile:
    """Give the profile of all sums of a fit over ``n_rows`` rows.

    It is the profile of Gram matrices with room for the vectors of the longest series.
    """
    return dataclasses.replace(gram_profile(n_rows), summed_vectors=2 * MAX_TERMS)


# --------------------------------------------------------------------------------------- angles


def to_angle(predictor: FloatArray, period: float) -> npt.NDArray[np.uint16]:
    """Round a predictor to angles, (n,); whole periods vanish."""
    turns = np.rint(predictor * (_TURN / period)).astype(np.int64)
    return (turns & (_TURN - 1)).astype(np.uint16)


def radians(angle: npt.NDArray[np.uint16]) -> FloatArray:
    """Give angles in radians."""
    return np.asarray(angle * (2 * np.pi / _TURN), np.float64)


def mask_factors(angle: FloatArray, terms: int) -> FloatArray:
    """Give the factors that depend on the mask, ``cos kρ`` and ``sin kρ``: shape (2·terms, n)."""
    k = np.arange(1, terms + 1)[:, None]
    out = np.empty((2 * terms, len(angle)))
    out[0::2], out[1::2] = np.cos(k * angle), np.sin(k * angle)
    return out


def ceil_range(values: FloatArray) -> float:
    """Give the largest magnitude, rounded up to a multiple of 1/2."""
    largest = float(np.abs(values).max(initial=0.0))
    return float(np.ceil(largest / _RANGE_STEP) * _RANGE_STEP)


# --------------------------------------------------------------------------------- fixed point


def _coarse(size: float) -> float:
    """Round a bound of a series up so far that all centres have the same."""
    return max(1.0, float(np.ceil(2 * size) / 2))


def to_fixed(values: FloatArray) -> npt.NDArray[np.uint64]:
    """Give inner products as multiples of 2^-48 modulo 2^64.

    Raises
    ------
    InputError
        If one is not finite or not below 2^12 in magnitude.
    """
    if not (np.abs(values) < _MOMENT_END).all():
        raise InputError(
            "the coefficients run away.",
            step="logistic: hidden steps",
            fix="look for outliers and for columns that separate the labels; bin them, or set C",
        )
    return np.rint(values * _MOMENT_SCALE).astype(np.int64).view(np.uint64)


def from_fixed(values: npt.NDArray[np.uint64]) -> FloatArray:
    """Read sums of what `to_fixed` gave."""
    return np.asarray(values.view(np.int64) / _MOMENT_SCALE, np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Scaled:
    """Columns scaled for a pass.

    Attributes
    ----------
    columns : ndarray of float64, shape (F, n)
    scale : ndarray of float64, shape (F,)
        What they were multiplied by.
    """

    columns: FloatArray
    scale: FloatArray


@dataclass(frozen=True, eq=False, repr=False)
class Digits:
    """A vector of numbers as integers: ``Σ_j values[j]·units[j]``.

    Attributes
    ----------
    values : ndarray of int64, shape (J, n)
    units : tuple of float
    """

    values: IntArray
    units: tuple[float, ...]


@dataclass(frozen=True)
class FixedPoint:
    """The largest integers of a profile, and scales that keep every sum within them.

    Attributes
    ----------
    value, weight, total : int
        Largest magnitude of an encrypted value, of a weight and of a sum.
    """

    value: int
    weight: int
    total: int

    @classmethod
    def of(cls, profile: SumProfile) -> FixedPoint:
        """Read them off a profile."""
        # Rounding may carry a weight up by one.
        return cls(
            (1 << (profile.value_bits - 1)) - 1,
            (1 << (profile.weight_bits - 1)) - 2,
            (1 << (profile.plain_bits - 1)) - 1,
        )

    def factor_scale(self, largest_weight: float, series: SigmoidSeries) -> float:
        """Give the scale of the label holder's factors times the rows' weights.

        It depends on the weights alone, not on the centre of the series, which is a secret.
        """
        return self.value / (largest_weight * _coarse(series.largest_factor()))

    def row_bound(self, largest_weight: float, series: SigmoidSeries) -> float:
        """Bound the sum over the vectors of a row of the label holder's, per unit of a column."""
        scale = self.factor_scale(largest_weight, series)
        return scale * largest_weight * _coarse(series.largest_value()) + 2 * series.terms

    def mask_bound(self, series: SigmoidSeries) -> float:
        """Bound the same where the encrypted values are the factors of the mask."""
        return self.value * _coarse(series.largest_value()) + 2 * series.terms

    def columns(self, columns: FloatArray, bound: float, factor: float, vectors: int) -> Scaled:
        """Scale columns (n, F) as far as neither a weight nor a sum overflows.

        Parameters
        ----------
        columns : ndarray of float64, shape (n, F)
        bound : float
            Of the sum over vectors of a row's products, per unit of the column.
        factor : float
            Largest magnitude of the tables that the columns are multiplied by.
        vectors : int
            Vectors of the pass.
        """
        rounding = len(columns) * vectors * self.value / 2
        largest = np.abs(columns).max(axis=0) * factor
        total = np.abs(columns).sum(axis=0) * bound
        scale = np.minimum(self.weight / largest, (self.total - rounding) / total)
        return Scaled(np.ascontiguousarray((columns * scale).T), scale)

    def digits(self, vector: FloatArray, count: int = 2) -> Digits:
        """Cut a vector (n,) into digits; small whole numbers need only one."""
        largest = float(np.abs(vector).max(initial=0.0)) or 1.0
        if largest <= self.value and np.array_equal(vector, np.rint(vector)):
            return Digits(vector.astype(np.int64)[None], (1.0,))
        unit, rest = largest / self.value, vector
        values, units = [], []
        for _ in range(count):
            digit = np.clip(np.rint(rest / unit), -self.value, self.value)
            values.append(digit.astype(np.int64))
            units.append(unit)
            rest, unit = rest - digit * unit, unit / (2 * self.value)
        return Digits(np.stack(values), tuple(units))

    def split(self, columns: FloatArray) -> Scaled:
        """Cut columns (n, d) into two digits each, for passes of one vector: (2d, n).

        The first d rows are the upper digits, the last d the lower ones.
        """
        n, room = len(columns), self.total / self.value - len(columns)
        largest, total = np.abs(columns).max(axis=0), np.abs(columns).sum(axis=0)
        scale = np.minimum(self.weight / largest, room / total)
        upper = np.rint(columns * scale)
        finer = scale * min(2 * self.weight, 2 * room / n)
        lower = np.rint((columns - upper / scale) * finer)
        both = np.concatenate((upper, lower), axis=1)
        return Scaled(np.ascontiguousarray(both.T), np.concatenate((scale, finer)))
