"""From per-row scores to the aggregates that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from fedcredit.errors import InputError
from fedcredit.models.report.scores import Scores
from fedcredit.stats import metrics

__all__ = [
    "CalibrationBin",
    "ClassifierQuality",
    "GainsRow",
    "Histogram",
    "PredictionBin",
    "Ranking",
    "RegressorQuality",
    "evaluate",
]

#: Points kept of a curve: more than a print can show, far fewer than rows.
_CURVE_POINTS = 201
_GROUPS = 10
_HISTOGRAM_BINS = 30
_Z95 = 1.959964

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Shares reached when rows are taken in order of descending score, from 0 to 1.

    ROC, KS and cumulative gains are views of these three columns.
    """

    population: tuple[float, ...]
    events: tuple[float, ...]
    others: tuple[float, ...]

    @property
    def ks_index(self) -> int:
        """Index of the point at which events and others are farthest apart."""
        return int(np.argmax(np.abs(np.subtract(self.events, self.others))))


@dataclass(frozen=True)
class GainsRow:
    """One group of rows of similar score, riskiest first; sums are weighted."""

    rows: float
    events: float
    event_rate: float
    lowest_score: float
    highest_score: float
    lift: float
    cumulative_capture: float
    cumulative_lift: float
    ks: float


@dataclass(frozen=True)
class CalibrationBin:
    """Mean predicted probability against the observed event rate, with a 95 % Wilson interval."""

    rows: float
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """Shares of events and of others per bin of the score; ``edges`` is one longer."""

    edges: tuple[float, ...]
    events: tuple[float, ...]
    others: tuple[float, ...]


@dataclass(frozen=True)
class ClassifierQuality:
    """A classifier on one part of the data.

    Rows and events are counts, all other figures are weighted. Metrics are None where they are
    not defined: only one class occurs, or (log loss, calibration) the scores are no
    probabilities.
    """

    name: str
    split: str
    rows: int
    events: int
    event_rate: float
    auc: float | None
    gini: float | None
    ks: float | None
    log_loss: float | None
    top_capture: float | None
    ranking: Ranking | None
    gains: tuple[GainsRow, ...]
    calibration: tuple[CalibrationBin, ...]
    histogram: Histogram | None


@dataclass(frozen=True)
class PredictionBin:
    """Rows of similar prediction: weighted mean prediction, quantiles of target and residual."""

    rows: float
    predicted: float
    target_low: float
    target_median: float
    target_high: float
    residual_low: float
    residual_median: float
    residual_high: float


@dataclass(frozen=True)
class RegressorQuality:
    """A regressor on one part of the data; bins hold 10 %, 50 % and 90 % quantiles."""

    name: str
    split: str
    rows: int
    r2: float | None
    rmse: float
    mae: float
    bins: tuple[PredictionBin, ...]


def evaluate(
    scores: Sequence[Scores], task: str
) -> tuple[ClassifierQuality, ...] | tuple[RegressorQuality, ...]:
    """Aggregate every set of scores.

    Parameters
    ----------
    scores : sequence of Scores
    task : {"classification", "regression"}

    Raises
    ------
    InputError
        Unknown task, or labels other than 0 and 1 in a classification.
    """
    if task == "classification":
        return tuple(_classifier(s) for s in scores)
    if task == "regression":
        return tuple(_regressor(s) for s in scores)
    raise InputError("unknown task.", step="report", fix="use classification or regression")


def _classifier(scores: Scores) -> ClassifierQuality:
    y, p, w = scores.truth, scores.score, scores.weight
    if not ((y == 0) | (y == 1)).all():
        raise InputError(
            "labels of a classification must be 0 and 1.",
            step=f"report: scores {scores.name}, {scores.split}",
            fix="encode the event as 1",
        )
    events = int(y.sum())
    both = 0 < events < len(y)
    probabilities = bool((p >= 0).all() and (p <= 1).all())
    ranking = _ranking(y, p, w) if both else None
    return ClassifierQuality(
        name=scores.name,
        split=scores.split,
        rows=len(y),
        events=events,
        event_rate=float(w @ y / w.sum()),
        auc=metrics.auc(y, p, w) if both else None,
        gini=metrics.gini(y, p, w) if both else None,
        ks=metrics.ks(y, p, w) if both else None,
        log_loss=metrics.log_loss(y, p, w) if probabilities else None,
        top_capture=0.1 * metrics.lift(y, p, w, share=0.1) if both else None,
        ranking=ranking,
        gains=_gains(y, p, w) if both else (),
        calibration=_calibration(y, p, w) if probabilities else (),
        histogram=_histogram(y, p, w) if both else None,
    )


def _ranking(y: FloatArray, p: FloatArray, w: FloatArray) -> Ranking:
    curve = metrics.roc_curve(y, p, w)
    events, others = curve.true_positive_rate, curve.false_positive_rate
    share = float(w @ y / w.sum())
    # Points even in events + others, so that both the steep and the flat end are kept.
    path = events + others
    keep = np.searchsorted(path, np.linspace(0.0, path[-1], _CURVE_POINTS))
    keep = np.union1d(
        np.minimum(keep, len(path) - 1), [0, np.argmax(np.abs(events - others)), len(path) - 1]
    )
    events, others = events[keep], others[keep]
    return Ranking(
        population=_floats(share * events + (1.0 - share) * others),
        events=_floats(events),
        others=_floats(others),
    )


def _gains(y: FloatArray, p: FloatArray, w: FloatArray) -> tuple[GainsRow, ...]:
    table = metrics.gains_table(y, p, w, n_groups=_GROUPS)
    columns = (
        table.count,
        table.events,
        table.event_rate,
        table.lowest_score,
        table.highest_score,
        table.lift,
        table.cumulative_capture,
        table.cumulative_lift,
        table.ks,
    )
    return tuple(GainsRow(*map(float, row)) for row in zip(*columns, strict=True))


def _groups(p: FloatArray, w: FloatArray) -> list[npt.NDArray[np.intp]]:
    """Row numbers of groups of similar prediction and about equal weight; ties stay together."""
    order = np.argsort(p, kind="stable")
    share = np.cumsum(w[order]) / w.sum()
    ranked = p[order]
    # All rows of one prediction go where the middle of them falls.
    starts = np.flatnonzero(np.r_[True, np.diff(ranked) > 0])
    stops = np.r_[starts[1:], len(ranked)]
    before = np.r_[0.0, share][starts]
    middle = 0.5 * (before + share[stops - 1])
    group = np.minimum((middle * _GROUPS).astype(np.intp), _GROUPS - 1)
    label = np.repeat(group, stops - starts)
    return [order[label == g] for g in np.unique(label)]


def _calibration(y: FloatArray, p: FloatArray, w: FloatArray) -> tuple[CalibrationBin, ...]:
    bins = []
    for rows in _groups(p, w):
        weight = w[rows]
        total = float(weight.sum())
        observed = float(weight @ y[rows]) / total
        # Wilson's interval at Kish's effective size, which is the count for equal weights.
        n = total**2 / float(weight @ weight)
        centre = (observed + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
        half = (
            _Z95 / (1 + _Z95**2 / n) * np.sqrt(observed * (1 - observed) / n + _Z95**2 / (4 * n**2))
        )
        bins.append(
            CalibrationBin(
                rows=total,
                predicted=float(weight @ p[rows]) / total,
                observed=observed,
                low=max(0.0, float(centre - half)),
                high=min(1.0, float(centre + half)),
            )
        )
    return tuple(bins)


def _histogram(y: FloatArray, p: FloatArray, w: FloatArray) -> Histogram:
    low, high = float(p.min()), float(p.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _HISTOGRAM_BINS + 1)
    columns = []
    for which in (y == 1, y == 0):
        sums, _ = np.histogram(p[which], edges, weights=w[which])
        columns.append(_floats(sums / sums.sum()))
    return Histogram(_floats(edges), *columns)


def _regressor(scores: Scores) -> RegressorQuality:
    y, p, w = scores.truth, scores.score, scores.weight
    varies = bool(np.ptp(y) > 0)
    return RegressorQuality(
        name=scores.name,
        split=scores.split,
        rows=len(y),
        r2=float(r2_score(y, p, sample_weight=w)) if varies else None,
        rmse=float(np.sqrt(mean_squared_error(y, p, sample_weight=w))),
        mae=float(mean_absolute_error(y, p, sample_weight=w)),
        bins=tuple(_prediction_bin(y[rows], p[rows], w[rows]) for rows in _groups(p, w)),
    )


def _prediction_bin(y: FloatArray, p: FloatArray, w: FloatArray) -> PredictionBin:
    at = [0.1, 0.5, 0.9]
    target = np.quantile(y, at, weights=w, method="inverted_cdf")
    residual = np.quantile(y - p, at, weights=w, method="inverted_cdf")
    return PredictionBin(
        float(w.sum()), float(w @ p / w.sum()), *map(float, target), *map(float, residual)
    )


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
