"""One check of labels, scores and weights for tables and measures of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError

__all__ = ["checked_outcomes"]

FloatArray = NDArray[np.float64]


def checked_outcomes(
    y: ArrayLike,
    score: ArrayLike,
    weight: ArrayLike | None,
    *,
    step: str,
    probability: bool = False,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return labels, scores and weights as float vectors of one length.

    Parameters
    ----------
    y : array_like, shape (n,)
        0 or 1.
    score : array_like of float, shape (n,)
    weight : array_like of float, shape (n,), optional
        How often each row counts.
    step : str
        Named in errors.
    probability : bool
        Scores must lie within [0, 1].

    Raises
    ------
    InputError
        Lengths that differ, no rows, a value out of its domain, or weights that are all zero.
    """
    labels, scores = np.asarray(y, np.float64), np.asarray(score, np.float64)
    if labels.ndim != 1 or scores.shape != labels.shape or not len(labels):
        raise InputError("labels and scores are vectors of one length.", step=step)
    if not ((labels == 0) | (labels == 1)).all():
        raise InputError("labels are 0 or 1.", step=step)
    if not np.isfinite(scores).all():
        raise InputError("scores are finite.", step=step)
    if probability and ((scores < 0).any() or (scores > 1).any()):
        raise InputError("probabilities are between 0 and 1.", step=step)
    weights = np.ones_like(labels) if weight is None else np.asarray(weight, np.float64)
    if weights.shape != labels.shape or not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError("weights are one per row, finite and not negative.", step=step)
    if not weights.any():
        raise InputError("all weights are zero.", step=step)
    return labels, scores, weights
