"""Merging fine bins into the few that a scorecard uses, from their counts alone.

The label holder does this: it knows how many rows and events each bin has and what role it plays,
not what is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError
from fedcredit.stats.bin_rules import regroup
from fedcredit.stats.chimerge import chimerge
from fedcredit.stats.optimal_bins import Segment, best_partition, follows
from fedcredit.stats.woe import checked_counts

__all__ = ["Groups", "Method", "Trend", "force_trend", "merge_bins", "observed_trend"]

_STEP = "merging of bins"

Groups = tuple[tuple[int, ...], ...]
Method = Literal["optimal", "chimerge", "none"]
Trend = Literal["auto", "ascending", "descending", "peak", "valley", "none"]
_VALUE_ROLES = ("ordered", "category")
Integers = NDArray[np.int64]


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is one of {', '.join(choices)}.", step=_STEP)


def _value_bins(roles: Sequence[str], n_bins: int) -> int:
    """Return how many bins are intervals or categories, which come first."""
    n_values = sum(role in _VALUE_ROLES for role in roles)
    rest = [*roles[n_values:]]
    fits = len(roles) == n_bins and len(set(roles[:n_values])) <= 1 and n_values + len(rest) > 0
    if not fits or any(role not in ("special", "missing") for role in rest):
        raise InputError(
            "roles are one per bin: intervals or categories, then special, then missing.",
            step=_STEP,
            fix="pass the roles of the rule that made the bins",
        )
    return n_values


def _by_event_rate(rows: Integers, events: Integers) -> Integers:
    """Return the categories from the safest to the riskiest; those without rows stand neutral."""
    overall = events.sum() / max(int(rows.sum()), 1)
    rate = np.divide(events, rows, out=np.full(len(rows), overall), where=rows > 0)
    return np.argsort(rate, kind="stable").astype(np.int64)


def _optimal(
    rows: Integers,
    events: Integers,
    n_values: int,
    order: Integers,
    *,
    max_bins: int,
    min_rows: int,
    trend: str,
    smoothing: float,
) -> list[Segment]:
    """Return the best partition of the value bins, taken in the given order."""
    extra_rows, extra_events = rows[n_values:], events[n_values:]
    filled = extra_rows > 0
    return best_partition(
        rows[order],
        events[order],
        extra_rows=extra_rows[filled],
        extra_events=extra_events[filled],
        max_bins=max_bins,
        min_rows=min_rows,
        trend=trend,
        smoothing=smoothing,
    )


def merge_bins(
    count: ArrayLike,
    event: ArrayLike,
    roles: Sequence[str],
    *,
    method: Method = "optimal",
    max_bins: int = 8,
    min_bin_count: int = 1,
    min_bin_share: float = 0.05,
    trend: Trend = "auto",
    smoothing: float = 0.5,
    significance: float = 0.05,
) -> Groups:
    """Choose which bins to merge.

    Intervals are merged with neighbours only. Categories are put in the order of their event rate
    first; for two classes the best grouping without smoothing is found among neighbours in that
    order (Breiman et al., *Classification and Regression Trees*, 1984, theorem 4.5). Special and
    missing bins stay alone.

    Parameters
    ----------
    count, event : array_like of int, shape (B,)
        Rows and events per bin.
    roles : sequence of str, length B
        As `BinRule.roles`.
    method : {"optimal", "chimerge", "none"}
        The partition with the largest information value, see `best_partition`; ChiMerge, see
        `chimerge`, with whose bins `force_trend` then complies with the trend; or the bins as
        they are, whatever the other options say.
    max_bins : int
        Largest number of intervals or categories; special and missing bins are not counted.
    min_bin_count : int
        Smallest number of rows of a merged interval or category.
    min_bin_share : float
        The same as a share of all rows of the feature, special and missing ones included.
    trend : {"auto", "ascending", "descending", "peak", "valley", "none"}
        How risk moves over the intervals; "auto" is the better of ascending and descending.
        Categories have no trend: they come out from the safest to the riskiest.
    smoothing : float
        As for `woe_table`.
    significance : float
        ChiMerge: level of the test.

    Returns
    -------
    tuple of tuples of int
        The bin numbers of each group: merged intervals or categories in their order, then every
        special bin and the missing bin alone. For `BinRule.merged` and `regroup`.

    Raises
    ------
    InputError
        If counts, roles or an option are out of their domain, or only one class occurs.
    """
    rows, events = checked_counts(count, event, smoothing)
    n_values = _value_bins(roles, len(rows))
    _one_of("method", method, get_args(Method))
    _one_of("trend", trend, get_args(Trend))
    if max_bins < 1 or min_bin_count < 1:
        raise InputError("max_bins and min_bin_count are at least 1.", step=_STEP)
    if not (0 <= min_bin_share <= 1 and 0 < significance < 1):
        raise InputError("min_bin_share and significance are between 0 and 1.", step=_STEP)
    alone = tuple((b,) for b in range(n_values, len(rows)))
    if method == "none" or not n_values:
        return (*((b,) for b in range(n_values)), *alone)
    categorical = roles[0] == "category"
    order = np.arange(n_values)
    if categorical:
        order = _by_event_rate(rows[:n_values], events[:n_values])
    # The product of a share and a count may lie a rounding above the whole number it is.
    min_rows = max(min_bin_count, int(np.ceil(min_bin_share * int(rows.sum()) - 1e-9)))
    if method == "chimerge":
        segments = chimerge(
            rows[order],
            events[order],
            max_bins=max_bins,
            min_rows=min_rows,
            significance=significance,
        )
    else:
        segments = _optimal(
            rows,
            events,
            n_values,
            order,
            max_bins=max_bins,
            min_rows=min_rows,
            trend="none" if categorical else trend,
            smoothing=smoothing,
        )
    groups = tuple(tuple(sorted(order[a:b].tolist())) for a, b in segments)
    if method == "chimerge" and not categorical:
        return force_trend(rows, events, roles, (*groups, *alone), trend, smoothing=smoothing)
    return (*groups, *alone)


def force_trend(
    count: ArrayLike,
    event: ArrayLike,
    roles: Sequence[str],
    groups: Sequence[Sequence[int]],
    trend: Trend = "auto",
    *,
    smoothing: float = 0.5,
) -> Groups:
    """Merge groups of intervals as little as it takes to follow a trend.

    "As little" is measured by information value: of all ways to merge neighbouring groups that
    follow the trend, the one with the largest. Nothing else limits the groups. Groups that follow
    the trend already are merged at most where smoothing makes that worth more.

    Parameters
    ----------
    count, event : array_like of int, shape (B,)
        Rows and events per bin.
    roles : sequence of str, length B
        As `BinRule.roles`.
    groups : sequence of sequences of int
        As returned by `merge_bins` or made by hand: every bin exactly once, special and missing
        bins alone or in a group with intervals.
    trend : {"auto", "ascending", "descending", "peak", "valley", "none"}
        As for `merge_bins`; "none" returns the groups as they are.
    smoothing : float
        As for `woe_table`.

    Returns
    -------
    tuple of tuples of int
        Coarser groups, in the order of `merge_bins`. Categories are not merged, only sorted by
        their event rate.

    Raises
    ------
    InputError
        As `merge_bins`, and if groups do not fit the bins.
    """
    rows, events = checked_counts(count, event, smoothing)
    _value_bins(roles, len(rows))
    _one_of("trend", trend, get_args(Trend))
    place, _ = regroup(roles, groups)
    members = [tuple(np.flatnonzero(place == b).tolist()) for b in sorted(set(place.tolist()))]
    if trend == "none":
        return tuple(members)
    rows = np.array([rows[list(group)].sum() for group in members])
    events = np.array([events[list(group)].sum() for group in members])
    n_values = sum(roles[group[0]] in _VALUE_ROLES for group in members)
    alone = tuple(members[n_values:])
    if not n_values:
        return alone
    if roles[0] == "category":
        order = _by_event_rate(rows[:n_values], events[:n_values])
        return (*(members[b] for b in order), *alone)
    segments = _optimal(
        rows,
        events,
        n_values,
        np.arange(n_values),
        max_bins=n_values,
        min_rows=1,
        trend=trend,
        smoothing=smoothing,
    )
    joined = tuple(tuple(sorted(b for group in members[i:j] for b in group)) for i, j in segments)
    return (*joined, *alone)


def observed_trend(count: ArrayLike, event: ArrayLike) -> str:
    """Say how the event rate moves over the intervals given.

    Parameters
    ----------
    count, event : array_like of int, shape (m,)
        Rows and events of the intervals only; empty ones are passed over.

    Returns
    -------
    str
        "constant" (equal rates, or at most one interval), "ascending", "descending", "peak",
        "valley" or "none".
    """
    rows, events = np.asarray(count, np.int64), np.asarray(event, np.int64)
    rows, events = rows[rows > 0], events[rows > 0]
    held = [
        trend
        for trend in ("ascending", "descending", "peak", "valley")
        if follows(rows, events, trend, 0.0)
    ]
    if "ascending" in held and "descending" in held:
        return "constant"
    return held[0] if held else "none"
