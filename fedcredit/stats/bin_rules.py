"""Making rules: how the values of one feature are put into bins, without labels.

`min_bin_count` is the privacy floor: no bin of a new rule holds between 1 and
``min_bin_count - 1`` of the rows it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError
from fedcredit.stats.bin_floor import folds, merge_small, quantile_splits, rare_groups
from fedcredit.stats.bin_rule import BinRule, Role, checked_numbers, regroup

__all__ = ["BinRule", "Role", "category_rule", "quantile_rule", "regroup", "user_rule"]

_STEP = "binning"


def _floored(rule: BinRule, vector: NDArray[np.float64], min_bin_count: int) -> BinRule:
    """Fold the special and missing bins of too few rows, see `quantile_rule`."""
    counts = np.bincount(rule.apply(vector), minlength=rule.n_bins)
    return BinRule(
        kind=rule.kind,
        splits=rule.splits,
        special_codes=rule.special_codes,
        groups=rule.groups,
        n_categories=rule.n_categories,
        folded=folds(counts, rule.n_value_bins, min_bin_count),
    )


def _prepared(
    values: ArrayLike, special_codes: Sequence[float], min_bin_count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return all values, and those that are neither missing nor special."""
    vector = checked_numbers(values, "values")
    if min_bin_count < 1:
        raise InputError("min_bin_count is at least 1.", step=_STEP)
    if len(vector) < min_bin_count:
        raise InputError(
            "there are fewer rows than one bin needs.",
            step=_STEP,
            fix="bring more rows, or lower min_bin_count if your policy allows it",
        )
    plain = ~np.isnan(vector)
    special_codes = checked_numbers(special_codes, "special codes").tolist()
    for code in special_codes:
        plain &= vector != code
    return vector, vector[plain]


def quantile_rule(
    values: ArrayLike,
    *,
    max_bins: int = 20,
    min_bin_count: int,
    special_codes: Sequence[float] = (),
) -> BinRule:
    """Cut a numeric column into intervals of about equally many rows.

    Equal values are never torn apart, and what heavy ties take is shared out evenly among the
    bins that remain. At most `max_bins` distinct values get an interval each, as far as the floor
    allows. A cut is the shortest decimal number that separates two bins.

    A special or missing bin with fewer rows than the floor, but some, is folded into the interval
    with most rows, a choice without labels. If even all intervals together are below the floor,
    the largest special or missing bin is folded into them.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        NaN is missing.
    max_bins : int
        Largest number of intervals; special and missing bins are not counted.
    min_bin_count : int
        Smallest number of rows in a bin that is not empty.
    special_codes : sequence of float
        Values with a bin of their own.

    Returns
    -------
    BinRule
        With one interval (`BinRule.is_constant`) if the column is constant or empty.

    Raises
    ------
    InputError
        If values are no vector of numbers or infinite, or there are fewer rows than the floor.
    """
    vector, plain = _prepared(values, special_codes, min_bin_count)
    if max_bins < 1:
        raise InputError("max_bins is at least 1.", step=_STEP)
    rule = BinRule(
        kind="numeric",
        splits=quantile_splits(plain, max_bins, min_bin_count),
        special_codes=tuple(special_codes),
    )
    return _floored(rule, vector, min_bin_count)


def user_rule(
    values: ArrayLike,
    splits: ArrayLike,
    *,
    min_bin_count: int,
    special_codes: Sequence[float] = (),
) -> BinRule:
    """Cut a numeric column at given points, as far as the floor allows.

    An interval with fewer rows than the floor, or none, is merged with its smaller neighbour, the
    smallest interval first; compare ``rule.splits`` with `splits` to see what was dropped.
    Special and missing bins below the floor are folded as by `quantile_rule`.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        NaN is missing.
    splits : array_like of float
        Strictly ascending; bins are ``[a, b)``.
    min_bin_count, special_codes
        As for `quantile_rule`.

    Raises
    ------
    InputError
        As `quantile_rule`, or if splits are not strictly ascending numbers.
    """
    vector, plain = _prepared(values, special_codes, min_bin_count)
    wish = BinRule(kind="numeric", splits=np.array(splits, np.float64))
    counts = np.bincount(wish.apply(plain), minlength=wish.n_bins)[:-1]
    kept = merge_small(counts, min_bin_count)
    rule = BinRule(kind="numeric", splits=wish.splits[kept], special_codes=tuple(special_codes))
    return _floored(rule, vector, min_bin_count)


def category_rule(
    codes: ArrayLike,
    n_categories: int,
    *,
    min_bin_count: int,
    special_codes: Sequence[float] = (),
) -> BinRule:
    """Give every category a bin, and all rare ones together a bin.

    Categories with fewer rows than the floor share one bin; if that is below the floor as well,
    it joins the category with most rows. Categories without rows are in no bin: they count as
    missing, like categories that were never seen. Special and missing bins below the floor are
    folded as by `quantile_rule`.

    Parameters
    ----------
    codes : array_like of float, shape (n,)
        Category codes 0 to ``n_categories - 1`` as numbers; NaN is missing.
    n_categories : int
        Number of categories.
    min_bin_count, special_codes
        As for `quantile_rule`.

    Raises
    ------
    InputError
        If codes are no vector of such codes, or there are fewer rows than the floor.
    """
    vector, plain = _prepared(codes, special_codes, min_bin_count)
    whole = plain.astype(np.int64)
    if not ((whole == plain) & (whole >= 0) & (whole < n_categories)).all():
        raise InputError(
            "category codes are whole numbers from 0 to n_categories - 1.",
            step=_STEP,
            fix="encode the categories as codes 0, 1, …",
        )
    counts = np.bincount(whole, minlength=n_categories)
    rule = BinRule(
        kind="categorical",
        special_codes=tuple(special_codes),
        groups=rare_groups(counts, min_bin_count),
        n_categories=n_categories,
    )
    return _floored(rule, vector, min_bin_count)
