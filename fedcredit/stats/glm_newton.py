"""Newton's method for the penalised deviance of a generalised linear model.

Every iteration minimises the second-order model of the loss plus the penalty and then halves the
step until the objective falls. Without a lasso and bounds the model is one linear system; with
them it is solved by cyclic coordinate descent with soft thresholding (Friedman, Hastie &
Tibshirani, *Regularization paths for generalized linear models via coordinate descent*, Journal
of Statistical Software 33, 2010), on the matrix of second derivatives rather than on the rows. That
the iteration then is a proximal Newton method, and converges as fast as Newton's, is shown in Lee,
Sun & Saunders (SIAM Journal on Optimization 24, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import linalg

from fedcredit.errors import InputError
from fedcredit.stats.glm_families import Family

__all__ = ["Minimum", "Objective", "minimise"]

FloatArray = NDArray[np.float64]

_STEP = "glm"
_HALVINGS = 40
_SWEEPS = 200_000
_INNER_TOLERANCE = 1e-14
#: Where the predictor still moves this much while hardly anything is gained, rounding is allowed
#: for when the direction is looked at for separation.
_MOVES, _GAINS, _ROUNDING = 0.1, 1e-6, 1e-5
#: A step that gains this little, in the log likelihood of one row, is rounding.
_NO_GAIN = 1e-17


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """``sum_i weight_i loss_i + sum_j (ridge_j / 2 theta_j² + lasso_j |theta_j|)``, with bounds.

    Attributes
    ----------
    family : Family
    design : ndarray of float64, shape (n, m)
        Columns of about unit size.
    y, weight, offset : ndarray of float64, shape (n,)
    ridge, lasso : ndarray of float64, shape (m,)
        Not negative.
    signs : ndarray of int64, shape (m,)
        1 and -1 bound a parameter to one side of zero; 0 leaves it free.
    """

    family: Family
    design: FloatArray
    y: FloatArray
    weight: FloatArray
    offset: FloatArray
    ridge: FloatArray
    lasso: FloatArray
    signs: NDArray[np.int64]

    @property
    def is_smooth(self) -> bool:
        """Whether there is neither a lasso nor a bound."""
        return not (self.lasso.any() or self.signs.any())

    @property
    def is_penalised(self) -> bool:
        """Whether a penalty keeps the parameters finite."""
        return bool(self.lasso.any() or self.ridge.any())

    def predictor(self, theta: FloatArray) -> FloatArray:
        """Linear predictor of every row, shape (n,)."""
        return self.design @ theta + self.offset

    def value(self, theta: FloatArray, eta: FloatArray) -> float:
        """Objective at `theta`, whose predictor is `eta`; infinite where it overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            loss = float(self.weight @ self.family.loss(self.y, eta))
        penalty = float(0.5 * self.ridge @ theta**2 + self.lasso @ np.abs(theta))
        return loss + penalty if np.isfinite(loss) else np.inf

    def gram(self, row_weight: FloatArray) -> FloatArray:
        """``design' diag(weight * row_weight) design``, shape (m, m)."""
        scaled = self.design * (self.weight * row_weight)[:, None]
        return np.asarray(self.design.T @ scaled)


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where the iteration ended.

    Attributes
    ----------
    theta : ndarray of float64, shape (m,)
    eta : ndarray of float64, shape (n,)
        Its predictor.
    iterations : int
    converged : bool
    """

    theta: FloatArray
    eta: FloatArray
    iterations: int
    converged: bool


def minimise(objective: Objective, start: FloatArray, *, tol: float, max_iter: int) -> Minimum:
    """Minimise the objective.

    Converged means that the last full step changed no parameter by more than
    ``tol * max(1, max |theta|)``, or that rounding leaves nothing to gain.

    Parameters
    ----------
    objective : Objective
    start : ndarray of float64, shape (m,)
        Within the bounds.
    tol : float
    max_iter : int

    Raises
    ------
    InputError
        The classes are separated, or the second derivatives vanish.
    """
    theta, eta = start, objective.predictor(start)
    value = objective.value(theta, eta)
    family, y, weight = objective.family, objective.y, objective.weight
    for iteration in range(1, max_iter + 1):
        slope = weight * family.slope(y, eta)
        gradient = objective.design.T @ slope
        curvature = objective.gram(family.curvature(y, eta))
        target = _model_minimum(objective, theta, gradient, curvature)
        direction = target - theta
        move = objective.design @ direction
        gain = 0.5 * float(direction @ curvature @ direction)
        if not objective.is_penalised:
            _refuse_separation(objective, move, gain)
        # The objective is known to about this much, as large terms of a predictor may cancel; less
        # of a rise is no rise.
        terms = float(np.abs(theta) @ (np.abs(objective.design.T) @ np.abs(slope)))
        rounding = 16.0 * np.finfo(np.float64).eps * (abs(value) + terms)
        size = 1.0
        for _ in range(_HALVINGS):
            # The whole step is taken as it is: coordinates at a bound or at zero stay exact.
            trial = target if size == 1.0 else theta + size * direction
            trial_eta = objective.predictor(trial)
            trial_value = objective.value(trial, trial_eta)
            if trial_value <= value + rounding:
                break
            size *= 0.5
        else:
            return Minimum(theta, eta, iteration, converged=False)
        change = float(np.abs(direction).max(initial=0.0))
        limit = tol * max(1.0, float(np.abs(target).max(initial=0.0)))
        level = abs(value - trial_value) <= rounding
        done = change <= limit or (level and gain <= _NO_GAIN * float(weight.max()))
        theta, eta, value = trial, trial_eta, trial_value
        if size == 1.0 and done:
            return Minimum(theta, eta, iteration, converged=True)
    return Minimum(theta, eta, max_iter, converged=False)


def _model_minimum(
    objective: Objective, theta: FloatArray, gradient: FloatArray, curvature: FloatArray
) -> FloatArray:
    if objective.is_smooth:
        system = curvature + np.diag(objective.ridge)
        try:
            factor = linalg.cho_factor(system, check_finite=False)
        except linalg.LinAlgError:
            raise InputError(
                "the second derivatives vanish along a direction of the features.",
                step=_STEP,
                fix="drop features, merge bins, or set C",
            ) from None
        step = linalg.cho_solve(factor, gradient + objective.ridge * theta, check_finite=False)
        return np.asarray(theta - step)
    return _coordinate_descent(
        theta, gradient, curvature, objective.ridge, objective.lasso, objective.signs
    )


@njit(cache=True, nogil=True)
def _coordinate_descent(
    theta: FloatArray,
    gradient: FloatArray,
    curvature: FloatArray,
    ridge: FloatArray,
    lasso: FloatArray,
    signs: NDArray[np.int64],
) -> FloatArray:
    theta = theta.copy()
    slope = gradient.copy()
    for _ in range(_SWEEPS):
        largest = 0.0
        size = 1.0
        for j in range(len(theta)):
            bend = curvature[j, j]
            pull = bend * theta[j] - slope[j]
            if bend + ridge[j] <= 0.0:
                new = 0.0
            elif pull > lasso[j]:
                new = (pull - lasso[j]) / (bend + ridge[j])
            elif pull < -lasso[j]:
                new = (pull + lasso[j]) / (bend + ridge[j])
            else:
                new = 0.0
            if signs[j] * new < 0.0:
                new = 0.0
            change = new - theta[j]
            if change != 0.0:
                theta[j] = new
                for k in range(len(theta)):
                    slope[k] += curvature[k, j] * change
            largest = max(largest, abs(change))
            size = max(size, abs(new))
        if largest <= _INNER_TOLERANCE * size:
            break
    return theta


def _refuse_separation(objective: Objective, move: FloatArray, gain: float) -> None:
    """Refuse data whose loss falls for ever along the direction that Newton's method takes.

    On separated data the steps tend to a constant direction while the gain vanishes; that this
    direction worsens no row is the condition of Albert & Anderson (Biometrika 71, 1984) for the
    estimate not to exist.
    """
    largest = float(np.abs(move).max(initial=0.0))
    if largest < _MOVES:
        return
    # Only in the limit do the rows that take no part in the separation stand still.
    settled = gain <= _GAINS * float(objective.weight.max())
    if objective.family.escapes(objective.y, move, _ROUNDING * largest if settled else 0.0):
        raise InputError(
            objective.family.escape_reason(),
            step=_STEP,
            fix="drop the feature that separates, merge bins, or set C",
        )
