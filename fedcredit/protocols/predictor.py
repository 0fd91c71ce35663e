"""The sum of the providers' parts of a linear predictor, revealed to the label holder.

::

    label holder                              provider k
                                  <-------    PredictorShare{fixed point of part k + zero share k}
      the sum of all shares is the sum of all parts: the zero shares cancel modulo 2^64

=============  ==========================================================================
role           learns
=============  ==========================================================================
label holder   for every row the *sum* of the providers' parts. With one provider that is
               this provider's own part. The sums of many models with different coefficients
               give away the columns behind them, so a caller counts every run in a budget.
               A label holder that knows the coefficients and the few values that a binned
               column takes can read the bins of a row off *one* exact sum; `coarsened`
               leaves many combinations of bins for every value of the sum
provider       nothing
=============  ==========================================================================

The parties are semi-honest. A label holder that colludes with all providers but one learns that
one's part. Numbers travel as multiples of 2^-40 modulo 2^64, so a part is rounded by at most
2^-41 and the sum is that of the rounded parts, without any further error.

Source: K. Bonawitz et al., "Practical Secure Aggregation", CCS 2017 (pairwise masks that cancel);
the masks are those of :mod:`fedcredit.protocols.pairwise`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.wire import Message, Peer, Peers, U64x1

__all__ = [
    "GRID",
    "MAX_PART",
    "PredictorShare",
    "coarsened",
    "predictor_label_holder",
    "predictor_provider",
]

#: Spacing of coarsened log-odds: about one point of a card with 20 points to double the odds.
GRID = 2.0**-5

#: Parts are below this in magnitude.
MAX_PART = 2.0**20
#: Sums of so many parts stay in 64 bits.
MAX_PROVIDERS = 8

_STEP = "sum of predictors"
_SCALE = 2.0**40
Predictor = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class PredictorShare(
    Message,
    kind="predictor.share",
    version=1,
    max_bytes=1 << 30,
    reveals="with the other providers' shares the sum of all parts per row; "
    "with one provider its own part",
):
    """Provider to label holder: its part of every row under its share of zero, shape (n,)."""

    values: U64x1


async def predictor_label_holder(peers: Peers, n_rows: int) -> Predictor:
    """Receive the sum over all providers of their parts.

    Parameters
    ----------
    peers : Peers
        Exactly the providers, one to eight.
    n_rows : int
        Number of rows, 1 or more.

    Returns
    -------
    ndarray of float64, shape (n_rows,)

    Raises
    ------
    InputError
        If there is no provider, more than eight, or no row.
    PeerProtocolError
        If a share has another length, or the sums are impossibly large.
    """
    if n_rows < 1 or not 1 <= len(peers) <= MAX_PROVIDERS:
        raise InputError(
            f"a sum of predictors needs rows and 1 to {MAX_PROVIDERS} providers.", step=_STEP
        )
    total = np.zeros(n_rows, np.uint64)
    for name, share in (await peers.gather(PredictorShare)).items():
        if share.values.shape != total.shape:
            raise PeerProtocolError(
                "a share of the predictors has another number of rows.", party=name, step=_STEP
            )
        total += share.values
    result: Predictor = total.view(np.int64) / _SCALE
    if np.abs(result).max() >= MAX_PART * len(peers):
        raise PeerProtocolError(
            "the masks of the providers do not cancel.",
            step=_STEP,
            fix="run all parties with one version, in one session",
        )
    return result


async def predictor_provider(peer: Peer, part: Predictor, zero: ZeroShares) -> None:
    """Send the own part of the predictor, masked by a share of zero.

    Parameters
    ----------
    peer : Peer
        The label holder.
    part : ndarray of float64, shape (n,)
        Finite and below 2^20 in magnitude.
    zero : ZeroShares
        Of this session. With one provider there is nothing to hide in: the label holder receives
        ``part`` itself.

    Raises
    ------
    InputError
        If ``part`` has no rows, another shape or type, or a value that is not finite or too
        large.
    """
    if part.ndim != 1 or part.dtype != np.float64 or not part.size:
        raise InputError("a part of the predictor must be a float64 array of rows.", step=_STEP)
    if not np.abs(part).max() < MAX_PART:  # also false for NaN
        raise InputError(
            "a part of the predictor is not finite or above 2^20 in magnitude.",
            step=_STEP,
            fix="check the columns for missing values and standardise them",
        )
    fixed = np.rint(part * _SCALE).astype(np.int64)
    await peer.send(PredictorShare(fixed.view(np.uint64) + zero.u64(part.size)))


def coarsened(part: Predictor, grid: float, uniform: NDArray[np.float64]) -> Predictor:
    """Round a part to multiples of ``grid`` at random, right on average.

    Parameters
    ----------
    part : ndarray of float64, shape (n,)
    grid : float
        Above 0.
    uniform : ndarray of float64, shape (n,)
        In [0, 1), from a generator that the label holder cannot predict. The same numbers for the
        same row and model: rounding anew every time would average out.

    Returns
    -------
    ndarray of float64, shape (n,)
        Below or above ``part`` by less than ``grid``, with mean ``part``.
    """
    if not grid > 0 or uniform.shape != part.shape:
        raise InputError("a part is coarsened by a positive grid, row by row.", step=_STEP)
    result: Predictor = np.floor(part / grid + uniform) * grid
    return result
