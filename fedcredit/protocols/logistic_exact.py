"""Newton steps at revealed predictors, and the covariance that comes of them.

The label holder has the log-odds, hence residuals and weights; it sends both encrypted. The
providers' directions are in secret bases, and each provider gets its own block of a step.

Where predictors are coarsened, residuals are not exact. Then the hidden gradient, whose only fault
is that of its series, is corrected by what the series gets wrong at the coarse predictor: a small
and smooth function, so that the coarsening is felt in it much less than in the residuals (a control
variate; P. Glasserman, *Monte Carlo Methods in Financial Engineering*, 2003, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.protocols.gram import gram_label_holder
from fedcredit.protocols.logistic_block import PolishBasis
from fedcredit.protocols.logistic_holder import Holder
from fedcredit.protocols.logistic_messages import Basis, BasisGradient, BasisStep, Gram

__all__ = ["ExactPhase", "Information"]

FloatArray = npt.NDArray[np.float64]
_STEP = "logistic: exact steps"
#: Eigenvalues of the normalised information below this count as a dependence between parties.
_MIN_EIGENVALUE = 3e-4
#: Mean of p(1 − p), relative to that of the mean label, below which labels are separated.
_SEPARATED = 1e-3
_MAX_STEP = 20.0
#: Steps below this leave the second derivatives as they are, when polishing and when exact.
_STILL, _STILL_EXACT = 2e-3, 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class Information:
    """Second derivatives and what leads from them to the covariance.

    Attributes
    ----------
    matrix : ndarray of float64, shape (D, D)
        Of the objective, not divided by the weights, along all parties' directions.
    own : PolishBasis
    blocks : dict of provider to slice
    mean : ndarray of float64, shape (D,)
        The intercept of uncentred columns per unit of a direction.
    """

    matrix: FloatArray
    own: PolishBasis
    blocks: dict[str, slice]
    mean: FloatArray

    def covariance(self) -> FloatArray:
        """Give the inverse."""
        return np.asarray(np.linalg.inv(self.matrix), np.float64)


class ExactPhase:
    """The label holder's side of the exact steps."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._basis: PolishBasis | None = None
        self._free = np.zeros(holder.block.d, np.bool_)
        self._grams = 0
        self._hessian: FloatArray | None = None
        self._answers: dict[str, Basis] = {}
        self._last = np.inf
        self.predictor: FloatArray | None = None

    async def run(self, steps: int, *, enough: float) -> bool:
        """Take up to ``steps`` steps, each at a revealed predictor.

        Parameters
        ----------
        steps : int
            Predictors to reveal at most.
        enough : float
            End after a step whose largest component, in standard deviations, is below.

        Returns
        -------
        bool
            Whether what is left is within the tolerance.
        """
        holder = self._holder
        for _ in range(steps):
            if not holder.params.reveal_predictor:
                await self._refresh()
            predictor = await holder.reveal()
            last = await self._step(predictor)
            if last < holder.params.tol:
                self.predictor = predictor
            if last < enough:
                return True
        # Newton's error squares from step to step.
        return bool(self._last**2 < holder.params.tol)

    async def _refresh(self) -> None:
        """See that there is a hidden gradient at this place."""
        holder = self._holder
        if holder.hidden is None and holder.series is not None:
            await holder.evaluate(holder.series, pair=False)

    async def _gradient(self, p: FloatArray, predictor: FloatArray) -> FloatArray:
        """Have the gradient of the loss taken by all parties; give the own block's (whitened)."""
        holder, V = self._holder, self._holder.block.V
        if holder.hidden is None or holder.series is None:
            residual = holder.weight * (p - holder.y)
            await holder.exact("exact", residual)
            return np.asarray(V.T @ residual / holder.total, np.float64)
        fault = holder.weight * (p - holder.series(predictor - holder.centre))
        await holder.exact("correction", fault)
        return np.asarray(holder.hidden + V.T @ fault / holder.total, np.float64)

    async def _step(self, predictor: FloatArray) -> float:
        holder, block = self._holder, self._holder.block
        p = expit(predictor)
        curvature = holder.weight * p * (1 - p)
        if curvature.sum() < _SEPARATED * holder.total * holder.rate * (1 - holder.rate):
            raise _separated()
        own = await self._gradient(p, predictor)
        free = block.free() | block.violated(own)
        fresh = self._basis is None or bool((free != self._free).any())
        if fresh:
            self._basis, self._free = block.polish_basis(free), free
        assert self._basis is not None
        gradients = [block.basis_gradient(self._basis, own)]
        for name, peer in holder.peers.items():
            basis = await peer.recv(Basis)
            values = (await peer.recv(BasisGradient)).values
            self._check(name, basis, values)
            fresh |= basis.fresh
            self._answers[name] = basis
            gradients.append(values)
        if fresh or self._last > (_STILL_EXACT if holder.params.reveal_predictor else _STILL):
            await self._take_information(curvature)
        assert self._hessian is not None
        gradient = np.concatenate(gradients)
        step: FloatArray = np.asarray(-np.linalg.solve(self._hessian, gradient), np.float64)
        size = float(np.abs(step).max(initial=0.0))
        if not size < _MAX_STEP:
            raise _separated()
        cut = self._basis.map.shape[1]
        holder.hidden = None
        block.exact_step(self._basis, step[:cut])
        for name, where in self._slices().items():
            await holder.peers[name].send(BasisStep(step[where]))
        self._last = size
        holder.note("exact", float(np.linalg.norm(gradient)), float(np.linalg.norm(step)))
        return size

    def _check(self, name: str, basis: Basis, gradient: FloatArray) -> None:
        f = basis.size
        known = self._answers.get(name)
        if (
            not 0 <= f <= self._holder.sizes[name]
            or basis.mean.shape != (f,)
            or basis.penalty.shape not in ((f, f), (0, 0))
            or gradient.shape != (f,)
            or not all(np.isfinite(a).all() for a in (basis.mean, basis.penalty, gradient))
            or (not basis.fresh and (known is None or known.size != f))
        ):
            raise PeerProtocolError(
                "its directions or their gradient are malformed.", party=name, step=_STEP
            )

    def _slices(self) -> dict[str, slice]:
        assert self._basis is not None
        out, at = {}, self._basis.map.shape[1]
        for name, basis in self._answers.items():
            out[name] = slice(at, at + basis.size)
            at += basis.size
        return out

    async def _take_information(self, curvature: FloatArray) -> None:
        holder, basis = self._holder, self._basis
        assert basis is not None
        self._grams += 1
        await holder.peers.broadcast(Gram(self._grams))
        own = holder.block.basis_columns(basis)
        # A provider without free coefficients stands in the matrix with a column of noise.
        sizes = [max(answer.size, 1) for answer in self._answers.values()]
        raw = await gram_label_holder(holder.peers, holder.client, own, curvature, sizes)
        kept = [True] * own.shape[1]
        for answer in self._answers.values():
            kept += [True] * answer.size if answer.size else [False]
        H = raw[np.ix_(kept, kept)] / holder.total
        cut = own.shape[1]
        H[:cut, :cut] += holder.block.basis_penalty(basis)
        for name, where in self._slices().items():
            if self._answers[name].penalty.size:
                H[where, where] += self._answers[name].penalty
        self._check_rank(H)
        self._hessian = H

    def _check_rank(self, H: FloatArray) -> None:
        scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        values, vectors = np.linalg.eigh(H * np.outer(scale, scale))
        if values[0] > _MIN_EIGENVALUE:
            return
        weight = {
            name: float(np.linalg.norm(vectors[where, 0])) for name, where in self._slices().items()
        }
        raise InputError(
            "its columns are, with those of the other parties, linearly dependent.",
            party=max(weight, key=lambda name: weight[name]),
            step=_STEP,
            fix="leave out columns that another party also has, or set a ridge penalty (C)",
        )

    def information(self) -> Information | None:
        """Give the last second derivatives, if there was a step."""
        if self._hessian is None or self._basis is None:
            return None
        block = self._holder.block
        # Moving a centred column's coefficient moves the intercept of the uncentred ones back.
        mean = [self._basis.map[-1] - self._basis.map.T @ block.mean]
        mean += [-answer.mean for answer in self._answers.values()]
        matrix = self._hessian * self._holder.total
        return Information(matrix, self._basis, self._slices(), np.concatenate(mean))


def _separated() -> InputError:
    return InputError(
        "the labels are separated: coefficients grow without a bound.",
        step=_STEP,
        fix="leave out columns that nearly give the label away, merge their pure bins, or set C",
    )
