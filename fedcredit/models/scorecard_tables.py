"""What a scorecard's points mean on rows with outcomes: bands, cut-offs, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas import DataFrame, Series

from fedcredit.errors import InputError
from fedcredit.models.fitting import row_values
from fedcredit.models.frame import FederatedFrame
from fedcredit.stats.metrics import auc, gini, ks
from fedcredit.stats.scorecard_points import (
    Calibration,
    PointScale,
    band_edges,
    bands,
    cutoff_table,
    fit_calibration,
)

__all__ = ["ScoredOutcomes", "band_frame", "cutoff_frame", "odds_frame"]

Floats = npt.NDArray[np.float64]
_METHODS = {"platt": "logistic", "isotonic": "isotonic"}


def _edges(points: Floats, edges: Sequence[float] | None, n: int) -> Floats:
    return band_edges(points, n) if edges is None else np.asarray(edges, np.float64)


def band_frame(points: Floats, y: Floats, edges: Sequence[float] | None, n: int) -> DataFrame:
    """Return outcomes by bands of points, the riskiest band first.

    Parameters
    ----------
    points, y : ndarray of float64, shape (n,)
        ``y`` is 1 for the event.
    edges : sequence of float, optional
        Ascending inner edges; by default ``n`` bands of about equally many rows.
    n : int
    """
    made = bands(points, y, _edges(points, edges, n))
    table = DataFrame(
        {
            "from": made.low,
            "below": made.high,
            "count": made.count.astype(np.int64),
            "events": made.events.astype(np.int64),
            "event rate": made.event_rate,
            "odds": made.odds,
            "cumulative approval rate": made.cumulative_approval_rate,
            "cumulative event rate": made.cumulative_bad_rate,
        }
    )
    table.index.name = "band"
    return table


def cutoff_frame(points: Floats, y: Floats, cutoffs: Sequence[float] | None) -> DataFrame:
    """Return what each cut-off would do; see :func:`fedcredit.stats.score_bands.cutoff_table`."""
    made = cutoff_table(points, y, cutoffs)
    return DataFrame(
        {
            "approved": made.approved.astype(np.int64),
            "approval rate": made.approval_rate,
            "event rate": made.bad_rate,
            "odds": made.odds,
            "rejected events": made.rejected_bad_share,
            "rejected non-events": made.rejected_good_share,
        },
        index=Series(made.cutoff, name="cutoff"),
    )


def odds_frame(
    points: Floats, y: Floats, scale: PointScale, edges: Sequence[float] | None, n: int
) -> DataFrame:
    """Compare the odds observed in bands of points with those that the points stand for.

    The odds that a band stands for are those of the mean probability of its rows. With the
    deviation in points a scorecard's owner sees whether the scale still holds: it is by how many
    points a band does better (positive) or worse than its points say.

    Parameters
    ----------
    points, y : ndarray of float64, shape (n,)
    scale : PointScale
    edges : sequence of float, optional
    n : int
    """
    limits = _edges(points, edges, n)
    made = bands(points, y, limits)
    place = np.searchsorted(limits, points, side="right")
    expected = np.bincount(place, scale.to_probability(points), len(limits) + 1)
    observed = made.events
    with np.errstate(divide="ignore", invalid="ignore"):
        implied_odds = (made.count - expected) / expected
        observed_odds = (made.count - observed) / observed
        deviation = scale.factor * np.log(observed_odds / implied_odds)
        # Of the number of events, under the probabilities that the points stand for.
        spread = np.bincount(place, _variance(scale.to_probability(points)), len(limits) + 1)
        z = (observed - expected) / np.sqrt(spread)
    table = DataFrame(
        {
            "from": made.low,
            "below": made.high,
            "count": made.count.astype(np.int64),
            "events": observed.astype(np.int64),
            "implied events": expected,
            "odds": observed_odds,
            "implied odds": implied_odds,
            "deviation in points": deviation,
            "z": z,
        }
    )
    table.index.name = "band"
    return table


def _variance(probability: Floats) -> Floats:
    return probability * (1.0 - probability)


class ScoredOutcomes:
    """The methods of a scorecard that need points and outcomes of the same rows.

    Each reveals the rows' points to the platform once; rows whose points were shown before cost
    nothing more.
    """

    event_: Any
    calibration_: Calibration | None

    def points(self, X: Any) -> Series:
        """Return the points of rows."""
        raise NotImplementedError

    def _scale(self) -> PointScale:
        raise NotImplementedError

    def _outcomes(self, X: Any, y: Any) -> Floats:
        """Return 1.0 where the event occurred, 0.0 elsewhere; shape (n,)."""
        values = row_values(X, y, "y") if isinstance(X, FederatedFrame) else np.asarray(y)
        if values.ndim != 1 or len(values) != len(X):
            raise InputError(
                "y has another number of rows than the frame.",
                step="score: outcomes",
                fix="pass one value per row or the name of a column",
            )
        known = set(np.unique(values).tolist()) <= set(np.unique(self._classes()).tolist())
        if not known:
            raise InputError(
                "y holds something other than the classes of the fit.",
                step="score: outcomes",
                fix="code the outcomes as in the fit, and drop rows without one",
            )
        return (values == self.event_).astype(np.float64)

    def _classes(self) -> npt.NDArray[Any]:
        raise NotImplementedError

    def _scored(self, X: Any, y: Any) -> tuple[Floats, Floats]:
        outcomes = self._outcomes(X, y)
        return self.points(X).to_numpy(np.float64), outcomes

    def bands(
        self, X: Any, y: Any, edges: Sequence[float] | None = None, *, n: int = 10
    ) -> DataFrame:
        """Tabulate outcomes by bands of points, the riskiest band first.

        Parameters
        ----------
        X : FederatedFrame, or table of one party
        y : str or array of shape (n,)
        edges : sequence of float, optional
            Ascending inner edges; by default ``n`` bands of about equally many rows.
        n : int

        Returns
        -------
        pandas.DataFrame
            Index ``band``; ``from``, ``below``, ``count``, ``events``, ``event rate``, ``odds``
            (non-events to events), ``cumulative approval rate``, ``cumulative event rate``.
        """
        return band_frame(*self._scored(X, y), edges, n)

    def cutoff_table(self, X: Any, y: Any, cutoffs: Sequence[float] | None = None) -> DataFrame:
        """Tabulate what approving from a number of points on would do.

        Parameters
        ----------
        X : FederatedFrame, or table of one party
        y : str or array of shape (n,)
        cutoffs : sequence of float, optional
            By default every twentieth part of the rows.

        Returns
        -------
        pandas.DataFrame
            Index ``cutoff``; ``approved``, ``approval rate``, ``event rate`` and ``odds`` of the
            approved, ``rejected events`` and ``rejected non-events`` as shares of all of these.
        """
        return cutoff_frame(*self._scored(X, y), cutoffs)

    def score_to_odds_check(
        self, X: Any, y: Any, edges: Sequence[float] | None = None, *, n: int = 10
    ) -> DataFrame:
        """Compare the odds observed in bands of points with those that the points stand for.

        Returns
        -------
        pandas.DataFrame
            Index ``band``; ``from``, ``below``, ``count``, ``events``, ``implied events``,
            ``odds``, ``implied odds``, ``deviation in points`` (positive: better than the points
            say) and ``z``, the deviation of the events in standard deviations.
        """
        points, outcomes = self._scored(X, y)
        return odds_frame(points, outcomes, self._scale(), edges, n)

    def performance(self, X: Any, y: Any) -> dict[str, float]:
        """Return AUC, Gini coefficient and KS of the points, by name."""
        points, outcomes = self._scored(X, y)
        return {
            "auc": auc(outcomes, -points),
            "gini": gini(outcomes, -points),
            "ks": ks(outcomes, -points),
        }

    def calibrate(self, X: Any, y: Any, method: str = "platt") -> Any:
        """Fit the probability of default to points, on rows that the card was not fitted on.

        Parameters
        ----------
        X : FederatedFrame, or table of one party
        y : str or array of shape (n,)
        method : {"platt", "isotonic"}
            A logistic curve, or the best monotone one.

        Returns
        -------
        self
            :meth:`pd` then gives calibrated probabilities; points and ``predict_proba`` stay.

        Raises
        ------
        InputError
            The method is unknown, or one class only occurs.
        """
        if method not in _METHODS:
            raise InputError(
                "the method of calibration is unknown.",
                step="calibrate",
                fix='choose "platt" or "isotonic"',
            )
        points, outcomes = self._scored(X, y)
        self.calibration_ = fit_calibration(points, outcomes, method=_METHODS[method])
        return self

    def pd(self, X: Any) -> Series:
        """Return the probability of the event: calibrated if :meth:`calibrate` was called.

        Returns
        -------
        pandas.Series of float64
            Named ``pd``, in the order of the rows.
        """
        points = self.points(X)
        scores = points.to_numpy(np.float64)
        if self.calibration_ is None:
            values = self._scale().to_probability(scores)
        else:
            values = self.calibration_.probability(scores)
        return Series(values, index=points.index, name="pd")
