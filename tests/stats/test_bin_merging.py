"""The dynamic programme finds what trying every partition finds."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.stats.bin_merging import force_trend, merge_bins, observed_trend
from fedcredit.stats.bin_rules import regroup
from fedcredit.stats.chimerge import chi_square, chimerge
from fedcredit.stats.optimal_bins import follows
from fedcredit.stats.woe import woe_table

TRENDS = ["ascending", "descending", "auto", "peak", "valley", "none"]
ROUNDING = 1e-12


def partitions(m):
    """All ways to cut m neighbours into segments."""
    for k in range(m):
        for cuts in combinations(range(1, m), k):
            ends = [0, *cuts, m]
            yield [tuple(range(a, b)) for a, b in pairwise(ends)]


def totals(count, event, groups):
    place = np.empty(len(count), int)
    for g, group in enumerate(groups):
        place[list(group)] = g
    return np.bincount(place, count), np.bincount(place, event)


def never_falls(x):
    return bool((np.diff(x) >= -ROUNDING).all())


def has_trend(sequences, trend):
    """Whether all sequences follow the trend and turn at the same place."""

    def rises(a, b):
        return all(never_falls(x[a:b]) for x in sequences)

    def falls(a, b):
        return all(never_falls(-x[a:b]) for x in sequences)

    n = len(sequences[0])
    return {
        "none": lambda: True,
        "ascending": lambda: rises(0, n),
        "descending": lambda: falls(0, n),
        "auto": lambda: rises(0, n) or falls(0, n),
        "peak": lambda: any(rises(0, t + 1) and falls(t, n) for t in range(n)),
        "valley": lambda: any(falls(0, t + 1) and rises(t, n) for t in range(n)),
    }[trend]()


def brute_force(count, event, n_values, *, max_bins, min_rows, trend, smoothing):
    """The largest information value over all partitions that comply."""
    best = -1.0
    extra = [(b,) for b in range(n_values, len(count))]
    for segments in partitions(n_values):
        rows, events = totals(count, event, [*segments, *extra])
        table = woe_table(rows, events, smoothing=smoothing)
        k = len(segments)
        # Rates and smoothed odds, worked out anew; weights of pure bins are 0 without smoothing.
        rate = events[:k] / rows[:k]
        odds = (events[:k] + smoothing) / (rows[:k] + 2 * smoothing)
        complies = has_trend([rate, odds], trend)
        if k <= max_bins and rows[:k].min() >= min_rows and complies:
            best = max(best, table.total_iv)
    return best


def pre_bins(seed, m):
    """Small counts, so that ties, equal rates and bins of one class are frequent."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 30, m + 2) * rng.choice([1, 1, 20], m + 2)
    count[-2] = rng.integers(0, 2) * count[-2]
    risk = [np.linspace(0.05, 0.7, m), rng.random(m), np.sin(np.linspace(0.1, 3, m))][seed % 3]
    event = rng.binomial(count, [*risk, 0.3, 0.1])
    event[0], event[m // 2] = 0, count[m // 2]
    return count, event, ["ordered"] * m + ["special", "missing"]


@pytest.mark.parametrize("trend", TRENDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 3.3])
def test_no_partition_has_a_larger_information_value(trend, smoothing):
    for seed in range(25):
        m = 3 + seed % 6
        count, event, roles = pre_bins(seed, m)
        rng = np.random.default_rng(seed)
        max_bins, min_rows = int(rng.integers(1, m + 1)), int(rng.choice([1, 1, 5, 30]))
        groups = merge_bins(
            count,
            event,
            roles,
            max_bins=max_bins,
            min_bin_count=min_rows,
            min_bin_share=0,
            trend=trend,
            smoothing=smoothing,
        )
        rows, events = totals(count, event, groups)
        k = len(groups) - 2
        assert groups[-2:] == ((m,), (m + 1,))
        assert k <= max_bins
        ours = woe_table(rows, events, smoothing=smoothing).total_iv
        best = brute_force(
            count, event, m, max_bins=max_bins, min_rows=min_rows, trend=trend, smoothing=smoothing
        )
        if count[:m].sum() < min_rows:
            assert k == 1
            continue
        assert rows[:k].min() >= min_rows
        odds = (events[:k] + smoothing) / (rows[:k] + 2 * smoothing)
        assert has_trend([events[:k] / rows[:k], odds], trend)
        assert ours == pytest.approx(best, abs=1e-11)


def test_rates_and_weights_both_follow_the_trend():
    roles = ["ordered"] * 3
    # Both of the first bins have no event, but the weight of the smaller one is higher.
    count, event = np.array([10, 500, 500]), np.array([0, 0, 90])
    assert not follows(count, event, "ascending", 0.5)
    assert follows(count, event, "ascending", 0.0)
    groups = merge_bins(count, event, roles, min_bin_share=0, trend="ascending")
    assert groups == ((0, 1), (2,))
    # The rate falls from 0.99 to 0.95, and yet the weight rises, for the smoothing of few rows.
    count, event = np.array([1000, 100, 1000]), np.array([100, 99, 950])
    assert (np.diff(woe_table(count, event, smoothing=10).woe) > 0).all()
    assert not follows(count, event, "ascending", 10.0)
    assert not follows(count[::-1], event[::-1], "descending", 10.0)


def test_a_tie_goes_to_the_fewest_bins():
    groups = merge_bins([100] * 4, [10, 10, 30, 30], ["ordered"] * 4, smoothing=0)
    assert groups == ((0, 1), (2, 3))
    assert merge_bins([100] * 3, [10] * 3, ["ordered"] * 3, smoothing=0) == ((0, 1, 2),)


def test_min_share_is_of_all_rows():
    count, event = np.array([100, 100, 100, 100, 600]), np.array([5, 10, 20, 40, 60])
    roles = ["ordered"] * 4 + ["missing"]
    assert len(merge_bins(count, event, roles, min_bin_share=0.1)) == 5
    assert len(merge_bins(count, event, roles, min_bin_share=0.11)) == 3
    assert merge_bins(count, event, roles, min_bin_share=0.5) == ((0, 1, 2, 3), (4,))


def test_categories_are_grouped_in_the_order_of_their_event_rate():
    count, rate = np.array([200, 100, 300, 150, 250, 50]), [0.3, 0.1, 0.5, 0.1, 0.3, 0.2]
    event = np.rint(count * rate).astype(int)
    roles = ["category"] * 5 + ["missing"]
    groups = merge_bins(count, event, roles, smoothing=0, trend="descending")
    assert groups == ((1, 3), (0, 4), (2,), (5,))
    # Of all groupings, also of categories that are no neighbours, none is worth more.
    groups = merge_bins(count, event, roles, smoothing=0, max_bins=2, min_bin_share=0)
    found = woe_table(*totals(count, event, groups), smoothing=0).total_iv
    every = [
        woe_table(
            *totals(count, event, [side, tuple(set(range(5)) - set(side)), (5,)]), smoothing=0
        ).total_iv
        for k in range(1, 5)
        for side in combinations(range(5), k)
    ]
    assert found == pytest.approx(max(every), abs=1e-12)
    assert len(set(np.round(every, 9))) > 5


def test_none_leaves_bins_as_they_are():
    roles = ["category"] * 3 + ["special", "missing"]
    groups = merge_bins([5, 9, 3, 0, 1], [1, 0, 3, 0, 1], roles, method="none", max_bins=1)
    assert groups == ((0,), (1,), (2,), (3,), (4,))


@pytest.mark.parametrize("method", ["optimal", "chimerge"])
def test_features_without_intervals_or_with_one(method):
    assert merge_bins([40, 60], [10, 5], ["special", "missing"], method=method) == ((0,), (1,))
    assert merge_bins([40, 60], [10, 5], ["ordered", "missing"], method=method) == ((0,), (1,))
    # All values are missing: the interval is empty.
    assert merge_bins([0, 60], [0, 5], ["ordered", "missing"], method=method) == ((0,), (1,))


@pytest.mark.parametrize("method", ["optimal", "chimerge"])
def test_empty_intervals_and_categories_join_others(method):
    for kind in ("ordered", "category"):
        groups = merge_bins([50, 0, 50, 0], [5, 0, 25, 0], [kind] * 3 + ["missing"], method=method)
        rows, _ = totals([50, 0, 50, 0], [0] * 4, groups)
        assert rows.tolist() == [50, 50, 0]


def test_chi_square_of_a_table_worked_by_hand():
    # 2x2 table (10, 20; 30, 40): 100 (10*40 - 20*30)^2 / (30*70*40*60).
    found = chi_square(np.array([30, 70, 5, 5, 0]), np.array([10, 30, 0, 0, 0]))
    expected = 100 * 200**2 / (30 * 70 * 40 * 60)
    assert found[0] == pytest.approx(expected, rel=1e-14)
    assert found[2:].tolist() == [0, 0]


def test_chi_square_is_that_of_scipy():
    from scipy.stats import chi2_contingency

    rng = np.random.default_rng(5)
    rows = rng.integers(20, 300, 12)
    events = rng.binomial(rows, 0.3)
    theirs = [
        chi2_contingency(
            [[events[i], rows[i] - events[i]], [events[i + 1], rows[i + 1] - events[i + 1]]],
            correction=False,
        )[0]
        for i in range(11)
    ]
    np.testing.assert_allclose(chi_square(rows, events), theirs, rtol=1e-10)


def test_chimerge_stops_where_neighbours_differ():
    rows = np.full(8, 200)
    events = np.array([20, 22, 19, 60, 62, 58, 110, 112])
    options = {"min_rows": 1, "significance": 0.05}
    assert chimerge(rows, events, max_bins=8, **options) == [(0, 3), (3, 6), (6, 8)]
    # Fewer bins than that: the pair with the smaller statistic goes, levels or not.
    assert chimerge(rows, events, max_bins=2, **options) == [(0, 3), (3, 8)]
    # A level this strict finds nothing that differs; one this lax, everything that does at all.
    assert chimerge(rows, events, max_bins=8, min_rows=1, significance=1e-60) == [(0, 8)]
    lax = chimerge(rows, events, max_bins=8, min_rows=1, significance=0.999999)
    assert len(lax) == 8


def test_chimerge_merges_small_bins_with_the_more_similar_neighbour():
    rows, events = np.array([1000, 20, 1000]), np.array([50, 8, 420])
    merged = chimerge(rows, events, max_bins=3, min_rows=50, significance=0.05)
    assert merged == [(0, 1), (1, 3)]


@pytest.mark.parametrize("trend", TRENDS)
def test_chimerge_complies_with_every_option(trend):
    for seed in range(20):
        count, event, roles = pre_bins(seed, 8)
        groups = merge_bins(
            count, event, roles, method="chimerge", max_bins=4, min_bin_count=20, trend=trend
        )
        rows, events = totals(count, event, groups)
        k = len(groups) - 2
        assert sorted(b for group in groups for b in group) == list(range(10))
        assert k <= 4
        assert k == 1 or rows[:k].min() >= 20
        assert has_trend([events[:k] / rows[:k]], trend)


def test_a_trend_is_forced_by_merging_as_little_as_possible():
    count, event = np.full(7, 100), np.array([10, 30, 20, 40, 60, 50, 5])
    roles = ["ordered"] * 6 + ["missing"]
    single = [(b,) for b in range(7)]
    assert force_trend(count, event, roles, single, "ascending", smoothing=0) == (
        (0,),
        (1, 2),
        (3,),
        (4, 5),
        (6,),
    )
    assert force_trend(count, event, roles, single, "none") == tuple(single)
    peak = force_trend(count, event, roles, single, "peak", smoothing=0)
    assert peak == ((0,), (1, 2), (3,), (4,), (5,), (6,))
    groups = [(0,), (1,), (2, 6), (3, 4), (5,)]
    # A missing bin that was merged by hand stays where it was put.
    forced = force_trend(count, event, roles, groups, "ascending", smoothing=0)
    assert sorted(b for group in forced for b in group) == list(range(7))
    assert [group for group in forced if 6 in group and 2 in group]
    regroup(roles, forced)


def test_forcing_a_trend_on_categories_sorts_them():
    groups = force_trend(
        [50, 50, 50, 10], [30, 10, 20, 1], ["category"] * 3 + ["missing"], [(0,), (1,), (2,), (3,)]
    )
    assert groups == ((1,), (2,), (0,), (3,))


@pytest.mark.parametrize(
    ("event", "trend"),
    [
        ([1, 2, 3], "ascending"),
        ([3, 2, 2], "descending"),
        ([1, 3, 2], "peak"),
        ([3, 1, 2], "valley"),
        ([1, 3, 2, 4], "none"),
        ([2, 2], "constant"),
        ([2], "constant"),
        ([], "constant"),
    ],
)
def test_the_trend_that_is_there(event, trend):
    assert observed_trend([10] * len(event), event) == trend
    assert observed_trend([0] + [10] * len(event), [0, *event]) == trend


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "best"},
        {"trend": "up"},
        {"max_bins": 0},
        {"min_bin_count": 0},
        {"min_bin_share": 1.5},
        {"min_bin_share": np.nan},
        {"significance": 0.0},
        {"smoothing": -1},
        {"roles": ["ordered", "missing"]},
        {"roles": ["missing", "ordered", "ordered"]},
        {"roles": ["ordered", "category", "missing"]},
        {"roles": ["ordered", "ordered", "other"]},
        {"event": [0, 0, 0]},
        {"event": [9, 2, 11]},
    ],
)
def test_what_cannot_be_is_refused(arguments):
    good = {"count": [10, 10, 10], "event": [1, 2, 3], "roles": ["ordered", "ordered", "missing"]}
    with pytest.raises(InputError):
        merge_bins(**(good | arguments))
