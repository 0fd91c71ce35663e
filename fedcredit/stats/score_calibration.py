"""From a score to the probability of a bad outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fedcredit.errors import InputError
from fedcredit.stats.glm import fit_glm
from fedcredit.stats.outcome_checks import checked_outcomes

__all__ = ["Calibration", "fit_calibration"]

FloatArray = NDArray[np.float64]

_STEP = "calibrate scores"


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A fitted curve from scores to probabilities.

    Attributes
    ----------
    method : {"logistic", "isotonic"}
    slope, intercept : float
        Of the logistic curve: the log odds are ``intercept + slope * score``. 0 for isotonic.
    knots, values : ndarray of float64, shape (m,)
        Of the isotonic curve, which is linear between its knots and constant outside; empty for
        logistic. The knots are scores of single rows, so this curve is for the label holder alone.
    """

    method: str
    slope: float = 0.0
    intercept: float = 0.0
    knots: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    values: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)

    def probability(self, score: ArrayLike) -> FloatArray:
        """Probability of the bad outcome at scores of any shape."""
        scores = np.asarray(score, np.float64)
        if not np.isfinite(scores).all():
            raise InputError("scores are finite.", step=_STEP)
        if self.method == "logistic":
            return np.asarray(special.expit(self.intercept + self.slope * scores))
        return np.asarray(np.interp(scores, self.knots, self.values))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, fit for JSON."""
        if self.method == "logistic":
            return {"method": "logistic", "slope": self.slope, "intercept": self.intercept}
        return {
            "method": "isotonic",
            "knots": self.knots.tolist(),
            "values": self.values.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` returned; raises `InputError` if it is something else."""
        broken = InputError("this is no saved calibration.", step=_STEP)
        try:
            if data["method"] == "logistic":
                curve = cls("logistic", float(data["slope"]), float(data["intercept"]))
                valid = bool(np.isfinite([curve.slope, curve.intercept]).all())
            elif data["method"] == "isotonic":
                knots = np.array(data["knots"], np.float64)
                values = np.array(data["values"], np.float64)
                curve = cls("isotonic", knots=knots, values=values)
                valid = _is_curve(knots, values)
            else:
                raise broken
        except (KeyError, TypeError, ValueError):
            raise broken from None
        if not valid:
            raise broken
        return curve


def _is_curve(knots: FloatArray, values: FloatArray) -> bool:
    if knots.ndim != 1 or values.shape != knots.shape or not len(knots):
        return False
    change = np.diff(values)
    return bool(
        np.isfinite(knots).all()
        and (np.diff(knots) > 0).all()
        and ((values >= 0) & (values <= 1)).all()
        and ((change >= 0).all() or (change <= 0).all())
    )


def fit_calibration(
    score: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "logistic",
    weight: ArrayLike | None = None,
    higher_is_riskier: bool = False,
) -> Calibration:
    """Fit the probability of the bad outcome to a score.

    Parameters
    ----------
    score : array_like of float, shape (n,)
        Points or log odds, of rows that the model was not trained on where possible.
    y : array_like, shape (n,)
        1 for a bad outcome, 0 for a good one; both must occur.
    method : {"logistic", "isotonic"}
        Log odds linear in the score, fitted to targets that are moved off 0 and 1 by one
        pseudo-observation (Platt, *Probabilistic outputs for support vector machines*, 1999), so
        that separated classes have a solution; or the best monotone curve by pooling adjacent
        violators (Zadrozny & Elkan, KDD 2002).
    weight : array_like of float, shape (n,), optional
        How often each row counts.
    higher_is_riskier : bool
        Direction of the isotonic curve: falling for points, rising for log odds of bad to good.
        The logistic curve finds its direction from the data.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        Arguments out of their domain; one class only; for logistic, scores that are all equal.
    """
    if method not in ("logistic", "isotonic"):
        raise InputError(
            "the method is unknown.", step=_STEP, fix='choose "logistic" or "isotonic"'
        )
    labels, scores, weights = checked_outcomes(y, score, weight, step=_STEP)
    bad, good = float(weights @ labels), float(weights @ (1.0 - labels))
    if not (bad > 0 and good > 0):
        raise InputError(
            "only one class occurs.", step=_STEP, fix="calibrate on rows with both outcomes"
        )
    if method == "logistic":
        if np.ptp(scores[weights > 0]) == 0:
            raise InputError("all scores are equal.", step=_STEP)
        target = np.where(labels > 0, (bad + 1.0) / (bad + 2.0), 1.0 / (good + 2.0))
        # A row with a target between 0 and 1 is a part of a bad row and the rest of a good one.
        fit = fit_glm(
            np.concatenate([scores, scores])[:, None],
            np.repeat([1.0, 0.0], len(scores)),
            weight=np.concatenate([weights * target, weights * (1.0 - target)]),
        )
        return Calibration("logistic", slope=float(fit.coef[0]), intercept=fit.intercept)
    used = weights > 0
    knots, place = np.unique(scores[used], return_inverse=True)
    count = np.bincount(place, weights[used])
    rate = np.bincount(place, (weights * labels)[used]) / count
    values = _pooled(rate, count) if higher_is_riskier else _pooled(rate[::-1], count[::-1])[::-1]
    # Within a level stretch only its ends matter.
    level = np.diff(values) == 0
    ends = ~(np.append(False, level) & np.append(level, False))
    return Calibration("isotonic", knots=knots[ends], values=values[ends])


@njit(cache=True, nogil=True)
def _pooled(rate: FloatArray, weight: FloatArray) -> FloatArray:
    """Closest rising sequence in weighted squares, by pooling adjacent violators."""
    n = len(rate)
    level, mass = np.empty(n), np.empty(n)
    size = np.empty(n, np.int64)
    blocks = 0
    for i in range(n):
        level[blocks], mass[blocks], size[blocks] = rate[i], weight[i], 1
        blocks += 1
        while blocks > 1 and level[blocks - 2] >= level[blocks - 1]:
            total = mass[blocks - 2] + mass[blocks - 1]
            step = level[blocks - 1] - level[blocks - 2]
            level[blocks - 2] += step * (mass[blocks - 1] / total)
            mass[blocks - 2] = total
            size[blocks - 2] += size[blocks - 1]
            blocks -= 1
    out = np.empty(n)
    start = 0
    for b in range(blocks):
        out[start : start + size[b]] = level[b]
        start += size[b]
    return out
