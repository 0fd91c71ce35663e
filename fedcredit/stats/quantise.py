"""Gradients and hessians, and their rounding to integers.

Encrypted sums are sums of integers. Gradients are therefore rounded to multiples of a unit that is
a power of two, chosen anew for every tree: sums of such multiples are exact in floating point, so
the order of summation never matters and a model does not depend on who added what.

References
----------
Shi et al., "Quantized Training of Gradient Boosting Decision Trees", NeurIPS 2022: few bits
suffice when the rounding is stochastic, hence unbiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError

__all__ = [
    "QuantisedGradients",
    "Quantiser",
    "initial_logit",
    "logistic_gradients",
    "power_of_two_scale",
    "squared_error_gradients",
]

_STEP = "trees: gradients"
# Multiples of the unit up to here are exact in single precision, LightGBM's type of a gradient.
_MAX_BITS = 24


def _vectors(
    raw_score: ArrayLike, y: ArrayLike, weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    score = np.asarray(raw_score, np.float64)
    # Labels and weights are single precision in LightGBM.
    target = np.asarray(y, np.float64).astype(np.float32).astype(np.float64)
    if score.ndim != 1 or target.shape != score.shape:
        raise InputError("scores and targets are vectors of one length.", step=_STEP)
    if not np.isfinite(score).all() or not np.isfinite(target).all():
        raise InputError("scores and targets are finite.", step=_STEP)
    if weight is None:
        return score, target, None
    factors = np.asarray(weight, np.float64).astype(np.float32).astype(np.float64)
    if factors.shape != score.shape:
        raise InputError("there is one weight per row.", step=_STEP)
    if not np.isfinite(factors).all() or (factors < 0).any():
        raise InputError("weights are finite and not negative.", step=_STEP)
    return score, target, factors


def logistic_gradients(
    raw_score: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """First and second derivatives of the log loss by the raw score.

    Parameters
    ----------
    raw_score : array_like of float, shape (n,)
        Log odds.
    y : array_like, shape (n,)
        1 for an event, 0 otherwise.
    weight : array_like of float, shape (n,), optional
        Row weights.

    Returns
    -------
    g, h : ndarray of float32, shape (n,)
        Computed in double precision and rounded once, as LightGBM's ``binary`` objective does.

    Raises
    ------
    InputError
        If lengths differ, a label is not 0 or 1, or a value is not finite.
    """
    score, target, factors = _vectors(raw_score, y, weight)
    if not ((target == 0) | (target == 1)).all():
        raise InputError("labels are 0 or 1.", step=_STEP)
    sign = 2.0 * target - 1.0
    # exp overflows to infinity for a hopelessly wrong score; the quotient is then rightly 0.
    with np.errstate(over="ignore"):
        g = -sign / (1.0 + np.exp(sign * score))
    magnitude = np.abs(g)
    h = magnitude * (1.0 - magnitude)
    if factors is not None:
        g, h = g * factors, h * factors
    return g.astype(np.float32), h.astype(np.float32)


def squared_error_gradients(
    raw_score: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """First and second derivatives of half the squared error by the raw score.

    Parameters
    ----------
    raw_score, y : array_like of float, shape (n,)
        Predictions and targets.
    weight : array_like of float, shape (n,), optional
        Row weights.

    Returns
    -------
    g, h : ndarray of float32, shape (n,)

    Raises
    ------
    InputError
        If lengths differ or a value is not finite.
    """
    score, target, factors = _vectors(raw_score, y, weight)
    g, h = score - target, np.ones_like(score)
    if factors is not None:
        g, h = g * factors, factors
    return g.astype(np.float32), h.astype(np.float32)


def initial_logit(y: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log odds of the (weighted) event rate, kept off infinity at a rate of 0 or 1.

    Raises
    ------
    InputError
        If there are no rows, lengths differ, or a label is not 0 or 1.
    """
    target = np.asarray(y, np.float64)
    if target.ndim != 1 or not len(target) or not ((target == 0) | (target == 1)).all():
        raise InputError("labels are a vector of 0 and 1.", step=_STEP)
    factors = np.ones_like(target) if weight is None else np.asarray(weight, np.float64)
    if factors.shape != target.shape or not factors.sum() > 0:
        raise InputError("weights are one per row with a positive sum.", step=_STEP)
    rate = min(max(float((target * factors).sum() / factors.sum()), 1e-15), 1.0 - 1e-15)
    return math.log(rate / (1.0 - rate))


def power_of_two_scale(largest: float, top: int) -> float:
    """Return the smallest power of two `s` with ``largest <= top * s``; 1.0 if `largest` is 0."""
    if largest == 0:
        return 1.0
    scale = 2.0 ** max(math.frexp(largest)[1] - top.bit_length(), -1022)
    while largest > top * scale:
        scale *= 2.0
    return scale


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedGradients:
    """Integer gradients and hessians with their units.

    Attributes
    ----------
    g, h : ndarray of int64, shape (n,)
        ``gradient ≈ g * g_scale`` and ``hessian ≈ h * h_scale``; 0 out of the sample.
    g_scale, h_scale : float
        Powers of two.
    """

    g: NDArray[np.int64] = field(repr=False)
    h: NDArray[np.int64] = field(repr=False)
    g_scale: float
    h_scale: float


@dataclass(frozen=True, slots=True)
class Quantiser:
    """Rounding of gradients and hessians to integers of a few bits.

    Parameters
    ----------
    bits : int
        Width of one value: gradients are within ``±(2**(bits - 1) - 1)``, hessians within
        ``0..2**bits - 1``.
    stochastic : bool
        Round up with the probability of the fraction, so that sums are unbiased, instead of to
        the nearest. Needed below about 12 bits.
    seed : int
        Seed of the stochastic rounding. Tree `t` draws from a stream of its own, so a resumed job
        rounds as an uninterrupted one.
    g_digit, h_digit : int, optional
        Widths in bits of the plaintext digits that hold sums of ``g`` (signed) and of ``h``. If
        given, the unit is doubled until no sum of rows can leave its digit.
    """

    bits: int = 17
    stochastic: bool = False
    seed: int = 0
    g_digit: int | None = None
    h_digit: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= _MAX_BITS:
            raise InputError(f"bits is between 2 and {_MAX_BITS}.", step=_STEP)
        if self.seed < 0:
            raise InputError("seed is not negative.", step=_STEP)
        for width in (self.g_digit, self.h_digit):
            if width is not None and not 2 <= width <= 62:
                raise InputError("a digit is between 2 and 62 bits wide.", step=_STEP)

    @classmethod
    def exact(cls) -> Quantiser:
        """17 bits to the nearest: a model as good as in floating point, for small data."""
        return cls(bits=17)

    @classmethod
    def packed(
        cls, bits: int = 8, *, seed: int = 0, g_digit: int = 21, h_digit: int = 21
    ) -> Quantiser:
        """Few bits with stochastic rounding, for a gradient and a hessian in one plaintext."""
        return cls(bits=bits, stochastic=True, seed=seed, g_digit=g_digit, h_digit=h_digit)

    def quantise(
        self,
        gradients: NDArray[np.floating],
        hessians: NDArray[np.floating],
        *,
        tree: int,
        in_bag: NDArray[np.bool_] | None = None,
    ) -> QuantisedGradients:
        """Round one tree's gradients and hessians.

        Parameters
        ----------
        gradients, hessians : ndarray of float, shape (n,)
            Hessians are not negative.
        tree : int
            Number of the tree, which selects the random stream.
        in_bag : ndarray of bool, shape (n,), optional
            Rows in the sample; the others neither take part in the choice of the unit nor get a
            value other than 0.

        Returns
        -------
        QuantisedGradients

        Raises
        ------
        InputError
            If lengths differ, a value is not finite, a hessian is negative, or a digit is too
            narrow for any unit.
        """
        n = len(gradients)
        if gradients.shape != (n,) or hessians.shape != (n,):
            raise InputError("gradients and hessians are vectors of one length.", step=_STEP)
        if not (np.isfinite(gradients).all() and np.isfinite(hessians).all()):
            raise InputError("gradients and hessians are finite.", step=_STEP)
        if (hessians < 0).any():
            raise InputError("hessians are not negative.", step=_STEP)
        g_real, h_real = gradients.astype(np.float64), hessians.astype(np.float64)
        if in_bag is not None:
            if in_bag.shape != (n,) or in_bag.dtype != np.bool_:
                raise InputError("in_bag has one bool per row.", step=_STEP)
            g_real[~in_bag] = 0.0
            h_real[~in_bag] = 0.0
        g_dither = h_dither = None
        if self.stochastic:
            rng = np.random.default_rng([self.seed, tree])
            g_dither, h_dither = rng.random(n), rng.random(n)
        g_limit = None if self.g_digit is None else 2 ** (self.g_digit - 1) - 1
        h_limit = None if self.h_digit is None else 2**self.h_digit - 1
        g, g_scale = _round(g_real, 2 ** (self.bits - 1) - 1, g_dither, g_limit)
        h, h_scale = _round(h_real, 2**self.bits - 1, h_dither, h_limit)
        return QuantisedGradients(g, h, g_scale, h_scale)


def _round(
    values: NDArray[np.float64],
    top: int,
    dither: NDArray[np.float64] | None,
    limit: int | None,
) -> tuple[NDArray[np.int64], float]:
    """Round to multiples of the smallest fitting unit; `limit` bounds the sum of magnitudes."""
    scale = power_of_two_scale(float(np.abs(values).max(initial=0.0)), top)
    while True:
        units = values / scale
        rounded = np.rint(units) if dither is None else np.floor(units + dither)
        integers = rounded.astype(np.int64)
        if limit is None or int(np.abs(integers).sum()) <= limit:
            return integers, scale
        if not np.abs(units).max() > 0.5:
            raise InputError(
                "the plaintext digits are too narrow for this many rows.",
                step=_STEP,
                fix="use larger parameters or fewer rows",
            )
        scale *= 2.0
