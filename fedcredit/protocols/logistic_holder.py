"""What the label holder does once per evaluation of a logistic regression.

The phases that call it are :mod:`fedcredit.protocols.logistic_hidden` and
:mod:`fedcredit.protocols.logistic_exact`; the protocol is in :mod:`fedcredit.protocols.logistic`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from fedcredit.crypto.encsum_dense import unmasked
from fedcredit.errors import BudgetError, InputError, PeerProtocolError
from fedcredit.protocols.encrypted_sums import SumClient, SumServer
from fedcredit.protocols.logistic_angles import (
    FixedPoint,
    ceil_range,
    from_fixed,
    logistic_profile,
    radians,
    to_angle,
)
from fedcredit.protocols.logistic_block import Block, Penalty
from fedcredit.protocols.logistic_messages import (
    Agreed,
    Columns,
    Evaluate,
    Exact,
    MaskedParts,
    MaskedSums,
    Moments,
    Move,
    Ranges,
    Reveal,
    Start,
)
from fedcredit.protocols.logistic_moves import Mover
from fedcredit.protocols.logistic_types import (
    MAX_COLUMN_SHARE,
    LogisticData,
    LogisticParams,
    TracePoint,
)
from fedcredit.protocols.predictor import predictor_label_holder
from fedcredit.protocols.progress import Progress
from fedcredit.stats.sigmoid_series import SigmoidSeries
from fedcredit.wire import Peers

__all__ = ["Holder"]

FloatArray = npt.NDArray[np.float64]
_STEP = "logistic"


class Holder:
    """The label holder's session: its own block, its keys, its counts.

    Attributes
    ----------
    block : Block
        Own columns, the intercept last.
    centre : float
        Log-odds of the mean label.
    smooth : bool
        Whether no party has a lasso penalty or signs.
    trace : list of TracePoint
    """

    def __init__(
        self,
        peers: Peers,
        data: LogisticData,
        params: LogisticParams,
        sizes: Mapping[str, int],
        on_progress: Progress,
    ) -> None:
        self.peers, self.params, self.sizes = peers, params, dict(sizes)
        self.n = len(data.y)
        self.y = data.y
        self.weighted = data.weight is not None
        self.weight = np.ones(self.n) if data.weight is None else data.weight
        self.total = float(self.weight.sum())
        self.offset = np.zeros(self.n) if data.offset is None else data.offset
        self.has_offset = data.offset is not None
        self._check_columns()
        self._on_progress = on_progress
        penalty = Penalty.of(params.C, params.l1_ratio, self.total)
        self.block = Block(data.own, penalty, data.signs, intercept=True)
        self.mover = Mover(self.block, params.memory)
        self.rate = float(self.weight @ self.y / self.total)
        self.centre = float(logit(self.rate))
        self.block.coef[-1] = self.centre - float(self.weight @ self.offset / self.total)
        self.evaluations = self.reveals = 0
        self.trace: list[TracePoint] = []
        self.smooth = True
        self._linear: FloatArray | None = None
        # The last hidden gradient of the own block, if nothing moved since, and the last series.
        self.hidden: FloatArray | None = None
        self.series: SigmoidSeries | None = None
        self._columns = self.block.V * self.weight[:, None]
        self.lead = next(iter(peers))

    def _check_columns(self) -> None:
        if not self.sizes or list(self.sizes) != list(self.peers):
            raise InputError("sizes does not name the providers in their order.", step=_STEP)
        for name, size in self.sizes.items():
            if not 1 <= size <= MAX_COLUMN_SHARE * self.n:
                raise InputError(
                    f"it takes part with {size} columns for {self.n} rows: the gradients of so "
                    "many columns would tell labels.",
                    party=name,
                    step=_STEP,
                    fix="use fewer columns or more rows",
                )

    async def open(self, threads: int) -> None:
        """Agree on the fit and exchange keys."""
        await self.peers.broadcast(Start(self.n, self.total))
        for name, columns in (await self.peers.gather(Columns)).items():
            if columns.count != self.sizes[name]:
                raise PeerProtocolError(
                    "it has another number of columns than agreed.", party=name, step=_STEP
                )
            self.smooth &= columns.smooth
        self.smooth &= self.block.is_smooth
        await self.peers.broadcast(Agreed(self.block.d, self.smooth))
        profile = logistic_profile(self.n)
        self.fixed = FixedPoint.of(profile)
        self.client = SumClient(profile)
        await self.client.open(self.peers)
        self._server = await SumServer.open(self.peers[self.lead], n_rows=self.n, threads=threads)
        if self._server.profile != profile:
            raise PeerProtocolError(
                "the encrypted sums have another profile than agreed.", party=self.lead, step=_STEP
            )

    # ------------------------------------------------------------------------- one evaluation

    def own_predictor(self) -> FloatArray:
        """Give the own part of the log-odds, with the offset."""
        return self.block.predictor() + self.offset

    async def exact(self, purpose: str, vector: FloatArray) -> None:
        """Let every provider take its columns' inner products with a vector (n,)."""
        digits = self.fixed.digits(vector)
        await self.peers.broadcast(Exact(self._next(), purpose, digits.units))
        for values in digits.values:
            await self.client.request(self.peers, values[None])
            await self._return_sums(2)

    async def _return_sums(self, per_column: int) -> None:
        for name, peer in self.peers.items():
            sums = await self.client.collect_dense(peer, per_column * self.sizes[name])
            await peer.send(MaskedSums(sums))

    async def linear(self, constant: float) -> None:
        """Fix what hidden gradients subtract: the part of the labels and of a constant.

        Columns of providers are centred, so that without weights a constant adds nothing.
        """
        if self.weighted or self._linear is None:
            reference = constant if self.weighted else 0.0
            await self.exact("linear", self.weight * (self.y - reference))
        self.set_own_linear(constant)

    def set_own_linear(self, constant: float) -> None:
        """Do the same for the own block."""
        self._linear = self.block.V.T @ (self.weight * (self.y - constant)) / self.total

    async def move(
        self,
        method: str,
        coefficients: FloatArray | None = None,
        curvature: float = 0.0,
        momentum: float = 0.0,
    ) -> float:
        """Move all blocks; give what the parts of the predictor add up to at most."""
        self.hidden = None
        given = () if coefficients is None else tuple(float(c) for c in coefficients)
        await self.peers.broadcast(Move(method, given, curvature, momentum))
        if coefficients is not None:
            self.mover.newton(coefficients)
        else:
            self.mover.proximal(curvature, momentum, settle=method == "settle")
        reach = ceil_range(self.own_predictor() - self.centre)
        for name, answer in (await self.peers.gather(Ranges)).items():
            if not 0 <= answer.largest < np.inf:
                raise PeerProtocolError("its range is not a number.", party=name, step=_STEP)
            reach += answer.largest
        return reach

    async def evaluate(self, series: SigmoidSeries, *, pair: bool) -> FloatArray:
        """Evaluate the hidden gradient at all blocks; give the sums of the inner products."""
        assert self._linear is not None
        fixed, largest = self.fixed, float(self.weight.max())
        scale = fixed.factor_scale(largest, series)
        bound = fixed.row_bound(largest, series)
        await self.peers.broadcast(
            Evaluate(self._next(), series.terms, series.period, 1 / scale, bound, pair)
        )
        angles = to_angle(self.own_predictor() - self.centre, series.period)
        for name, parts in (await self.peers.gather(MaskedParts)).items():
            if parts.angles.shape != angles.shape:
                raise PeerProtocolError(
                    "its part has another number of rows.", party=name, step=_STEP
                )
            angles += parts.angles
        factors = series.factors(radians(angles))
        values = np.rint(factors * (self.weight * scale)).astype(np.int64)
        await self.client.request(self.peers, values)
        scaled = fixed.columns(
            self._columns, fixed.mask_bound(series), series.largest_factor(), len(factors)
        )
        lead = self.peers[self.lead]
        masks = await self._server.serve_dense(lead, scaled.columns, factors, masked=True)
        await self._return_sums(1)
        sums = (await lead.recv(MaskedSums)).values
        if masks is None or sums.shape != masks.shape:
            raise PeerProtocolError(
                "the decrypted sums are not one per column.", party=self.lead, step=_STEP
            )
        own = unmasked(sums, masks, self.client.profile.plain_bits)
        gradient = own / (scaled.scale * fixed.value * self.total) - self._linear
        self.hidden, self.series = gradient, series
        if self.mover.begun:
            self.mover.take(gradient, pair=pair)
        else:
            self.mover.begin(gradient, smooth=self.smooth)
        return await self.moments()

    async def moments(self) -> FloatArray:
        """Receive the sums over all blocks of the inner products."""
        own = self.mover.moments()
        total = np.zeros(len(own), np.uint64)
        for name, part in (await self.peers.gather(Moments)).items():
            if part.values.shape != total.shape:
                raise PeerProtocolError(
                    "its inner products are not as many as expected.", party=name, step=_STEP
                )
            total += part.values
        return own + from_fixed(total)

    async def begin(self) -> FloatArray:
        """Let all blocks have the gradient at the start; give the sums of inner products."""
        p = expit(self.own_predictor())
        if self.weighted or self.has_offset:
            await self.exact("start", self.weight * (p - self.y))
        else:
            await self.exact("both", self.y)
            self.set_own_linear(0.0)
        own = self.block.V.T @ (self.weight * (p - self.y)) / self.total
        self.mover.begin(own, smooth=self.smooth)
        return await self.moments()

    async def reveal(self) -> FloatArray:
        """Ask for the providers' summed predictor; give the log-odds (n,)."""
        if self.reveals >= self.params.reveals_allowed(self.sizes):
            raise BudgetError(
                "the cap on revealed predictors is reached.",
                step=_STEP,
                fix="raise max_reveals, or lower polish_steps",
            )
        self.reveals += 1
        await self.peers.broadcast(Reveal(self.reveals))
        return self.own_predictor() + await predictor_label_holder(self.peers, self.n)

    # -------------------------------------------------------------------------------- counts

    def note(self, phase: str, gradient: float, step: float) -> None:
        """Append to the trace and report progress."""
        point = TracePoint(len(self.trace), gradient, step, phase, self.reveals)
        self.trace.append(point)
        self._on_progress("train", len(self.trace), self.params.max_iter)

    def _next(self) -> int:
        self.evaluations += 1
        return self.evaluations
