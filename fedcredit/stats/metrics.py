"""How well scores separate events from non-events.

Everywhere a higher score means a higher risk of the event, and `weight` counts a row that often.
Equal scores are never told apart: they share one point of a curve and one row of a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError
from fedcredit.stats.outcome_checks import checked_outcomes

__all__ = [
    "GainsTable",
    "RocCurve",
    "auc",
    "gains_table",
    "gini",
    "ks",
    "lift",
    "log_loss",
    "roc_curve",
]

_STEP = "metrics"

FloatArray = NDArray[np.float64]


def _checked(
    y: ArrayLike, score: ArrayLike, weight: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Check labels, scores and weights of a measure that needs both classes."""
    labels, scores, weights = checked_outcomes(y, score, weight, step=_STEP)
    counted = labels[weights > 0]
    if counted.min() == counted.max():
        raise InputError(
            "only one class occurs.", step=_STEP, fix="evaluate on rows with both outcomes"
        )
    return labels, scores, weights


def _descending(
    labels: FloatArray, scores: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the distinct scores, descending, with the summed weights of events and of others."""
    distinct, place = np.unique(-scores, return_inverse=True)
    events, others = np.zeros(len(distinct)), np.zeros(len(distinct))
    np.add.at(events, place, weights * labels)
    np.add.at(others, place, weights * (1.0 - labels))
    return -distinct, events, others


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """Points of the receiver operating characteristic, one per distinct score.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : ndarray of float64, shape (m + 1,)
        From (0, 0) to (1, 1).
    threshold : ndarray of float64, shape (m + 1,)
        Rows with at least this score are called events; infinite at the first point.
    """

    false_positive_rate: FloatArray = field(repr=False)
    true_positive_rate: FloatArray = field(repr=False)
    threshold: FloatArray = field(repr=False)


def roc_curve(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> RocCurve:
    """Compute the receiver operating characteristic.

    Parameters
    ----------
    y : array_like, shape (n,)
        1 for an event, 0 otherwise.
    score : array_like of float, shape (n,)
        Higher is riskier.
    weight : array_like of float, shape (n,), optional
        Row weights.

    Returns
    -------
    RocCurve

    Raises
    ------
    InputError
        If lengths differ, a value is out of its domain, or only one class occurs.
    """
    distinct, events, others = _descending(*_checked(y, score, weight))
    captured, flagged = np.cumsum(events), np.cumsum(others)
    return RocCurve(
        false_positive_rate=np.concatenate([[0.0], flagged / flagged[-1]]),
        true_positive_rate=np.concatenate([[0.0], captured / captured[-1]]),
        threshold=np.concatenate([[np.inf], distinct]),
    )


def auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Probability that an event scores above a non-event, ties counting half.

    Arguments and errors as in `roc_curve`.
    """
    curve = roc_curve(y, score, weight)
    heights = curve.true_positive_rate[1:] + curve.true_positive_rate[:-1]
    return float((np.diff(curve.false_positive_rate) * heights).sum()) / 2.0


def gini(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Gini coefficient (accuracy ratio), ``2 * auc - 1``.

    Arguments and errors as in `roc_curve`.
    """
    return 2.0 * auc(y, score, weight) - 1.0


def ks(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Kolmogorov–Smirnov distance between the scores of events and of non-events.

    The largest absolute difference of the two distributions, so also of a score of wrong sign.
    Arguments and errors as in `roc_curve`.
    """
    curve = roc_curve(y, score, weight)
    return float(np.abs(curve.true_positive_rate - curve.false_positive_rate).max())


def log_loss(y: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean negative log likelihood of the labels.

    Parameters
    ----------
    y : array_like, shape (n,)
        1 for an event, 0 otherwise.
    probability : array_like of float, shape (n,)
        Probability of the event; kept one rounding unit off 0 and 1.
    weight : array_like of float, shape (n,), optional
        Row weights.

    Raises
    ------
    InputError
        If lengths differ or a value is out of its domain.
    """
    labels, p, weights = checked_outcomes(y, probability, weight, step=_STEP, probability=True)
    eps = np.finfo(np.float64).eps
    p = np.clip(p, eps, 1.0 - eps)
    losses = -(labels * np.log(p) + (1.0 - labels) * np.log1p(-p))
    return float((weights * losses).sum() / weights.sum())


@dataclass(frozen=True, slots=True, eq=False)
class GainsTable:
    """Groups of rows by descending score; one entry per group in every array.

    Attributes
    ----------
    lowest_score, highest_score : ndarray of float64
        Range of scores in the group.
    count, events : ndarray of float64
        Weighted numbers of rows and of events.
    event_rate : ndarray of float64
        ``events / count``.
    cumulative_share : ndarray of float64
        Share of all rows in this and the riskier groups.
    cumulative_capture : ndarray of float64
        Share of all events in this and the riskier groups.
    lift : ndarray of float64
        Event rate of the group over the overall rate.
    cumulative_lift : ndarray of float64
        ``cumulative_capture / cumulative_share``.
    ks : ndarray of float64
        Difference of the captured shares of events and of non-events.
    """

    lowest_score: FloatArray
    highest_score: FloatArray
    count: FloatArray
    events: FloatArray
    event_rate: FloatArray
    cumulative_share: FloatArray
    cumulative_capture: FloatArray
    lift: FloatArray
    cumulative_lift: FloatArray
    ks: FloatArray

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns as plain lists."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


def gains_table(
    y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None, *, n_groups: int = 10
) -> GainsTable:
    """Tabulate events by groups of descending score (deciles by default).

    Groups have equal weight as far as equal scores, which are never torn apart, allow; with many
    ties there are fewer groups than asked for.

    Parameters
    ----------
    y, score, weight
        As in `roc_curve`.
    n_groups : int
        Number of groups wanted.

    Returns
    -------
    GainsTable

    Raises
    ------
    InputError
        As `roc_curve`, or if `n_groups` is less than 1.
    """
    if n_groups < 1:
        raise InputError("n_groups is at least 1.", step=_STEP)
    labels, scores, weights = _checked(y, score, weight)
    positive = weights > 0
    distinct, events, others = _descending(labels[positive], scores[positive], weights[positive])
    rows = events + others
    share = np.cumsum(rows) / rows.sum()
    # A score belongs to the group in which the middle of its rows lies.
    middle = share - 0.5 * rows / rows.sum()
    group = np.minimum((middle * n_groups).astype(np.int64), n_groups - 1)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    last = np.append(first[1:] - 1, len(group) - 1)
    count, hits = np.add.reduceat(rows, first), np.add.reduceat(events, first)
    captured = np.cumsum(hits) / events.sum()
    flagged = np.cumsum(count - hits) / others.sum()
    cumulative_share = np.cumsum(count) / rows.sum()
    rate = hits / count
    return GainsTable(
        lowest_score=distinct[last],
        highest_score=distinct[first],
        count=count,
        events=hits,
        event_rate=rate,
        cumulative_share=cumulative_share,
        cumulative_capture=captured,
        lift=rate / (events.sum() / rows.sum()),
        cumulative_lift=captured / cumulative_share,
        ks=captured - flagged,
    )


def lift(
    y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None, *, share: float = 0.1
) -> float:
    """Event rate among the riskiest rows over the overall rate.

    Parameters
    ----------
    y, score, weight
        As in `roc_curve`.
    share : float
        Share of the rows that are looked at. Of a score that straddles the limit a part of the
        rows counts, with the score's average event rate.

    Raises
    ------
    InputError
        As `roc_curve`, or if `share` is not within (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError("share is within (0, 1].", step=_STEP)
    _, events, others = _descending(*_checked(y, score, weight))
    rows = np.concatenate([[0.0], np.cumsum(events + others)])
    captured = np.concatenate([[0.0], np.cumsum(events)])
    hits = float(np.interp(share * rows[-1], rows, captured))
    return hits / (share * float(captured[-1]))
