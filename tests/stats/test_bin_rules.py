"""Rules place every row, keep equal values together and keep the floor, without labels."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import InputError
from fedcredit.stats.bin_floor import short_split
from fedcredit.stats.bin_rules import BinRule, category_rule, quantile_rule, regroup, user_rule

NAN = np.nan


def counts(rule, values):
    return np.bincount(rule.apply(values), minlength=rule.n_bins).tolist()


def test_intervals_are_closed_on_the_left_and_missing_is_last():
    rule = BinRule(kind="numeric", splits=np.array([0.0, 3.5]), special_codes=(-999.0,))
    values = [-5, -0.0, 0.0, 3.4999, 3.5, 1e300, -999, NAN]
    assert rule.apply(values).tolist() == [0, 1, 1, 1, 2, 2, 3, 4]
    assert rule.roles == ("ordered", "ordered", "ordered", "special", "missing")
    assert rule.describe() == ["[-inf, 0)", "[0, 3.5)", "[3.5, inf)", "special: -999", "missing"]
    assert rule.apply(np.arange(3)).dtype == np.int64
    assert rule.apply([]).tolist() == []


def test_a_special_code_wins_over_the_interval_it_lies_in():
    rule = BinRule(kind="numeric", splits=np.array([5.0]), special_codes=(3.0, -0.0))
    assert rule.apply([2.9, 3.0, 0.0, -0.0, 6.0]).tolist() == [0, 2, 3, 3, 1]
    assert rule.describe()[3] == "special: 0"


def test_quantiles_of_distinct_values_are_even():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_000)
    rule = quantile_rule(values, max_bins=20, min_bin_count=50)
    assert rule.n_value_bins == 20
    assert set(counts(rule, values)[:-1]) == {500}


@pytest.mark.parametrize("tie", [0.0, 2.0, 9.0], ids=["lowest", "middle", "highest"])
def test_what_a_heavy_tie_takes_is_shared_out_among_the_other_bins(tie):
    values = np.concatenate([np.full(6000, tie), np.linspace(0.1, 5.0, 4000)])
    rule = quantile_rule(values, max_bins=10, min_bin_count=50)
    sizes = counts(rule, values)[:-1]
    assert 7 <= len(sizes) <= 10
    assert max(sizes) == 6000
    # Plain deciles would leave at most four bins to the other 4000 rows.
    assert len([size for size in sizes if size < 1100]) >= 6


def test_few_distinct_values_get_a_bin_each_however_uneven():
    values = np.repeat([0.0, 1.0, 2.0, 3.0], [10, 10, 10, 1000])
    rule = quantile_rule(values, max_bins=20, min_bin_count=1)
    assert rule.splits.tolist() == [1.0, 2.0, 3.0]
    assert counts(rule, values) == [10, 10, 10, 1000, 0]
    assert counts(quantile_rule(values, max_bins=20, min_bin_count=20), values) == [20, 1010, 0]


def test_integer_like_numbers_are_cut_at_integers():
    ages = np.random.default_rng(1).integers(18, 80, 5000).astype(float)
    rule = quantile_rule(ages, max_bins=8, min_bin_count=20)
    assert (rule.splits == np.rint(rule.splits)).all()
    assert all("." not in text for text in rule.describe())


@pytest.mark.parametrize(
    ("low", "high", "split"),
    [
        (0.0298, 0.029867442, 0.02986),
        (19, 27, 20),
        (25, 26, 26),
        (-1000, 0.0012, 0),
        (-1.0, -0.37, -0.4),
        (0.0, 5e-324, 5e-324),
        (1.0, np.nextafter(1.0, 2), np.nextafter(1.0, 2)),
        (1e300, 1.7e308, 1e308),
        (-1.7e308, -1e300, -1e300),
    ],
)
def test_a_cut_is_the_shortest_number_between_two_values(low, high, split):
    assert short_split(low, high) == split


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.floats(allow_nan=True, allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0, 7.0])
        ),
        min_size=1,
        max_size=60,
    ),
    max_bins=st.integers(1, 9),
    floor=st.integers(1, 9),
)
def test_no_bin_of_a_new_rule_is_below_the_floor(values, max_bins, floor):
    values = np.array(values)
    if len(values) < floor:
        with pytest.raises(InputError, match="fewer rows"):
            quantile_rule(values, max_bins=max_bins, min_bin_count=floor, special_codes=(7.0,))
        return
    rules = [
        quantile_rule(values, max_bins=max_bins, min_bin_count=floor, special_codes=(7.0,)),
        user_rule(values, [-1e9, 0.0, 0.5, 1e9], min_bin_count=floor, special_codes=(7.0,)),
    ]
    for rule in rules:
        sizes = counts(rule, values)
        assert sum(sizes) == len(values)
        assert all(size == 0 or size >= floor for size in sizes)
        assert all(sizes[: rule.n_value_bins]) or rule.n_value_bins == 1
        assert rule.roles[-2:] == ("special", "missing")
    assert rules[0].n_value_bins <= max_bins


@settings(max_examples=60, deadline=None)
@given(
    codes=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0, NAN]), max_size=60),
    floor=st.integers(1, 9),
)
def test_no_group_of_categories_is_below_the_floor(codes, floor):
    if len(codes) < floor:
        return
    rule = category_rule(codes, 7, min_bin_count=floor, special_codes=(9.0,))
    sizes = counts(rule, codes)
    assert sum(sizes) == len(codes)
    assert all(size == 0 or size >= floor for size in sizes)
    assert all(sizes[: rule.n_value_bins]) or rule.n_value_bins == 1
    assert {c for group in rule.groups for c in group} == {
        int(c) for c in codes if not np.isnan(c) and c != 9
    }


def test_rules_of_permuted_rows_are_equal():
    rng = np.random.default_rng(2)
    values = np.where(rng.random(3000) < 0.1, NAN, rng.exponential(size=3000).round(2))
    one = quantile_rule(values, min_bin_count=30)
    other = quantile_rule(rng.permutation(values), min_bin_count=30)
    assert one.to_dict() == other.to_dict()


def test_user_splits_stay_where_the_floor_allows():
    values = np.repeat([1.0, 2.0, 3.0, 4.0], [100, 5, 50, 100])
    rule = user_rule(values, [2, 3, 4], min_bin_count=5)
    assert rule.splits.tolist() == [2, 3, 4]
    # The small one joins its smaller neighbour; the empty one beyond 9 goes as well.
    rule = user_rule(values, [2, 3, 4, 9], min_bin_count=10)
    assert rule.splits.tolist() == [2, 4]
    assert user_rule(values, [], min_bin_count=10).is_constant
    with pytest.raises(InputError, match="ascending"):
        user_rule(values, [3, 2], min_bin_count=5)


def test_small_special_and_missing_bins_fold_into_the_largest_interval():
    values = np.concatenate([np.zeros(40), np.ones(60), [NAN] * 3, [-9] * 4, [-8] * 30])
    rule = user_rule(values, [0.5], min_bin_count=10, special_codes=(-9, -8))
    assert rule.folded == (1, 3, 1)
    assert counts(rule, values) == [40, 67, 0, 30, 0]
    assert rule.describe() == [
        "[-inf, 0.5)",
        "[0.5, inf), special: -9, missing",
        "special: -9",
        "special: -8",
        "missing",
    ]


def test_too_few_ordinary_values_take_in_the_missing_ones():
    values = np.concatenate([np.arange(4.0), np.full(50, NAN)])
    rule = quantile_rule(values, min_bin_count=10)
    assert counts(rule, values) == [54, 0]
    assert rule.is_constant


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.ones(50), [50, 0]),
        (np.full(50, NAN), [0, 50]),
        (np.r_[np.ones(25), [NAN] * 25], [25, 25]),
    ],
    ids=["constant", "all missing", "constant and missing"],
)
def test_a_column_without_distinct_values_has_one_interval(values, expected):
    rule = quantile_rule(values, min_bin_count=5)
    assert rule.is_constant
    assert counts(rule, values) == expected


def test_categories_without_a_group_count_as_missing():
    codes = np.repeat([0.0, 1.0, 2.0, 4.0, NAN], [50, 3, 4, 40, 20])
    rule = category_rule(codes, 6, min_bin_count=5)
    assert rule.groups == ((0,), (4,), (1, 2))
    assert rule.roles == ("category", "category", "category", "missing")
    assert rule.apply([3, 5, 6, 100, -1, NAN, 2]).tolist() == [3, 3, 3, 3, 3, 3, 2]
    assert rule.describe("ABCDEF") == ["A", "E", "B, C", "missing"]
    # Together still too rare: they join the most frequent category.
    assert category_rule(codes, 6, min_bin_count=10).groups == ((0, 1, 2), (4,))


def test_merging_rules_is_merging_bins():
    rng = np.random.default_rng(3)
    values = np.where(rng.random(2000) < 0.1, NAN, rng.normal(size=2000).round(1))
    rule = quantile_rule(values, max_bins=6, min_bin_count=20, special_codes=(0.0,))
    groups = [(0, 1), (2,), (3, 4, 5), (6,), (7,)]
    place, roles = regroup(rule.roles, groups)
    merged = rule.merged(groups)
    assert merged.roles == roles
    assert (merged.apply(values) == place[rule.apply(values)]).all()
    assert place.tolist() == [0, 0, 1, 2, 2, 2, 3, 4]
    assert merged.splits.tolist() == rule.splits[[1, 2]].tolist()


@pytest.mark.parametrize(
    "groups",
    [
        [(0, 7), (1, 2, 3), (4, 5), (6,)],
        [(0, 1, 2), (3, 4, 5), (6, 7)],
        [(0, 1, 2, 6, 7), (3, 4, 5)],
    ],
    ids=["missing with an interval", "missing with special", "both with an interval"],
)
def test_special_and_missing_bins_can_be_merged_by_hand(groups):
    values = np.concatenate([np.arange(60.0), [-9] * 10, [NAN] * 10])
    rule = quantile_rule(values, max_bins=6, min_bin_count=5, special_codes=(-9,))
    place, roles = regroup(rule.roles, groups)
    merged = rule.merged(groups)
    assert merged.roles == roles
    assert (merged.apply(values) == place[rule.apply(values)]).all()
    # And once more, from a rule that has folded bins already.
    again = [
        tuple(range(merged.n_value_bins)),
        *((b,) for b in range(merged.n_value_bins, len(roles))),
    ]
    twice, _ = regroup(roles, again)
    assert (merged.merged(again).apply(values) == twice[place[rule.apply(values)]]).all()


def test_merging_categories_in_any_order():
    codes = np.repeat([0.0, 1.0, 2.0, 3.0], 10)
    rule = category_rule(codes, 4, min_bin_count=1)
    groups = [(3, 1), (0,), (2,), (4,)]
    merged = rule.merged(groups)
    assert merged.groups == ((1, 3), (0,), (2,))
    assert merged.apply([0, 1, 2, 3, NAN]).tolist() == [1, 0, 2, 0, 3]


@pytest.mark.parametrize(
    "groups",
    [
        [(0, 2), (1,), (3,)],
        [(1,), (0, 2), (3,)],
        [(0, 1), (3,)],
        [(0, 1), (1, 2), (3,)],
        [(2,), (0, 1), (3,)],
    ],
)
def test_groups_that_tear_intervals_apart_are_refused(groups):
    rule = BinRule(kind="numeric", splits=np.array([1.0, 2.0]))
    with pytest.raises(InputError):
        rule.merged(groups)


def test_rules_survive_json():
    rules = [
        user_rule([1.0, 2.0, -9, NAN] * 5, [1.5], min_bin_count=5, special_codes=(-9,)),
        user_rule([1.0, 2.0, 2.0, NAN], [1.5], min_bin_count=2),
        category_rule([0.0, 1.0, 1.0, NAN], 3, min_bin_count=1),
    ]
    for rule in rules:
        again = BinRule.from_dict(rule.to_dict())
        assert again.to_dict() == rule.to_dict()
        assert again.roles == rule.roles


GOOD = BinRule(kind="numeric", splits=np.array([1.0, 2.0]), special_codes=(-9.0,)).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"kind": 3},
        {"splits": [2.0, 1.0]},
        {"splits": [1.0, 1.0]},
        {"splits": [float("nan")]},
        {"splits": [float("inf")]},
        {"splits": ["1"]},
        {"special_codes": [1.0, 1.0]},
        {"groups": [[0]]},
        {"groups": [0]},
        {"n_categories": 2},
        {"n_categories": True},
        {"folded": [0]},
        {"folded": [0, 5]},
        {"folded": [0, 1.5]},
        {"more": 1},
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(change):
    with pytest.raises(InputError):
        BinRule.from_dict({**GOOD, **change})


@pytest.mark.parametrize("groups", [((0, 1), (1,)), ((3,),), ((-1,),), ((),)])
def test_groups_that_do_not_fit_the_categories_are_refused(groups):
    with pytest.raises(InputError, match="groups do not fit"):
        BinRule(kind="categorical", groups=groups, n_categories=3)


@pytest.mark.parametrize(
    "make",
    [lambda v: quantile_rule(v, min_bin_count=1), lambda v: BinRule(kind="numeric").apply(v)],
)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([1.0, np.inf], "contain infinity"),
        ([-np.inf], "contain infinity"),
        (["x"], "not numbers"),
        ([[1.0]], "a vector"),
    ],
)
def test_values_without_a_place_are_refused(make, bad, reason):
    with pytest.raises(InputError, match=reason):
        make(bad)


@pytest.mark.parametrize("codes", [[0.5, 1.0], [-1.0, 0.0], [3.0, 0.0]])
def test_category_codes_are_whole_numbers_in_range(codes):
    with pytest.raises(InputError, match="whole numbers"):
        category_rule(codes, 3, min_bin_count=1)


def test_options_out_of_their_domain_are_refused():
    for call in (
        lambda: quantile_rule([1.0], min_bin_count=0),
        lambda: quantile_rule([1.0], max_bins=0, min_bin_count=1),
        lambda: quantile_rule([1.0], min_bin_count=1, special_codes=(NAN,)),
        lambda: quantile_rule([1.0], min_bin_count=1, special_codes=(2.0, 2.0)),
        lambda: category_rule([0.0], 1, min_bin_count=1).apply([0.5]),
        lambda: category_rule([0.0], 1, min_bin_count=1).describe(["A", "B"]),
    ):
        with pytest.raises(InputError):
            call()


def test_a_rule_does_not_show_its_cut_points_by_itself():
    rule = quantile_rule(np.arange(1000.0) + 0.25, min_bin_count=10)
    assert "0.25" not in repr(rule)
    assert str(rule.splits[0]) not in repr(rule)


def test_large_tables_are_binned_in_seconds():
    rng = np.random.default_rng(4)
    columns = rng.normal(size=(23, 150_000))
    columns[5:10] = np.round(columns[5:10] * 5)
    columns[10:15][rng.random((5, 150_000)) < 0.2] = NAN
    begin = time.process_time()
    for column in columns:
        rule = quantile_rule(column, min_bin_count=50, special_codes=(-999.0,))
        rule.apply(column)
    assert time.process_time() - begin < 2.0
