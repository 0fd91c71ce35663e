"""Error distributions of generalised linear models: losses, derivatives, deviances, likelihoods.

The binomial family has the logit link; the others have the variance ``mean ** power`` and the log
link, with which their losses are convex for every power within [1, 2]. Notation follows McCullagh &
Nelder, *Generalized Linear Models* (2nd ed., 1989).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import special

from fedcredit.errors import InputError

__all__ = ["Binomial", "Family", "PowerVariance", "make_family"]

FloatArray = NDArray[np.float64]

_STEP = "glm"
#: Below the largest term of the Tweedie series by this much in the logarithm, a term is no more.
_NEGLIGIBLE = 37.0


class Family(Protocol):
    """What the fit needs to know of a distribution; ``eta`` is the linear predictor.

    All arrays have the shape (n,).
    """

    @property
    def has_dispersion(self) -> bool:
        """Whether the scale of the variance is estimated from the residuals."""

    def check(self, y: FloatArray) -> None:
        """Raise `InputError` if targets are outside the distribution or decide nothing."""

    def start(self, y: FloatArray, weight: FloatArray, offset: FloatArray) -> float:
        """Return an intercept to start from."""

    def mean(self, eta: FloatArray) -> FloatArray:
        """Inverse of the link."""

    def variance(self, mean: FloatArray) -> FloatArray:
        """Variance over dispersion."""

    def loss(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Half the unit deviance, up to a constant of `y`."""

    def slope(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """First derivative of the loss by ``eta``."""

    def curvature(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Second derivative of the loss by ``eta``; never negative."""

    def information(self, eta: FloatArray) -> FloatArray:
        """Mean of the second derivative of the loss by ``eta``."""

    def deviance(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Deviance of each target."""

    def log_likelihood(self, y: FloatArray, eta: FloatArray, dispersion: float) -> FloatArray:
        """Logarithm of the density of each target."""

    def escapes(self, y: FloatArray, move: FloatArray, tolerance: float) -> bool:
        """Whether the loss falls for ever, for every row, along ``eta + t * move``."""

    def escape_reason(self) -> str:
        """Say what `escapes` means for the data."""


@dataclass(frozen=True, slots=True)
class Binomial:
    """Targets 0 and 1, logit link."""

    @property
    def has_dispersion(self) -> bool:
        """No: the variance is ``mean * (1 - mean)``."""
        return False

    def check(self, y: FloatArray) -> None:
        """Refuse targets other than 0 and 1, and a single class."""
        if not ((y == 0) | (y == 1)).all():
            raise InputError("the targets of a binomial model are 0 or 1.", step=_STEP)
        if not 0 < y.sum() < len(y):
            raise InputError(
                "only one class occurs.", step=_STEP, fix="train on rows with both outcomes"
            )

    def start(self, y: FloatArray, weight: FloatArray, offset: FloatArray) -> float:
        """Log odds of the events."""
        return float(special.logit(weight @ y / weight.sum()))

    def mean(self, eta: FloatArray) -> FloatArray:
        """Probability of the event."""
        return np.asarray(special.expit(eta))

    def variance(self, mean: FloatArray) -> FloatArray:
        """``mean * (1 - mean)``."""
        return mean * (1.0 - mean)

    def loss(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Log loss."""
        return np.logaddexp(0.0, np.where(y > 0, -eta, eta))

    def slope(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Probability minus target."""
        return self.mean(eta) - y

    def curvature(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """As `information`: the link is canonical."""
        return self.information(eta)

    def information(self, eta: FloatArray) -> FloatArray:
        """``p * (1 - p)``, without cancellation at either end."""
        return np.asarray(special.expit(eta) * special.expit(-eta))

    def deviance(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Twice the log loss."""
        return 2.0 * self.loss(y, eta)

    def log_likelihood(self, y: FloatArray, eta: FloatArray, dispersion: float) -> FloatArray:
        """Negative log loss."""
        return -self.loss(y, eta)

    def escapes(self, y: FloatArray, move: FloatArray, tolerance: float) -> bool:
        """Whether `move` raises no non-event and lowers no event (Albert & Anderson, 1984)."""
        return bool((np.where(y > 0, move, -move) >= -tolerance).all())

    def escape_reason(self) -> str:
        """Separated classes."""
        return "the events are perfectly separated from some or all of the non-events."


@dataclass(frozen=True, slots=True)
class PowerVariance:
    """Variance ``mean ** power``, log link: Poisson (1), Tweedie (between), gamma (2)."""

    power: float

    @property
    def has_dispersion(self) -> bool:
        """All but Poisson."""
        return self.power != 1.0

    def check(self, y: FloatArray) -> None:
        """Refuse targets below zero, for gamma also zero, and targets that are all zero."""
        if self.power == 2.0 and not (y > 0).all():
            raise InputError(
                "the targets of a gamma model are positive.",
                step=_STEP,
                fix="leave out the rows with zero, or use the tweedie family",
            )
        if not (y >= 0).all():
            raise InputError("the targets are not negative.", step=_STEP)
        if not (y > 0).any():
            raise InputError(
                "every target is zero.", step=_STEP, fix="train on rows with positive targets too"
            )

    def start(self, y: FloatArray, weight: FloatArray, offset: FloatArray) -> float:
        """Logarithm of the mean target over the mean exposure."""
        largest = float(offset.max())
        return float(np.log((weight @ y) / (weight @ np.exp(offset - largest)))) - largest

    def mean(self, eta: FloatArray) -> FloatArray:
        """Exponential."""
        return np.exp(eta)

    def variance(self, mean: FloatArray) -> FloatArray:
        """``mean ** power``."""
        return mean**self.power

    def loss(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Half the unit deviance without its terms of `y` alone."""
        if self.power == 1.0:
            return np.exp(eta) - y * eta
        if self.power == 2.0:
            return y * np.exp(-eta) + eta
        up, down = 2.0 - self.power, 1.0 - self.power
        return np.exp(up * eta) / up - y * np.exp(down * eta) / down

    def slope(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """``(mean - y) * mean ** (1 - power)``."""
        return np.exp((2.0 - self.power) * eta) - y * np.exp((1.0 - self.power) * eta)

    def curvature(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Second derivative of the loss."""
        up, down = 2.0 - self.power, 1.0 - self.power
        return up * np.exp(up * eta) - down * y * np.exp(down * eta)

    def information(self, eta: FloatArray) -> FloatArray:
        """``mean ** (2 - power)``."""
        return np.exp((2.0 - self.power) * eta)

    def deviance(self, y: FloatArray, eta: FloatArray) -> FloatArray:
        """Deviance of each target (Jørgensen, *The Theory of Dispersion Models*, 1997)."""
        if self.power == 1.0:
            saturated = special.xlogy(y, y) - y
        elif self.power == 2.0:
            saturated = -np.log(y) - 1.0
        else:
            up, down = 2.0 - self.power, 1.0 - self.power
            saturated = y**up / (down * up)
        return np.asarray(2.0 * (self.loss(y, eta) + saturated))

    def log_likelihood(self, y: FloatArray, eta: FloatArray, dispersion: float) -> FloatArray:
        """Log density; of Tweedie by a series.

        Dunn & Smyth, *Series evaluation of Tweedie exponential dispersion model densities*
        (Statistics and Computing 15, 2005).
        """
        if self.power == 1.0:
            return np.asarray(-self.loss(y, eta) - special.gammaln(y + 1.0))
        if self.power == 2.0:
            shape = 1.0 / dispersion
            normaliser = shape * np.log(shape * y) - np.log(y) - special.gammaln(shape)
            return np.asarray(normaliser - shape * self.loss(y, eta))
        return _tweedie_series(y, self.power, dispersion) - self.loss(y, eta) / dispersion

    def escapes(self, y: FloatArray, move: FloatArray, tolerance: float) -> bool:
        """Whether `move` lowers rows with target zero and no others."""
        if self.power == 2.0:
            return False
        return bool(np.where(y > 0, np.abs(move) <= tolerance, move <= tolerance).all())

    def escape_reason(self) -> str:
        """Rows whose mean tends to zero."""
        return "the features single out rows whose targets are all zero."


@njit(cache=True, nogil=True)
def _tweedie_series(y: FloatArray, power: float, dispersion: float) -> FloatArray:
    """Log of the density's factor that does not depend on the mean; 0 for a target of zero."""
    out = np.zeros(len(y))
    alpha = (2.0 - power) / (1.0 - power)
    constant = (
        alpha * math.log(power - 1.0) - (1.0 - alpha) * math.log(dispersion) - math.log(2.0 - power)
    )
    for i in range(len(y)):
        if y[i] == 0.0:
            continue
        log_z = constant - alpha * math.log(y[i])
        middle = max(1.0, math.floor(y[i] ** (2.0 - power) / (dispersion * (2.0 - power))))
        top = middle * log_z - math.lgamma(1.0 + middle) - math.lgamma(-alpha * middle)
        total = 1.0
        for step in (1.0, -1.0):
            j = middle + step
            while j >= 1.0:
                term = j * log_z - math.lgamma(1.0 + j) - math.lgamma(-alpha * j) - top
                # The terms rise to their largest, near the middle, and then fall.
                if term < -_NEGLIGIBLE:
                    break
                total += math.exp(term)
                j += step
        out[i] = top + math.log(total) - math.log(y[i])
    return out


def make_family(name: str, power: float) -> Family:
    """Return the family of that name.

    Parameters
    ----------
    name : {"binomial", "poisson", "gamma", "tweedie"}
    power : float
        Of the variance of a Tweedie distribution, strictly between 1 and 2.

    Raises
    ------
    InputError
        An unknown name, or a power outside its range.
    """
    if name == "binomial":
        return Binomial()
    if name == "poisson":
        return PowerVariance(1.0)
    if name == "gamma":
        return PowerVariance(2.0)
    if name != "tweedie":
        raise InputError(
            "the family is unknown.",
            step=_STEP,
            fix='family is "binomial", "poisson", "gamma" or "tweedie"',
        )
    if not 1.0 < power < 2.0:
        raise InputError(
            "the power of a tweedie model is between 1 and 2.",
            step=_STEP,
            fix='for 1 use the "poisson" family, for 2 "gamma"',
        )
    return PowerVariance(float(power))
