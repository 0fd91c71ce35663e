"""How one party's block moves in the hidden phase; both roles do the same with their own block.

Smooth objectives move by L-BFGS (:mod:`fedcredit.stats.quasi_newton`): every party gives the inner
products of its vectors, and all move by the same coefficients. With a lasso penalty or signs they
move by accelerated proximal steps (A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2, 2009) whose
momentum restarts when it points uphill (B. O'Donoghue and E. Candès, "Adaptive restart for
accelerated gradient schemes", Found. Comput. Math. 15, 2015).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError
from fedcredit.protocols.logistic_block import Block
from fedcredit.stats.quasi_newton import BlockMemory

__all__ = ["Mover", "Proximal", "products_of"]

FloatArray = npt.NDArray[np.float64]
_STEP = "logistic: hidden steps"
#: Largest curvature and momentum that a party follows.
_MAX_CURVATURE = 1e6


class Mover:
    """Steps of one block.

    Parameters
    ----------
    block : Block
    memory : int
        Pairs of the quasi-Newton method.
    """

    def __init__(self, block: Block, memory: int) -> None:
        self.block = block
        self._size = memory
        self._memory: BlockMemory | None = None
        self._proximal: Proximal | None = None
        self._step = np.zeros(block.d)

    def begin(self, gradient: FloatArray, *, smooth: bool) -> None:
        """Take the gradient of the loss (whitened) at the start."""
        if smooth:
            self._memory = BlockMemory(self.block.with_ridge(gradient), self._size)
        else:
            self._proximal = Proximal(self.block, gradient)

    @property
    def begun(self) -> bool:
        """Whether there is a gradient."""
        return self._memory is not None or self._proximal is not None

    def newton(self, coefficients: npt.ArrayLike) -> None:
        """Move by a combination of the remembered vectors."""
        if self._memory is None:
            raise InputError("this objective takes proximal steps.", step=_STEP)
        self._step = self._memory.combine(coefficients)
        self.block.move(self._step)

    def proximal(self, curvature: float, momentum: float, *, settle: bool) -> None:
        """Take a proximal step; go on from it by ``momentum`` unless it is the last."""
        if self._proximal is None:
            raise InputError("this objective takes quasi-Newton steps.", step=_STEP)
        if not (0 < curvature < _MAX_CURVATURE and 0 <= momentum < 1):
            raise InputError("curvature or momentum is out of range.", step=_STEP)
        self._proximal.step(curvature, 0.0 if settle else momentum)

    def take(self, gradient: FloatArray, *, pair: bool) -> None:
        """Take the gradient of the loss (whitened) where the block is now."""
        if self._proximal is not None:
            self._proximal.take(gradient, pair=pair)
        elif self._memory is not None:
            total = self.block.with_ridge(gradient)
            if pair:
                self._memory.add(self._step, total)
            else:
                self._memory.replace(total)

    def moments(self) -> FloatArray:
        """Give the inner products that the joint method needs of this block."""
        if self._proximal is not None:
            return self._proximal.moments
        assert self._memory is not None
        products = self._memory.products()
        return products[np.triu_indices(len(products))]


class Proximal:
    """Accelerated proximal steps of one block.

    Attributes
    ----------
    moments : ndarray of float64, shape (5,)
        Of the last move, in whitened coordinates: ``⟨v − x', x' − x⟩`` (above 0 means that the
        momentum points uphill), ``‖x' − v‖²``, ``⟨g' − g, v' − v⟩``, ``‖v' − v‖²``, ``‖g‖²``.
    """

    def __init__(self, block: Block, gradient: FloatArray) -> None:
        self._block = block
        self._point = block.coef
        self._gradient = gradient
        self._moved = np.zeros(block.d)
        self.moments = np.zeros(5)
        self.moments[4] = gradient @ gradient

    def step(self, curvature: float, momentum: float) -> None:
        """Minimise the local model, then extrapolate."""
        block, last, place = self._block, self._point, self._block.coef
        self._point = block.proximal(place, self._gradient, curvature)
        back = block.whitened(place - self._point)
        ahead = block.whitened(self._point - last)
        block.coef = self._point + momentum * (self._point - last)
        self._moved = block.whitened(block.coef - place)
        self.moments = np.array([back @ ahead, back @ back, 0.0, self._moved @ self._moved, 0.0])

    def take(self, gradient: FloatArray, *, pair: bool) -> None:
        """Take the gradient at the new place, or a better one at the same place."""
        if pair:
            self.moments[2] = (gradient - self._gradient) @ self._moved
        else:
            self.moments[:4] = 0.0
        self.moments[4] = gradient @ gradient
        self._gradient = gradient


def products_of(moments: FloatArray) -> FloatArray:
    """Read the matrix of inner products from its upper triangle."""
    size = int((np.sqrt(8 * len(moments) + 1) - 1) / 2)
    out = np.zeros((size, size))
    upper = np.triu_indices(size)
    out[upper] = moments
    out.T[upper] = moments
    return out
