"""Generalised linear models on data that lie at one place, with Wald statistics.

The reference for everything joint: what parties fit on ciphertexts must agree with this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, stats

from fedcredit.errors import InputError
from fedcredit.stats.glm_families import Family, make_family
from fedcredit.stats.glm_newton import Minimum, Objective, minimise

__all__ = ["GlmFit", "WaldTable", "fit_glm", "wald"]

FloatArray = NDArray[np.float64]

_STEP = "glm"
#: A column that a combination of others explains up to this share of its size depends on them.
_DEPENDENT = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class GlmFit:
    """A fitted generalised linear model.

    Attributes
    ----------
    coef : ndarray of float64, shape (d,)
        In the units of the given columns.
    intercept : float
        0 without an intercept.
    covariance : ndarray of float64, shape (d + 1, d + 1), or (d, d) without an intercept
        Dispersion times the inverse of the expected information plus the ridge; the intercept
        LAST. Parameters that the lasso or a sign constraint holds at zero have NaN, and all have
        if a lasso keeps linearly dependent columns.
    iterations : int
    converged : bool
        Within the tolerance; else the coefficients are those of the last iteration.
    log_likelihood : float
        Without the penalty; of families with a dispersion, at the estimated one.
    deviance : float
    dispersion : float
        Pearson statistic over the degrees of freedom; 1 for binomial and Poisson.
    family : str
    power : float
        Of the variance; used by the Tweedie family alone.
    """

    coef: FloatArray
    intercept: float
    covariance: FloatArray = field(repr=False)
    iterations: int
    converged: bool
    log_likelihood: float
    deviance: float
    dispersion: float = 1.0
    family: str = "binomial"
    power: float = 1.5

    @property
    def parameters(self) -> FloatArray:
        """Coefficients, and the intercept last if there is one; the order of `covariance`."""
        if len(self.covariance) == len(self.coef):
            return self.coef
        return np.append(self.coef, self.intercept)

    def predictor(self, X: ArrayLike, offset: ArrayLike | None = None) -> FloatArray:
        """Linear predictor of rows (n, d), shape (n,)."""
        rows = np.asarray(X, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.coef):
            raise InputError("the rows have other columns than the model.", step=_STEP)
        shift = 0.0 if offset is None else np.asarray(offset, np.float64)
        return np.asarray(rows @ self.coef + self.intercept + shift)

    def mean(self, X: ArrayLike, offset: ArrayLike | None = None) -> FloatArray:
        """Mean target of rows (n, d), shape (n,): for binomial the event's probability."""
        return make_family(self.family, self.power).mean(self.predictor(X, offset))


def fit_glm(
    X: ArrayLike,
    y: ArrayLike,
    *,
    family: str = "binomial",
    power: float = 1.5,
    weight: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    C: float = np.inf,
    l1_ratio: float = 0.0,
    signs: Sequence[int] | NDArray[np.int64] | None = None,
    fit_intercept: bool = True,
    tol: float = 1e-10,
    max_iter: int = 100,
) -> GlmFit:
    """Fit a generalised linear model by maximum, or penalised, likelihood.

    Minimises, in the units of the given columns and with the intercept unpenalised,
    ``sum_i weight_i * loss_i + (l1_ratio * sum|coef| + (1 - l1_ratio) / 2 * sum coef²) / C``,
    where the loss is half the unit deviance: for binomial the log loss, so that `C` means what it
    does in scikit-learn's ``LogisticRegression``.

    Parameters
    ----------
    X : array_like of float, shape (n, d)
    y : array_like of float, shape (n,)
        0 or 1 (binomial), not negative (Poisson, Tweedie), positive (gamma).
    family : {"binomial", "poisson", "gamma", "tweedie"}
        With the logit link for binomial, else the log link.
    power : float
        Of the Tweedie variance, between 1 and 2.
    weight : array_like of float, shape (n,), optional
        How often each row counts. Rows of weight 0 are left out.
    offset : array_like of float, shape (n,), optional
        Added to the linear predictor.
    C : float
        Inverse strength of the penalty; infinite for none.
    l1_ratio : float
        Share of the lasso in the penalty, within [0, 1].
    signs : sequence of {-1, 0, 1}, length d, optional
        1 keeps a coefficient from being negative, -1 from being positive.
    fit_intercept : bool
    tol : float
        Largest change of a parameter in the last iteration, columns scaled to unit variance and
        relative to the largest parameter if that is above 1.
    max_iter : int

    Returns
    -------
    GlmFit

    Raises
    ------
    InputError
        Arguments out of their domain; one class only; perfectly separated events; linearly
        dependent columns without a penalty (named by their positions).

    Notes
    -----
    Newton's method with step halving on the observed information, whose matrix of second
    derivatives is never indefinite here; with a lasso or signs each step is found by coordinate
    descent (`glm_newton`). Standard errors are those of the expected information, as of iteratively
    reweighted least squares (McCullagh & Nelder, 1989); under a ridge, the penalised information's
    (Gray, JASA 87, 1992). After a lasso they take the chosen columns as given.
    """
    distribution = make_family(family, power)
    rows, target, weights, offsets = _checked_rows(X, y, weight, offset)
    distribution.check(target)
    bounds = _checked_signs(signs, rows.shape[1])
    if not (C > 0 and 0 <= l1_ratio <= 1 and tol > 0 and max_iter >= 1):
        raise InputError(
            "an argument of the fit is out of its range.",
            step=_STEP,
            fix="C and tol are positive, l1_ratio is within [0, 1], max_iter is at least 1",
        )
    centre, scale, constant = _scales(rows, weights, fit_intercept)
    design = (rows - centre) / scale
    design[:, constant] = 0.0
    if fit_intercept:
        design = np.column_stack([design, np.ones(len(design))])
    strength = 0.0 if np.isinf(C) else 1.0 / C
    if strength == 0.0:
        _refuse_dependent(design, fit_intercept)
    pad = (0, int(fit_intercept))
    objective = Objective(
        family=distribution,
        design=design,
        y=target,
        weight=weights,
        offset=offsets,
        ridge=np.pad(strength * (1.0 - l1_ratio) / scale**2, pad),
        lasso=np.pad(strength * l1_ratio / scale, pad),
        signs=np.pad(bounds, pad),
    )
    start = np.zeros(design.shape[1])
    if fit_intercept:
        start[-1] = distribution.start(target, weights, offsets)
    minimum = minimise(objective, start, tol=tol, max_iter=max_iter)
    coef = minimum.theta[: rows.shape[1]] / scale
    dispersion = _dispersion(objective, minimum)
    back = np.diag(1.0 / scale)
    if fit_intercept:
        back = np.block([[back, np.zeros((len(scale), 1))], [-(centre / scale)[None], np.ones(1)]])
    eta = minimum.eta
    likelihood = distribution.log_likelihood(target, eta, dispersion)
    return GlmFit(
        coef=coef,
        intercept=float(minimum.theta[-1] - centre @ coef) if fit_intercept else 0.0,
        covariance=dispersion * _covariance(objective, minimum, back),
        iterations=minimum.iterations,
        converged=minimum.converged,
        log_likelihood=float(weights @ likelihood),
        deviance=float(weights @ distribution.deviance(target, eta)),
        dispersion=dispersion,
        family=family,
        power=power,
    )


def _checked_rows(
    X: ArrayLike, y: ArrayLike, weight: ArrayLike | None, offset: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    rows, target = np.asarray(X, np.float64), np.asarray(y, np.float64)
    if rows.ndim != 2 or target.shape != rows.shape[:1] or not len(target):
        raise InputError("X is (n, d) and y is (n,), with at least one row.", step=_STEP)
    n = len(target)
    weights = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    offsets = np.zeros(n) if offset is None else np.asarray(offset, np.float64)
    if weights.shape != (n,) or offsets.shape != (n,):
        raise InputError("weight and offset are one per row.", step=_STEP)
    if not all(np.isfinite(a).all() for a in (rows, target, weights, offsets)):
        raise InputError(
            "X, y, weight and offset are finite.",
            step=_STEP,
            fix="bin the features, or fill missing values",
        )
    used = weights > 0
    if (weights < 0).any() or not used.any():
        raise InputError("weights are not negative, and some are positive.", step=_STEP)
    if used.all():
        return rows, target, weights, offsets
    return rows[used], target[used], weights[used], offsets[used]


def _checked_signs(
    signs: Sequence[int] | NDArray[np.int64] | None, n_columns: int
) -> NDArray[np.int64]:
    bounds = np.zeros(n_columns) if signs is None else np.asarray(signs)
    if bounds.shape != (n_columns,) or not np.isin(bounds, (-1, 0, 1)).all():
        raise InputError("signs are -1, 0 or 1, one per column.", step=_STEP)
    return bounds.astype(np.int64)


def _scales(
    rows: FloatArray, weight: FloatArray, fit_intercept: bool
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return centre and scale of each column, and which columns are constant."""
    share = weight / weight.sum()
    mean = share @ rows
    spread = np.sqrt(share @ (rows - mean) ** 2)
    size = np.sqrt(share @ rows**2)
    # An average of equal numbers is off by rounding, and so is their spread off zero.
    flat = spread <= 1e-13 * size
    if fit_intercept:
        return mean, np.where(flat, 1.0, spread), flat
    empty = size == 0
    return np.zeros_like(mean), np.where(empty, 1.0, size), empty


def _refuse_dependent(design: FloatArray, fit_intercept: bool) -> None:
    """Raise `InputError` if columns are linearly dependent, naming their positions.

    By a QR decomposition with column pivoting (Businger & Golub, 1965).
    """
    m = design.shape[1]
    if m == 0:
        raise InputError("there is nothing to fit.", step=_STEP, fix="give features")
    triangle, order = linalg.qr(design, mode="r", pivoting=True, check_finite=False)
    size = np.abs(np.diag(triangle))
    rank = int((size > _DEPENDENT * size[0]).sum())
    if rank == m:
        return
    base = triangle[:rank, :rank]
    mixed = linalg.solve_triangular(base, triangle[:rank, rank:], check_finite=False)
    features = m - int(fit_intercept)
    phrases = []
    for k, column in enumerate(order[rank:]):
        others = sorted(int(c) for c in order[:rank][np.abs(mixed[:, k]) > 1e-6])
        named = [str(c) for c in others if c < features]
        if len(named) < len(others):
            named.append("the intercept")
        name = str(column) if column < features else "the intercept"
        phrases.append(f"{name} on {', '.join(named)}" if named else f"{name} is constant")
    raise InputError(
        f"columns depend linearly on others (positions from 0): {'; '.join(phrases)}.",
        step=_STEP,
        fix="drop these columns, or set C",
    )


def _dispersion(objective: Objective, minimum: Minimum) -> float:
    family: Family = objective.family
    if not family.has_dispersion:
        return 1.0
    mean = family.mean(minimum.eta)
    pearson = float(objective.weight @ ((objective.y - mean) ** 2 / family.variance(mean)))
    freedom = float(objective.weight.sum()) - int((minimum.theta != 0).sum())
    return pearson / freedom if freedom > 0 else np.nan


def _covariance(objective: Objective, minimum: Minimum, back: FloatArray) -> FloatArray:
    """Inverse of the penalised expected information, in the units of the given columns."""
    held = (minimum.theta == 0) & ((objective.lasso > 0) | (objective.signs != 0))
    free = np.flatnonzero(~held)
    information = objective.gram(objective.family.information(minimum.eta))
    information += np.diag(objective.ridge)
    out = np.full(information.shape, np.nan)
    try:
        factor = linalg.cho_factor(information[np.ix_(free, free)], check_finite=False)
    except linalg.LinAlgError:
        return out
    inverse = linalg.cho_solve(factor, np.eye(len(free)), check_finite=False)
    part = back[np.ix_(free, free)]
    out[np.ix_(free, free)] = part @ inverse @ part.T
    return out


@dataclass(frozen=True, slots=True, eq=False)
class WaldTable:
    """Wald statistics, one entry per coefficient; NaN where the covariance is NaN.

    Attributes
    ----------
    standard_error, z, p_value : ndarray of float64, shape (d,)
        The p-value is two-sided.
    lower, upper : ndarray of float64, shape (d,)
        Confidence bounds.
    level : float
        Of the confidence.
    """

    standard_error: FloatArray
    z: FloatArray
    p_value: FloatArray
    lower: FloatArray
    upper: FloatArray
    level: float = 0.95


def wald(coef: ArrayLike, covariance: ArrayLike, level: float = 0.95) -> WaldTable:
    """Test every coefficient against zero by the normal approximation (Wald, 1943).

    Parameters
    ----------
    coef : array_like of float, shape (d,)
    covariance : array_like of float, shape (d, d) or (d + 1, d + 1)
        Of the coefficients; a further last row and column, the intercept's, is left out.
    level : float
        Of the confidence interval, within (0, 1).

    Returns
    -------
    WaldTable

    Raises
    ------
    InputError
        Shapes that do not fit, a negative variance, a level outside (0, 1).
    """
    beta, matrix = np.asarray(coef, np.float64), np.asarray(covariance, np.float64)
    d = len(beta) if beta.ndim == 1 else -1
    if matrix.shape not in ((d, d), (d + 1, d + 1)):
        raise InputError("the covariance does not fit the coefficients.", step="wald")
    if not 0 < level < 1:
        raise InputError("level is within (0, 1).", step="wald")
    variance = np.diag(matrix)[:d]
    if (variance < 0).any():
        raise InputError("a variance is negative.", step="wald")
    error = np.sqrt(variance)
    z = np.divide(beta, error, out=np.full(d, np.nan), where=error > 0)
    half = float(stats.norm.isf(0.5 * (1.0 - level))) * error
    return WaldTable(
        standard_error=error,
        z=z,
        p_value=np.asarray(2.0 * stats.norm.sf(np.abs(z))),
        lower=beta - half,
        upper=beta + half,
        level=level,
    )
