"""Weights of evidence and information value of binned features.

One formula, with one smoothing term, serves fitting, reports and scoring.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError

__all__ = ["Convention", "WoeTable", "checked_counts", "woe_table"]

_STEP = "weights of evidence"

Convention = Literal["bad_over_good", "good_over_bad"]


@dataclass(frozen=True, slots=True, eq=False)
class WoeTable:
    """Counts, weights of evidence and information value per bin.

    Attributes
    ----------
    count, event, non_event : ndarray of int64, shape (B,)
        Rows, rows with the event, and rows without, per bin.
    event_rate : ndarray of float64, shape (B,)
        Share of events, without smoothing; NaN in an empty bin.
    woe : ndarray of float64, shape (B,)
        Weight of evidence; its sign follows `convention`.
    iv : ndarray of float64, shape (B,)
        The bin's contribution to the information value, never negative.
    smoothing : float
        The number added to the events and to the non-events of every bin that is not empty.
    convention : {"bad_over_good", "good_over_bad"}
        Whether a positive weight means more or less risk than average.
    """

    count: NDArray[np.int64] = field(repr=False)
    event: NDArray[np.int64] = field(repr=False)
    non_event: NDArray[np.int64] = field(repr=False)
    event_rate: NDArray[np.float64] = field(repr=False)
    woe: NDArray[np.float64] = field(repr=False)
    iv: NDArray[np.float64] = field(repr=False)
    smoothing: float
    convention: Convention

    @property
    def total_iv(self) -> float:
        """Information value of the feature."""
        return float(self.iv.sum())


def checked_counts(
    count: ArrayLike, event: ArrayLike, smoothing: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return counts of rows and of events per bin, or say what is wrong with them.

    Raises
    ------
    InputError
        As `woe_table`.
    """
    exact = []
    for name, given in (("count", count), ("event", event)):
        array = np.asarray(given)
        if array.ndim != 1 or array.dtype.kind not in "iuf" or not (array == np.rint(array)).all():
            raise InputError(f"{name} is a vector of whole numbers.", step=_STEP)
        exact.append(array.astype(np.int64))
    rows, events = exact
    if rows.shape != events.shape or (events < 0).any() or (events > rows).any():
        raise InputError("every bin has between 0 and all of its rows as events.", step=_STEP)
    if not 0 < events.sum() < rows.sum():
        raise InputError(
            "only one class occurs.",
            step=_STEP,
            fix="bring rows with the event (label 1) and rows without it (label 0)",
        )
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise InputError("smoothing is a number, at least 0.", step=_STEP)
    return rows, events


def woe_table(
    count: ArrayLike,
    event: ArrayLike,
    *,
    smoothing: float = 0.5,
    convention: Convention = "bad_over_good",
) -> WoeTable:
    r"""Compute weights of evidence and information value.

    With B bins that are not empty, E events and G non-events in all, a bin with e events and g
    non-events has the shares

    .. math:: p = \frac{e + s}{E + sB}, \qquad q = \frac{g + s}{G + sB},

    the weight :math:`\ln(p/q)` (positive: riskier than average) and the information value
    :math:`(p - q)\ln(p/q)`. With :math:`s = 0` these are the textbook's (Siddiqi, *Credit Risk
    Scorecards*, 2006, chapter 6), and a bin of one class only has weight and value 0; so has
    every empty bin, whatever the smoothing.

    Parameters
    ----------
    count, event : array_like of int, shape (B,)
        Rows and events per bin.
    smoothing : float
        The term s. The default 0.5 is the correction of Haldane (1956) and Anscombe (1956) for
        log-odds of small counts.
    convention : {"bad_over_good", "good_over_bad"}
        ``"good_over_bad"`` flips the sign of the weights, and of nothing else.

    Returns
    -------
    WoeTable

    Raises
    ------
    InputError
        If counts are no whole numbers or contradict each other, only one class occurs, or an
        option is out of its domain.
    """
    rows, events = checked_counts(count, event, smoothing)
    if convention not in get_args(Convention):
        raise InputError("convention is bad_over_good or good_over_bad.", step=_STEP)
    others = rows - events
    filled = rows > 0
    n_filled = int(filled.sum())
    bad = (events + smoothing) / (events.sum() + smoothing * n_filled)
    good = (others + smoothing) / (others.sum() + smoothing * n_filled)
    defined = filled & (bad > 0) & (good > 0)
    woe, rate = np.zeros(len(rows)), np.full(len(rows), np.nan)
    woe[defined] = np.log(bad[defined] / good[defined])
    rate[filled] = events[filled] / rows[filled]
    iv = np.where(defined, (bad - good) * woe, 0.0)
    return WoeTable(
        count=rows,
        event=events,
        non_event=others,
        event_rate=rate,
        woe=-woe if convention == "good_over_bad" else woe,
        iv=iv,
        smoothing=float(smoothing),
        convention=convention,
    )
