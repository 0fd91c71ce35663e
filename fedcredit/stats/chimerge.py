"""ChiMerge: merging neighbouring bins that the chi-square test cannot tell apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

__all__ = ["chi_square", "chimerge"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def chi_square(rows: Integers, events: Integers) -> Floats:
    """Pearson's statistic of every pair of neighbouring bins, 1 degree of freedom.

    Parameters
    ----------
    rows, events : ndarray of int64, shape (m,)
        Counts per bin.

    Returns
    -------
    ndarray of float64, shape (m - 1,)
        0 where a bin is empty or both bins have the same class only: nothing tells them apart.
    """
    r, e = rows.astype(np.float64), events.astype(np.float64)
    g = r - e
    bad, good = e[:-1] + e[1:], g[:-1] + g[1:]
    below = r[:-1] * r[1:] * bad * good
    above = (bad + good) * (e[:-1] * g[1:] - e[1:] * g[:-1]) ** 2
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def chimerge(
    rows: Integers, events: Integers, *, max_bins: int, min_rows: int, significance: float
) -> list[tuple[int, int]]:
    """Merge neighbouring bins by ChiMerge (Kerber, AAAI 1992).

    The two neighbours with the smallest chi-square statistic are merged, until every pair differs
    at the given level and there are at most `max_bins` left. Then bins of fewer than `min_rows`
    rows are merged with the more similar neighbour, the smallest bin first.

    Parameters
    ----------
    rows, events : ndarray of int64, shape (m,)
        Counts per bin in their order; m is at least 1.
    max_bins, min_rows : int
        At least 1.
    significance : float
        Level of the test, above 0 and below 1; 0.05 is a statistic of 3.84.

    Returns
    -------
    list of (int, int)
        Begin and end of every merged bin.
    """
    threshold = float(chdtri(1, significance))
    starts = list(range(len(rows)))
    while len(starts) > 1:
        statistic = chi_square(np.add.reduceat(rows, starts), np.add.reduceat(events, starts))
        weakest = int(np.argmin(statistic))
        if statistic[weakest] > threshold and len(starts) <= max_bins:
            break
        del starts[weakest + 1]
    while len(starts) > 1:
        sizes = np.add.reduceat(rows, starts)
        small = int(np.argmin(sizes))
        if sizes[small] >= min_rows:
            break
        statistic = chi_square(sizes, np.add.reduceat(events, starts))
        to_left, to_right = np.concatenate([[np.inf], statistic, [np.inf]])[small : small + 2]
        del starts[small if to_left <= to_right else small + 1]
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))
