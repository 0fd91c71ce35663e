"""The logistic function as a short trigonometric series around a centre.

On ``|x| <= radius``, a little less than half of the period T,

    σ(centre + x) ≈ b0 + Σ_{k=1..K} p_k cos kωx + q_k sin kωx,    ω = 2π/T,

fitted by least squares. A series of sines and cosines can be evaluated at a sum of two hidden
numbers: with ``x = α − ρ`` the addition theorem splits every term into products of a function of
α and a function of ρ,

    p cos k(α − ρ) + q sin k(α − ρ) = (p cos kα + q sin kα)·cos kρ + (p sin kα − q cos kα)·sin kρ,

each of which is bounded and has the period T. Beyond the radius the series turns back, as every
periodic function does; the radius has to cover the log-odds that occur.

Source of the extension idea (a smooth function on part of a period, fitted by least squares): J. P.
Boyd, "A comparison of numerical algorithms for Fourier extension of the first, second, and third
kinds", J. Comput. Phys. 178 (2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from fedcredit.errors import InputError

__all__ = ["SigmoidSeries", "fit_series"]

FloatArray = npt.NDArray[np.float64]
_STEP = "series of the logistic function"
_GRID = 2001
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class SigmoidSeries:
    """A fitted series.

    Attributes
    ----------
    centre : float
        Log-odds at ``x = 0``.
    period : float
        T, in log-odds.
    constant : float
        b0.
    cosine, sine : ndarray of float64, shape (K,)
        p and q.
    """

    centre: float
    period: float
    constant: float
    cosine: FloatArray
    sine: FloatArray

    @property
    def terms(self) -> int:
        """K."""
        return len(self.cosine)

    def __call__(self, x: FloatArray) -> FloatArray:
        """Evaluate at ``x``, log-odds from the centre, of any shape."""
        angle = np.multiply.outer(np.asarray(x), self._frequencies())
        value = self.constant + np.cos(angle) @ self.cosine + np.sin(angle) @ self.sine
        return np.asarray(value, np.float64)

    def factors(self, angle: FloatArray) -> FloatArray:
        """Give the factors that depend on α, shape (2K, n), for angles α in radians, (n,).

        Rows ``2(k − 1)`` and ``2(k − 1) + 1`` go with ``cos kρ`` and ``sin kρ``.
        """
        k = np.arange(1, self.terms + 1)[:, None]
        cos, sin = np.cos(k * angle), np.sin(k * angle)
        p, q = self.cosine[:, None], self.sine[:, None]
        out = np.empty((2 * self.terms, len(angle)))
        out[0::2] = p * cos + q * sin
        out[1::2] = p * sin - q * cos
        return out

    def largest_factor(self) -> float:
        """Bound the magnitude of every factor that depends on α."""
        return float(np.hypot(self.cosine, self.sine).max())

    def largest_value(self) -> float:
        """Give the largest magnitude of the series without its constant, over a period."""
        x = np.linspace(0, self.period, _GRID)
        return float(np.abs(self(x) - self.constant).max())

    def error(self, radius: float) -> float:
        """Give the largest deviation from the logistic function on ``|x| <= radius``."""
        x = np.linspace(-radius, radius, _GRID)
        return float(np.abs(self(x) - expit(self.centre + x)).max())

    def _frequencies(self) -> FloatArray:
        return np.asarray(np.arange(1, self.terms + 1) * (2 * np.pi / self.period), np.float64)


def fit_series(
    centre: float, *, terms: int, period: float, radius: float | None = None
) -> SigmoidSeries:
    """Fit a series by least squares on an even grid.

    Parameters
    ----------
    centre : float
        Log-odds at ``x = 0``, for instance those of the mean of the labels.
    terms : int
        K, 1 or more.
    period : float
        T, in log-odds.
    radius : float, optional
        Where the series has to fit, below T/2; by default 5/14 of the period.

    Returns
    -------
    SigmoidSeries

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    radius = period * 5 / 14 if radius is None else radius
    if terms < 1 or not np.isfinite(centre) or not 0 < radius < period / 2:
        raise InputError("terms, centre, period or radius is out of range.", step=_STEP)
    x = np.linspace(-radius, radius, _GRID)
    angle = np.multiply.outer(x, np.arange(1, terms + 1) * (2 * np.pi / period))
    basis = np.column_stack((np.ones(_GRID), np.cos(angle), np.sin(angle)))
    # Without the ridge a series on a part of its period has huge, cancelling coefficients.
    normal = basis.T @ basis / _GRID + _RIDGE * np.eye(2 * terms + 1)
    found = np.linalg.solve(normal, basis.T @ expit(centre + x) / _GRID)
    return SigmoidSeries(
        float(centre), float(period), float(found[0]), found[1 : terms + 1], found[terms + 1 :]
    )
