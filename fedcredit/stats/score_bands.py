"""What a score does to a portfolio: bands of scores, and the choice of a cut-off.

More points mean less risk; a row is approved if its score reaches the cut-off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError
from fedcredit.stats.outcome_checks import checked_outcomes

__all__ = ["BandTable", "CutoffTable", "band_edges", "bands", "cutoff_table"]

FloatArray = NDArray[np.float64]

_STEP = "score bands"


def _plain(table: object, names: list[str]) -> dict[str, list[Any]]:
    """Columns as lists; what is not finite becomes None, as JSON has no word for it."""
    return {
        name: [v if np.isfinite(v) else None for v in getattr(table, name).tolist()]
        for name in names
    }


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``; infinite over zero, NaN for zero over zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part / whole)


def _sums(place: NDArray[np.int64], values: FloatArray, n_bins: int) -> FloatArray:
    return np.asarray(np.bincount(place, values, n_bins), np.float64)


def _from_end(values: FloatArray) -> FloatArray:
    """Sum of each entry and all after it."""
    return np.asarray(np.cumsum(values[::-1])[::-1])


@dataclass(frozen=True, slots=True, eq=False)
class BandTable:
    """Bands of scores, the riskiest first; one entry per band in every array.

    Attributes
    ----------
    low, high : ndarray of float64
        A band holds scores in ``[low, high)``.
    count, events : ndarray of float64
        Weighted numbers of rows and of bad ones.
    event_rate : ndarray of float64
        ``events / count``; NaN in an empty band.
    odds : ndarray of float64
        Good to bad; infinite without bad, NaN in an empty band.
    cumulative_approval_rate : ndarray of float64
        Share of all rows in this and the better bands.
    cumulative_bad_rate : ndarray of float64
        Event rate among these; NaN if there are none.
    """

    low: FloatArray
    high: FloatArray
    count: FloatArray
    events: FloatArray
    event_rate: FloatArray
    odds: FloatArray
    cumulative_approval_rate: FloatArray
    cumulative_bad_rate: FloatArray

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns as plain lists, None for what is not finite."""
        return _plain(self, list(self.__dataclass_fields__))


def band_edges(score: ArrayLike, n_bands: int = 10) -> FloatArray:
    """Choose edges of bands that hold about equally many rows.

    Parameters
    ----------
    score : array_like of float, shape (n,)
    n_bands : int
        At least 1. Equal scores are never torn apart, so there can be fewer.

    Returns
    -------
    ndarray of float64, shape (at most n_bands - 1,)
        Scores that occur, ascending.

    Raises
    ------
    InputError
        No scores, one that is not finite, or `n_bands` below 1.
    """
    values = np.asarray(score, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or n_bands < 1:
        raise InputError("scores are finite, and there is one band or more.", step=_STEP)
    shares = np.arange(1, n_bands) / n_bands
    edges = np.unique(np.quantile(values, shares, method="higher"))
    return np.asarray(edges[edges > values.min()])


def bands(
    score: ArrayLike, y: ArrayLike, edges: ArrayLike, weight: ArrayLike | None = None
) -> BandTable:
    """Tabulate outcomes by bands of the score.

    Parameters
    ----------
    score : array_like of float, shape (n,)
        Higher is safer.
    y : array_like, shape (n,)
        1 for a bad outcome, 0 for a good one.
    edges : array_like of float, shape (m,)
        Strictly ascending; the first band reaches down and the last one up without end.
    weight : array_like of float, shape (n,), optional
        How often each row counts.

    Returns
    -------
    BandTable
        With m + 1 bands.

    Raises
    ------
    InputError
        Lengths that differ, a value out of its domain, or edges that do not ascend.
    """
    labels, scores, weights = checked_outcomes(y, score, weight, step=_STEP)
    limits = _checked_ascending(edges)
    place = np.searchsorted(limits, scores, side="right")
    count = _sums(place, weights, len(limits) + 1)
    events = _sums(place, weights * labels, len(limits) + 1)
    rows, bad = (_from_end(v) for v in (count, events))
    return BandTable(
        low=np.append(-np.inf, limits),
        high=np.append(limits, np.inf),
        count=count,
        events=events,
        event_rate=_ratio(events, count),
        odds=_ratio(count - events, events),
        cumulative_approval_rate=rows / rows[0],
        cumulative_bad_rate=_ratio(bad, rows),
    )


@dataclass(frozen=True, slots=True, eq=False)
class CutoffTable:
    """What each cut-off would do; one entry per cut-off in every array.

    Attributes
    ----------
    cutoff : ndarray of float64
        Ascending; rows with at least this score are approved.
    approved : ndarray of float64
        Weighted number of rows.
    approval_rate : ndarray of float64
    bad_rate : ndarray of float64
        Among the approved; NaN if there are none.
    odds : ndarray of float64
        Good to bad among the approved; infinite without bad, NaN if there are none.
    rejected_bad_share, rejected_good_share : ndarray of float64
        Shares of all bad and of all good rows that are turned away; NaN without any such row.
    ks : ndarray of float64
        Their difference.
    """

    cutoff: FloatArray
    approved: FloatArray
    approval_rate: FloatArray
    bad_rate: FloatArray
    odds: FloatArray
    rejected_bad_share: FloatArray
    rejected_good_share: FloatArray
    ks: FloatArray

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns as plain lists, None for what is not finite."""
        return _plain(self, list(self.__dataclass_fields__))


def cutoff_table(
    score: ArrayLike,
    y: ArrayLike,
    cutoffs: ArrayLike | None = None,
    weight: ArrayLike | None = None,
) -> CutoffTable:
    """Tabulate approval and bad rates by cut-off.

    Parameters
    ----------
    score, y, weight
        As in `bands`.
    cutoffs : array_like of float, shape (m,), optional
        Strictly ascending. By default the lowest score, at which all are approved, and every
        twentieth part of the rows.

    Returns
    -------
    CutoffTable

    Raises
    ------
    InputError
        As `bands`.
    """
    labels, scores, weights = checked_outcomes(y, score, weight, step=_STEP)
    if cutoffs is None:
        limits = np.append(scores.min(), band_edges(scores, 20))
    else:
        limits = _checked_ascending(cutoffs)
    place = np.searchsorted(limits, scores, side="right")
    good = _sums(place, weights * (1.0 - labels), len(limits) + 1)
    bad = _sums(place, weights * labels, len(limits) + 1)
    approved_good, approved_bad = (_from_end(v)[1:] for v in (good, bad))
    rejected_good, rejected_bad = (np.asarray(np.cumsum(v)[:-1]) for v in (good, bad))
    approved = approved_good + approved_bad
    bad_share = _ratio(rejected_bad, np.full(len(limits), bad.sum()))
    good_share = _ratio(rejected_good, np.full(len(limits), good.sum()))
    return CutoffTable(
        cutoff=limits,
        approved=approved,
        approval_rate=approved / weights.sum(),
        bad_rate=_ratio(approved_bad, approved),
        odds=_ratio(approved_good, approved_bad),
        rejected_bad_share=bad_share,
        rejected_good_share=good_share,
        ks=bad_share - good_share,
    )


def _checked_ascending(edges: ArrayLike) -> FloatArray:
    limits = np.asarray(edges, np.float64)
    if limits.ndim != 1 or not np.isfinite(limits).all() or (np.diff(limits) <= 0).any():
        raise InputError("edges and cut-offs are finite and ascend strictly.", step=_STEP)
    return limits
