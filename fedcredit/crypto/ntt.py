"""Negacyclic number-theoretic transforms modulo 31-bit primes, sixteen lanes at a time.

Polynomials live in ``Z_p[X] / (X^N + 1)``.  The transform splits ``X^N + 1`` first into sixteen
factors ``X^J - z_u`` with ``J = N / 16`` (the *head*) and then every factor down to linear ones
(the *tail*).  Position ``j * 16 + u`` of a transformed polynomial is its value at one power of the
primitive 2N-th root of unity; the sixteen factors are the lanes of one 512-bit vector, so the tail
never shuffles lanes.  The butterflies are those of :mod:`fedcredit.crypto.lanes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from fedcredit.crypto.lanes import (
    JIT,
    LANES,
    head_columns,
    head_unbutterfly,
    tail_butterfly,
    tail_butterfly4,
    tail_unbutterfly,
    tail_unbutterfly4,
)
from fedcredit.errors import ParameterError

__all__ = ["JIT", "LANES", "RingTables", "forward_ntt", "inverse_ntt", "point_exponents", "shoup"]

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


@njit(**JIT)
def tail_stages(a: U32, w: U32, ws: U32, p: np.uint64, m: int) -> None:
    """Run the tail of the forward transform in place on ``a`` (J * 16), lanes innermost.

    ``w`` and ``ws`` hold the twiddles of stage d from index ``16 * 2^d`` on; ``m = 2^d`` is the
    stage to begin with, 1 for the whole tail.  From there on the m parts are independent, so each
    is finished while it is in the nearest cache.
    """
    part = a.size // (LANES * m)
    for s in range(m):
        half = part // 2
        count = 1
        while half >= 1:
            for i in range(count):
                t = ((m + s) * count + i) * LANES
                x = (s * part + i * 2 * half) * LANES
                y = x + half * LANES
                if half >= 4:
                    for j in range(0, half, 4):
                        tail_butterfly4(a, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
                else:
                    for j in range(half):
                        tail_butterfly(a, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
            count *= 2
            half //= 2


@njit(**JIT)
def forward_ntt(out: U32, coefficients: U32, w: U32, ws: U32, p: np.uint64) -> None:
    """Transform ``coefficients`` (N) into values at the points, order ``j * 16 + u``.

    Parameters
    ----------
    out : ndarray of uint32, shape (N,)
        Receives the values; must not overlap ``coefficients``.
    coefficients : ndarray of uint32, shape (N,)
        Residues below ``p``; left as they are.
    w, ws : ndarray of uint32, shape (N,)
        ``RingTables.forward[l, 0]`` and ``[l, 1]``.
    p : uint64
        The prime.
    """
    rows = coefficients.size // LANES
    for j in range(0, rows, LANES):
        head_columns(out, coefficients, j, rows, w, ws, p)
    tail_stages(out, w, ws, p, 1)


@njit(**JIT)
def inverse_ntt(
    out: U32, values: U32, w: U32, ws: U32, p: np.uint64, n_inv: U64, scratch: U32
) -> None:
    """Undo :func:`forward_ntt`; ``values`` is destroyed.

    Parameters
    ----------
    out : ndarray of uint32, shape (N,)
        Receives the coefficients, below ``p``; must not overlap ``values``.
    values : ndarray of uint32, shape (N,)
        Values at the points.
    w, ws : ndarray of uint32, shape (N,)
        ``RingTables.inverse[l, 0]`` and ``[l, 1]``.
    p : uint64
        The prime.
    n_inv : ndarray of uint64, shape (2,)
        ``1 / N`` and its Shoup quotient.
    scratch : ndarray of uint32, shape (N,)
        Working space.
    """
    n = values.size
    rows = n // LANES
    m = rows // 2
    half = 1
    while m >= 1:
        for i in range(m):
            t = (m + i) * LANES
            x = i * 2 * half * LANES
            y = x + half * LANES
            if half >= 4:
                for j in range(0, half, 4):
                    tail_unbutterfly4(values, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
            else:
                for j in range(half):
                    tail_unbutterfly(values, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
        m //= 2
        half *= 2
    for u in range(LANES):
        for j in range(rows):
            scratch[u * rows + j] = values[j * LANES + u]
    m = LANES // 2
    half = rows
    while m >= 1:
        for i in range(m):
            x = i * 2 * half
            for j in range(0, half, LANES):
                head_unbutterfly(scratch, x + j, x + half + j, w, ws, m - 1 + i, p, LANES)
        m //= 2
        half *= 2
    for i in range(n):
        v = uint64(scratch[i])
        r = v * n_inv[0] - ((v * n_inv[1]) >> uint64(32)) * p
        out[i] = uint32(min(r, r - p))


def shoup(values: U32, p: int) -> U32:
    """Give Shoup's quotients ``floor(w 2^32 / p)`` of constants ``w < p``."""
    wide = np.asarray(values, np.uint64) << np.uint64(32)
    return (wide // np.uint64(p)).astype(np.uint32)


def point_exponents(
    degree: int, lanes: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64], list[NDArray[np.int64]], NDArray[np.int64]]:
    """Give the exponents of the root of unity on the way from ``X^N + 1`` to linear factors.

    Parameters
    ----------
    degree : int
        N, a power of two.
    lanes : int
        Number of factors after the head, a power of two.

    Returns
    -------
    head : list of ndarray
        Twiddle exponents of every head stage.
    factors : ndarray of int64, shape (lanes,)
        Exponents e_u of the factors ``X^(N/lanes) - psi^e_u``.
    tail : list of ndarray, shapes (2^d, lanes)
        Twiddle exponents of every tail stage.
    points : ndarray of int64, shape (N / lanes, lanes)
        Exponent of the point at position ``j * lanes + u``.
    """
    exponents = np.array([degree], np.int64)
    head, tail = [], []
    while exponents.size < lanes:
        roots = exponents // 2
        head.append(roots)
        exponents = np.stack([roots, (roots + degree) % (2 * degree)], 1).ravel()
    factors = exponents
    points = factors[None, :]
    while points.size < degree:
        roots = points // 2
        tail.append(roots)
        points = np.stack([roots, (roots + degree) % (2 * degree)], 1).reshape(-1, lanes)
    return head, factors, tail, points


def smallest_root(degree: int, p: int) -> int:
    """Give the smallest primitive 2N-th root of unity modulo ``p``, the one that SEAL uses.

    Raises
    ------
    ParameterError
        If ``p`` is not 1 modulo 2N.
    """
    if (p - 1) % (2 * degree):
        raise ParameterError(
            f"{p} has no primitive {2 * degree}-th root of unity.",
            fix="use a prime that is 1 modulo twice the degree",
        )
    candidates = (pow(x, (p - 1) // (2 * degree), p) for x in range(2, p))
    root = next(r for r in candidates if pow(r, degree, p) == p - 1)
    square = root * root % p
    best = power = root
    for _ in range(degree - 1):
        power = power * square % p
        best = min(best, power)
    return best


def root_powers(degree: int, p: int) -> U64:
    """Give the 2N powers of :func:`smallest_root`."""
    root = smallest_root(degree, p)
    powers = [1]
    for _ in range(2 * degree - 1):
        powers.append(powers[-1] * root % p)
    return np.array(powers, np.uint64)


@dataclass(frozen=True, eq=False)
class RingTables:
    """Twiddles of the transforms of one degree modulo several primes.

    Attributes
    ----------
    degree : int
        N.
    primes : ndarray of uint64, shape (L,)
        The primes.
    powers : ndarray of uint64, shape (L, 2N)
        Powers of the smallest primitive 2N-th root of unity.
    forward, inverse : ndarray of uint32, shape (L, 2, N)
        Twiddles and their Shoup quotients: head stages from index ``2^d - 1`` on, tail stages
        from index ``16 * 2^d`` on.
    n_inv : ndarray of uint64, shape (L, 2)
        ``1 / N`` and its Shoup quotient.
    exponents : ndarray of int64, shape (N,)
        Exponent of the point at every position, the same for every prime.
    position : ndarray of int64, shape (2N,)
        Position of the point of an odd exponent, -1 for even ones.
    """

    degree: int
    primes: U64
    powers: U64
    forward: U32
    inverse: U32
    n_inv: U64
    exponents: NDArray[np.int64]
    position: NDArray[np.int64]

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, degree: int, primes: tuple[int, ...]) -> RingTables:
        """Compute (once per process) the tables of ``degree`` for ``primes``.

        Raises
        ------
        ParameterError
            If a prime does not fit the degree or has 32 bits or more, or the degree is below 256.
        """
        if max(primes) >= 1 << 31:
            raise ParameterError("the kernels need primes below 2^31.")
        if degree % (LANES * LANES):
            raise ParameterError(f"the kernels need a degree of {LANES * LANES} or more.")
        head, _, tail, points = point_exponents(degree, LANES)
        index = np.zeros(degree, np.int64)
        index[: LANES - 1] = np.concatenate(head)
        index[LANES:] = np.concatenate(tail).ravel()
        powers = np.stack([root_powers(degree, p) for p in primes])
        exponents = points.ravel()
        position = np.full(2 * degree, -1, np.int64)
        position[exponents] = np.arange(degree)

        def pair(values: U64, p: int) -> U32:
            return np.stack([values.astype(np.uint32), shoup(values.astype(np.uint32), p)])

        back = (2 * degree - index) % (2 * degree)
        n_inv = [pow(degree, -1, p) for p in primes]
        return cls(
            degree=degree,
            primes=np.array(primes, np.uint64),
            powers=powers,
            forward=np.stack([pair(powers[i][index], p) for i, p in enumerate(primes)]),
            inverse=np.stack([pair(powers[i][back], p) for i, p in enumerate(primes)]),
            n_inv=np.array(
                [[v, (v << 32) // p] for v, p in zip(n_inv, primes, strict=True)], np.uint64
            ),
            exponents=exponents,
            position=position,
        )

    def seal_order(self) -> NDArray[np.int64]:
        """Give, for every position here, the index of the same point in SEAL's order.

        SEAL evaluates at ``psi^(2 bitrev(i) + 1)`` with the smallest root ``psi``.
        """
        bits = self.degree.bit_length() - 1
        natural = (self.exponents - 1) // 2
        order = np.zeros_like(natural)
        for b in range(bits):
            order |= ((natural >> b) & 1) << (bits - 1 - b)
        return order

    def automorphism(self, element: int) -> NDArray[np.int64]:
        """Give the gather index by which ``X -> X^element`` acts on transformed polynomials."""
        return self.position[(self.exponents * element) % (2 * self.degree)]

    def transform(self, coefficients: U32) -> U32:
        """Transform residues modulo the first primes, (L or fewer, N)."""
        out = np.empty_like(coefficients)
        for i, p in enumerate(self.primes[: len(coefficients)]):
            forward_ntt(out[i], coefficients[i], *self.forward[i], p)
        return out

    def restore(self, values: U32) -> U32:
        """Undo :meth:`transform`; ``values`` is left as it is."""
        out = np.empty_like(values)
        scratch = np.empty(self.degree, np.uint32)
        for i, p in enumerate(self.primes[: len(values)]):
            inverse_ntt(out[i], values[i].copy(), *self.inverse[i], p, self.n_inv[i], scratch)
        return out
