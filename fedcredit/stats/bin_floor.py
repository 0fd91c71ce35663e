"""How the values of a column are cut so that no bin falls below the floor; without labels."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal

import numpy as np
from numpy.typing import NDArray

__all__ = ["folds", "merge_small", "quantile_splits", "rare_groups", "short_split"]

Counts = NDArray[np.int64]


def short_split(low: float, high: float) -> float:
    """Return the number with the fewest digits that is above `low` and at most `high`.

    A cut between two values of the data: tables stay legible, and a cut is seldom a datum.
    """
    if low < 0.0 <= high:
        return 0.0
    # What is written is rounded, not what is stored: 0.1 is to stay 0.1.
    exact = Decimal(repr(float(high)))
    for digits in range(1, 18):
        split = float(Context(prec=digits, rounding=ROUND_FLOOR).plus(exact))
        if low < split <= high:
            return split
    return high


def _heavy(sizes: Counts, max_bins: int, min_bin_count: int) -> Counts:
    """Return which distinct values have more rows than a bin's even share of all lighter ones."""
    heavy = np.empty(0, np.int64)
    while len(heavy) < max_bins:
        light_rows = int(sizes.sum() - sizes[heavy].sum())
        fair = max(light_rows / (max_bins - len(heavy)), min_bin_count)
        found = np.flatnonzero(sizes > fair)
        if len(found) == len(heavy):
            break
        heavy = found
    return heavy


def quantile_splits(
    values: NDArray[np.float64], max_bins: int, min_bin_count: int
) -> NDArray[np.float64]:
    """Cut values into at most `max_bins` intervals of about equally many rows.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Finite, in any order.
    max_bins : int
        Largest number of intervals.
    min_bin_count : int
        Smallest number of rows in an interval.

    Returns
    -------
    ndarray of float64
        Strictly ascending cut points of intervals ``[a, b)``.
    """
    ordered = np.sort(values)
    n = len(ordered)
    if not n:
        return np.empty(0)
    # Row numbers at which a distinct value begins, and the end.
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered) > 0) + 1, [n]])
    last = len(starts) - 1
    heavy = _heavy(np.diff(starts), max_bins, min_bin_count)
    cuts: list[int] = []
    at = 0
    for bins_left in range(max_bins, 1, -1):
        begin = int(starts[at])
        heavy = heavy[heavy >= at]
        light_rows = n - begin - int((starts[heavy + 1] - starts[heavy]).sum())
        fair = light_rows / max(bins_left - len(heavy), 1)
        if last - at <= bins_left:
            # Every value can have a bin, so the next bin is the next value.
            fair = 1.0
        target = begin + max(fair, min_bin_count)
        end = min(int(np.searchsorted(starts, target)), last)
        lower_fits = end - 1 > at and starts[end - 1] - begin >= min_bin_count
        if lower_fits and target - starts[end - 1] < starts[end] - target:
            end -= 1
        if n - starts[end] < max(min_bin_count, 1):
            break
        cuts.append(int(starts[end]))
        at = end
    return np.array([short_split(float(ordered[c - 1]), float(ordered[c])) for c in cuts])


def merge_small(counts: Counts, min_bin_count: int) -> list[int]:
    """Merge intervals of too few rows with their smaller neighbour, the smallest first.

    Parameters
    ----------
    counts : ndarray of int64, shape (m + 1,)
        Rows per interval.
    min_bin_count : int
        Smallest number of rows in an interval.

    Returns
    -------
    list of int
        Numbers of the m splits that stay.
    """
    sizes = [int(c) for c in counts]
    kept = list(range(len(sizes) - 1))
    while len(sizes) > 1 and min(sizes) < min_bin_count:
        small = sizes.index(min(sizes))
        left = small > 0 and (small == len(sizes) - 1 or sizes[small - 1] <= sizes[small + 1])
        first = small - 1 if left else small
        sizes[first : first + 2] = [sizes[first] + sizes[first + 1]]
        del kept[first]
    return kept


def rare_groups(counts: Counts, min_bin_count: int) -> tuple[tuple[int, ...], ...]:
    """Group categories: frequent ones alone, rare ones together, those without rows nowhere.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_categories,)
        Rows per category.
    min_bin_count : int
        Smallest number of rows of a group; rare categories that do not reach it together join the
        most frequent category.
    """
    frequent = [[int(c)] for c in np.flatnonzero(counts >= min_bin_count)]
    rare = [int(c) for c in np.flatnonzero((counts > 0) & (counts < min_bin_count))]
    if rare and frequent and int(counts[rare].sum()) < min_bin_count:
        largest = max(frequent, key=lambda group: int(counts[group[0]]))
        largest.extend(rare)
    elif rare:
        frequent.append(rare)
    return tuple(tuple(group) for group in frequent)


def folds(counts: Counts, n_value_bins: int, min_bin_count: int) -> tuple[int, ...]:
    """Choose the bins to which special and missing rows go.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_bins,)
        Rows per bin: intervals or categories, special codes, missing.
    n_value_bins : int
        Number of intervals or categories. Only if there is just one may it be below the floor.
    min_bin_count : int
        Smallest number of rows in a bin that is not empty; at most ``counts.sum()``.

    Returns
    -------
    tuple of int
        Per special code and for missing: its own bin, or the bin it is folded into.
    """
    size = counts.copy()
    target = list(range(n_value_bins, len(counts)))
    extra = counts[n_value_bins:]
    largest = int(np.argmax(counts[: n_value_bins or None]))
    for b in np.flatnonzero((extra > 0) & (extra < min_bin_count)) + n_value_bins:
        if b != largest:
            target[b - n_value_bins] = largest
            size[largest] += size[b]
            size[b] = 0
    if 0 < size[largest] < min_bin_count:
        most = n_value_bins + int(np.argmax(size[n_value_bins:]))
        if most != largest and size[most]:
            target[most - n_value_bins] = largest
    return tuple(target)
