"""Negacyclic number-theoretic transforms modulo 31-bit primes, sixteen lanes at a time.

Polynomials live in ``Z_p[X] / (X^N + 1)``.  The transform splits ``X^N + 1`` first into sixteen
factors ``X^J - z_u`` with ``J = N / 16`` (the *head*) and then every factor down to linear ones
(the *tail*).  Position ``j * 16 + u`` of a transformed polynomial is its value at one power of the
primitive 2N-th root of unity; the sixteen factors are the lanes of one 512-bit vector, so the tail
never shuffles lanes.

All values are ``uint32`` and fully reduced below ``p < 2^31`` after every butterfly; the modular
products are Shoup's (V. Shoup, NTL; D. Harvey, *Faster arithmetic for number-theoretic
transforms*, 2014): for a constant ``w`` with ``w' = floor(w 2^32 / p)`` the remainder
``v w - floor(v w' / 2^32) p`` lies below ``2p``.

The vector code is written in LLVM's own vector types: LLVM lowers it to AVX-512, AVX2, SSE or NEON.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, uint32, uint64
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fedcredit.errors import ParameterError

__all__ = ["LANES", "RingTables", "forward_ntt", "inverse_ntt", "point_exponents", "shoup"]

LANES = 16
"""Lanes of a vector: the factors into which the head of the transform splits a polynomial."""

# Sizes are run-time arguments, so one compilation, kept on disk, serves every process. Numba looks
# at a function's own file only: after editing this file remove __pycache__/*.nbi.
JIT: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
}

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_V32 = ir.VectorType(_I32, LANES)
_V64 = ir.VectorType(_I64, LANES)


def splat(builder: Any, value: Any, vector: Any) -> Any:
    """Build the vector whose every lane is ``value`` (LLVM builder level)."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    order = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, undefined, order)


def array_data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    """Give the data pointer of a numba array (LLVM builder level)."""
    return context.make_array(array_type)(context, builder, value).data


def load_vector(builder: Any, pointer: Any, index: Any, vector: Any, align: int) -> Any:
    """Load the vector that starts at element ``index`` (LLVM builder level)."""
    loaded = builder.load(builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer()))
    loaded.align = align
    return loaded


def store_vector(builder: Any, value: Any, pointer: Any, index: Any, align: int) -> None:
    """Store a vector from element ``index`` on (LLVM builder level)."""
    where = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
    builder.store(value, where).align = align


def _make_butterfly(broadcast: bool, inverse: bool, unroll: int) -> Any:
    """Make the intrinsic of ``unroll`` butterflies between sixteen-lane vectors.

    ``broadcast`` says that one twiddle serves all lanes (head) instead of one per lane (tail).
    """

    @intrinsic
    def butterfly(typing: Any, a: Any, x: Any, y: Any, w: Any, ws: Any, t: Any, p: Any, s: Any):  # type: ignore[no-untyped-def]
        int64 = types.int64
        signature = types.void(a, int64, int64, w, ws, int64, types.uint64, int64)

        def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
            array, x_at, y_at, tw, tws, tw_at, prime, step = args
            data = array_data(context, b, sig.args[0], array)
            twiddles = [array_data(context, b, sig.args[3 + i], v) for i, v in enumerate((tw, tws))]
            if broadcast:
                w_, ws_ = (splat(b, b.load(b.gep(q, [tw_at])), _V32) for q in twiddles)
            else:
                w_, ws_ = (load_vector(b, q, tw_at, _V32, 4) for q in twiddles)
            p_ = splat(b, b.trunc(prime, _I32), _V32)
            shift = ir.Constant(_V64, [32] * LANES)

            def lower(v: Any, alternative: Any) -> Any:
                return b.select(b.icmp_unsigned("<", v, alternative), v, alternative)

            def reduce(v: Any) -> Any:
                return lower(v, b.sub(v, p_))

            def times_twiddle(v: Any) -> Any:
                wide = b.mul(b.zext(v, _V64), b.zext(ws_, _V64))
                quotient = b.trunc(b.lshr(wide, shift), _V32)
                return reduce(b.sub(b.mul(v, w_), b.mul(quotient, p_)))

            for k in range(unroll):
                offset = b.mul(step, ir.Constant(_I64, k))
                x_index, y_index = b.add(x_at, offset), b.add(y_at, offset)
                x_, y_ = (load_vector(b, data, i, _V32, 4) for i in (x_index, y_index))
                if inverse:
                    upper = reduce(b.add(x_, y_))
                    under = times_twiddle(b.add(b.sub(x_, y_), p_))
                else:
                    product = times_twiddle(y_)
                    difference = b.sub(x_, product)
                    upper = reduce(b.add(x_, product))
                    under = lower(difference, b.add(difference, p_))
                store_vector(b, upper, data, x_index, 4)
                store_vector(b, under, data, y_index, 4)
            return context.get_dummy_value()

        return signature, generate

    return butterfly


_head_butterfly = _make_butterfly(True, False, 1)
_tail_butterfly = _make_butterfly(False, False, 1)
_tail_butterfly4 = _make_butterfly(False, False, 4)
_head_unbutterfly = _make_butterfly(True, True, 1)
_tail_unbutterfly = _make_butterfly(False, True, 1)
_tail_unbutterfly4 = _make_butterfly(False, True, 4)


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
                        _tail_butterfly4(a, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
                else:
                    for j in range(half):
                        _tail_butterfly(a, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
            count *= 2
            half //= 2


@njit(**JIT)
def forward_ntt(out: U32, coefficients: U32, w: U32, ws: U32, p: np.uint64, scratch: U32) -> None:
    """Transform ``coefficients`` (N) into values at the points, order ``j * 16 + u``.

    Parameters
    ----------
    out : ndarray of uint32, shape (N,)
        Receives the values.
    coefficients : ndarray of uint32, shape (N,)
        Residues below ``p``; left as they are.
    w, ws : ndarray of uint32, shape (N,)
        ``RingTables.forward[l, 0]`` and ``[l, 1]``.
    p : uint64
        The prime.
    scratch : ndarray of uint32, shape (N,)
        Working space.
    """
    n = coefficients.size
    for i in range(n):
        scratch[i] = coefficients[i]
    half = n // 2
    m = 1
    while m < LANES:
        for i in range(m):
            x = i * 2 * half
            for j in range(0, half, LANES):
                _head_butterfly(scratch, x + j, x + half + j, w, ws, m - 1 + i, p, LANES)
        m *= 2
        half //= 2
    rows = n // LANES
    for j in range(rows):
        for u in range(LANES):
            out[j * LANES + u] = scratch[u * rows + j]
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
                    _tail_unbutterfly4(values, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
            else:
                for j in range(half):
                    _tail_unbutterfly(values, x + j * LANES, y + j * LANES, w, ws, t, p, LANES)
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
                _head_unbutterfly(scratch, x + j, x + half + j, w, ws, m - 1 + i, p, LANES)
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
            If a prime does not fit the degree or has 32 bits or more.
        """
        if max(primes) >= 1 << 31:
            raise ParameterError("the kernels need primes below 2^31.")
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
        scratch = np.empty(self.degree, np.uint32)
        for i, p in enumerate(self.primes[: len(coefficients)]):
            forward_ntt(out[i], coefficients[i], *self.forward[i], p, scratch)
        return out

    def restore(self, values: U32) -> U32:
        """Undo :meth:`transform`; ``values`` is left as it is."""
        out = np.empty_like(values)
        scratch = np.empty(self.degree, np.uint32)
        for i, p in enumerate(self.primes[: len(values)]):
            inverse_ntt(out[i], values[i].copy(), *self.inverse[i], p, self.n_inv[i], scratch)
        return out
