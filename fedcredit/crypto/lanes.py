"""Vectors of sixteen 32-bit lanes: loads, stores and the butterflies of the transforms.

Values are ``uint32`` and fully reduced below ``p < 2^31`` after every butterfly; the modular
products are Shoup's (V. Shoup, NTL; D. Harvey, *Faster arithmetic for number-theoretic
transforms*, 2014): for a constant ``w`` with ``w' = floor(w 2^32 / p)`` the remainder
``v w - floor(v w' / 2^32) p`` lies below ``2p``.

The code is written in LLVM's own vector types: LLVM lowers it to AVX-512, AVX2, SSE or NEON.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "JIT",
    "LANES",
    "array_data",
    "head_columns",
    "head_unbutterfly",
    "load_vector",
    "splat",
    "store_vector",
    "tail_butterfly",
    "tail_butterfly4",
    "tail_unbutterfly",
    "tail_unbutterfly4",
]

LANES = 16
"""Lanes of a vector."""

# Sizes are run-time arguments, so one compilation, kept on disk, serves every process. Numba looks
# at a function's own file only: after editing this file remove __pycache__/*.nbi.
JIT: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
}

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


def _lower(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_unsigned("<", x, y), x, y)


def _reduced(b: Any, x: Any, p: Any) -> Any:
    return _lower(b, x, b.sub(x, p))


def _times_twiddle(b: Any, x: Any, w: Any, ws: Any, p: Any) -> Any:
    wide = b.mul(b.zext(x, _V64), b.zext(ws, _V64))
    quotient = b.trunc(b.lshr(wide, ir.Constant(_V64, [32] * LANES)), _V32)
    return _reduced(b, b.sub(b.mul(x, w), b.mul(quotient, p)), p)


def _forward_pair(b: Any, x: Any, y: Any, w: Any, ws: Any, p: Any) -> tuple[Any, Any]:
    """Give ``x + w y`` and ``x - w y``."""
    product = _times_twiddle(b, y, w, ws, p)
    difference = b.sub(x, product)
    return _reduced(b, b.add(x, product), p), _lower(b, difference, b.add(difference, p))


def _inverse_pair(b: Any, x: Any, y: Any, w: Any, ws: Any, p: Any) -> tuple[Any, Any]:
    """Give ``x + y`` and ``w (x - y)``."""
    under = _times_twiddle(b, b.add(b.sub(x, y), p), w, ws, p)
    return _reduced(b, b.add(x, y), p), under


def _make_butterfly(broadcast: bool, inverse: bool, unroll: int) -> Any:
    """Make the intrinsic of ``unroll`` butterflies between sixteen-lane vectors.

    ``broadcast`` says that one twiddle serves all lanes (head) instead of one per lane (tail).
    """
    pair = _inverse_pair if inverse else _forward_pair

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
            for k in range(unroll):
                offset = b.mul(step, ir.Constant(_I64, k))
                x_index, y_index = b.add(x_at, offset), b.add(y_at, offset)
                x_, y_ = (load_vector(b, data, i, _V32, 4) for i in (x_index, y_index))
                upper, under = pair(b, x_, y_, w_, ws_, p_)
                store_vector(b, upper, data, x_index, 4)
                store_vector(b, under, data, y_index, 4)
            return context.get_dummy_value()

        return signature, generate

    return butterfly


def _transposed(b: Any, rows: list[Any]) -> list[Any]:
    """Transpose sixteen vectors of sixteen lanes: swap ever larger off-diagonal squares."""
    for s in (1, 2, 4, 8):
        lanes = range(LANES)
        first = ir.Constant(_V32, [LANES + i - s if i & s else i for i in lanes])
        second = ir.Constant(_V32, [LANES + i if i & s else i + s for i in lanes])
        swapped = list(rows)
        for i in range(LANES):
            if not i & s:
                swapped[i] = b.shuffle_vector(rows[i], rows[i + s], first)
                swapped[i + s] = b.shuffle_vector(rows[i], rows[i + s], second)
        rows = swapped
    return rows


@intrinsic
def head_columns(typing: Any, out: Any, a: Any, j: Any, rows: Any, w: Any, ws: Any, p: Any):  # type: ignore[no-untyped-def]
    """Run the head on columns j..j+15 of ``a`` (16, rows) and store them as rows of ``out``.

    Everything stays in registers between the one load and the one store of a vector.
    """
    int64 = types.int64
    signature = types.void(out, a, int64, int64, w, ws, types.uint64)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        target, source, tw, tws = (
            array_data(context, b, sig.args[i], args[i]) for i in (0, 1, 4, 5)
        )
        first, distance = args[2], args[3]
        p_ = splat(b, b.trunc(args[6], _I32), _V32)
        at = [b.add(first, b.mul(distance, ir.Constant(_I64, u))) for u in range(LANES)]
        x = [load_vector(b, source, i, _V32, 4) for i in at]
        m = 1
        while m < LANES:
            half = LANES // (2 * m)
            for i in range(m):
                index = ir.Constant(_I64, m - 1 + i)
                w_, ws_ = (splat(b, b.load(b.gep(q, [index])), _V32) for q in (tw, tws))
                for u in range(2 * half * i, 2 * half * i + half):
                    x[u], x[u + half] = _forward_pair(b, x[u], x[u + half], w_, ws_, p_)
            m *= 2
        for k, row in enumerate(_transposed(b, x)):
            where = b.mul(b.add(first, ir.Constant(_I64, k)), ir.Constant(_I64, LANES))
            store_vector(b, row, target, where, 4)
        return context.get_dummy_value()

    return signature, generate


tail_butterfly = _make_butterfly(False, False, 1)
tail_butterfly4 = _make_butterfly(False, False, 4)
head_unbutterfly = _make_butterfly(True, True, 1)
tail_unbutterfly = _make_butterfly(False, True, 1)
tail_unbutterfly4 = _make_butterfly(False, True, 4)
