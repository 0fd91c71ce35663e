"""Stepwise selection of features from one full fit.

Lawless & Singhal, *Efficient screening of nonnormal regression models* (Biometrics 34, 1978):
around the full fit the log likelihood is a quadratic of its coefficients and covariance, so that
every submodel follows by linear algebra, as in ``fastbw`` of the R package rms. No further pass
over the data is made. The quadratic is that of the full fit: near it, where backward selection
works, the statistics are close to those of refits; far from it, as in the first steps of a forward
selection among strong features, they are rough, and a refit can choose otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, stats

from fedcredit.errors import InputError

__all__ = ["Step", "stepwise", "submodel"]

FloatArray = NDArray[np.float64]

_STEP = "select features"
#: What one more parameter costs in Akaike's criterion, in units of the test statistic.
_AIC_COST = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One feature entered or removed.

    Attributes
    ----------
    action : {"enter", "remove"}
    name : str
    chi_square : float
        Test statistic of this feature given the others then in the model, 1 degree of freedom.
    p_value : float
    aic_change : float
        What the step does to Akaike's criterion, approximately.
    selected : tuple of str
        Features in the model after the step, in the order given to `stepwise`.
    p_values : tuple of float
        Of each of them in that model.
    """

    action: str
    name: str
    chi_square: float
    p_value: float
    aic_change: float
    selected: tuple[str, ...]
    p_values: tuple[float, ...]


def submodel(
    coef: ArrayLike, covariance: ArrayLike, keep: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """Approximate the fit with some of the features from the fit with all.

    Parameters
    ----------
    coef : array_like of float, shape (d,)
        Of the full fit.
    covariance : array_like of float, shape (d, d) or (d + 1, d + 1)
        A further last row and column, the intercept's, is left out; the intercept always stays in.
    keep : sequence of int
        Positions of the features that stay.

    Returns
    -------
    coef : ndarray of float64, shape (k,)
    covariance : ndarray of float64, shape (k, k)

    Raises
    ------
    InputError
        Shapes that do not fit, or a covariance that is not positive definite.
    """
    beta, information = _checked_fit(coef, covariance)
    chosen = list(keep)
    if len(set(chosen)) < len(chosen) or not all(0 <= k < len(beta) for k in chosen):
        raise InputError("positions are distinct and within the model.", step=_STEP)
    return _restricted(information, information @ beta, chosen)


def stepwise(
    names: Sequence[str],
    coef: ArrayLike,
    covariance: ArrayLike,
    *,
    direction: str = "both",
    criterion: str = "p_value",
    enter: float = 0.05,
    remove: float = 0.10,
    keep: Sequence[str] = (),
) -> list[Step]:
    """Select features stepwise, every submodel approximated from the full fit.

    Parameters
    ----------
    names : sequence of str, length d
        Distinct.
    coef : array_like of float, shape (d,)
        Of the fit with all features, without a penalty.
    covariance : array_like of float, shape (d, d) or (d + 1, d + 1)
        A further last row and column, the intercept's, is left out.
    direction : {"forward", "backward", "both"}
        Entering features into the empty model; removing them from the full one; entering, and
        after each entry removing those that have become superfluous.
    criterion : {"p_value", "aic"}
        Enter the feature with the smallest p-value while it is below `enter`, and remove the one
        with the largest while it is above `remove`; or go on while Akaike's criterion falls.
    enter, remove : float
        Within [0, 1]; for ``"both"``, `remove` is not below `enter`.
    keep : sequence of str
        Features that are always in the model.

    Returns
    -------
    list of Step
        Empty if nothing changes: then all features are selected going backward, else `keep`.

    Raises
    ------
    InputError
        An argument out of its range, names that are unknown or repeated, a covariance that is not
        positive definite (as after a lasso).
    """
    beta, information = _checked_fit(coef, covariance)
    d = len(beta)
    if len(names) != d or len(set(names)) != d or not set(keep) <= set(names):
        raise InputError("names are distinct, one per coefficient, and hold keep.", step=_STEP)
    if direction not in ("forward", "backward", "both") or criterion not in ("p_value", "aic"):
        raise InputError(
            "the direction or criterion is unknown.",
            step=_STEP,
            fix='direction "forward", "backward" or "both"; criterion "p_value" or "aic"',
        )
    if not (0 <= enter <= 1 and 0 <= remove <= 1) or (direction == "both" and remove < enter):
        raise InputError(
            "the limits of the p-value are out of range.",
            step=_STEP,
            fix="choose 0 <= enter <= remove <= 1",
        )
    if criterion == "aic":
        enter = remove = float(stats.chi2.sf(_AIC_COST, 1))
    search = _Search(tuple(names), information, information @ beta, frozenset(keep))
    selected = set(range(d)) if direction == "backward" else set(search.kept)
    steps: list[Step] = []
    # Entering and removing cannot go round: each lowers the same criterion or has a wider limit,
    # except where a p-value lies on the limit itself.
    for _ in range(4 * d + 4):
        size = len(steps)
        if direction != "backward":
            steps += search.enter(selected, enter)
        if direction != "forward":
            while gone := search.remove(selected, remove):
                steps += gone
        if len(steps) == size:
            break
    return steps


@dataclass(frozen=True, slots=True)
class _Search:
    """Steps from one model to the next; `selected` is changed in place."""

    names: tuple[str, ...]
    information: FloatArray
    score: FloatArray
    keep: frozenset[str]

    @property
    def kept(self) -> list[int]:
        return [k for k, name in enumerate(self.names) if name in self.keep]

    def enter(self, selected: set[int], limit: float) -> list[Step]:
        best, chosen = -1.0, -1
        for feature in range(len(self.names)):
            if feature not in selected:
                value = self._statistic(selected | {feature}, feature)
                if value > best:
                    best, chosen = value, feature
        if chosen < 0 or not stats.chi2.sf(best, 1) < limit:
            return []
        selected.add(chosen)
        return [self._step("enter", chosen, best, selected)]

    def remove(self, selected: set[int], limit: float) -> list[Step]:
        free = [k for k in sorted(selected) if self.names[k] not in self.keep]
        if not free:
            return []
        statistics = self._statistics(selected)
        # Of equal statistics the later feature goes.
        chosen = min(free, key=lambda k: (statistics[k], -k))
        if not stats.chi2.sf(statistics[chosen], 1) > limit:
            return []
        selected.remove(chosen)
        return [self._step("remove", chosen, statistics[chosen], selected)]

    def _statistics(self, selected: set[int]) -> dict[int, float]:
        members = sorted(selected)
        coef, covariance = _restricted(self.information, self.score, members)
        return dict(zip(members, (coef**2 / np.diag(covariance)).tolist(), strict=True))

    def _statistic(self, selected: set[int], feature: int) -> float:
        return self._statistics(selected)[feature]

    def _step(self, action: str, feature: int, statistic: float, selected: set[int]) -> Step:
        after = self._statistics(selected)
        cost = _AIC_COST - statistic
        return Step(
            action=action,
            name=self.names[feature],
            chi_square=statistic,
            p_value=float(stats.chi2.sf(statistic, 1)),
            aic_change=cost if action == "enter" else -cost,
            selected=tuple(self.names[k] for k in after),
            p_values=tuple(float(stats.chi2.sf(value, 1)) for value in after.values()),
        )


def _checked_fit(coef: ArrayLike, covariance: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the coefficients and their information, the inverse of the covariance."""
    beta, matrix = np.asarray(coef, np.float64), np.asarray(covariance, np.float64)
    d = len(beta) if beta.ndim == 1 else -1
    if matrix.shape not in ((d, d), (d + 1, d + 1)):
        raise InputError("the covariance does not fit the coefficients.", step=_STEP)
    if not d:
        return beta, np.zeros((0, 0))
    block = matrix[:d, :d]
    usable = bool(np.isfinite(block).all() and np.isfinite(beta).all())
    if usable:
        # To unit diagonal first, so that units of the columns do not matter.
        size = np.sqrt(np.maximum(np.diag(block), 0.0))
        try:
            unit = block / np.outer(size, size) if (size > 0).all() else np.zeros((d, d))
            inverse = linalg.cho_solve(linalg.cho_factor(unit), np.eye(d))
        except linalg.LinAlgError:
            usable = False
        else:
            return beta, 0.5 * (inverse + inverse.T) / np.outer(size, size)
    raise InputError(
        "the covariance is not positive definite.",
        step=_STEP,
        fix="select from a full fit without a lasso and without collinear features",
    )


def _restricted(
    information: FloatArray, score: FloatArray, members: list[int]
) -> tuple[FloatArray, FloatArray]:
    """Maximum of the quadratic log likelihood with all other coefficients zero."""
    if not members:
        return np.zeros(0), np.zeros((0, 0))
    block = information[np.ix_(members, members)]
    size = np.sqrt(np.diag(block))
    factor = linalg.cho_factor(block / np.outer(size, size))
    covariance = linalg.cho_solve(factor, np.eye(len(members))) / np.outer(size, size)
    return covariance @ score[members], covariance
