"""The data provider's role in vertical logistic regression.

The protocol, and what each role learns, is in :mod:`fedcredit.protocols.logistic`.

The provider follows the label holder's messages one by one and checks each against its own count:
a hidden gradient always uses a mask of its own, whatever the label holder says about the phase; a
predictor leaves only in answer to a request that is counted, and persisted, before it is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.prg import prg, prg_u64
from fedcredit.errors import BudgetError, InputError, PeerProtocolError, PolicyError
from fedcredit.protocols.blame import blamed_on
from fedcredit.protocols.encrypted_sums import SumClient, SumServer, unmasked
from fedcredit.protocols.logistic_angles import (
    MAX_TERMS,
    FixedPoint,
    Scaled,
    ceil_range,
    logistic_profile,
    mask_factors,
    radians,
    to_angle,
    to_fixed,
)
from fedcredit.protocols.logistic_block import Block, Penalty
from fedcredit.protocols.logistic_exact_provider import ExactProvider
from fedcredit.protocols.logistic_messages import (
    Agreed,
    BasisStep,
    Columns,
    Evaluate,
    Exact,
    Finish,
    Gram,
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
    LogisticLimits,
    LogisticParams,
    ProviderCoefficients,
)
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.protocols.predictor import GRID, coarsened, predictor_provider
from fedcredit.protocols.progress import Progress, ignore
from fedcredit.wire import Peers

__all__ = ["logistic_provider"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_STEP = "logistic"
_SEED_BYTES = 32
_COMMANDS = (Exact, Move, Evaluate, Reveal, Gram, BasisStep, Finish)


async def logistic_provider(
    peers: Peers,
    coordinator: str,
    participants: Sequence[str],
    me: str,
    columns: FloatArray,
    params: LogisticParams,
    limits: LogisticLimits,
    *,
    salt: bytes,
    signs: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    on_reveal: Callable[[], None] = ignore,
    threads: int = 1,
    on_progress: Progress = ignore,
) -> ProviderCoefficients:
    """Take part in a fit; the provider's role.

    Parameters
    ----------
    peers : Peers
        The label holder and the other providers.
    coordinator : str
        The label holder.
    participants : sequence of str
        All providers in the order of the job, this one among them; the first is the lead.
    me : str
        This provider's name.
    columns : ndarray of float64, shape (n, dk)
        Its columns in the common order of rows, dk at least 1.
    params : LogisticParams
        Those of the label holder.
    limits : LogisticLimits
    salt : bytes
        The job's own, the same at every provider.
    signs : sequence of int, shape (dk,), optional
        1: the coefficient is at least 0; −1: at most 0; 0: free.
    names : sequence of str, optional
        Of the columns, for errors at this party.
    on_reveal : callable ()
        Called before a predictor is sent: the place to write down that it was; it may refuse by
        raising BudgetError or PolicyError.
    threads : int
    on_progress : callable (step, done, total)

    Returns
    -------
    ProviderCoefficients

    Raises
    ------
    InputError
        If a column or argument cannot be used.
    BudgetError, PolicyError
        If the label holder asks for more than the limits allow.
    PolicyError
        If exact predictors are asked for and not allowed.
    PeerProtocolError, CiphertextError
        If a peer breaks the protocol.
    """
    providers = tuple(participants)
    if me not in providers or coordinator in providers or columns.ndim != 2 or not columns.size:
        raise InputError(
            "the provider must be one of the participants and have columns.", step=_STEP
        )
    if params.reveal_predictor and not limits.exact_predictors:
        raise PolicyError(
            "exact predictors are not shown here.",
            party=me,
            step=_STEP,
            fix="fit with reveal_predictor=False, or ask the data owner for allow_exact_predictor",
        )
    others = [name for name in providers if name != me]
    zero = await ZeroShares.agree(peers, me, others, salt)
    role = _Provider(peers, coordinator, providers, me, params, limits, zero, on_reveal, threads)
    await role.open(columns, signs, names)
    return await role.run(on_progress)


class _Provider:
    def __init__(
        self,
        peers: Peers,
        coordinator: str,
        providers: tuple[str, ...],
        me: str,
        params: LogisticParams,
        limits: LogisticLimits,
        zero: ZeroShares,
        on_reveal: Callable[[], None],
        threads: int,
    ) -> None:
        self._peers, self._coordinator, self._providers = peers, coordinator, providers
        self._peer, self._me = peers[coordinator], me
        self._params, self._limits, self._zero = params, limits, zero
        self._on_reveal, self._threads = on_reveal, threads
        self._leads = me == providers[0]
        self._client: SumClient | None = None
        self._evaluations = self._reveals = self._grams = self._exacts = 0
        # Whether the predictor was revealed here.
        self._known = False
        self._moved = False
        # The last hidden gradient, if nothing moved since.
        self._hidden: FloatArray | None = None
        self._linear: FloatArray | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider's columns and keys cannot be pickled")

    async def open(
        self, columns: FloatArray, signs: Sequence[int] | None, names: Sequence[str] | None
    ) -> None:
        start = await self._peer.recv(Start)
        self._n, self._total = len(columns), start.total_weight
        if start.n_rows != self._n or not 0 < start.total_weight < np.inf:
            self._refuse("the fit is for other rows than this party's.")
        penalty = Penalty.of(self._params.C, self._params.l1_ratio, start.total_weight)
        self._block = Block(columns, penalty, signs, names=names, min_rows=self._limits.min_rows)
        self._mover = Mover(self._block, self._params.memory)
        await self._peer.send(Columns(self._block.d, self._block.is_smooth))
        agreed = await self._peer.recv(Agreed)
        self._label_columns, self._smooth = agreed.label_columns, agreed.smooth
        if not 1 <= agreed.label_columns <= self._n or agreed.smooth > self._block.is_smooth:
            self._refuse("the fit does not suit this party's columns.")
        self._server = await SumServer.open(self._peer, n_rows=self._n, threads=self._threads)
        profile = logistic_profile(self._n)
        if self._server.profile != profile:
            self._refuse("the encrypted sums have another profile than agreed.")
        self._fixed = FixedPoint.of(profile)
        self._halves: Scaled | None = None
        self._newton = ExactProvider(
            self._peers,
            self._coordinator,
            self._providers,
            self._me,
            self._server,
            self._zero,
            self._block,
        )
        if self._leads:
            self._client = SumClient(profile)
            await self._client.open(Peers([self._coordinator]))

    async def run(self, on_progress: Progress) -> ProviderCoefficients:
        while True:
            message = await self._peer.recv_any(*_COMMANDS)
            if isinstance(message, Finish):
                with blamed_on(self._peer, _STEP):
                    return await self._newton.finish(
                        message.covariance, release=self._limits.release_coefficients
                    )
            if isinstance(message, Exact):
                await self._exact(message)
            elif isinstance(message, Move):
                await self._move(message)
            elif isinstance(message, Evaluate):
                await self._evaluate(message)
            elif isinstance(message, Reveal):
                await self._reveal(message)
            elif isinstance(message, Gram):
                await self._gram(message)
            elif isinstance(message, BasisStep):
                with blamed_on(self._peer, _STEP):
                    self._newton.step(message.values)
                self._known, self._hidden = False, None
            on_progress("train", self._evaluations, self._params.max_iter)

    # ------------------------------------------------------------------------ hidden gradient

    async def _move(self, move: Move) -> None:
        # One step per gradient: otherwise ranges alone could be asked for without a count.
        if not self._mover.begun or self._newton.begun or self._moved:
            self._refuse("a step is out of turn.")
        with blamed_on(self._peer, _STEP):
            if move.method == "newton":
                self._mover.newton(move.coefficients)
            elif move.method in ("proximal", "settle"):
                settle = move.method == "settle"
                self._mover.proximal(move.curvature, move.momentum, settle=settle)
            else:
                self._refuse("there is no such step.")
        self._known, self._moved, self._hidden = False, True, None
        await self._peer.send(Ranges(ceil_range(self._block.predictor())))

    async def _evaluate(self, message: Evaluate) -> None:
        self._count(message.number)
        if not self._mover.begun and self._linear is None:
            self._refuse("a gradient is out of turn.")
        terms, period, fixed = message.terms, message.period, self._fixed
        if not (
            1 <= terms <= MAX_TERMS
            and 4 <= period <= 200
            and 0 < message.unit < np.inf
            and 0 < message.bound < np.inf
        ):
            self._refuse("the series of a gradient is out of range.")
        # A fresh mask for every evaluation, also for one that repeats the last.
        mask = prg(await self._zero.common(_SEED_BYTES), 2 * self._n).view("<u2")
        mask = mask.astype(np.uint16, copy=False)
        angles = to_angle(self._block.predictor(), period) + self._zero.u16(self._n)
        await self._peer.send(MaskedParts(angles + mask if self._leads else angles))
        factors = mask_factors(radians(mask), terms)
        if self._client is not None:
            values = np.rint(factors * fixed.value).astype(np.int64)
            await self._client.request(Peers([self._coordinator]), values)
        scaled = fixed.columns(self._block.V, message.bound, 1.0, 2 * terms)
        masks = await self._server.serve_dense(self._peer, scaled.columns, factors, masked=True)
        if self._client is not None:
            await self._return_sums(self._client)
        sums = (await self._own_sums(masks)) * (message.unit / self._total) / scaled.scale
        await self._take(sums if self._linear is None else sums - self._linear, message.pair)

    async def _return_sums(self, client: SumClient) -> None:
        """Decrypt the label holder's own masked sums for it."""
        count = self._label_columns
        await self._peer.send(MaskedSums(await client.collect_dense(self._peer, count)))

    async def _own_sums(self, masks: IntArray | None) -> IntArray:
        """Receive what the key holder decrypted, and take the own masks off."""
        values = (await self._peer.recv(MaskedSums)).values
        if masks is None or values.shape != masks.shape:
            self._refuse("the decrypted sums are not one per column.")
        return unmasked(values, masks, logistic_profile(self._n).plain_bits)

    async def _take(self, gradient: FloatArray, pair: bool) -> None:
        if pair and not self._moved:
            self._refuse("a step is to be remembered that was not made.")
        self._moved, self._hidden = False, gradient
        if self._mover.begun:
            self._mover.take(gradient, pair=pair)
        else:
            self._mover.begin(gradient, smooth=self._smooth)
        await self._send_moments()

    async def _send_moments(self) -> None:
        fixed = to_fixed(self._mover.moments())
        await self._peer.send(Moments(fixed + self._zero.u64(len(fixed))))

    # ---------------------------------------------------------------------------- exact passes

    async def _exact(self, message: Exact) -> None:
        self._count(message.number)
        if not 1 <= len(message.units) <= 4 or not np.isfinite(message.units).all():
            self._refuse("the digits of an exact pass are out of range.")
        corrects = message.purpose == "correction"
        if corrects and self._hidden is None:
            self._refuse("a correction is out of turn: there is no hidden gradient.")
        if corrects or message.purpose == "exact":
            # One per revealed predictor.
            if not self._known or self._exacts >= self._reveals:
                self._refuse("an exact gradient is out of turn: the predictor is not revealed.")
            self._exacts += 1
        elif message.purpose not in ("linear", "start", "both"):
            self._refuse("there is no such exact pass.")
        elif self._newton.begun or (message.purpose != "linear" and self._mover.begun):
            self._refuse("an exact pass is out of turn.")
        if self._halves is None:
            self._halves = self._fixed.split(self._block.V)
        scaled, d = self._halves, self._block.d
        ones, sums = np.ones((1, self._n)), np.zeros(d)
        for unit in message.units:
            masks = await self._server.serve_dense(self._peer, scaled.columns, ones, masked=True)
            parts = (await self._own_sums(masks)) / scaled.scale
            sums += (parts[:d] + parts[d:]) * (unit / self._total)
        if message.purpose in ("linear", "both"):
            self._linear = sums
        if message.purpose in ("start", "both"):
            self._mover.begin(-sums if message.purpose == "both" else sums, smooth=self._smooth)
            await self._send_moments()
        elif message.purpose == "exact":
            await self._newton.answer(sums)
        elif corrects and self._hidden is not None:
            await self._newton.answer(sums + self._hidden)

    # ----------------------------------------------------------------------- counted requests

    async def _reveal(self, message: Reveal) -> None:
        if message.number != self._reveals + 1:
            self._refuse("a request for the predictor is out of turn.")
        allowed = self._limits.max_reveals
        if message.number > allowed:
            raise BudgetError(
                f"no more than {allowed} predictors may be revealed in a fit here.",
                party=self._me,
                step=_STEP,
                fix="lower polish_steps or max_reveals",
            )
        self._reveals += 1
        self._on_reveal()
        part = self._block.predictor()
        if not self._limits.exact_predictors:
            drawn = prg_u64(os.urandom(32), len(part)) >> np.uint64(11)
            part = coarsened(part, GRID, np.asarray(drawn * 2.0**-53, np.float64))
        await predictor_provider(self._peer, part, self._zero)
        self._known = True

    async def _gram(self, message: Gram) -> None:
        # One per revealed predictor.
        if message.number != self._grams + 1 or self._grams >= self._reveals or not self._known:
            self._refuse("a request for second derivatives is out of turn.")
        self._grams += 1
        await self._newton.gram()

    def _count(self, number: int) -> None:
        """Count an evaluation before anything is computed for it."""
        if number != self._evaluations + 1:
            self._refuse("an evaluation is out of turn or repeated.")
        if number > self._limits.max_evaluations:
            raise BudgetError(
                f"no more than {self._limits.max_evaluations} gradients are computed in a fit "
                "here.",
                party=self._me,
                step=_STEP,
                fix="lower max_iter, or raise hidden_tol",
            )
        self._evaluations += 1

    def _refuse(self, reason: str) -> NoReturn:
        raise PeerProtocolError(reason, party=self._coordinator, step=_STEP)
