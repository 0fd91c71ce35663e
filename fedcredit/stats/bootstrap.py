"""Percentile bootstrap of anything that takes row weights.

Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13. A draw of n rows with
replacement is the same as a weight per row that says how often it was drawn, so nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError

__all__ = ["Interval", "bootstrap_draws", "bootstrap_interval"]

FloatArray = NDArray[np.float64]

_STEP = "bootstrap"
_RESAMPLES_AT_LEAST = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its bootstrap interval.

    Attributes
    ----------
    value : float
        Of all rows.
    low, high : float
    level : float
        Of the confidence.
    resamples : int
        Draws in which the value is defined; the interval is theirs.
    seed : int
    """

    value: float
    low: float
    high: float
    level: float
    resamples: int
    seed: int


def bootstrap_draws(
    statistic: Callable[[FloatArray], ArrayLike], weight: ArrayLike, resamples: int, seed: int
) -> FloatArray:
    """Evaluate statistics on rows drawn with replacement.

    Parameters
    ----------
    statistic : callable
        From row weights (n,) to one number or a vector (k,). May return NaN, or raise `InputError`,
        where it is not defined, as a ranking measure is on rows of one class.
    weight : array_like of float, shape (n,)
        Of every row; multiplied by how often it was drawn.
    resamples : int
    seed : int

    Returns
    -------
    ndarray of float64, shape (defined draws, k)

    Raises
    ------
    InputError
        Fewer than 20 resamples, or fewer than 20 of them in which the statistic is defined.
    """
    weights = np.asarray(weight, np.float64)
    if weights.ndim != 1 or not len(weights) or resamples < _RESAMPLES_AT_LEAST:
        raise InputError(
            "the bootstrap's arguments are out of range.",
            step=_STEP,
            fix=f"at least one row and {_RESAMPLES_AT_LEAST} resamples",
        )
    rng = np.random.default_rng(seed)
    n = len(weights)
    draws = []
    for _ in range(resamples):
        drawn = weights * np.bincount(rng.integers(n, size=n), minlength=n)
        try:
            value = np.atleast_1d(np.asarray(statistic(drawn), np.float64))
        except InputError:
            continue
        if np.isfinite(value).all():
            draws.append(value)
    if len(draws) < _RESAMPLES_AT_LEAST:
        raise InputError(
            "too few rows for a bootstrap interval.",
            step=_STEP,
            fix="use more rows, or rows with both outcomes",
        )
    return np.array(draws)


def bootstrap_interval(
    metric: Callable[[ArrayLike, ArrayLike, ArrayLike], float],
    y: ArrayLike,
    score: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a metric of fixed scores.

    Parameters
    ----------
    metric : callable
        ``metric(y, score, weight)``, for instance `metrics.auc` or `credit_metrics.brier_score`.
    y, score : array_like of float, shape (n,)
    weight : array_like of float, shape (n,), optional
    resamples : int
        At least 20.
    seed : int
    level : float
        Of the confidence, within (0, 1).

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        What the metric raises for all rows; arguments out of range; a metric that is defined in
        fewer than 20 draws.
    """
    if not 0 < level < 1:
        raise InputError("level is within (0, 1).", step=_STEP)
    labels, scores = np.asarray(y, np.float64), np.asarray(score, np.float64)
    weights = np.ones(labels.shape) if weight is None else np.asarray(weight, np.float64)
    value = float(metric(labels, scores, weights))
    draws = bootstrap_draws(lambda drawn: metric(labels, scores, drawn), weights, resamples, seed)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws[:, 0], [tail, 100.0 - tail])
    return Interval(value, float(low), float(high), level, len(draws), seed)
