"""The best split of a tree node, from its histograms of gradients and hessians.

The arithmetic follows LightGBM's serial learner with the monotone method ``basic`` operation by
operation, so that a tree grown on equal bins with exactly representable sums is LightGBM's tree,
split for split:

- the row count of a bin is estimated as ``int(h * n / H + 0.5)``;
- hessian sums start at the single-precision constant ``1e-15``;
- a numeric feature is scanned from the last bin downwards first (missing values go left), then,
  if it has a missing bin, from the first bin upwards (missing values go right); a later candidate
  has to be strictly better;
- of equally good features one with a monotone constraint wins, then the lower index;
- a categorical feature with few bins is split one against the rest, otherwise its bins are sorted
  by ``g / (h + cat_smooth)`` and scanned from both ends;
- a feature that offers no split at a node is skipped at the node's descendants.

References
----------
Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017.
Fisher, "On Grouping for Maximum Homogeneity", JASA 53, 1958 (sorting of categories).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.stats.split_scans import EPSILON, leaf_output, scan_features
from fedcredit.stats.tree_params import FeatureTable, TreeParams

__all__ = ["NO_BOUND", "BestSplit", "find_best_split"]

NO_BOUND = float(np.finfo(np.float64).max)
"""Magnitude of a leaf's output bound where no monotone constraint binds."""


@dataclass(frozen=True, slots=True)
class BestSplit:
    """The best split of a node.

    Attributes
    ----------
    feature : int
        Pooled index of the feature.
    threshold_bin : int
        Numeric: bins up to and including it go left. Categorical: -1.
    left_bins : tuple of int
        Categorical: the bins that go left, ascending. Numeric: empty.
    default_left : bool
        Numeric: whether the missing bin goes left.
    gain : float
        Improvement of (twice) the objective.
    left_g, left_h, right_g, right_h : float
        Sums of gradients and hessians of the children.
    left_output, right_output : float
        Outputs of the children before the learning rate.
    """

    feature: int
    threshold_bin: int
    left_bins: tuple[int, ...]
    default_left: bool
    gain: float
    left_g: float
    left_h: float
    right_g: float
    right_h: float
    left_output: float
    right_output: float


def find_best_split(
    G: NDArray[np.float64],
    H: NDArray[np.float64],
    features: FeatureTable,
    params: TreeParams,
    *,
    sum_g: float,
    sum_h: float,
    count: int,
    allowed: NDArray[np.bool_],
    low: float = -NO_BOUND,
    high: float = NO_BOUND,
) -> tuple[BestSplit | None, NDArray[np.bool_]]:
    """Find the best split of a node.

    Parameters
    ----------
    G, H : ndarray of float64, shape (total_bins,)
        Sums of gradients and of hessians per bin, concatenated over all features; integer sums
        times their power-of-two scale, after `derive_most_frequent`.
    features : FeatureTable
        The features, in pooled order.
    params : TreeParams
        Parameters; `TreeParams.max_depth` plays no part here.
    sum_g, sum_h : float
        Totals of the node.
    count : int
        Rows of the node.
    allowed : ndarray of bool, shape (n_features,)
        Features that may be looked at.
    low, high : float
        Bounds of the outputs of the node, from monotone constraints above it.

    Returns
    -------
    split : BestSplit or None
        ``None`` if no split gains more than `TreeParams.min_split_gain`.
    splittable : ndarray of bool, shape (n_features,)
        Features with an admissible split here; only these may be looked at below this node.
    """
    splittable = np.zeros(features.n_features, np.bool_)
    left_bins = np.empty(int(features.n_bins.max()), np.int64)
    feature, threshold, default_left, n_left, gain, left_g, left_h, l2 = scan_features(
        G,
        H,
        features.offsets,
        features.has_missing,
        features.is_categorical,
        features.most_frequent_bin,
        features.monotone,
        features.any_monotone,
        allowed,
        float(sum_g),
        float(sum_h),
        int(count),
        float(params.lambda_l2),
        int(params.min_child_samples),
        float(params.min_child_weight),
        float(params.min_split_gain),
        float(low),
        float(high),
        int(params.max_cat_to_onehot),
        float(params.cat_smooth),
        float(params.cat_l2),
        int(params.max_cat_threshold),
        int(params.min_data_per_group),
        splittable,
        left_bins,
    )
    if feature < 0 or not gain > 0.0:
        return None, splittable
    right_g = sum_g - left_g
    right_h = sum_h + 2 * EPSILON - left_h
    bounded = features.any_monotone
    split = BestSplit(
        feature=feature,
        threshold_bin=threshold,
        left_bins=tuple(sorted(int(b) for b in left_bins[:n_left])),
        default_left=bool(default_left),
        gain=gain + params.min_split_gain,
        left_g=left_g,
        left_h=left_h - EPSILON,
        right_g=right_g,
        right_h=right_h - EPSILON,
        left_output=leaf_output(left_g, left_h, l2, bounded, low, high),
        right_output=leaf_output(right_g, right_h, l2, bounded, low, high),
    )
    return split, splittable
