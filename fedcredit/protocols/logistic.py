"""Vertical logistic regression: one model on the columns of a label holder and of providers.

The label holder L has labels and perhaps columns, weights and an offset; each provider has columns.
Each party ends with the coefficients of its own columns. In the **hidden phase** nobody sees a
predictor. The logistic function is a short series of sines and cosines around the mean label
(:mod:`fedcredit.stats.sigmoid_series`), L holds the predictor only as an angle under a mask R that
the providers share, and by the addition theorem a gradient is an inner product of a column times
functions of R with functions of the masked angle. One evaluation::

    label holder                                     provider k; the lead is provider 1
      Move{step}                         ------->      moves its own coefficients
                                         <-------    Ranges{largest part}
      Evaluate{terms, period}            ------->
                                                     R: fresh, common to the providers
                                         <-------    MaskedParts{part k + zero share (+ R: lead)}
      a = own part + Σ parts
      Enc_L(w·u(a))                      ------->    sums of its columns times v(R), under its masks
                                         <-------    Enc_L(sums + masks)
      MaskedSums                         ------->    its gradient
                                         <-------    Enc_S(v(R)), under the lead's key
      sums of own columns times w·u(a),  ------->
      under own masks                    <-------    MaskedSums
                                         <-------    Moments{inner products + zero share}

The linear part ``X'(w·y)`` is taken once, exactly. Steps are L-BFGS steps whose direction needs
inner products only, or proximal steps with a lasso penalty or signs. Then come a few **exact
steps**: the providers' summed predictor is revealed to L, coarsened unless ``reveal_predictor`` is
asked for and allowed (:mod:`fedcredit.protocols.predictor`). L encrypts the residuals, learns
the information matrix along the providers' secret directions (:mod:`fedcredit.protocols.gram`) and
sends each provider its block of the Newton step, at the end its block of the covariance.

===========  ======================================================================================
role         learns
===========  ======================================================================================
L            its own gradients and coefficients, the intercept; sums over the providers of inner
             products of their steps and gradients (with one provider: its own), each provider's
             largest part of the predictor rounded up to 1/2; number of columns. For every exact
             step: the *sum* of the providers' predictors on every row; gradient and information
             matrix in secret bases, means and penalty in the same. Coefficients, standard errors
             and what leads to the covariance of providers that release them
provider     its own gradients at every evaluation, the coefficients of the steps in terms of them;
             numbers of rows and columns, the sum of the weights and the largest one, the largest
             residual; its own coefficients and their covariance. Not labels, mean label, weights,
             predictor, or anything of other providers
===========  ======================================================================================

A gradient is a sum of residuals, weighted by a column. A provider whose columns each stand for a
single row would read residuals, hence labels, of as many rows as it has columns, so L refuses
providers with too many columns for the rows, and an honest provider refuses such columns itself.

Revealed predictors are what a provider must ration: with as many of them as providers have
columns, and some rows whose columns it knows, L solves for all columns of all rows. Providers
count every one (:class:`LogisticLimits`, ``on_reveal``) and refuse beyond. All parties are
semi-honest; a label holder that colludes with a provider learns R and so the sum of the others'
predictors.

Sources: Huang et al., "Cheetah", USENIX Security 2022 (encrypted inner products); Chen, Wang and
Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014; Beck and Teboulle, SIAM J. Imaging Sci. 2
(2009); Bonawitz et al., CCS 2017 (masks that cancel).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedcredit.errors import PeerProtocolError
from fedcredit.protocols.logistic_angles import from_fixed
from fedcredit.protocols.logistic_exact import ExactPhase, Information
from fedcredit.protocols.logistic_hidden import hidden_phase
from fedcredit.protocols.logistic_holder import Holder
from fedcredit.protocols.logistic_messages import Finish, Result
from fedcredit.protocols.logistic_types import (
    LogisticData,
    LogisticLimits,
    LogisticOutcome,
    LogisticParams,
    ProviderCoefficients,
    Released,
    TracePoint,
)
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.wire import Peers

__all__ = [
    "LogisticData",
    "LogisticLimits",
    "LogisticOutcome",
    "LogisticParams",
    "ProviderCoefficients",
    "Released",
    "TracePoint",
    "logistic_label_holder",
]

FloatArray = npt.NDArray[np.float64]
_STEP = "logistic"
#: Largest component of a polishing step, whose square bounds what it leaves.
_ENOUGH = 0.01


async def logistic_label_holder(
    peers: Peers,
    data: LogisticData,
    params: LogisticParams,
    sizes: Mapping[str, int],
    *,
    salt: bytes = b"",
    threads: int = 1,
    on_progress: Progress = ignore,
) -> LogisticOutcome:
    """Fit; the label holder's role.

    Parameters
    ----------
    peers : Peers
        Exactly the providers, in the order of the job.
    data : LogisticData
    params : LogisticParams
        The providers have the same.
    sizes : mapping of provider to int
        Columns of each provider, in the same order.
    salt : bytes
        The job's own; the providers' keys are bound to it, and this role needs none.
    threads : int
    on_progress : callable (step, done, total)

    Returns
    -------
    LogisticOutcome

    Raises
    ------
    InputError
        The data cannot be used, columns depend on each other linearly, or labels are separated.
    BudgetError, PolicyError
        A cap on revealed predictors or gradients is reached.
    PeerProtocolError, CiphertextError
        A provider breaks the protocol.
    """
    holder = Holder(peers, data, params, sizes, on_progress)
    await holder.open(threads)
    exact = ExactPhase(holder)
    allowed = params.reveals_allowed(sizes)
    converged = await hidden_phase(holder)
    steps = allowed if params.reveal_predictor else min(params.polish_steps, allowed)
    if steps:
        enough = params.tol if params.reveal_predictor else _ENOUGH
        polished = await exact.run(steps, enough=enough)
        converged = polished if params.reveal_predictor else converged
    information = exact.information()
    return await _finish(holder, information, exact.predictor, converged)


async def _finish(
    holder: Holder,
    information: Information | None,
    predictor: FloatArray | None,
    converged: bool,
) -> LogisticOutcome:
    covariance = None if information is None else information.covariance()
    for name, peer in holder.peers.items():
        block = np.zeros((0, 0))
        if information is not None and covariance is not None:
            where = information.blocks[name]
            block = covariance[where, where]
        await peer.send(Finish(block))
    results = await holder.peers.gather(Result)
    shift = np.zeros(1, np.uint64)
    for name, result in results.items():
        _check(name, result, holder.sizes[name], information)
        shift += result.shift
    own = holder.block
    means = float(own.mean @ own.coef) + float(from_fixed(shift)[0])
    released = {
        name: Released(result.coef, result.standard_error if result.standard_error.size else None)
        for name, result in results.items()
        if result.released
    }
    covariance_own = everything = None
    if information is not None and covariance is not None:
        cut = information.own.map.shape[1]
        rows = np.zeros((own.d, len(covariance)))
        rows[:-1, :cut] = information.own.map[:-1]
        rows[-1] = information.mean
        covariance_own = rows @ covariance @ rows.T
        if len(released) == len(results):
            everything = _everything(rows, covariance, information, results)
    return LogisticOutcome(
        coef=own.coef[:-1].copy(),
        intercept=float(own.coef[-1]) - means,
        covariance_own=covariance_own,
        released=released,
        covariance=everything,
        trace=holder.trace,
        revealed=holder.reveals,
        evaluations=holder.evaluations,
        converged=converged,
        predictor=predictor,
    )


def _everything(
    own: FloatArray, covariance: FloatArray, information: Information, results: dict[str, Result]
) -> FloatArray:
    """Give the covariance of all coefficients, the intercept last."""
    rows = [own[:-1]]
    for name, result in results.items():
        part = np.zeros((len(result.coef), len(covariance)))
        part[:, information.blocks[name]] = result.map
        rows.append(part)
    rows.append(own[-1:])
    map_ = np.concatenate(rows)
    return np.asarray(map_ @ covariance @ map_.T, np.float64)


def _check(name: str, result: Result, size: int, information: Information | None) -> None:
    coef, error, map_ = (0,), (0,), (0, 0)
    if result.released:
        coef = (size,)
        if information is not None:
            where = information.blocks[name]
            error, map_ = (size,), (size, where.stop - where.start)
    if (result.shift.shape, result.coef.shape, result.standard_error.shape, result.map.shape) != (
        (1,),
        coef,
        error,
        map_,
    ):
        raise PeerProtocolError("its result is malformed.", party=name, step=_STEP)
