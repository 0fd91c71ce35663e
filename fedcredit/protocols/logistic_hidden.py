"""The hidden phase: steps by gradients at a predictor that nobody sees.

The label holder chooses the steps from sums of inner products. Smooth objectives take L-BFGS steps
of capped length; with a lasso penalty or signs, accelerated proximal steps. The series of the
logistic function starts short and ends long, and its period is lengthened when the parties'
parts reach beyond it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError
from fedcredit.protocols.logistic_holder import Holder
from fedcredit.protocols.logistic_moves import products_of
from fedcredit.stats.quasi_newton import direction
from fedcredit.stats.sigmoid_series import SigmoidSeries, fit_series

__all__ = ["hidden_phase"]

FloatArray = npt.NDArray[np.float64]
_STEP = "logistic: hidden steps"
#: Gradient norm at which the long series takes over.
_SWITCH = 0.02
#: Longest step, in standard deviations of the log-odds.
_MAX_STEP = 1.0
#: Evaluations without a better gradient, after which a fit counts as stalled.
_PATIENCE = 10
_GROWTH, _LONGEST = 1.4, 60.0
#: A stalled or ended fit is good enough to go on from within this gradient norm.
_GOOD_ENOUGH = 0.03


class _Series:
    """The series in use."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self.period = holder.params.period
        self.is_final = holder.params.terms == holder.params.end_terms
        self.current = self._fit()

    def _fit(self) -> SigmoidSeries:
        params = self._holder.params
        # Enough terms for the slope of the logistic function, which a long period makes steep.
        terms, per_period = (params.end_terms, 0.36) if self.is_final else (params.terms, 0.21)
        terms = max(terms, round(per_period * self.period))
        return fit_series(self._holder.centre, terms=terms, period=self.period)

    async def use(self) -> None:
        self.current = self._fit()
        await self._holder.linear(self.current.constant)

    async def cover(self, reach: float) -> None:
        """Lengthen the period until the parts fit into half of it."""
        if reach <= self.period / 2:
            return
        if reach > _LONGEST / 2:
            raise InputError(
                "the parties' parts of the log-odds reach too far for the hidden phase.",
                step=_STEP,
                fix="bin or winsorise columns with outliers, leave out columns that separate the "
                "labels, or set C",
            )
        while reach > self.period / 2:
            self.period = min(self.period * _GROWTH, _LONGEST)
        await self.use()

    async def lengthen(self) -> None:
        """Go over to the long series."""
        self.is_final = True
        await self.use()


class _Watch:
    """Ends a phase that makes no headway."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._best, self._since = np.inf, 0

    def goes_on(self, norm: float) -> bool:
        self._since = 0 if norm < 0.98 * self._best else self._since + 1
        self._best = min(self._best, norm)
        left = self._since < _PATIENCE and self._holder.evaluations < self._holder.params.max_iter
        if not left and norm > _GOOD_ENOUGH:
            raise InputError(
                "the fit does not converge.",
                step=_STEP,
                fix="look for outliers and for columns that separate the labels; bin them, set C, "
                "or raise max_iter",
            )
        return left


async def hidden_phase(holder: Holder) -> bool:
    """Minimise without any revealed predictor.

    Returns
    -------
    bool
        Whether the gradient is within the tolerance.

    Raises
    ------
    InputError
        The coefficients run away, or the gradient stalls far from the tolerance.
    """
    moments = await holder.begin()
    series = _Series(holder)
    await series.use()
    if holder.smooth:
        return await _quasi_newton(holder, series, moments)
    return await _proximal(holder, series, moments)


def _curvature(holder: Holder) -> float:
    """Second derivative of the loss at the start, along a whitened direction."""
    return max(holder.rate * (1 - holder.rate), 1e-4)


async def _quasi_newton(holder: Holder, series: _Series, moments: FloatArray) -> bool:
    products = products_of(moments)
    watch, step = _Watch(holder), 0.0
    while True:
        norm = float(np.sqrt(max(products[-1, -1], 0.0)))
        holder.note("hidden" if holder.trace else "start", norm, step)
        if norm < _SWITCH and not series.is_final:
            await series.lengthen()
            products = products_of(await holder.evaluate(series.current, pair=False))
            step = 0.0
            continue
        if norm < holder.params.hidden_end:
            return True
        if not watch.goes_on(norm):
            return False
        c = direction(products, 1 / _curvature(holder))
        step = math.sqrt(max(float(c @ products @ c), 0.0))
        if step > _MAX_STEP:
            c, step = c * (_MAX_STEP / step), _MAX_STEP
        await series.cover(await holder.move("newton", c))
        products = products_of(await holder.evaluate(series.current, pair=True))


async def _proximal(holder: Holder, series: _Series, moments: FloatArray) -> bool:
    """FISTA with restarts; the curvature follows what the gradients show."""
    curvature = _curvature(holder)
    watch, inertia, momentum, step = _Watch(holder), 1.0, 0.0, 0.0
    norm, converged = float(np.sqrt(moments[4])), False
    holder.note("start", norm, step)
    while True:
        await series.cover(await holder.move("proximal", None, curvature, momentum))
        moments = await holder.evaluate(series.current, pair=True)
        uphill, squared, change, moved, _ = moments
        step = math.sqrt(max(float(squared), 0.0))
        norm = curvature * step
        holder.note("hidden", norm, step)
        if moved > 0 and change > curvature * moved:
            curvature = 1.1 * change / moved
        if uphill > 0:
            inertia, momentum = 1.0, 0.0
        else:
            later = (1 + math.sqrt(1 + 4 * inertia**2)) / 2
            inertia, momentum = later, (inertia - 1) / later
        if norm < _SWITCH and not series.is_final:
            await series.lengthen()
            await holder.evaluate(series.current, pair=False)
            continue
        converged = norm < holder.params.hidden_end
        if converged or not watch.goes_on(norm):
            await holder.move("settle", None, curvature)
            return converged
