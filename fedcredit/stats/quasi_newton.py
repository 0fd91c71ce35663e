"""Limited-memory BFGS whose direction needs the inner products of its vectors only.

The direction ``−H·g`` of L-BFGS is a linear combination of the stored steps ``s``, gradient
differences ``y`` and the gradient ``g``; its coefficients follow from the matrix of their inner
products (Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014). When the vectors
are cut into blocks of several parties, each party gives the inner products of its block, their
sum is the matrix, and each party forms its block of the direction from the coefficients alone.

The two loops are those of Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.4.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError

__all__ = ["BlockMemory", "direction"]

FloatArray = npt.NDArray[np.float64]
_STEP = "quasi-Newton direction"
#: Pairs whose step and gradient difference are closer to orthogonal than this are passed over.
_MIN_COSINE = 1e-8


class BlockMemory:
    """One party's blocks of the last steps, gradient differences and the current gradient.

    Parameters
    ----------
    gradient : ndarray of float64, shape (d,)
        The first gradient.
    memory : int
        Pairs to keep.
    """

    def __init__(self, gradient: FloatArray, memory: int) -> None:
        self.gradient = np.array(gradient, np.float64)
        self._pairs: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=memory)

    @property
    def pairs(self) -> int:
        """Pairs held."""
        return len(self._pairs)

    @property
    def vectors(self) -> FloatArray:
        """Steps, differences, gradient: shape (2·pairs + 1, d)."""
        steps = [s for s, _ in self._pairs]
        differences = [y for _, y in self._pairs]
        return np.stack([*steps, *differences, self.gradient])

    def add(self, step: FloatArray, gradient: FloatArray) -> None:
        """Take the gradient after a step, and remember the pair."""
        self._pairs.append((np.array(step), gradient - self.gradient))
        self.gradient = np.array(gradient)

    def replace(self, gradient: FloatArray) -> None:
        """Take a better gradient of the same place."""
        self.gradient = np.array(gradient)

    def products(self) -> FloatArray:
        """Inner products of this block's vectors, shape (2·pairs + 1,) * 2."""
        vectors = self.vectors
        return vectors @ vectors.T

    def combine(self, coefficients: npt.ArrayLike) -> FloatArray:
        """Form the linear combination of the vectors, shape (d,).

        Raises
        ------
        InputError
            If there are not as many coefficients as vectors, or one is not finite.
        """
        c = np.asarray(coefficients, np.float64)
        if c.shape != (2 * self.pairs + 1,) or not np.isfinite(c).all():
            raise InputError("the coefficients do not fit the vectors.", step=_STEP)
        return np.asarray(c @ self.vectors, np.float64)


def direction(products: FloatArray, scale: float) -> FloatArray:
    """Give the coefficients of the L-BFGS direction.

    Parameters
    ----------
    products : ndarray of float64, shape (2m + 1, 2m + 1)
        Inner products of s_1..s_m, y_1..y_m and g, oldest pair first, summed over the blocks.
    scale : float
        Initial inverse curvature; used while there is no usable pair.

    Returns
    -------
    ndarray of float64, shape (2m + 1,)
        The direction is their linear combination; ``-scale·g`` without pairs.

    Raises
    ------
    InputError
        If the matrix is not square of odd size or not finite.
    """
    size = len(products)
    if products.shape != (size, size) or size % 2 == 0 or not np.isfinite(products).all():
        raise InputError("the matrix of inner products is malformed.", step=_STEP)
    m = size // 2
    sy = np.array([products[i, m + i] for i in range(m)])
    ss, yy = np.diag(products)[:m], np.diag(products)[m : 2 * m]
    usable = [i for i in range(m) if sy[i] > _MIN_COSINE * np.sqrt(ss[i] * yy[i]) and yy[i] > 0]
    out = np.zeros(size)
    out[2 * m] = -1.0
    weights = np.zeros(m)
    for i in reversed(usable):
        weights[i] = products[i] @ out / sy[i]
        out[m + i] -= weights[i]
    out *= sy[usable[-1]] / yy[usable[-1]] if usable else scale
    for i in usable:
        out[i] += weights[i] - products[m + i] @ out / sy[i]
    return out
