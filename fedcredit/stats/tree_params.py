"""What the growing of a tree is told: the features and the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import InputError

__all__ = ["FeatureInfo", "FeatureTable", "TreeParams"]

_MAX_BINS = 65_535


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """What the growing of a tree has to know of one binned feature.

    Attributes
    ----------
    n_bins : int
        Number of bins, the missing bin included. A feature with one bin is never split.
    has_missing : bool
        Whether bin ``n_bins - 1`` holds the missing values. Always false for a categorical
        feature, whose missing values are in bin 0.
    is_categorical : bool
        Whether bins are sets of categories without an order.
    most_frequent_bin : int
        The bin whose sums are derived from the node's totals (see `FeatureBins`).
    monotone : int
        1 if the score must not fall with the feature, -1 if it must not rise, 0 if free.
    """

    n_bins: int
    has_missing: bool = False
    is_categorical: bool = False
    most_frequent_bin: int = 0
    monotone: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.n_bins <= _MAX_BINS:
            raise InputError(
                f"a feature has between 1 and {_MAX_BINS} bins.", step="trees: feature info"
            )
        if not 0 <= self.most_frequent_bin < self.n_bins:
            raise InputError(
                "most_frequent_bin is not one of the feature's bins.", step="trees: feature info"
            )
        if self.monotone not in (-1, 0, 1):
            raise InputError("monotone is -1, 0 or 1.", step="trees: feature info")
        if self.is_categorical and self.monotone:
            raise InputError(
                "a categorical feature has no order to be monotone in.",
                step="trees: feature info",
                fix="drop the constraint or code the feature as numeric",
            )
        if self.is_categorical and self.has_missing:
            raise InputError(
                "a categorical feature has no missing bin of its own.",
                step="trees: feature info",
                fix="put missing values into bin 0",
            )


@dataclass(frozen=True, slots=True)
class TreeParams:
    """Parameters of one tree, with LightGBM's defaults and meaning.

    Attributes
    ----------
    max_depth : int
        Levels of splits; a tree has at most ``2 ** max_depth`` leaves.
    lambda_l2 : float
        L2 penalty on leaf outputs.
    min_child_samples : int
        Smallest (estimated) number of rows in a child.
    min_child_weight : float
        Smallest sum of hessians in a child.
    min_split_gain : float
        Gain that a split has to exceed.
    min_child_rows : int
        Smallest true number of sampled rows in a child. A split whose directions turn out to
        leave fewer is undone. LightGBM has no such limit; 0 grows its trees.
    max_cat_to_onehot : int
        Categorical features with at most this many bins are split one against the rest.
    cat_smooth, cat_l2, max_cat_threshold, min_data_per_group
        Settings of the sorted algorithm for categorical features: smoothing of the sort key (and
        smallest estimated count of a category), additional L2 penalty, largest left set, smallest
        group of rows between two candidates.
    """

    max_depth: int = 5
    lambda_l2: float = 0.0
    min_child_samples: int = 20
    min_child_weight: float = 1e-3
    min_split_gain: float = 0.0
    min_child_rows: int = 0
    max_cat_to_onehot: int = 4
    cat_smooth: float = 10.0
    cat_l2: float = 10.0
    max_cat_threshold: int = 32
    min_data_per_group: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= 16:
            raise InputError("max_depth is between 1 and 16.", step="trees: parameters")
        for name in (
            "lambda_l2",
            "min_child_samples",
            "min_child_rows",
            "min_child_weight",
            "min_split_gain",
            "cat_smooth",
            "cat_l2",
        ):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} is finite and not negative.", step="trees: parameters")
        for name in ("max_cat_to_onehot", "max_cat_threshold", "min_data_per_group"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1.", step="trees: parameters")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The features of a tree as arrays, in pooled order.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n_features + 1,)
        Feature f owns the bins ``offsets[f]:offsets[f + 1]`` of a concatenated histogram.
    n_bins, most_frequent_bin, monotone : ndarray of int64, shape (n_features,)
    has_missing, is_categorical : ndarray of bool, shape (n_features,)
    any_monotone : bool
        Whether any feature is constrained. If so all outputs are bounded.
    """

    offsets: NDArray[np.int64]
    n_bins: NDArray[np.int64]
    has_missing: NDArray[np.bool_]
    is_categorical: NDArray[np.bool_]
    most_frequent_bin: NDArray[np.int64]
    monotone: NDArray[np.int64]
    any_monotone: bool

    @classmethod
    def of(cls, infos: Sequence[FeatureInfo]) -> FeatureTable:
        """Collect feature infos.

        Raises
        ------
        InputError
            If there are none.
        """
        if not infos:
            raise InputError("a tree needs at least one feature.", step="trees: features")
        n_bins = np.array([info.n_bins for info in infos], np.int64)
        monotone = np.array([info.monotone for info in infos], np.int64)
        return cls(
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(n_bins)]),
            n_bins=n_bins,
            has_missing=np.array([info.has_missing for info in infos], np.bool_),
            is_categorical=np.array([info.is_categorical for info in infos], np.bool_),
            most_frequent_bin=np.array([info.most_frequent_bin for info in infos], np.int64),
            monotone=monotone,
            any_monotone=bool(monotone.any()),
        )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.n_bins)

    @property
    def total_bins(self) -> int:
        """Length of a concatenated histogram."""
        return int(self.offsets[-1])
