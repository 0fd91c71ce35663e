"""What the joint data were worth: the joint model against the platform's own, on the same rows.

The interval of each difference is a paired percentile bootstrap (Efron & Tibshirani, *An
Introduction to the Bootstrap*, 1993, chapter 13): rows are drawn with replacement, the same
draw for both models, so that what makes a sample hard for both cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError
from fedcredit.models.report.scores import Scores, best_split, find
from fedcredit.stats import metrics
from fedcredit.stats.bootstrap import bootstrap_draws

__all__ = ["Uplift", "measure_uplift"]

FloatArray = npt.NDArray[np.float64]
#: Weights of the rows (m,) to the values of all metrics of one model (k,).
_Weighted = Callable[[FloatArray], FloatArray]

_RESAMPLES_AT_LEAST = 20


@dataclass(frozen=True)
class Uplift:
    """One metric of both models on the same rows.

    Attributes
    ----------
    metric : {"AUC", "KS", "Gini", "R²", "RMSE", "MAE"}
    joint, alone : float
        Values of the joint model and of the platform alone.
    low, high : float
        Bounds of the bootstrap interval of ``joint - alone``.
    confidence : float
        Its level, for instance 0.95.
    resamples, seed : int
        Of the bootstrap; draws in which the metric is not defined are left out of the count.
    split : str
    rows : int
    higher_is_better : bool
    """

    metric: str
    joint: float
    alone: float
    low: float
    high: float
    confidence: float
    resamples: int
    seed: int
    split: str
    rows: int
    higher_is_better: bool

    @property
    def difference(self) -> float:
        """``joint - alone``."""
        return self.joint - self.alone

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"``, or ``"open"`` when the interval holds zero."""
        if self.low <= 0.0 <= self.high:
            return "open"
        return "better" if (self.low > 0.0) == self.higher_is_better else "worse"


def measure_uplift(
    scores: Sequence[Scores],
    task: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[Uplift, ...]:
    """Compare both models on the best part of the data that both were scored on.

    That is the test part, else the validation part, else the training part.

    Parameters
    ----------
    scores : sequence of Scores
    task : {"classification", "regression"}
    resamples : int
        At least 20.
    confidence : float
        Within (0, 1).
    seed : int

    Returns
    -------
    tuple of Uplift
        Empty if the models share no part, or only one class occurs in it.

    Raises
    ------
    InputError
        The two models' labels or weights differ; an argument out of its range.
    """
    if resamples < _RESAMPLES_AT_LEAST or not 0 < confidence < 1:
        raise InputError(
            "the bootstrap's arguments are out of range.",
            step="report",
            fix=f"at least {_RESAMPLES_AT_LEAST} resamples, a confidence between 0 and 1",
        )
    listed = list(scores)
    parts = {s.split for s in listed if s.name == "joint"}
    split = best_split(parts & {s.split for s in listed if s.name == "alone"})
    if split is None:
        return ()
    joint, alone = find(listed, "joint", split), find(listed, "alone", split)
    assert joint is not None
    assert alone is not None
    if not (
        np.array_equal(joint.truth, alone.truth) and np.array_equal(joint.weight, alone.weight)
    ):
        raise InputError(
            "the two models' scores are not of the same rows.",
            step=f"report: scores {split}",
            fix="score both models on the same rows in the same order",
        )
    y, weight = joint.truth, joint.weight
    if task == "classification":
        if not 0 < y.sum() < len(y):
            return ()
        names, up = ("AUC", "KS", "Gini"), (True, True, True)
        models = [_ranked(y, s.score) for s in (joint, alone)]
        values = [_ranking_metrics(y, s.score, weight) for s in (joint, alone)]
    else:
        names, up = ("R²", "RMSE", "MAE"), (True, False, False)
        models = [_residuals(y, s.score) for s in (joint, alone)]
        values = [model(weight) for model in models]
        if not np.isfinite(values).all():
            return ()
    draws = bootstrap_draws(lambda w: models[0](w) - models[1](w), weight, resamples, seed)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return tuple(
        Uplift(
            metric=name,
            joint=float(values[0][k]),
            alone=float(values[1][k]),
            low=float(low[k]),
            high=float(high[k]),
            confidence=confidence,
            resamples=len(draws),
            seed=seed,
            split=split,
            rows=len(y),
            higher_is_better=up[k],
        )
        for k, name in enumerate(names)
    )


def _ranking_metrics(y: FloatArray, score: FloatArray, weight: FloatArray) -> FloatArray:
    area = metrics.auc(y, score, weight)
    return np.array([area, metrics.ks(y, score, weight), 2.0 * area - 1.0])


def _ranked(y: FloatArray, score: FloatArray) -> _Weighted:
    """AUC, KS and Gini of fixed scores under changing weights: sorts once for all draws."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(-score[order]) > 0])
    ties = len(starts) < len(score)
    event = y[order]

    def values(weight: FloatArray) -> FloatArray:
        mass = weight[order]
        hits = mass * event
        misses = mass - hits
        if ties:
            hits, misses = np.add.reduceat(hits, starts), np.add.reduceat(misses, starts)
        caught, flagged = np.cumsum(hits), np.cumsum(misses)
        if not (caught[-1] > 0 and flagged[-1] > 0):
            return np.full(3, np.nan)
        area = _dot(caught - 0.5 * hits, misses) / (caught[-1] * flagged[-1])
        distance = float(np.abs(caught / caught[-1] - flagged / flagged[-1]).max())
        return np.array([area, distance, 2.0 * area - 1.0])

    return values


def _residuals(y: FloatArray, score: FloatArray) -> _Weighted:
    """R², RMSE and MAE of fixed predictions under changing weights."""
    absolute = np.abs(y - score)
    squared = absolute**2

    def values(weight: FloatArray) -> FloatArray:
        total = weight.sum()
        mse = _dot(weight, squared) / total
        spread = _dot(weight, (y - _dot(weight, y) / total) ** 2) / total
        r2 = 1.0 - mse / spread if spread > 0 else np.nan
        return np.array([r2, np.sqrt(mse), _dot(weight, absolute) / total])

    return values


def _dot(a: FloatArray, b: FloatArray) -> float:
    """Sum of products without BLAS, whose threads fight over busy cores (measured: 7 times)."""
    return float(np.sum(a * b))
