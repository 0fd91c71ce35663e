"""Filters that choose features before a scorecard is fitted; every decision leaves a record.

They need the correlations and information values alone, no rows. Stepwise selection from one full
fit is in `stepwise`, and its names are repeated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from fedcredit.errors import InputError
from fedcredit.stats.stepwise import Step, stepwise, submodel

__all__ = [
    "Dropped",
    "Step",
    "correlation_filter",
    "iv_filter",
    "stepwise",
    "submodel",
    "vif",
    "vif_filter",
]

FloatArray = NDArray[np.float64]

_STEP = "select features"
#: Correlations found on ciphertexts are symmetric and within [-1, 1] up to about this much.
_SLACK = 1e-2
#: Eigenvalues up to this share of the matrix's size count as zero.
_SINGULAR = 1e-10


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a feature was left out.

    Attributes
    ----------
    name : str
    reason : {"correlation", "vif", "iv"}
    value : float
        What was compared with the threshold.
    threshold : float
    by : str or None
        The feature that stays and is too much like this one.
    """

    name: str
    reason: str
    value: float
    threshold: float
    by: str | None = None


def iv_filter(names: Sequence[str], iv: ArrayLike, threshold: float = 0.02) -> list[Dropped]:
    """Drop features whose information value is below the threshold.

    Parameters
    ----------
    names : sequence of str, length d
    iv : array_like of float, shape (d,)
    threshold : float

    Returns
    -------
    list of Dropped
        In the order of `names`.

    Raises
    ------
    InputError
        Lengths that differ, or a value that is not finite.
    """
    values = _checked_iv(names, iv)
    return [
        Dropped(name, "iv", float(value), threshold)
        for name, value in zip(names, values, strict=True)
        if value < threshold
    ]


def correlation_filter(
    names: Sequence[str], corr: ArrayLike, iv: ArrayLike, threshold: float = 0.7
) -> list[Dropped]:
    """Drop, of every two features that correlate too much, the one with less information value.

    Features are looked at by falling information value (equal ones in the given order); each stays
    unless it correlates too much with one that stays. So no two of those that stay exceed the
    threshold, and none is dropped because of one that is dropped itself.

    Parameters
    ----------
    names : sequence of str, length d
    corr : array_like of float, shape (d, d)
    iv : array_like of float, shape (d,)
    threshold : float
        Largest absolute correlation that two features may have, within [0, 1].

    Returns
    -------
    list of Dropped
        By falling information value. ``value`` is the correlation with ``by``, with its sign, and
        ``by`` the feature with which it is strongest.

    Raises
    ------
    InputError
        Shapes that do not fit, a matrix that holds no correlations, a threshold out of range.
    """
    matrix = _checked_correlations(names, corr)
    values = _checked_iv(names, iv)
    if not 0 <= threshold <= 1:
        raise InputError("the correlation's threshold is within [0, 1].", step=_STEP)
    stays: list[int] = []
    dropped = []
    for feature in np.argsort(-values, kind="stable"):
        strongest = max(stays, key=lambda k: abs(matrix[feature, k]), default=None)
        if strongest is None or abs(matrix[feature, strongest]) <= threshold:
            stays.append(int(feature))
            continue
        value = float(matrix[feature, strongest])
        dropped.append(Dropped(names[feature], "correlation", value, threshold, names[strongest]))
    return dropped


def vif(corr: ArrayLike) -> FloatArray:
    """Variance inflation factors, the diagonal of the inverse correlation matrix.

    ``1 / (1 - R²)`` of each feature on all others (Marquardt, Technometrics 12, 1970). Infinite for
    features that others explain fully; those that take no part in such a dependency keep the factor
    that they have without it.

    Parameters
    ----------
    corr : array_like of float, shape (d, d)

    Returns
    -------
    ndarray of float64, shape (d,)

    Raises
    ------
    InputError
        Not a square matrix, or one that holds no correlations.
    """
    matrix = np.asarray(corr, np.float64)
    names = [str(k) for k in range(len(matrix))] if matrix.ndim == 2 else []
    return _vif(_checked_correlations(names, matrix))


def _vif(matrix: FloatArray) -> FloatArray:
    if not len(matrix):
        return np.zeros(0)
    values, vectors = linalg.eigh(matrix)
    # Noise can push the eigenvalue of a dependency below zero: it stays a dependency.
    lost = values <= _SINGULAR * len(matrix)
    factors = (vectors[:, ~lost] ** 2) @ (1.0 / values[~lost])
    involved = (vectors[:, lost] ** 2).sum(axis=1) > 1e-8
    return np.where(involved, np.inf, np.maximum(factors, 1.0))


def vif_filter(
    names: Sequence[str], corr: ArrayLike, threshold: float = 10.0, iv: ArrayLike | None = None
) -> list[Dropped]:
    """Drop the feature with the largest variance inflation factor until none is too large.

    Parameters
    ----------
    names : sequence of str, length d
    corr : array_like of float, shape (d, d)
    threshold : float
        Largest factor that may stay, at least 1.
    iv : array_like of float, shape (d,), optional
        Of equal factors, as all infinite ones are, the feature with less goes; without it, or when
        these are equal too, the later one.

    Returns
    -------
    list of Dropped
        In the order of dropping. ``by`` is the remaining feature with which it correlates most.

    Raises
    ------
    InputError
        As in `correlation_filter`.
    """
    matrix = _checked_correlations(names, corr)
    values = np.zeros(len(names)) if iv is None else _checked_iv(names, iv)
    if not threshold >= 1:
        raise InputError("the factor's threshold is at least 1.", step=_STEP)
    stays = list(range(len(names)))
    dropped = []
    while len(stays) > 1:
        factors = _vif(matrix[np.ix_(stays, stays)])
        # Factors that differ by rounding alone, as those of a lone pair do, are equal.
        largest = np.flatnonzero(factors >= factors.max() * (1.0 - 1e-9))
        worst = max(largest.tolist(), key=lambda k: (-values[stays[k]], k))
        if factors[worst] <= threshold:
            break
        feature = stays.pop(worst)
        by = max(stays, key=lambda k: abs(matrix[feature, k]))
        value = float(factors[worst])
        dropped.append(Dropped(names[feature], "vif", value, threshold, names[by]))
    return dropped


def _checked_correlations(names: Sequence[str], corr: ArrayLike) -> FloatArray:
    matrix = np.asarray(corr, np.float64)
    d = len(names)
    if matrix.shape != (d, d):
        raise InputError("correlations are (d, d), one row per feature.", step=_STEP)
    if not np.isfinite(matrix).all():
        raise InputError(
            "a correlation is not defined.", step=_STEP, fix="leave out constant features"
        )
    if (
        (np.abs(matrix) > 1.0 + _SLACK).any()
        or (np.abs(np.diag(matrix) - 1.0) > _SLACK).any()
        or (np.abs(matrix - matrix.T) > _SLACK).any()
    ):
        raise InputError(
            "the matrix does not hold correlations.",
            step=_STEP,
            fix="divide covariances by both standard deviations",
        )
    return 0.5 * (matrix + matrix.T)


def _checked_iv(names: Sequence[str], iv: ArrayLike) -> FloatArray:
    values = np.asarray(iv, np.float64)
    if values.shape != (len(names),) or not np.isfinite(values).all():
        raise InputError("information values are finite, one per feature.", step=_STEP)
    return values
