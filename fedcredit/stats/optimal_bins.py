"""The partition of neighbouring bins with the largest information value, by dynamic programming.

A partition is a chain of segments of neighbouring bins. Its information value is a sum over its
segments once the number of segments is fixed (the smoothing term of a weight of evidence depends
on the number of bins, see `fedcredit.stats.woe`), so one chain is grown per number of segments and
the best of them wins. A trend relates neighbouring segments only, which is why the state of the
recursion is the last segment and not just its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Segment", "best_partition", "follows"]

#: First bin of a segment, and the bin after its last.
Segment = tuple[int, int]
_Leg = Literal["up", "down", "any"]

_LEGS: dict[str, tuple[_Leg, ...]] = {
    "ascending": ("up",),
    "descending": ("down",),
    "peak": ("up", "down"),
    "valley": ("down", "up"),
    "none": ("any",),
}
# Two sums of the same numbers in another order; also what counts as a tie of information values.
_ROUNDING = 1e-12

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def _rises(
    rows: Integers, events: Integers, next_rows: Integers, next_events: Integers, s: float
) -> NDArray[np.bool_]:
    """Whether event rate and weight of evidence do not fall from one bin to the next."""
    rate = events * next_rows <= next_events * rows
    # ln((e + s) / (g + s)) rises if and only if (e + s) / (e + g + 2s) does.
    left = (events + s) * (next_rows + 2 * s)
    right = (next_events + s) * (rows + 2 * s)
    woe: NDArray[np.bool_] = left <= right * (1 + _ROUNDING)
    return rate & woe


def follows(rows: Integers, events: Integers, trend: str, smoothing: float) -> bool:
    """Whether bins, none of them empty, follow a trend other than "auto".

    Parameters
    ----------
    rows, events : ndarray of int64, shape (m,)
        Counts per bin.
    trend : str
        "ascending", "descending", "peak", "valley" or "none".
    smoothing : float
        Both the event rates and the weights under this smoothing follow the trend.
    """
    before, after = (rows[:-1], events[:-1]), (rows[1:], events[1:])
    up, down = _rises(*before, *after, smoothing), _rises(*after, *before, smoothing)
    checks = {"up": up, "down": down, "any": np.ones(len(up), np.bool_)}
    legs = [checks[leg] for leg in _LEGS[trend]]
    if len(legs) == 1:
        return bool(legs[0].all())
    return any(bool(legs[0][:t].all() and legs[1][t:].all()) for t in range(len(up) + 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """All segments of the given bins: entry (i, j) is bins i to j, for i <= j."""

    rows: Integers
    events: Integers
    extra_rows: Integers
    extra_events: Integers
    allowed: NDArray[np.bool_]
    smoothing: float

    def values(self, n_bins: int) -> tuple[Floats, float]:
        """Information value of every segment, and of the extra bins, among `n_bins` in all."""
        extra = self._terms(self.extra_rows, self.extra_events, n_bins)
        terms = self._terms(self.rows, self.events, n_bins)
        return np.where(self.allowed, terms, -np.inf), float(extra.sum())

    def _terms(self, rows: Integers, events: Integers, n_bins: int) -> Floats:
        s = self.smoothing
        all_events = int(self.events[0, -1] + self.extra_events.sum())
        all_others = int(self.rows[0, -1] + self.extra_rows.sum()) - all_events
        bad = (events + s) / (all_events + s * n_bins)
        good = (rows - events + s) / (all_others + s * n_bins)
        defined = (bad > 0) & (good > 0)
        ratio = np.divide(bad, good, out=np.ones_like(bad), where=defined)
        return (bad - good) * np.log(ratio)

    def joins(self, leg: _Leg, i: int, stop: int | None = None) -> NDArray[np.bool_] | None:
        """Whether a segment (h, i - 1) may precede a segment (i, j), by h and j; None: always.

        `stop` restricts j to the one value ``stop``.
        """
        if leg == "any":
            return None
        last = slice(i, None) if stop is None else slice(stop, stop + 1)
        before = self.rows[:i, i - 1, None], self.events[:i, i - 1, None]
        after = self.rows[None, i, last], self.events[None, i, last]
        first, second = (before, after) if leg == "up" else (after, before)
        return _rises(*first, *second, self.smoothing)


def _grow(search: _Search, values: Floats, legs: tuple[_Leg, ...], n_segments: int) -> list[Floats]:
    """Best values of chains by their number of segments.

    Returns
    -------
    list of ndarray of float64, shape (len(legs), m, m)
        Item c: the best chain of c + 1 segments that begins at bin 0 and ends with segment (i, j)
        while on that leg of the trend; -inf if there is none.
    """
    m = len(values)
    first = np.full((len(legs), m, m), -np.inf)
    first[0, 0] = values[0]
    layers = [first]
    for _ in range(1, n_segments):
        before, layer = layers[-1], np.full_like(first, -np.inf)
        for i in range(1, m):
            for a, leg in enumerate(legs):
                # On a leg come chains that were on it, or on the leg before it.
                reach = before[: a + 1, :i, i - 1].max(axis=0)
                joins = search.joins(leg, i)
                if joins is None:
                    best = reach.max()
                else:
                    best = np.where(joins, reach[:, None], -np.inf).max(axis=0)
                layer[a, i, i:] = values[i, i:] + best
        layers.append(layer)
    return layers


def _trace(
    search: _Search, layers: list[Floats], legs: tuple[_Leg, ...], n_segments: int
) -> list[Segment]:
    """Return the best chain of `n_segments` that ends at the last bin."""
    ends = layers[n_segments - 1][:, :, -1]
    a, i = (int(x) for x in np.unravel_index(int(np.argmax(ends)), ends.shape))
    j = ends.shape[1] - 1
    chain = [(i, j + 1)]
    for c in range(n_segments - 2, -1, -1):
        reach = layers[c][: a + 1, :i, i - 1].copy()
        joins = search.joins(legs[a], i, j)
        if joins is not None:
            reach[:, ~joins[:, 0]] = -np.inf
        a, h = (int(x) for x in np.unravel_index(int(np.argmax(reach)), reach.shape))
        i, j = h, i - 1
        chain.append((i, j + 1))
    return chain[::-1]


def best_partition(
    rows: Integers,
    events: Integers,
    *,
    extra_rows: Integers,
    extra_events: Integers,
    max_bins: int,
    min_rows: int,
    trend: str,
    smoothing: float,
) -> list[Segment]:
    """Return the partition of neighbouring bins with the largest information value.

    Among all partitions into at most `max_bins` segments of at least `min_rows` rows that follow
    the trend, this is the one with the largest information value of the feature, extra bins
    included, as `fedcredit.stats.woe.woe_table` computes it; of equal ones, one with the fewest
    segments. If all bins together have fewer than `min_rows` rows, they are one segment.

    Parameters
    ----------
    rows, events : ndarray of int64, shape (m,)
        Counts per bin in their order; m is at least 1.
    extra_rows, extra_events : ndarray of int64, shape (x,)
        Counts of the other bins of the feature that are not empty and stay as they are.
    max_bins, min_rows : int
        At least 1.
    trend : str
        "ascending" or "descending": event rate and weight of evidence never fall, or never rise;
        "auto": whichever of both is worth more; "peak": ascending, then descending; "valley":
        the reverse (either leg may be absent); "none".
    smoothing : float
        As for `woe_table`.

    Returns
    -------
    list of (int, int)
        Begin and end of every segment.

    Notes
    -----
    For s segments the recursion takes ``O(s · m³)`` steps with a trend and ``O(s · m²)`` without,
    for every s up to `max_bins` (at once if `smoothing` is 0).
    """
    total_rows, total_events = np.cumsum(rows), np.cumsum(events)
    all_rows = total_rows[None, :] - (total_rows - rows)[:, None]
    all_events = total_events[None, :] - (total_events - events)[:, None]
    upper = np.triu(np.ones_like(all_rows, np.bool_))
    search = _Search(
        rows=np.where(upper, all_rows, 0),
        events=np.where(upper, all_events, 0),
        extra_rows=extra_rows,
        extra_events=extra_events,
        allowed=upper & (all_rows >= max(min_rows, 1)),
        smoothing=smoothing,
    )
    most = max(1, min(max_bins, len(rows), int(total_rows[-1]) // max(min_rows, 1)))
    best: tuple[float, list[Segment]] = (-np.inf, [(0, len(rows))])
    layers: dict[str, list[Floats]] = {}
    for c in range(1, most + 1):
        values, extra = search.values(c + len(extra_rows))
        for name in ("ascending", "descending") if trend == "auto" else (trend,):
            legs = _LEGS[name]
            if smoothing or c == 1:
                layers[name] = _grow(search, values, legs, c if smoothing else most)
            value = float(layers[name][c - 1][:, :, -1].max()) + extra
            if value > best[0] + _ROUNDING:
                best = (value, _trace(search, layers[name], legs, c))
    return best[1]
