"""One party's block of a logistic regression: its columns, its coefficients, its penalty.

Both roles use it; nothing here leaves the party by itself. A party works on columns that are
centred, whitened (``V = X·M`` with ``V'V = n·I``) and turned by a secret random rotation, so that
the steps of the joint method are well scaled and what others see of them belongs to no column.

Everything is per unit of weight: objective and gradients are divided by the sum of all weights.

Sources: A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J.
Imaging Sci. 2 (2009), for the proximal step, here in the metric of the party's own columns;
J. Friedman, T. Hastie and R. Tibshirani, "Regularization paths for generalized linear models via
coordinate descent", J. Stat. Softw. 33 (2010), for its solution; F. Mezzadri, "How to generate
random matrices from the classical compact groups", Notices AMS 54 (2007), for the rotation.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from numba import njit

from fedcredit.errors import InputError

__all__ = ["Block", "Penalty", "PolishBasis"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
_STEP = "logistic: columns"
#: Eigenvalues of the correlations below this count as a linear dependence.
_MIN_EIGENVALUE = 1e-9
_SWEEPS = 10_000
_TYPICAL_CURVATURE = 0.15


@dataclass(frozen=True)
class Penalty:
    """Penalty per unit of weight: ``l1·‖β‖₁ + l2/2·‖β‖²``."""

    l1: float
    l2: float

    @classmethod
    def of(cls, C: float, l1_ratio: float, total_weight: float) -> Penalty:
        """Divide the penalty of an objective by the sum of the weights."""
        strength = 0.0 if np.isinf(C) else 1 / (C * total_weight)
        return cls(strength * l1_ratio, strength * (1 - l1_ratio))


@dataclass(frozen=True, eq=False, repr=False)
class PolishBasis:
    """The directions in which exact steps move.

    Attributes
    ----------
    map : ndarray of float64, shape (d, f)
        Coefficients per unit of a direction; secret.
    """

    map: FloatArray


class Block:
    """Columns and coefficients of one party.

    Parameters
    ----------
    columns : ndarray of float64, shape (n, d)
    penalty : Penalty
    signs : sequence of int, shape (d,), optional
        1 at least 0, −1 at most 0, 0 free.
    intercept : bool, default False
        Append a constant column, which bears no penalty.
    names : sequence of str, optional
        Of the columns, for errors at their owner.
    min_rows : int, default 1
        Rows in which a column must differ from its most frequent value.

    Attributes
    ----------
    X : ndarray of float64, shape (n, d)
        Centred columns, the constant last.
    mean : ndarray of float64, shape (d,)
        What was subtracted; 0 for the constant.
    coef : ndarray of float64, shape (d,)
        Of the centred columns.

    Raises
    ------
    InputError
        A column is constant, not finite, or a linear combination of others; the signs do not fit.
    """

    def __init__(
        self,
        columns: FloatArray,
        penalty: Penalty,
        signs: Sequence[int] | None = None,
        *,
        intercept: bool = False,
        names: Sequence[str] | None = None,
        min_rows: int = 1,
    ) -> None:
        n, given = columns.shape
        label = [f"column {number}" for number in range(given)] if names is None else list(names)
        _check_columns(columns, label, min_rows)
        self._signs = np.zeros(given + intercept, np.int64)
        if signs is not None:
            if len(signs) != given or not set(signs) <= {-1, 0, 1}:
                raise InputError("signs are −1, 0 or 1, one per column.", step=_STEP)
            self._signs[:given] = signs
        self.mean = np.zeros(given + intercept)
        self.mean[:given] = columns.mean(axis=0)
        self.X = np.empty((n, given + intercept))
        self.X[:, :given] = columns - self.mean[:given]
        self._penalised = np.ones(given + intercept, np.bool_)
        if intercept:
            self.X[:, -1] = 1.0
            self._penalised[-1] = False
        self.l1 = np.where(self._penalised, penalty.l1, 0.0)
        self.l2 = np.where(self._penalised, penalty.l2, 0.0)
        self.covariance = self.X.T @ self.X / n
        self.coef = np.zeros(self.d)
        # A dependence within the block is harmless for the hidden phase if a penalty decides.
        ridge = max(penalty.l1, penalty.l2) / _TYPICAL_CURVATURE
        self._metric = self.covariance + np.diag(np.where(self._penalised, ridge, 0.0))
        self._map = _whitening(self._metric, label) @ _rotation(self.d)
        self._inverse = np.linalg.inv(self._map) if self.d else self._map
        self.V = np.asfortranarray(self.X @ self._map)

    def __repr__(self) -> str:
        return f"Block({self.d} columns)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a party's columns and secret basis cannot be pickled")

    @property
    def d(self) -> int:
        """Number of columns, with the constant."""
        return self.X.shape[1]

    @property
    def is_smooth(self) -> bool:
        """Whether neither an absolute penalty nor a sign binds."""
        return not (self.l1.any() or self._signs.any())

    def predictor(self) -> FloatArray:
        """Give this block's part of the log-odds, (n,)."""
        return np.asarray(self.X @ self.coef, np.float64)

    def move(self, step: FloatArray) -> None:
        """Add a step in whitened coordinates."""
        self.coef = self.coef + self._map @ step

    def with_ridge(self, gradient: FloatArray) -> FloatArray:
        """Add the smooth penalty to a gradient in whitened coordinates."""
        return np.asarray(gradient + self._map.T @ (self.l2 * self.coef), np.float64)

    # ------------------------------------------------------------------------ proximal step

    def proximal(self, at: FloatArray, gradient: FloatArray, curvature: float) -> FloatArray:
        """Minimise the local model and penalty around a place.

        Parameters
        ----------
        at : ndarray of float64, shape (d,)
            Coefficients.
        gradient : ndarray of float64, shape (d,)
            Of the loss at ``at``, in whitened coordinates.
        curvature : float
            Of the model, in whitened coordinates.

        Returns
        -------
        ndarray of float64, shape (d,)
            Coefficients that minimise ``gradient·γ + curvature/2·‖γ − γ_at‖²`` plus the penalty.
        """
        target = at - self._map @ gradient / curvature
        A = curvature * self._metric
        A = A + np.diag(self.l2)
        b = curvature * self._metric @ target
        out = np.array(at)
        _coordinate_descent(A, b, self.l1, self._signs.astype(np.float64), out, _SWEEPS)
        return out

    def whitened(self, difference: FloatArray) -> FloatArray:
        """Express a difference of coefficients in whitened coordinates."""
        return np.asarray(self._inverse @ difference, np.float64)

    # --------------------------------------------------------------------------- exact steps

    def free(self) -> BoolArray:
        """Which coefficients exact steps may move: those that no penalty or sign holds at 0."""
        held = (self.l1 > 0) | (self._signs != 0)
        return ~held | (self.coef != 0)

    def violated(self, gradient: FloatArray) -> BoolArray:
        """Which held coefficients the gradient of the loss (whitened) pulls off 0."""
        g = self._inverse.T @ gradient
        tolerance = 1e-6 * np.sqrt(np.diag(self.covariance))
        up, down = -g > self.l1 + tolerance, g > self.l1 + tolerance
        return ~self.free() & ((up & (self._signs >= 0)) | (down & (self._signs <= 0)))

    def polish_basis(self, free: BoolArray) -> PolishBasis:
        """Whiten and rotate the free columns anew; directions have a root mean square of 1."""
        out = np.zeros((self.d, int(free.sum())))
        if free.all() and self.is_smooth:
            out = self._map
        elif free.any():
            metric = self._metric[np.ix_(free, free)]
            label = ["a column"] * len(metric)
            out[free] = _whitening(metric, label) @ _rotation(len(metric))
        return PolishBasis(out / np.sqrt(np.sum(out * (self.covariance @ out), axis=0)))

    def basis_gradient(self, basis: PolishBasis, gradient: FloatArray) -> FloatArray:
        """Gradient of loss and penalty along the basis, from the loss's in whitened coordinates."""
        g = self._inverse.T @ gradient
        g = g + self.l1 * self._direction(g) + self.l2 * self.coef
        return np.asarray(basis.map.T @ g, np.float64)

    def basis_penalty(self, basis: PolishBasis) -> FloatArray:
        """Second derivative of the penalty along the basis, (f, f)."""
        return np.asarray(basis.map.T @ (self.l2[:, None] * basis.map), np.float64)

    def basis_columns(self, basis: PolishBasis) -> FloatArray:
        """Columns of the basis, (n, f)."""
        return np.asarray(self.X @ basis.map, np.float64)

    def exact_step(self, basis: PolishBasis, step: FloatArray) -> None:
        """Move along the basis; what would cross a bound or change its sign stops at 0."""
        moved = self.coef + basis.map @ step
        crossed = (self.l1 > 0) & (self.coef * moved < 0)
        moved[crossed | (self._signs * moved < 0)] = 0.0
        self.coef = moved

    def _direction(self, gradient: FloatArray) -> FloatArray:
        """Give the slope of ‖β‖₁; at 0 the one towards which the loss falls."""
        return np.where(self.coef != 0, np.sign(self.coef), -np.sign(gradient))


def _check_columns(columns: FloatArray, names: Sequence[str], min_rows: int) -> None:
    if not np.isfinite(columns).all():
        bad = int(np.flatnonzero(~np.isfinite(columns).all(axis=0))[0])
        raise InputError(
            f"{names[bad]} has a value that is missing or infinite.",
            step=_STEP,
            fix="fill missing values, or bin the column",
        )
    for name, column in zip(names, columns.T, strict=True):
        _, counts = np.unique(column, return_counts=True)
        others = len(column) - int(counts.max())
        if others == 0:
            raise InputError(f"{name} is constant.", step=_STEP, fix="leave it out")
        if others < min_rows:
            raise InputError(
                f"{name} differs from its most frequent value in fewer than {min_rows} rows, "
                "whose labels its gradient would tell.",
                step=_STEP,
                fix="leave it out, or merge its rare values",
            )


def _whitening(metric: FloatArray, names: Sequence[str]) -> FloatArray:
    """Give M with M'·metric·M = I, from the correlations: columns of any scale."""
    if not len(metric):
        return np.zeros((0, 0))
    scale = 1 / np.sqrt(np.diag(metric))
    values, vectors = np.linalg.eigh(metric * np.outer(scale, scale))
    if values[0] < _MIN_EIGENVALUE:
        largest = int(np.abs(vectors[: len(names), 0]).argmax())
        raise InputError(
            f"{names[largest]} is a linear combination of other columns of this party.",
            step=_STEP,
            fix="leave it out, or set a ridge penalty (C)",
        )
    return np.asarray((scale[:, None] * vectors) / np.sqrt(values), np.float64)


def _rotation(d: int) -> FloatArray:
    """Draw a uniform orthogonal matrix from the system's randomness."""
    if d == 0:
        return np.zeros((0, 0))
    rng = np.random.Generator(np.random.PCG64(secrets.randbits(256)))
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return np.asarray(q * np.sign(np.diag(r)), np.float64)


@njit(cache=True, nogil=True)
def _coordinate_descent(
    A: FloatArray, b: FloatArray, l1: FloatArray, signs: FloatArray, x: FloatArray, sweeps: int
) -> None:
    """Minimise x'Ax/2 − b'x + Σ l1|x| with signs, in place."""
    for _ in range(sweeps):
        largest = 0.0
        for j in range(len(b)):
            pull = b[j] - A[j] @ x + A[j, j] * x[j]
            if pull > l1[j]:
                new = (pull - l1[j]) / A[j, j]
            elif pull < -l1[j]:
                new = (pull + l1[j]) / A[j, j]
            else:
                new = 0.0
            if new * signs[j] < 0:
                new = 0.0
            largest = max(largest, abs(new - x[j]) * np.sqrt(A[j, j]))
            x[j] = new
        if largest < 1e-12:
            return
