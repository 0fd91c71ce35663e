"""Exact sums of integer gradients and hessians per bin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fedcredit.errors import InputError

__all__ = ["local_histograms"]


@njit(cache=True, nogil=True)
def _accumulate(
    bins: NDArray[np.integer[Any]],
    rows: NDArray[np.int32],
    g: NDArray[np.int64],
    h: NDArray[np.int64],
    offsets: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> bool:
    n_features = bins.shape[1]
    for k in range(len(rows)):
        i = rows[k]
        g_i = g[i]
        h_i = h[i]
        for f in range(n_features):
            place = offsets[f] + bins[i, f]
            if place >= offsets[f + 1]:
                return False
            sums[place, 0] += g_i
            sums[place, 1] += h_i
    return True


def local_histograms(
    bins: NDArray[np.integer[Any]],
    rows: NDArray[np.int32],
    g: NDArray[np.int64],
    h: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum gradients and hessians of some rows per bin.

    Parameters
    ----------
    bins : ndarray of uint8 or uint16, shape (n, n_features)
        Binned features, row-major for speed.
    rows : ndarray of int32, shape (m,)
        Rows to sum over.
    g, h : ndarray of int64, shape (n,)
        Quantised gradients and hessians.
    offsets : ndarray of int64, shape (n_features + 1,)
        Feature f owns the bins ``offsets[f]:offsets[f + 1]`` of the result.

    Returns
    -------
    G, H : ndarray of int64, shape (offsets[-1],)

    Raises
    ------
    InputError
        If shapes differ, or a row or a bin is out of range.
    """
    step = "trees: histograms"
    if bins.ndim != 2 or bins.dtype not in (np.uint8, np.uint16):
        raise InputError("bins is a matrix of uint8 or uint16.", step=step)
    n, n_features = bins.shape
    if g.shape != (n,) or h.shape != (n,) or offsets.shape != (n_features + 1,):
        raise InputError("bins, g, h and offsets do not fit together.", step=step)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise InputError("a row is out of range.", step=step)
    sums = np.zeros((int(offsets[-1]), 2), np.int64)
    if not _accumulate(bins, rows, g, h, offsets, sums):
        raise InputError(
            "a bin is not below its feature's number of bins.",
            step=step,
            fix="bin with the same FeatureBins that the offsets come from",
        )
    return np.ascontiguousarray(sums[:, 0]), np.ascontiguousarray(sums[:, 1])
