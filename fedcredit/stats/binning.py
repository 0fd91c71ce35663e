"""Binning of one party's columns for histogram trees.

Bins are made where the column is and the cut points stay there; other parties see bin numbers or
only sums per bin. ``min_bin_count`` is the privacy floor: no bin, hence no sum, of fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError
from fedcredit.stats.tree_params import FeatureInfo

__all__ = ["FeatureBins", "apply_bins", "bin_matrix", "fit_bins"]

_STEP = "binning"
_MAX_BINS = 65_535
# LightGBM derives a bin by subtraction only if it holds this share of the rows, or is bin 0.
_SPARSE_SHARE = 0.7
# LightGBM keeps categories, most frequent first, until they cover this share of the rows.
_CATEGORY_SHARE = np.float32(0.99)

BinCodes = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBins:
    """The bins of one feature.

    Attributes
    ----------
    is_categorical : bool
        Whether bins stand for categories rather than intervals.
    n_bins : int
        Number of bins, the missing bin included; 1 for a constant or empty column.
    has_missing : bool
        Numeric: whether bin ``n_bins - 1`` holds the missing values. If not, missing values of
        new rows go to `most_frequent_bin`.
    most_frequent_bin : int
        The bin with most rows if it holds 70 % of them, else bin 0.
    edges : ndarray of float64
        Numeric: ascending cut points; bin b holds ``edges[b - 1] < x <= edges[b]``.
    categories : ndarray of float64
        Categorical: the category of bin ``1 + i``, most frequent first. Bin 0 holds rare, missing
        and unseen ones.
    """

    is_categorical: bool
    n_bins: int
    has_missing: bool
    most_frequent_bin: int
    edges: NDArray[np.float64] = field(repr=False)
    categories: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("edges", "categories"):
            array = np.array(getattr(self, name), np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if array.ndim != 1 or not np.isfinite(array).all():
                raise InputError(f"{name} are a vector of finite numbers.", step=_STEP)
        if self.is_categorical:
            fits = not len(self.edges) and len(np.unique(self.categories)) == len(self.categories)
            expected = 1 + len(self.categories)
        else:
            fits = not len(self.categories) and bool((np.diff(self.edges) > 0).all())
            expected = 1 + len(self.edges) + self.has_missing
        if not fits or self.n_bins != expected or self.n_bins > _MAX_BINS:
            raise InputError("edges or categories do not fit the number of bins.", step=_STEP)
        self.info()

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Smallest type that holds the bin numbers."""
        return np.uint8 if self.n_bins <= 256 else np.uint16

    def info(self, monotone: int = 0) -> FeatureInfo:
        """Return what the growing of trees needs to know, without any value of the column.

        Parameters
        ----------
        monotone : int
            Constraint on the score, see `FeatureInfo`.
        """
        return FeatureInfo(
            n_bins=self.n_bins,
            has_missing=self.has_missing,
            is_categorical=self.is_categorical,
            most_frequent_bin=self.most_frequent_bin,
            monotone=monotone,
        )

    def describe(self) -> str:
        """Say in a few words what the bins are, without any value of the column."""
        if self.n_bins == 1:
            return "one bin, never split (constant, empty or too few rows)"
        if self.is_categorical:
            return f"categorical, {self.n_bins - 1} categories, others in bin 0"
        text = f"numeric, {len(self.edges) + 1} intervals"
        return f"{text}, missing values in bin {self.n_bins - 1}" if self.has_missing else text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "is_categorical": self.is_categorical,
            "n_bins": self.n_bins,
            "has_missing": self.has_missing,
            "most_frequent_bin": self.most_frequent_bin,
            "edges": self.edges.tolist(),
            "categories": self.categories.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FeatureBins:
        """Read what `to_dict` returned.

        Raises
        ------
        InputError
            If a field is missing, unknown or of another type, or the fields contradict each other.
        """
        kinds = {"is_categorical": bool, "n_bins": int, "has_missing": bool}
        kinds |= {"most_frequent_bin": int, "edges": list, "categories": list}
        if set(data) != set(kinds):
            raise InputError("bins have exactly the fields of FeatureBins.to_dict.", step=_STEP)
        for name, kind in kinds.items():
            if type(data[name]) is not kind:
                raise InputError(f"{name} has another type.", step=_STEP)
        try:
            return cls(**data)
        except InputError:
            raise
        except (TypeError, ValueError):
            raise InputError("edges or categories are not numbers.", step=_STEP) from None


@njit(cache=True, nogil=True)
def _choose_cuts(
    counts: NDArray[np.int64], max_bins: int, min_count: int, cuts: NDArray[np.bool_]
) -> None:
    """Mark the distinct values after which a bin ends.

    A value that alone deserves a bin gets one; the remaining rows are shared out evenly over the
    remaining bins, so ties do not waste bins. No bin has fewer than `min_count` rows.
    """
    n = len(counts)
    one_each = n <= max_bins
    rows_left = 0
    for count in counts:
        rows_left += count
    heavy = np.zeros(n, np.bool_)
    bins_left = max_bins
    share = rows_left / max_bins
    for i in range(n):
        if counts[i] >= share:
            heavy[i] = True
            rows_left -= counts[i]
            bins_left -= 1
    used = 0
    in_bin = 0
    light_in_bin = 0
    last = -1
    for i in range(n - 1):
        if used == max_bins - 1:
            break
        in_bin += counts[i]
        if not heavy[i]:
            light_in_bin += counts[i]
        target = rows_left / max(bins_left, 1)
        full = one_each or heavy[i] or in_bin >= target or (heavy[i + 1] and 2 * in_bin >= target)
        if full and in_bin >= min_count:
            cuts[i] = True
            last = i
            used += 1
            rows_left -= light_in_bin
            if not heavy[i]:
                bins_left -= 1
            in_bin = 0
            light_in_bin = 0
    # The last bin may have come out too small; it joins the one before.
    tail = 0
    for i in range(last + 1, n):
        tail += counts[i]
    if last >= 0 and tail < min_count:
        cuts[last] = False


def _column(values: ArrayLike) -> NDArray[np.float64]:
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "a column is not numeric.", step=_STEP, fix="code texts as numbers first"
        ) from None
    if column.ndim != 1:
        raise InputError("a column is a vector.", step=_STEP)
    if np.isinf(column).any():
        raise InputError(
            "a column contains infinite values.",
            step=_STEP,
            fix="replace them by NaN (missing) or by a finite bound",
        )
    return column


def _most_frequent(counts: NDArray[np.int64]) -> int:
    largest = int(counts.argmax())
    return largest if counts[largest] / counts.sum() >= _SPARSE_SHARE else 0


def fit_bins(
    column: ArrayLike,
    *,
    is_categorical: bool = False,
    max_bins: int = 32,
    min_bin_count: int = 1,
    max_categories: int = 255,
) -> FeatureBins:
    """Make the bins of one column.

    Numeric columns get intervals with about equally many rows, cut half-way between two values
    that occur; missing values (NaN) get the last bin. Categorical columns get a bin per category,
    most frequent first, until 99 % of the rows are covered or one category is left, as in
    LightGBM; the rest shares bin 0 with missing and unseen categories.

    Parameters
    ----------
    column : array_like of float, shape (n,)
        Values of the training rows; NaN is missing.
    is_categorical : bool
        Whether values are codes without an order.
    max_bins : int
        Numeric: largest number of bins, the missing bin included.
    min_bin_count : int
        Smallest number of rows in a bin. Smaller intervals are merged with a neighbour, smaller
        categories into bin 0; fewer missing values go to `FeatureBins.most_frequent_bin`.
    max_categories : int
        Categorical: largest number of bins, bin 0 included.

    Returns
    -------
    FeatureBins
        With one bin only if the column is constant, all missing, or too small for the floor.

    Raises
    ------
    InputError
        If the column is empty, not numeric or has infinite values, or a parameter is out of range.
    """
    column = _column(column)
    if not len(column):
        raise InputError("a column has no rows.", step=_STEP)
    if not 2 <= max_bins <= _MAX_BINS or not 2 <= max_categories <= _MAX_BINS:
        raise InputError(f"max_bins and max_categories are between 2 and {_MAX_BINS}.", step=_STEP)
    if min_bin_count < 1:
        raise InputError("min_bin_count is at least 1.", step=_STEP)
    present = column[~np.isnan(column)]
    values, counts = np.unique(present, return_counts=True)
    # Negative zero is zero.
    values = values + 0.0
    n_missing = len(column) - len(present)
    if is_categorical:
        return _fit_categories(values, counts, n_missing, min_bin_count, max_categories)
    has_missing = n_missing >= min_bin_count and len(present) >= min_bin_count
    n_intervals = max_bins - has_missing
    cuts = np.zeros(len(values), np.bool_)
    if n_intervals > 1 and len(values) > 1:
        _choose_cuts(counts, n_intervals, min_bin_count, cuts)
    below = values[cuts]
    above = values[1:][cuts[:-1]]
    # Between neighbouring floats the middle can round up to the upper one, which stays right.
    middle = below / 2 + above / 2
    edges = np.where((middle >= below) & (middle < above), middle, below)
    n_bins = len(edges) + 1 + has_missing
    codes = np.searchsorted(edges, values, side="left")
    per_bin = np.bincount(codes, weights=counts, minlength=n_bins).astype(np.int64)
    if has_missing:
        per_bin[-1] = n_missing
    return FeatureBins(
        is_categorical=False,
        n_bins=n_bins,
        has_missing=bool(has_missing),
        most_frequent_bin=_most_frequent(per_bin) if per_bin.any() else 0,
        edges=edges,
        categories=np.empty(0),
    )


def _fit_categories(
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    n_missing: int,
    min_bin_count: int,
    max_categories: int,
) -> FeatureBins:
    order = np.argsort(-counts, kind="stable")
    values, counts = values[order], counts[order]
    n_rows = int(counts.sum())
    # A single-precision product, as LightGBM computes it.
    cover = int(float(np.float32(n_rows) * _CATEGORY_SHARE) + 0.5)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    distinct = len(values) + (n_missing > 0)
    keep = (before < cover) | (np.arange(1, len(values) + 1) < min(distinct, max_categories))
    keep &= (counts >= min_bin_count) & (np.arange(1, len(values) + 1) < max_categories)
    kept = int(keep.sum())
    others = n_rows - int(counts[:kept].sum()) + n_missing
    while kept and 0 < others < min_bin_count:
        kept -= 1
        others += int(counts[kept])
    per_bin = np.concatenate([[others], counts[:kept]])
    return FeatureBins(
        is_categorical=True,
        n_bins=kept + 1,
        has_missing=False,
        most_frequent_bin=_most_frequent(per_bin),
        edges=np.empty(0),
        categories=values[:kept],
    )


def apply_bins(bins: FeatureBins, column: ArrayLike) -> BinCodes:
    """Find the bin of each value.

    Parameters
    ----------
    bins : FeatureBins
        Bins of this feature.
    column : array_like of float, shape (n,)
        Values; NaN is missing.

    Returns
    -------
    ndarray of uint8 or uint16, shape (n,)
        Bin numbers.

    Raises
    ------
    InputError
        If the column is not numeric or has infinite values.
    """
    column = _column(column)
    missing = np.isnan(column)
    if bins.is_categorical:
        order = np.argsort(bins.categories)
        place = np.searchsorted(bins.categories[order], column)
        place[place == len(order)] = 0
        codes = np.zeros(len(column), np.int64)
        if len(order):
            found = order[place]
            known = bins.categories[found] == column
            codes[known] = found[known] + 1
    else:
        codes = np.searchsorted(bins.edges, column, side="left")
        codes[missing] = bins.n_bins - 1 if bins.has_missing else bins.most_frequent_bin
    return codes.astype(np.uint8) if bins.n_bins <= 256 else codes.astype(np.uint16)


def bin_matrix(features: Sequence[FeatureBins], columns: ArrayLike) -> BinCodes:
    """Bin all columns of a party.

    Parameters
    ----------
    features : sequence of FeatureBins
        One per column.
    columns : array_like of float, shape (n, n_features)
        Values; NaN is missing.

    Returns
    -------
    ndarray of uint8 or uint16, shape (n, n_features)
        Row-major.

    Raises
    ------
    InputError
        If there is not one column per feature, or a column cannot be binned.
    """
    matrix = np.asarray(columns, np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != len(features):
        raise InputError("there is one column per feature.", step=_STEP)
    wide = any(feature.dtype is np.uint16 for feature in features)
    out = np.empty(matrix.shape, np.uint16 if wide else np.uint8)
    for f, feature in enumerate(features):
        out[:, f] = apply_bins(feature, matrix[:, f])
    return out
