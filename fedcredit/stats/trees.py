"""Regression trees on binned features, as plain arrays.

A tree knows features by their pooled index and thresholds by bin number only. What a bin means is
known where the feature is (`fedcredit.stats.binning.FeatureBins`), so a tree can be held by a
party that must not know the other parties' cut points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError

__all__ = ["LEAF", "Split", "SplitDecision", "Tree", "decision_directions"]

LEAF = -1
"""Value of `Tree.feature` (and of the child links) at a leaf."""

_STEP = "trees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How the rows of one node part.

    Attributes
    ----------
    feature : int
        Pooled index of the feature.
    threshold_bin : int
        Numeric: rows with a bin up to this one go left. Categorical: -1.
    left_bins : tuple of int
        Categorical: bins whose rows go left, ascending. Numeric: empty.
    default_left : bool
        Numeric: whether rows in the missing bin go left.
    missing_bin : int
        Numeric: the missing bin, or -1 if the feature has none.
    """

    feature: int
    threshold_bin: int
    left_bins: tuple[int, ...] = ()
    default_left: bool = False
    missing_bin: int = -1

    @property
    def is_categorical(self) -> bool:
        """Whether the split is a set of bins."""
        return bool(self.left_bins)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitDecision(Split):
    """A split that a grower has decided on and that waits for its directions.

    Attributes
    ----------
    node : int
        Id of the node, the argument of `TreeGrower.partition`.
    gain : float
        Improvement of (twice) the objective.
    rows : ndarray of int32
        All rows of the node, ascending, those out of the sample included.
    """

    node: int
    gain: float
    rows: NDArray[np.int32] = field(repr=False)


def decision_directions(column: NDArray[np.integer[Any]], split: Split) -> NDArray[np.bool_]:
    """Tell for each row whether it goes left.

    Parameters
    ----------
    column : ndarray of integers, shape (n,)
        Bins of the split's feature.
    split : Split
        The split.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    if split.is_categorical:
        size = max(split.left_bins) + 1
        if len(column):
            size = max(size, int(column.max()) + 1)
        goes_left = np.zeros(size, np.bool_)
        goes_left[list(split.left_bins)] = True
        return goes_left[column]
    left = column <= split.threshold_bin
    if split.missing_bin >= 0:
        left[column == split.missing_bin] = split.default_left
    return np.asarray(left, np.bool_)


@njit(cache=True, nogil=True)
def _apply(
    bins: NDArray[np.integer[Any]],
    feature: NDArray[np.int32],
    threshold: NDArray[np.int32],
    default_left: NDArray[np.bool_],
    missing_bin: NDArray[np.int32],
    category_start: NDArray[np.int32],
    categories: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    for i in range(len(out)):
        node = 0
        while feature[node] >= 0:
            b = bins[i, feature[node]]
            first = category_start[node]
            last = category_start[node + 1]
            if last > first:
                goes_left = False
                for j in range(first, last):
                    if categories[j] == b:
                        goes_left = True
                        break
            elif b == missing_bin[node]:
                goes_left = default_left[node]
            else:
                goes_left = b <= threshold[node]
            node = left[node] if goes_left else right[node]
        out[i] = node


_COLUMNS: dict[str, type[np.generic]] = {
    "feature": np.int32,
    "threshold_bin": np.int32,
    "default_left": np.bool_,
    "missing_bin": np.int32,
    "category_start": np.int32,
    "categories": np.int32,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
    "gain": np.float64,
    "count": np.int64,
}


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A grown tree, a struct of read-only arrays with one entry per node; node 0 is the root.

    Children have higher numbers than their parents, so a walk ends.

    Attributes
    ----------
    feature : ndarray of int32, shape (n_nodes,)
        Pooled index of the split feature, `LEAF` at a leaf.
    threshold_bin, default_left, missing_bin
        As in `Split`.
    category_start : ndarray of int32, shape (n_nodes + 1,)
        Node i's left categories are ``categories[category_start[i]:category_start[i + 1]]``; none
        for a numeric split.
    categories : ndarray of int32
        Bins, ascending within a node.
    left, right : ndarray of int32, shape (n_nodes,)
        Children, `LEAF` at a leaf.
    value : ndarray of float64, shape (n_nodes,)
        Contribution to the raw score (learning rate included); at inner nodes what the node would
        have contributed as a leaf.
    gain : ndarray of float64, shape (n_nodes,)
        Improvement by the node's split as in `SplitDecision`, 0 at a leaf.
    count : ndarray of int64, shape (n_nodes,)
        Training rows in the node (those in the sample).

    Raises
    ------
    InputError
        If the arrays do not form a tree.
    """

    feature: NDArray[np.int32]
    threshold_bin: NDArray[np.int32]
    default_left: NDArray[np.bool_]
    missing_bin: NDArray[np.int32]
    category_start: NDArray[np.int32]
    categories: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    gain: NDArray[np.float64]
    count: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS.items():
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        self._check()

    def _check(self) -> None:
        def demand(holds: bool, reason: str) -> None:
            if not holds:
                raise InputError(f"the arrays are no tree: {reason}.", step=_STEP)

        n = len(self.feature) if self.feature.ndim == 1 else 0
        demand(n > 0, "there is no root")
        for name in _COLUMNS:
            if name in ("category_start", "categories"):
                continue
            demand(getattr(self, name).shape == (n,), f"{name} has another length than feature")
        starts = self.category_start
        demand(
            starts.shape == (n + 1,)
            and self.categories.ndim == 1
            and starts[0] == 0
            and starts[-1] == len(self.categories)
            and bool((np.diff(starts) >= 0).all()),
            "category_start does not divide categories",
        )
        inner = np.flatnonzero(self.feature != LEAF)
        leaves = self.feature == LEAF
        demand(bool((self.feature >= LEAF).all()), "a feature index is negative")
        demand(
            bool((self.left[leaves] == LEAF).all() and (self.right[leaves] == LEAF).all()),
            "a leaf has children",
        )
        children = np.concatenate([self.left[inner], self.right[inner]])
        demand(
            bool((children > np.concatenate([inner, inner])).all())
            and np.array_equal(np.sort(children), np.arange(1, n)),
            "the child links are not those of one tree",
        )
        categorical = np.diff(starts) > 0
        demand(bool((self.categories >= 0).all()), "a category is negative")
        demand(not bool(categorical[leaves].any()), "a leaf has categories")
        numeric = inner[~categorical[inner]]
        demand(bool((self.threshold_bin[numeric] >= 0).all()), "a threshold is negative")
        demand(
            bool(np.isfinite(self.value).all() and np.isfinite(self.gain).all()),
            "a value is not finite",
        )

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.feature)

    @property
    def leaves(self) -> NDArray[np.int32]:
        """Numbers of the leaves, ascending."""
        return np.flatnonzero(self.feature == LEAF).astype(np.int32)

    @property
    def n_leaves(self) -> int:
        """Number of leaves."""
        return int((self.feature == LEAF).sum())

    @property
    def depth(self) -> int:
        """Largest number of splits between the root and a leaf."""
        depth = np.zeros(self.n_nodes, np.int64)
        for node in np.flatnonzero(self.feature != LEAF):
            depth[self.left[node]] = depth[self.right[node]] = depth[node] + 1
        return int(depth.max())

    def split(self, node: int) -> Split:
        """Return the split of an inner node.

        Raises
        ------
        InputError
            If the node is a leaf or does not exist.
        """
        if not 0 <= node < self.n_nodes or self.feature[node] == LEAF:
            raise InputError("this node has no split.", step=_STEP)
        first, last = self.category_start[node : node + 2]
        return Split(
            feature=int(self.feature[node]),
            threshold_bin=int(self.threshold_bin[node]),
            left_bins=tuple(self.categories[first:last].tolist()),
            default_left=bool(self.default_left[node]),
            missing_bin=int(self.missing_bin[node]),
        )

    def apply(self, bins: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Find the leaf of each row.

        Parameters
        ----------
        bins : ndarray of integers, shape (n, n_features)
            Binned features in pooled order.

        Returns
        -------
        ndarray of int32, shape (n,)
            Numbers of leaves.

        Raises
        ------
        InputError
            If there are fewer columns than the tree uses.
        """
        bins = np.asarray(bins)
        if bins.ndim != 2 or bins.dtype.kind not in "iu":
            raise InputError("bins is a matrix of integers.", step=_STEP)
        if bins.shape[1] <= int(self.feature.max()):
            raise InputError("bins has fewer columns than the tree's features.", step=_STEP)
        if bins.dtype not in (np.uint8, np.uint16):
            if bins.size and (bins.min() < 0 or bins.max() > np.iinfo(np.uint16).max):
                raise InputError("a bin is outside 0..65535.", step=_STEP)
            bins = bins.astype(np.uint16)
        out = np.empty(len(bins), np.int32)
        _apply(
            np.ascontiguousarray(bins),
            self.feature,
            self.threshold_bin,
            self.default_left,
            self.missing_bin,
            self.category_start,
            self.categories,
            self.left,
            self.right,
            out,
        )
        return out

    def predict(self, bins: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return each row's contribution to the raw score; see `apply` for the arguments."""
        return self.value[self.apply(bins)]

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the arrays as plain lists, ready for JSON."""
        return {name: getattr(self, name).tolist() for name in _COLUMNS}

    @classmethod
    def from_dict(cls, data: Mapping[str, ArrayLike]) -> Tree:
        """Read what `to_dict` returned.

        Raises
        ------
        InputError
            If a field is missing, unknown or of another type, or the arrays are no tree.
        """
        if set(data) != set(_COLUMNS):
            raise InputError("a tree has exactly the fields of Tree.to_dict.", step=_STEP)
        arrays = {}
        for name, dtype in _COLUMNS.items():
            try:
                array = np.asarray(data[name])
                if array.size == 0:
                    array = array.astype(dtype)
                arrays[name] = array.astype(dtype, casting="same_kind")
                if not np.array_equal(arrays[name], array):
                    raise ValueError
            except (TypeError, ValueError, OverflowError):
                raise InputError(f"{name} has another type.", step=_STEP) from None
        return cls(**arrays)
