import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import InputError
from fedcredit.stats.binning import FeatureBins, apply_bins, bin_matrix, fit_bins


def counts_of(bins, column):
    return np.bincount(apply_bins(bins, column), minlength=bins.n_bins)


def test_continuous_column_gets_even_bins():
    x = np.random.default_rng(0).normal(size=10_000)
    bins = fit_bins(x, max_bins=32)
    counts = counts_of(bins, x)
    assert bins.n_bins == 32
    assert not bins.has_missing
    assert counts.sum() == 10_000
    assert counts.min() >= 300
    assert counts.max() <= 320


def test_bins_are_right_closed_intervals_of_edges():
    x = np.random.default_rng(1).normal(size=500)
    bins = fit_bins(x, max_bins=8)
    codes = apply_bins(bins, x)
    for b in range(bins.n_bins):
        low = -np.inf if b == 0 else bins.edges[b - 1]
        high = np.inf if b == bins.n_bins - 1 else bins.edges[b]
        np.testing.assert_array_equal(codes == b, (x > low) & (x <= high))
    np.testing.assert_array_equal(apply_bins(bins, bins.edges), np.arange(bins.n_bins - 1))
    assert list(apply_bins(bins, [-1e300, 1e300])) == [0, bins.n_bins - 1]


def test_few_values_get_a_bin_each_cut_half_way():
    bins = fit_bins([1.0, 2.0, 2.0, 5.0, 9.0])
    np.testing.assert_array_equal(bins.edges, [1.5, 3.5, 7.0])
    np.testing.assert_array_equal(
        apply_bins(bins, [0, 1.5, 1.6, 3.5, 4, 7, 8]), [0, 0, 1, 1, 2, 2, 3]
    )


def test_heavy_ties_do_not_waste_bins():
    rng = np.random.default_rng(2)
    x = np.where(rng.random(10_000) < 0.8, 0.0, rng.normal(size=10_000))
    bins = fit_bins(x, max_bins=32)
    counts = counts_of(bins, x)
    assert bins.n_bins == 32
    zero = int(apply_bins(bins, [0.0])[0])
    assert counts[zero] == (x == 0).sum()
    assert np.delete(counts, zero).max() < 100
    assert bins.most_frequent_bin == zero


def test_missing_values_get_the_last_bin_within_the_limit():
    x = np.arange(1000.0)
    x[::4] = np.nan
    bins = fit_bins(x, max_bins=16)
    assert bins.has_missing
    assert bins.n_bins == 16
    assert (apply_bins(bins, x)[::4] == 15).all()
    assert counts_of(bins, x)[15] == 250
    assert "missing values in bin 15" in bins.describe()


def test_missing_values_unseen_at_fit_go_to_the_most_frequent_bin():
    x = np.concatenate([np.full(900, 50.0), np.arange(100.0)])
    bins = fit_bins(x, max_bins=8)
    assert not bins.has_missing
    assert bins.most_frequent_bin > 0
    assert apply_bins(bins, [np.nan])[0] == apply_bins(bins, [50.0])[0] == bins.most_frequent_bin


@given(
    st.lists(st.integers(0, 40) | st.none(), min_size=1, max_size=200),
    st.integers(1, 30),
    st.integers(2, 20),
    st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_no_bin_is_below_the_floor(values, floor, max_bins, is_categorical):
    x = np.array([np.nan if v is None else v for v in values], float)
    bins = fit_bins(
        x,
        is_categorical=is_categorical,
        max_bins=max_bins,
        max_categories=max_bins,
        min_bin_count=floor,
    )
    counts = counts_of(bins, x)
    assert len(counts) == bins.n_bins <= max_bins
    assert counts.sum() == len(x)
    if bins.n_bins > 1:
        occupied = counts[1:] if is_categorical and counts[0] == 0 else counts
        assert occupied.min() >= floor
    if not is_categorical:
        # Order is kept.
        order = np.argsort(x)
        codes = apply_bins(bins, x)[order][~np.isnan(x[order])]
        assert (np.diff(codes.astype(int)) >= 0).all()
    again = FeatureBins.from_dict(json.loads(json.dumps(bins.to_dict())))
    np.testing.assert_array_equal(apply_bins(again, x), apply_bins(bins, x))
    assert again.info() == bins.info()


@pytest.mark.parametrize("column", [[3.0] * 9, [np.nan] * 9, [1.0]])
@pytest.mark.parametrize("is_categorical", [False, True])
def test_constant_and_empty_columns_have_one_occupied_bin(column, is_categorical):
    bins = fit_bins(column, is_categorical=is_categorical)
    assert (counts_of(bins, column) > 0).sum() == 1
    if not is_categorical:
        assert bins.n_bins == 1
        assert bins.describe().startswith("one bin, never split")


def test_constant_column_with_missing_values_keeps_two_bins():
    column = [5.0] * 10 + [np.nan] * 4
    bins = fit_bins(column)
    assert (bins.n_bins, bins.has_missing) == (2, True)
    np.testing.assert_array_equal(counts_of(bins, column), [10, 4])


def test_categories_are_ordered_by_count():
    column = np.repeat([7.0, -2.0, 30.0, np.nan], [10, 50, 20, 5])
    bins = fit_bins(column, is_categorical=True)
    np.testing.assert_array_equal(bins.categories, [-2, 30, 7])
    np.testing.assert_array_equal(
        apply_bins(bins, [7, -2, 30, np.nan, 99, 6.999]), [3, 1, 2, 0, 0, 0]
    )
    assert "3 categories" in bins.describe()


def test_rare_categories_share_bin_0():
    column = np.repeat(np.arange(12.0), [500, 400, 90, 2, 2, 1, 1, 1, 1, 1, 1, 1])
    bins = fit_bins(column, is_categorical=True, max_categories=4)
    # 99 % of 1001 rows are covered by three categories and two of the next; the cap stops there.
    np.testing.assert_array_equal(bins.categories, [0, 1, 2])
    floored = fit_bins(column, is_categorical=True, min_bin_count=50)
    np.testing.assert_array_equal(floored.categories, [0, 1])
    assert counts_of(floored, column)[0] == 101


def test_categories_follow_lightgbm():
    lgb = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(3)
    column = np.minimum(rng.geometric(0.08, 5000), 80).astype(float)
    bins = fit_bins(column, is_categorical=True)
    data = lgb.Dataset(
        column[:, None],
        label=np.zeros(5000),
        categorical_feature=[0],
        params={"min_data_in_bin": 1, "max_bin": 255, "verbosity": -1, "feature_pre_filter": False},
    ).construct()
    assert data.feature_num_bin(0) == bins.n_bins


def test_neighbouring_floats_stay_apart():
    low = 1.0
    high = np.nextafter(low, 2.0)
    bins = fit_bins([low, high])
    np.testing.assert_array_equal(apply_bins(bins, [low, high]), [0, 1])
    huge = fit_bins([-1.7e308, 1.7e308])
    np.testing.assert_array_equal(apply_bins(huge, [-1.7e308, 1.7e308]), [0, 1])


def test_wide_columns_use_two_bytes():
    x = np.arange(1000.0)
    assert apply_bins(fit_bins(x, max_bins=256), x).dtype == np.uint8
    wide = fit_bins(x, max_bins=500)
    assert apply_bins(wide, x).dtype == np.uint16
    narrow = fit_bins(x)
    matrix = bin_matrix([wide, narrow], np.column_stack([x, x]))
    assert matrix.dtype == np.uint16
    assert matrix.flags.c_contiguous
    np.testing.assert_array_equal(matrix[:, 1], apply_bins(narrow, x))


@pytest.mark.parametrize(
    ("column", "settings"),
    [
        ([1.0, np.inf], {}),
        ([1.0, -np.inf], {"is_categorical": True}),
        ([], {}),
        (["a", "b"], {}),
        ([[1.0], [2.0]], {}),
        ([1.0, 2.0], {"max_bins": 1}),
        ([1.0, 2.0], {"max_bins": 70_000}),
        ([1.0, 2.0], {"max_categories": 1}),
        ([1.0, 2.0], {"min_bin_count": 0}),
    ],
)
def test_unusable_input_is_refused(column, settings):
    with pytest.raises(InputError):
        fit_bins(column, **settings)


def test_infinite_values_are_refused_in_new_rows():
    bins = fit_bins([1.0, 2.0])
    with pytest.raises(InputError, match="infinite"):
        apply_bins(bins, [np.inf])
    with pytest.raises(InputError, match="one column per feature"):
        bin_matrix([bins], np.zeros((3, 2)))


@pytest.mark.parametrize(
    "change",
    [
        {"n_bins": 5},
        {"n_bins": 3.0},
        {"edges": [2.0, 1.0]},
        {"edges": [1.0, float("nan")]},
        {"edges": ["a", "b"]},
        {"edges": [[1.0, 2.0]]},
        {"categories": [1.0]},
        {"most_frequent_bin": 3},
        {"most_frequent_bin": -1},
        {"is_categorical": True},
        {"has_missing": 1},
        {"extra": 0},
    ],
)
def test_damaged_dicts_are_refused(change):
    data = fit_bins([1.0, 2.0, 3.0]).to_dict()
    assert FeatureBins.from_dict(data).n_bins == 3
    with pytest.raises(InputError):
        FeatureBins.from_dict(data | change)


def test_repr_shows_no_values():
    assert "123.5" not in repr(fit_bins([123.0, 124.0]))


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        fit_bins([1.0, 2.0]).edges[0] = 0
