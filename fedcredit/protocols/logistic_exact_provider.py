"""A provider's part in exact Newton steps at a revealed predictor.

The directions of the steps are the provider's free columns in a secret basis; the label holder
solves in that basis and returns this party's block of the step, and at the end its block of the
covariance. The protocol is in :mod:`fedcredit.protocols.logistic`.
"""

from __future__ import annotations

import secrets
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fedcredit.errors import PeerProtocolError
from fedcredit.protocols.encrypted_sums import SumServer
from fedcredit.protocols.gram_provider import gram_provider
from fedcredit.protocols.logistic_angles import to_fixed
from fedcredit.protocols.logistic_block import Block, PolishBasis
from fedcredit.protocols.logistic_messages import Basis, BasisGradient, Result
from fedcredit.protocols.logistic_types import ProviderCoefficients
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.wire import Peers

__all__ = ["ExactProvider"]

FloatArray = npt.NDArray[np.float64]
_STEP = "logistic: exact steps"
_NONE, _NO_MATRIX = np.zeros(0), np.zeros((0, 0))


class ExactProvider:
    """The basis of the exact steps and what is answered in it."""

    def __init__(
        self,
        peers: Peers,
        coordinator: str,
        providers: tuple[str, ...],
        me: str,
        server: SumServer,
        zero: ZeroShares,
        block: Block,
    ) -> None:
        self._peers, self._coordinator, self._providers = peers, coordinator, providers
        self._me, self._server, self._zero, self._block = me, server, zero, block
        self._peer = peers[coordinator]
        self._basis: PolishBasis | None = None
        self._free = np.zeros(block.d, np.bool_)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider's columns and secret basis cannot be pickled")

    @property
    def begun(self) -> bool:
        """Whether there was an exact gradient."""
        return self._basis is not None

    async def answer(self, gradient: FloatArray) -> None:
        """Choose the directions and give the gradient along them.

        Parameters
        ----------
        gradient : ndarray of float64, shape (d,)
            Of the loss, in whitened coordinates.
        """
        free = self._block.free() | self._block.violated(gradient)
        fresh = self._basis is None or bool((free != self._free).any())
        if fresh:
            self._basis, self._free = self._block.polish_basis(free), free
        assert self._basis is not None
        basis, block = self._basis, self._block
        penalty = block.basis_penalty(basis) if block.l2.any() else _NO_MATRIX
        mean = np.asarray(basis.map.T @ block.mean, np.float64)
        await self._peer.send(Basis(basis.map.shape[1], fresh, mean, penalty))
        await self._peer.send(BasisGradient(block.basis_gradient(basis, gradient)))

    async def gram(self) -> None:
        """Take part in the Gram matrix of all parties' directions."""
        basis = self._required()
        columns = self._block.basis_columns(basis)
        if not columns.shape[1]:
            # A party without free coefficients still has a place in the matrix.
            rng = np.random.Generator(np.random.PCG64(secrets.randbits(256)))
            columns = rng.normal(size=(len(columns), 1))
        await gram_provider(
            self._peers,
            self._coordinator,
            self._providers,
            self._me,
            self._server,
            columns,
            self._zero,
        )

    def step(self, values: FloatArray) -> None:
        """Move by the own block of a step."""
        basis = self._required()
        if values.shape != (basis.map.shape[1],) or not np.isfinite(values).all():
            raise PeerProtocolError("a step does not fit the basis.", step=_STEP)
        self._block.exact_step(basis, values)

    async def finish(self, covariance: FloatArray, *, release: bool) -> ProviderCoefficients:
        """Keep the coefficients, and give of them what may be given."""
        error = None
        if self._basis is not None:
            basis = self._basis
            size = basis.map.shape[1]
            if covariance.shape != (size, size) or not np.isfinite(covariance).all():
                raise PeerProtocolError("the covariance does not fit the basis.", step=_STEP)
            own = basis.map @ covariance @ basis.map.T
            error = np.sqrt(np.maximum(np.diag(own), 0.0))
            error[~self._free] = np.nan
        coef = self._block.coef
        shift = to_fixed(np.array([self._block.mean @ coef]))
        masked = shift + self._zero.u64(1)
        if release:
            given = _NONE if error is None else error
            basis_map = _NO_MATRIX if error is None else self._required().map
            await self._peer.send(Result(masked, True, coef, given, basis_map))
        else:
            await self._peer.send(Result(masked, False, _NONE, _NONE, _NO_MATRIX))
        return ProviderCoefficients(coef, error)

    def _required(self) -> PolishBasis:
        if self._basis is None:
            raise PeerProtocolError(
                "an exact step is out of turn: there was no exact gradient.", step=_STEP
            )
        return self._basis
