"""Whether the population is still the same, and the probabilities right.

Stability indices compare counts per bin of two samples; the other measures compare probabilities
of the event with what happened. How well scores rank is in `metrics`, intervals for all of these
are in `bootstrap`, whose names are repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fedcredit.errors import InputError
from fedcredit.stats.bootstrap import Interval, bootstrap_draws, bootstrap_interval
from fedcredit.stats.outcome_checks import checked_outcomes

__all__ = [
    "CalibrationCurve",
    "CharacteristicStability",
    "Confusion",
    "HosmerLemeshow",
    "Interval",
    "bootstrap_draws",
    "bootstrap_interval",
    "brier_score",
    "calibration_curve",
    "characteristic_stability",
    "confusion_at",
    "hosmer_lemeshow",
    "population_stability_index",
    "stability_contributions",
]

FloatArray = NDArray[np.float64]

_STEP = "credit metrics"


def population_stability_index(
    expected: ArrayLike, actual: ArrayLike, *, empty: float = 0.5
) -> float:
    """Measure how far the distribution over bins has moved.

    ``sum_b (a_b - e_b) ln(a_b / e_b)`` over shares of the actual and of the expected sample, the
    symmetric divergence of Kullback & Leibler (Jeffreys, 1946). By custom, below 0.1 nothing has
    changed, above 0.25 much has.

    Parameters
    ----------
    expected, actual : array_like of float, shape (B,)
        Rows per bin in the sample of reference and in the one at hand.
    empty : float
        Rows that a bin counts as if one sample has none there, because the index would be infinite
        (which it is with 0). Bins that are empty in both samples have no part in it, and bins
        with rows in both are taken as they are.

    Returns
    -------
    float

    Raises
    ------
    InputError
        Counts that are negative, not finite, all zero, or of different lengths.
    """
    return float(stability_contributions(expected, actual, empty=empty).sum())


def stability_contributions(
    expected: ArrayLike, actual: ArrayLike, *, empty: float = 0.5
) -> FloatArray:
    """Part of each bin in the `population_stability_index`, shape (B,).

    Arguments and errors are the same.
    """
    before, after = _checked_counts(expected, actual)
    if not 0 <= empty < np.inf:
        raise InputError("empty is a number of rows.", step=_STEP)
    occupied = (before > 0) | (after > 0)
    before = np.where(occupied & (before == 0), empty, before)
    after = np.where(occupied & (after == 0), empty, after)
    e, a = before[occupied] / before.sum(), after[occupied] / after.sum()
    out = np.zeros(len(before))
    with np.errstate(divide="ignore"):
        out[occupied] = (a - e) * (np.log(a) - np.log(e))
    return out


def _checked_counts(expected: ArrayLike, actual: ArrayLike) -> tuple[FloatArray, FloatArray]:
    before, after = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    if before.ndim != 1 or after.shape != before.shape:
        raise InputError("both samples are counted in the same bins.", step=_STEP)
    for counts in (before, after):
        if not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
            raise InputError("counts are finite, not negative and not all zero.", step=_STEP)
    return before, after


@dataclass(frozen=True, slots=True)
class CharacteristicStability:
    """How far one characteristic has moved.

    Attributes
    ----------
    name : str
    index : float
        Its population stability index.
    point_shift : float or None
        Change of the mean points, ``sum_b (a_b - e_b) * points_b``; None without points.
    """

    name: str
    index: float
    point_shift: float | None = None


def characteristic_stability(
    expected: Mapping[str, ArrayLike],
    actual: Mapping[str, ArrayLike],
    points: Mapping[str, ArrayLike] | None = None,
    *,
    empty: float = 0.5,
) -> list[CharacteristicStability]:
    """Stability index of every characteristic (CSI), and what its shift does to the score.

    Parameters
    ----------
    expected, actual : mapping of str to array_like of float, each of shape (B_c,)
        Rows per bin by characteristic; the same characteristics in both.
    points : mapping of str to array_like of float, optional
        Points per bin of these characteristics.
    empty : float
        As in `population_stability_index`; the shift of the points takes counts as they are.

    Returns
    -------
    list of CharacteristicStability
        In the order of `expected`.

    Raises
    ------
    InputError
        Characteristics that differ, or counts or points that do not fit.
    """
    if set(expected) != set(actual) or (points is not None and set(points) != set(expected)):
        raise InputError("the characteristics are not the same in both samples.", step=_STEP)
    out = []
    for name in expected:
        index = population_stability_index(expected[name], actual[name], empty=empty)
        shift = None
        if points is not None:
            before, after = _checked_counts(expected[name], actual[name])
            values = np.asarray(points[name], np.float64)
            if values.shape != before.shape or not np.isfinite(values).all():
                raise InputError("points are finite, one per bin.", step=_STEP)
            shift = float((after / after.sum() - before / before.sum()) @ values)
        out.append(CharacteristicStability(name, index, shift))
    return out


def brier_score(y: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean squared difference of probability and outcome (Brier, 1950).

    Parameters
    ----------
    y : array_like, shape (n,)
        1 for an event, 0 otherwise.
    probability : array_like of float, shape (n,)
        Of the event.
    weight : array_like of float, shape (n,), optional
        How often each row counts.

    Raises
    ------
    InputError
        Lengths that differ, or a value out of its domain.
    """
    labels, p, weights = checked_outcomes(y, probability, weight, step=_STEP, probability=True)
    return float(weights @ (p - labels) ** 2 / weights.sum())


def _sums(place: NDArray[np.int64], values: FloatArray, n_bins: int = 0) -> FloatArray:
    return np.asarray(np.bincount(place, values, n_bins), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class HosmerLemeshow:
    """Test of the probabilities by groups of rising risk.

    Attributes
    ----------
    chi2 : float
    df : int
    p_value : float
        Small if the probabilities do not fit.
    count, observed, expected : ndarray of float64, shape (groups,)
        Rows, events, and sum of the probabilities, by group.
    """

    chi2: float
    df: int
    p_value: float
    count: FloatArray
    observed: FloatArray
    expected: FloatArray


def hosmer_lemeshow(
    y: ArrayLike, probability: ArrayLike, *, n_groups: int = 10, fitted: bool = True
) -> HosmerLemeshow:
    """Test whether probabilities agree with outcomes.

    Hosmer & Lemeshow, *Goodness of fit tests for the multiple logistic regression model*
    (Communications in Statistics A9, 1980). On many rows it finds differences that do not matter;
    look at the `calibration_curve` too.

    Parameters
    ----------
    y : array_like, shape (n,)
        1 for an event, 0 otherwise.
    probability : array_like of float, shape (n,)
        Of the event.
    n_groups : int
        Groups of about equal size wanted, at least 3 are needed. Equal probabilities are never
        torn apart, so there can be fewer.
    fitted : bool
        True for the rows that the model was trained on: two degrees of freedom fewer than
        groups. False for other rows: as many as groups.

    Returns
    -------
    HosmerLemeshow

    Raises
    ------
    InputError
        Lengths that differ, a value out of its domain, fewer than 3 groups.
    """
    labels, p, _ = checked_outcomes(y, probability, None, step=_STEP, probability=True)
    _, place, rows = np.unique(p, return_inverse=True, return_counts=True)
    if n_groups >= 3:
        # A probability belongs to the group in which the middle of its rows lies.
        middle = (np.cumsum(rows) - 0.5 * rows) / len(p)
        group = np.minimum((middle * n_groups).astype(np.int64), n_groups - 1)
        group = np.unique(group, return_inverse=True)[1]
    if n_groups < 3 or group[-1] < 2:
        raise InputError(
            "the test needs at least 3 groups.",
            step=_STEP,
            fix="ask for more groups, or use probabilities that differ",
        )
    of_row = group[place]
    count, observed, expected = (_sums(of_row, v) for v in (np.ones_like(p), labels, p))
    variance = expected * (1.0 - expected / count)
    gap = (observed - expected) ** 2
    # Certain probabilities fit perfectly or not at all.
    sure = np.where(gap > 0, np.inf, 0.0)
    chi2 = float(np.divide(gap, variance, out=sure, where=variance > 0).sum())
    df = len(count) - (2 if fitted else 0)
    return HosmerLemeshow(
        chi2=chi2,
        df=df,
        p_value=float(stats.chi2.sf(chi2, df)),
        count=count,
        observed=observed,
        expected=expected,
    )


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationCurve:
    """Probabilities against outcomes; one entry per bin that holds rows in every array.

    Attributes
    ----------
    mean_predicted, event_rate : ndarray of float64
    count : ndarray of float64
        Weighted number of rows.
    """

    mean_predicted: FloatArray
    event_rate: FloatArray
    count: FloatArray

    @property
    def expected_error(self) -> float:
        """Mean absolute difference of both, weighted by rows (Naeini et al., AAAI 2015)."""
        gap = np.abs(self.mean_predicted - self.event_rate)
        return float(self.count @ gap / self.count.sum())

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns as plain lists."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


def calibration_curve(
    y: ArrayLike,
    probability: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    n_bins: int = 10,
    strategy: str = "uniform",
) -> CalibrationCurve:
    """Compare mean probability and event rate by bins of the probability.

    Parameters
    ----------
    y, probability, weight
        As in `brier_score`.
    n_bins : int
        At least 1.
    strategy : {"uniform", "quantile"}
        Bins of equal width on [0, 1], or that hold about equally many rows (not counting weights).

    Returns
    -------
    CalibrationCurve

    Raises
    ------
    InputError
        As `brier_score`; an unknown strategy or `n_bins` below 1.
    """
    if strategy not in ("uniform", "quantile") or n_bins < 1:
        raise InputError(
            "the bins of the curve are out of range.",
            step=_STEP,
            fix='choose "uniform" or "quantile", and one bin or more',
        )
    labels, p, weights = checked_outcomes(y, probability, weight, step=_STEP, probability=True)
    shares = np.linspace(0.0, 1.0, n_bins + 1)
    edges = shares if strategy == "uniform" else np.quantile(p, shares)
    place = np.searchsorted(edges[1:-1], p)
    count = _sums(place, weights, n_bins)
    used = count > 0
    return CalibrationCurve(
        mean_predicted=_sums(place, weights * p, n_bins)[used] / count[used],
        event_rate=_sums(place, weights * labels, n_bins)[used] / count[used],
        count=count[used],
    )


@dataclass(frozen=True, slots=True)
class Confusion:
    """Outcomes against decisions at one cut-off, weighted.

    Attributes
    ----------
    true_positive, false_positive, true_negative, false_negative : float
        Positive is a row called an event.
    cutoff : float
    """

    true_positive: float
    false_positive: float
    true_negative: float
    false_negative: float
    cutoff: float

    @property
    def accuracy(self) -> float:
        """Share of rows called rightly."""
        right = self.true_positive + self.true_negative
        return right / (right + self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        """Share of events among rows called events; NaN if there are none."""
        return _share(self.true_positive, self.false_positive)

    @property
    def recall(self) -> float:
        """Share of events that are called so (sensitivity); NaN without events."""
        return _share(self.true_positive, self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of non-events that are called so; NaN without non-events."""
        return _share(self.true_negative, self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN if neither is defined."""
        missed = self.false_positive + self.false_negative
        return _share(2.0 * self.true_positive, missed)


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else np.nan


def confusion_at(
    y: ArrayLike, score: ArrayLike, cutoff: float, weight: ArrayLike | None = None
) -> Confusion:
    """Count right and wrong decisions at a cut-off.

    Parameters
    ----------
    y : array_like, shape (n,)
        1 for an event, 0 otherwise.
    score : array_like of float, shape (n,)
        Probability or another score where higher is riskier; of credit points pass the negative,
        and the negative cut-off.
    cutoff : float
        Rows with at least this score are called events.
    weight : array_like of float, shape (n,), optional
        How often each row counts.

    Returns
    -------
    Confusion

    Raises
    ------
    InputError
        Lengths that differ, a value out of its domain, a cut-off that is no number.
    """
    labels, scores, weights = checked_outcomes(y, score, weight, step=_STEP)
    if np.isnan(cutoff):
        raise InputError("the cut-off is a number.", step=_STEP)
    called = scores >= cutoff
    events, others = weights * labels, weights * (1.0 - labels)
    return Confusion(
        true_positive=float(events[called].sum()),
        false_positive=float(others[called].sum()),
        true_negative=float(others[~called].sum()),
        false_negative=float(events[~called].sum()),
        cutoff=float(cutoff),
    )
