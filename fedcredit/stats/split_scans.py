"""Compiled scans over the bins of a node, for `fedcredit.stats.splits`.

The order of every floating-point operation is part of the contract: see `fedcredit.stats.splits`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["EPSILON", "derive_most_frequent", "leaf_output", "scan_features"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

EPSILON = float(np.float32(1e-15))
"""Start of every hessian sum (a single-precision constant in LightGBM)."""


@njit(cache=True, nogil=True, error_model="numpy")
def leaf_output(g: float, h: float, l2: float, bounded: bool, low: float, high: float) -> float:
    """Return ``-g / (h + l2)``, held within `low` and `high` if `bounded`."""
    value = -g / (h + l2)
    if bounded:
        if value < low:
            return low
        if value > high:
            return high
    return value


@njit(cache=True, nogil=True, error_model="numpy")
def _gain(
    lg: float,
    lh: float,
    rg: float,
    rh: float,
    l2: float,
    monotone: int,
    bounded: bool,
    low: float,
    high: float,
) -> float:
    if not bounded:
        return (lg * lg) / (lh + l2) + (rg * rg) / (rh + l2)
    left = leaf_output(lg, lh, l2, True, low, high)
    right = leaf_output(rg, rh, l2, True, low, high)
    if (monotone > 0 and left > right) or (monotone < 0 and left < right):
        return 0.0
    return -(2.0 * lg * left + (lh + l2) * left * left) + -(
        2.0 * rg * right + (rh + l2) * right * right
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _scan_numeric(
    G: FloatArray,
    H: FloatArray,
    n_bins: int,
    has_missing: bool,
    first_bin_derived: bool,
    sum_g: float,
    sum_h: float,
    count: int,
    l2: float,
    min_count: int,
    min_h: float,
    floor: float,
    monotone: int,
    bounded: bool,
    low: float,
    high: float,
) -> tuple[float, int, bool, float, float, bool]:
    """Return (gain above the floor, threshold, default_left, left g, left h, splittable)."""
    rows_per_h = count / sum_h
    splittable = False
    both_ways = has_missing and n_bins > 2
    best = -np.inf
    threshold = n_bins
    best_g = 0.0
    best_h = 0.0
    rg = 0.0
    rh = EPSILON
    rows = 0
    for b in range(n_bins - 1 - (1 if both_ways else 0), 0, -1):
        rg += G[b]
        rh += H[b]
        rows += int(H[b] * rows_per_h + 0.5)
        if rows < min_count or rh < min_h:
            continue
        if count - rows < min_count:
            break
        lh = sum_h - rh
        if lh < min_h:
            break
        lg = sum_g - rg
        gain = _gain(lg, lh, rg, rh, l2, monotone, bounded, low, high)
        if gain <= floor:
            continue
        splittable = True
        if gain > best:
            best = gain
            threshold = b - 1
            best_g = lg
            best_h = lh
    # With two bins one of which is missing there is one way only: missing values go right.
    default_left = both_ways or not has_missing
    # Compared with the floor added back, since rounding may swallow a difference in the last bit.
    found = best - floor if splittable else -np.inf
    if not both_ways:
        return found, threshold, default_left, best_g, best_h, splittable

    best = -np.inf
    forward_threshold = n_bins
    forward_g = 0.0
    forward_h = 0.0
    lg = 0.0
    lh = EPSILON
    rows = 0
    if first_bin_derived:
        lg = sum_g
        lh = sum_h - EPSILON
        rows = count
        for b in range(1, n_bins):
            lg -= G[b]
            lh -= H[b]
            rows -= int(H[b] * rows_per_h + 0.5)
    for b in range(n_bins - 1):
        if b > 0 or not first_bin_derived:
            lg += G[b]
            lh += H[b]
            rows += int(H[b] * rows_per_h + 0.5)
        if rows < min_count or lh < min_h:
            continue
        if count - rows < min_count:
            break
        rh = sum_h - lh
        if rh < min_h:
            break
        rg = sum_g - lg
        gain = _gain(lg, lh, rg, rh, l2, monotone, bounded, low, high)
        if gain <= floor:
            continue
        splittable = True
        if gain > best:
            best = gain
            forward_threshold = b
            forward_g = lg
            forward_h = lh
    if splittable and best > found + floor:
        return best - floor, forward_threshold, False, forward_g, forward_h, True
    return found, threshold, default_left, best_g, best_h, splittable


@njit(cache=True, nogil=True, error_model="numpy")
def _scan_categorical(
    G: FloatArray,
    H: FloatArray,
    n_bins: int,
    sum_g: float,
    sum_h: float,
    count: int,
    l2: float,
    min_count: int,
    min_h: float,
    floor: float,
    bounded: bool,
    low: float,
    high: float,
    one_hot: bool,
    cat_smooth: float,
    max_left: int,
    min_group: int,
    order: IntArray,
    left_bins: IntArray,
) -> tuple[float, int, float, float, bool]:
    """Fill `left_bins`; return (gain above the floor, length of it, left g, left h, splittable).

    Bin 0 (rare, unseen and missing categories) always stays right.
    """
    rows_per_h = count / sum_h
    splittable = False
    best = -np.inf
    best_g = 0.0
    best_h = 0.0
    n_left = 0
    if one_hot:
        for b in range(1, n_bins):
            g = G[b]
            h = H[b]
            rows = int(h * rows_per_h + 0.5)
            if rows < min_count or h < min_h or count - rows < min_count:
                continue
            other = sum_h - h - EPSILON
            if other < min_h:
                continue
            gain = _gain(sum_g - g, other, g, h + EPSILON, l2, 0, bounded, low, high)
            if gain <= floor:
                continue
            splittable = True
            if gain > best:
                best = gain
                best_g = g
                best_h = h + EPSILON
                left_bins[0] = b
                n_left = 1
        return best - floor, n_left, best_g, best_h, splittable

    used = 0
    for b in range(1, n_bins):
        if int(H[b] * rows_per_h + 0.5) < cat_smooth:
            continue
        # Insertion keeps bins with equal keys in ascending order.
        key = G[b] / (H[b] + cat_smooth)
        place = used
        while place > 0:
            previous = order[place - 1]
            if not key < G[previous] / (H[previous] + cat_smooth):
                break
            order[place] = previous
            place -= 1
        order[place] = b
        used += 1
    steps = min(max_left, (used + 1) // 2)
    downwards = False
    for direction in range(2):
        lg = 0.0
        lh = EPSILON
        rows = 0
        group = 0
        for i in range(steps):
            b = order[i] if direction == 0 else order[used - 1 - i]
            in_bin = int(H[b] * rows_per_h + 0.5)
            lg += G[b]
            lh += H[b]
            rows += in_bin
            group += in_bin
            if rows < min_count or lh < min_h:
                continue
            if count - rows < min_count or count - rows < min_group:
                break
            rh = sum_h - lh
            if rh < min_h:
                break
            if group < min_group:
                continue
            group = 0
            gain = _gain(lg, lh, sum_g - lg, rh, l2, 0, bounded, low, high)
            if gain <= floor:
                continue
            splittable = True
            if gain > best:
                best = gain
                best_g = lg
                best_h = lh
                n_left = i + 1
                downwards = direction == 1
    for i in range(n_left):
        left_bins[i] = order[used - 1 - i] if downwards else order[i]
    return best - floor, n_left, best_g, best_h, splittable


@njit(cache=True, nogil=True, error_model="numpy")
def scan_features(
    G: FloatArray,
    H: FloatArray,
    offsets: IntArray,
    has_missing: BoolArray,
    is_categorical: BoolArray,
    most_frequent: IntArray,
    monotone: IntArray,
    bounded: bool,
    allowed: BoolArray,
    sum_g: float,
    sum_h: float,
    count: int,
    l2: float,
    min_count: int,
    min_h: float,
    min_gain: float,
    low: float,
    high: float,
    max_cat_to_onehot: int,
    cat_smooth: float,
    cat_l2: float,
    max_left: int,
    min_group: int,
    splittable: BoolArray,
    left_bins: IntArray,
) -> tuple[int, int, bool, int, float, float, float, float]:
    """Look at every allowed feature of a node.

    `splittable` (per feature) and `left_bins` (of the best split, if categorical) are filled in.
    Arguments otherwise as in `fedcredit.stats.splits.find_best_split`.

    Returns
    -------
    tuple
        Feature (-1 for none), threshold bin, default_left, number of left bins, gain, sums of
        gradients and hessians on the left, L2 penalty that applied.
    """
    best_feature = -1
    best_threshold = -1
    best_default = False
    best_n_left = 0
    best_gain = -np.inf
    best_g = 0.0
    best_h = 0.0
    best_l2 = l2
    sum_h = sum_h + 2 * EPSILON
    floor = (sum_g * sum_g) / (sum_h + l2) + min_gain
    order = np.empty(len(left_bins), np.int64)
    candidate = np.empty(len(left_bins), np.int64)
    for f in range(len(has_missing)):
        if not allowed[f]:
            continue
        start = offsets[f]
        n_bins = offsets[f + 1] - start
        g = G[start : start + n_bins]
        h = H[start : start + n_bins]
        if is_categorical[f]:
            one_hot = n_bins <= max_cat_to_onehot
            feature_l2 = l2 if one_hot else l2 + cat_l2
            gain, n_left, left_g, left_h, can_split = _scan_categorical(
                g,
                h,
                n_bins,
                sum_g,
                sum_h,
                count,
                feature_l2,
                min_count,
                min_h,
                floor,
                bounded,
                low,
                high,
                one_hot,
                cat_smooth,
                max_left,
                min_group,
                order,
                candidate,
            )
            threshold = -1
            default_left = False
        else:
            gain, threshold, default_left, left_g, left_h, can_split = _scan_numeric(
                g,
                h,
                n_bins,
                has_missing[f],
                most_frequent[f] == 0,
                sum_g,
                sum_h,
                count,
                l2,
                min_count,
                min_h,
                floor,
                monotone[f],
                bounded,
                low,
                high,
            )
            feature_l2 = l2
            n_left = 0
            if monotone[f] != 0:
                # LightGBM's factor at monotone_penalty 0; of equal gains a constrained one wins.
                gain *= 1.0 + EPSILON
        splittable[f] = can_split
        if can_split and gain > best_gain:
            best_gain = gain
            best_feature = f
            best_threshold = threshold
            best_default = default_left
            best_n_left = n_left
            best_g = left_g
            best_h = left_h
            best_l2 = feature_l2
            for i in range(n_left):
                left_bins[i] = candidate[i]
    return (
        best_feature,
        best_threshold,
        best_default,
        best_n_left,
        best_gain,
        best_g,
        best_h,
        best_l2,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def derive_most_frequent(
    G: FloatArray,
    H: FloatArray,
    offsets: IntArray,
    most_frequent: IntArray,
    sum_g: float,
    sum_h: float,
) -> None:
    """Replace the sums of every feature's most frequent bin by totals minus the other bins.

    The node's totals carry the scan's ``1e-15`` constants; LightGBM's histograms inherit them
    through this step, and so must ours. Features whose most frequent bin is bin 0 are left alone,
    as there.

    Parameters
    ----------
    G, H : ndarray of float64, shape (total_bins,)
        Histograms, changed in place.
    offsets, most_frequent : ndarray of int64
        As in `FeatureTable`.
    sum_g, sum_h : float
        Totals of the node.
    """
    for f in range(len(most_frequent)):
        if most_frequent[f] == 0:
            continue
        place = offsets[f] + most_frequent[f]
        g = sum_g
        h = sum_h
        for b in range(offsets[f], offsets[f + 1]):
            if b != place:
                g -= G[b]
                h -= H[b]
        G[place] = g
        H[place] = h
