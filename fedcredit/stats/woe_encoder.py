"""Weights of evidence of plain arrays, as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fedcredit.errors import InputError
from fedcredit.stats.bin_merging import Method, Trend, merge_bins
from fedcredit.stats.bin_rules import BinRule, category_rule, quantile_rule, regroup, user_rule
from fedcredit.stats.woe import Convention, WoeTable, woe_table

__all__ = ["WoeEncoder"]

_STEP = "WoeEncoder"
# A table of codes this long still fits in memory; numbers beyond are seldom meant as codes.
_MAX_CATEGORIES = 1_000_000

Floats = NDArray[np.float64]


class WoeEncoder(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Replace every value by the weight of evidence of its bin.

    Parameters
    ----------
    max_bins : int
        Largest number of intervals or categories per column, see `merge_bins`.
    max_prebins : int
        Largest number of intervals before merging, see `quantile_rule`.
    method : {"optimal", "chimerge", "none"}
        How fine bins are merged, see `merge_bins`.
    trend : {"auto", "ascending", "descending", "peak", "valley", "none"}
        How risk moves over the intervals of every numeric column.
    min_bin_count : int
        Smallest number of rows in a bin, also of special and missing values.
    min_bin_share : float
        Smallest share of the rows in an interval or category.
    special_codes : sequence of float
        Values that get a bin of their own, in every column.
    categorical : sequence of int
        Numbers of the columns that hold category codes 0, 1, ….
    user_splits : mapping of int to sequence of float, optional
        By column number: the only cut points, ``[a, b)``. They are merged for the floor only.
    smoothing : float
        See `woe_table`.
    convention : {"bad_over_good", "good_over_bad"}
        Sign of the weights.

    Attributes
    ----------
    rules_ : list of BinRule
        One per column.
    tables_ : list of WoeTable
        One per column, over the bins of its rule.
    iv_ : ndarray of float64, shape (n_features,)
        Information values.
    n_features_in_ : int
        Number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fedcredit.stats.woe_encoder import WoeEncoder
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 2))
    >>> y = rng.random(1000) < 1 / (1 + np.exp(-X[:, 0]))
    >>> encoder = WoeEncoder().fit(X, y)
    >>> bool(encoder.iv_[0] > encoder.iv_[1])
    True
    """

    def __init__(
        self,
        *,
        max_bins: int = 8,
        max_prebins: int = 20,
        method: Method = "optimal",
        trend: Trend = "auto",
        min_bin_count: int = 10,
        min_bin_share: float = 0.05,
        special_codes: Sequence[float] = (),
        categorical: Sequence[int] = (),
        user_splits: Mapping[int, Sequence[float]] | None = None,
        smoothing: float = 0.5,
        convention: Convention = "bad_over_good",
    ) -> None:
        self.max_bins = max_bins
        self.max_prebins = max_prebins
        self.method = method
        self.trend = trend
        self.min_bin_count = min_bin_count
        self.min_bin_share = min_bin_share
        self.special_codes = special_codes
        self.categorical = categorical
        self.user_splits = user_splits
        self.smoothing = smoothing
        self.convention = convention

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn bins and weights.

        Parameters
        ----------
        X : array_like of float, shape (n, d)
            NaN is missing.
        y : array_like, shape (n,)
            1 for an event, 0 otherwise.

        Returns
        -------
        WoeEncoder
            Itself.

        Raises
        ------
        InputError
            If values are infinite, labels are not 0 and 1 or of one class only, or an option is
            out of its domain. A column at fault is named by its number.
        """
        checked, labels = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite=False, y_numeric=False
        )
        if labels.dtype.kind not in "biuf" or not ((labels == 0) | (labels == 1)).all():
            raise InputError(
                "labels are 0 or 1.", step=_STEP, fix="encode the event as 1, anything else as 0"
            )
        if labels.min() == labels.max():
            raise InputError(
                "only one class occurs.",
                step=_STEP,
                fix="bring rows with the event (label 1) and rows without it (label 0)",
            )
        splits = self.user_splits or {}
        named = {int(j) for j in (*self.categorical, *splits)}
        if not named <= set(range(checked.shape[1])):
            raise InputError(
                "categorical or user_splits name a column that does not exist.",
                step=_STEP,
                fix="number the columns from 0",
            )
        self.rules_: list[BinRule] = []
        self.tables_: list[WoeTable] = []
        for j in range(checked.shape[1]):
            try:
                self._fit_column(j, checked[:, j], labels.astype(np.float64), splits.get(j))
            except InputError as error:
                error.step = f"{_STEP}: column {j}"
                raise
        self.iv_ = np.array([table.total_iv for table in self.tables_])
        return self

    def _fit_column(
        self, j: int, values: Floats, labels: Floats, splits: Sequence[float] | None
    ) -> None:
        codes, floor = self.special_codes, self.min_bin_count
        if splits is not None:
            rule = user_rule(values, splits, min_bin_count=floor, special_codes=codes)
        elif j in self.categorical:
            plain = values[~(np.isnan(values) | np.isin(values, np.asarray(codes, np.float64)))]
            n_categories = int(min(plain.max(initial=-1.0), _MAX_CATEGORIES)) + 1
            rule = category_rule(values, n_categories, min_bin_count=floor, special_codes=codes)
        else:
            rule = quantile_rule(
                values, max_bins=self.max_prebins, min_bin_count=floor, special_codes=codes
            )
        bins = rule.apply(values)
        count = np.bincount(bins, minlength=rule.n_bins)
        event = np.bincount(bins, labels, minlength=rule.n_bins)
        groups = merge_bins(
            count,
            event,
            rule.roles,
            method="none" if splits is not None else self.method,
            max_bins=self.max_bins,
            min_bin_count=floor,
            min_bin_share=self.min_bin_share,
            trend=self.trend,
            smoothing=self.smoothing,
        )
        place, roles = regroup(rule.roles, groups)
        self.rules_.append(rule.merged(groups))
        self.tables_.append(
            woe_table(
                np.bincount(place, count, len(roles)),
                np.bincount(place, event, len(roles)),
                smoothing=self.smoothing,
                convention=self.convention,
            )
        )

    def transform(self, X: ArrayLike) -> Floats:
        """Return the weights of evidence of the values' bins.

        Parameters
        ----------
        X : array_like of float, shape (n, d)
            NaN is missing. A value in a bin without training rows, for instance missing where
            nothing was missing before, gets the neutral weight 0.

        Returns
        -------
        ndarray of float64, shape (n, d)

        Raises
        ------
        InputError
            If values are infinite.
        """
        check_is_fitted(self)
        checked = validate_data(self, X, dtype=np.float64, ensure_all_finite=False, reset=False)
        weights = np.empty(checked.shape)
        for j, (rule, table) in enumerate(zip(self.rules_, self.tables_, strict=True)):
            try:
                weights[:, j] = table.woe[rule.apply(checked[:, j])]
            except InputError as error:
                error.step = f"{_STEP}: column {j}"
                raise
        return weights

    def binning_table(self, column: int) -> dict[str, Any]:
        """Return the bins of one column that have rows, ready for a data frame.

        Parameters
        ----------
        column : int
            Number of the column.

        Returns
        -------
        dict
            "bin" (list of str), and ndarrays "count", "share", "event", "non_event",
            "event_rate", "woe", "iv", one entry per bin.

        Raises
        ------
        InputError
            If there is no such column.
        """
        check_is_fitted(self)
        if not 0 <= column < len(self.rules_):
            raise InputError("there is no such column.", step=_STEP, fix="number columns from 0")
        table, texts = self.tables_[column], self.rules_[column].describe()
        shown = np.flatnonzero(table.count)
        return {
            "bin": [texts[b] for b in shown],
            "count": table.count[shown],
            "share": table.count[shown] / table.count.sum(),
            "event": table.event[shown],
            "non_event": table.non_event[shown],
            "event_rate": table.event_rate[shown],
            "woe": table.woe[shown],
            "iv": table.iv[shown],
        }
