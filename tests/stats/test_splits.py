import itertools

import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.stats.splits import find_best_split
from fedcredit.stats.tree_params import FeatureInfo, FeatureTable, TreeParams

LOOSE = TreeParams(min_child_samples=1, min_child_weight=0.0)


def histograms(infos, n=400, seed=0, effect=0.3):
    """Integer histograms of random rows; the first feature's bins matter most."""
    rng = np.random.default_rng(seed)
    g = rng.integers(-100, 101, n)
    h = rng.integers(20, 60, n)
    G, H = [], []
    for info in infos:
        codes = rng.integers(0, info.n_bins, n)
        shifted = g + (effect * 100 * (codes % 2 if info.is_categorical else codes > 2)).astype(int)
        G.append(np.bincount(codes, shifted, info.n_bins))
        H.append(np.bincount(codes, h, info.n_bins))
    return np.concatenate(G), np.concatenate(H), n


def search(infos, params=LOOSE, seed=0, allowed=None, **bounds):
    G, H, n = histograms(infos, seed=seed)
    # Features see different gradients here, so each is searched with totals of its own.
    table = FeatureTable.of(infos)
    allowed = np.ones(len(infos), bool) if allowed is None else allowed
    start, stop = table.offsets[:2]
    totals = {"sum_g": G[start:stop].sum(), "sum_h": H[start:stop].sum()}
    split, splittable = find_best_split(
        G, H, table, params, count=n, allowed=allowed, **totals, **bounds
    )
    return split, splittable, G, H, totals


def gain(lg, lh, totals, l2=0.0):
    g, h = totals["sum_g"], totals["sum_h"]
    return lg**2 / (lh + l2) + (g - lg) ** 2 / (h - lh + l2) - g**2 / (h + l2)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("l2", [0.0, 50.0])
def test_numeric_split_is_the_exhaustive_optimum(seed, l2):
    params = TreeParams(lambda_l2=l2, min_child_samples=1, min_child_weight=0.0)
    split, _, G, H, totals = search([FeatureInfo(9)], params, seed)
    gains = [gain(G[: b + 1].sum(), H[: b + 1].sum(), totals, l2) for b in range(8)]
    assert split.threshold_bin == int(np.argmax(gains))
    assert split.gain == pytest.approx(max(gains), rel=1e-9)
    assert split.left_g == pytest.approx(G[: split.threshold_bin + 1].sum())
    assert split.left_g + split.right_g == pytest.approx(totals["sum_g"])
    assert split.left_h + split.right_h == pytest.approx(totals["sum_h"])
    assert split.left_output == pytest.approx(-split.left_g / (split.left_h + l2))
    assert split.right_output == pytest.approx(-split.right_g / (split.right_h + l2))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("most_frequent", [0, 5])
def test_missing_values_are_tried_on_both_sides(seed, most_frequent):
    split, _, G, H, totals = search(
        [FeatureInfo(7, True, most_frequent_bin=most_frequent)], seed=seed
    )
    options = {}
    for threshold, with_missing in itertools.product(range(6), (False, True)):
        left = [*range(threshold + 1), *([6] if with_missing else [])]
        if len(left) < 7:
            options[threshold, with_missing] = gain(G[left].sum(), H[left].sum(), totals)
    best = max(options, key=options.__getitem__)
    assert (split.threshold_bin, split.default_left) == best
    assert split.gain == pytest.approx(options[best], rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_one_hot_split_is_the_exhaustive_optimum(seed):
    split, _, G, H, totals = search([FeatureInfo(4, is_categorical=True)], seed=seed)
    gains = [-np.inf] + [gain(G[b], H[b], totals) for b in range(1, 4)]
    assert split.left_bins == (int(np.argmax(gains)),)
    assert split.threshold_bin == -1
    assert split.gain == pytest.approx(max(gains), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_sorted_categories_find_the_best_of_all_subsets(seed):
    """Fisher: without smoothing and penalty the best subset is a prefix of the sorted bins."""
    params = TreeParams(
        min_child_samples=1,
        min_child_weight=0.0,
        cat_smooth=0.0,
        cat_l2=0.0,
        min_data_per_group=1,
        max_cat_to_onehot=1,
    )
    split, _, G, H, totals = search([FeatureInfo(9, is_categorical=True)], params, seed)
    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(1, 9), k) for k in range(1, 5)
    )
    # Bin 0 stays right and at most half the bins go left.
    best = max(gain(G[list(s)].sum(), H[list(s)].sum(), totals) for s in subsets)
    assert split.gain == pytest.approx(best, rel=1e-9)
    assert split.left_bins == tuple(sorted(split.left_bins))
    assert 0 not in split.left_bins


def test_categorical_settings_limit_the_left_set():
    params = TreeParams(max_cat_threshold=2, min_data_per_group=1, cat_smooth=0.0)
    split, *_ = search([FeatureInfo(30, is_categorical=True)], params)
    assert 1 <= len(split.left_bins) <= 2
    nothing, splittable, *_ = search(
        [FeatureInfo(30, is_categorical=True)], TreeParams(min_data_per_group=10_000)
    )
    assert nothing is None
    assert not splittable.any()


@pytest.mark.parametrize("limit", [20, 60, 120, 201])
def test_smallest_child(limit):
    split, _, _, H, totals = search([FeatureInfo(9)], TreeParams(min_child_samples=limit))
    if limit > 200:
        assert split is None
        return
    rows = [int(v * 400 / totals["sum_h"] + 0.5) for v in H]
    left = 400 - sum(rows[split.threshold_bin + 1 :])
    assert limit <= left <= 400 - limit


def test_smallest_hessian():
    *_, totals = search([FeatureInfo(9)])
    weight = 0.4 * totals["sum_h"]
    split, *_ = search([FeatureInfo(9)], TreeParams(min_child_weight=weight))
    assert min(split.left_h, split.right_h) >= weight
    too_much, *_ = search([FeatureInfo(9)], TreeParams(min_child_weight=0.6 * totals["sum_h"]))
    assert too_much is None


def test_min_split_gain():
    split, *_ = search([FeatureInfo(9)])
    same, *_ = search([FeatureInfo(9)], TreeParams(min_split_gain=0.99 * split.gain))
    assert same.threshold_bin == split.threshold_bin
    assert same.gain == pytest.approx(split.gain)
    none, splittable, *_ = search([FeatureInfo(9)], TreeParams(min_split_gain=1.01 * split.gain))
    assert none is None
    assert not splittable.any()


def test_ties_go_to_the_lower_feature_and_the_higher_threshold():
    G = np.array([5.0, 0.0, -5.0] * 3)
    H = np.array([10.0, 0.0, 10.0] * 3)
    table = FeatureTable.of([FeatureInfo(3)] * 3)
    settings = {"sum_g": 0.0, "sum_h": 20.0, "count": 20}
    split, _ = find_best_split(G, H, table, LOOSE, allowed=np.ones(3, bool), **settings)
    assert (split.feature, split.threshold_bin) == (0, 1)
    later, _ = find_best_split(
        G, H, table, LOOSE, allowed=np.array([False, True, True]), **settings
    )
    assert later.feature == 1


@pytest.mark.parametrize(("monotone", "winner"), [(0, 0), (1, 1), (-1, 0)])
def test_of_equal_gains_the_constrained_one_wins(monotone, winner):
    G = np.array([5.0, 0.0, -5.0] * 3)
    H = np.array([10.0, 0.0, 10.0] * 3)
    table = FeatureTable.of([FeatureInfo(3), FeatureInfo(3, monotone=monotone), FeatureInfo(3)])
    split, _ = find_best_split(
        G, H, table, LOOSE, sum_g=0.0, sum_h=20.0, count=20, allowed=np.ones(3, bool)
    )
    assert split.feature == winner


def test_only_allowed_features_are_looked_at():
    infos = [FeatureInfo(9), FeatureInfo(9), FeatureInfo(5, is_categorical=True)]
    split, splittable, *_ = search(infos, allowed=np.array([False, True, False]))
    assert split.feature == 1
    np.testing.assert_array_equal(splittable, [False, True, False])


@pytest.mark.parametrize("monotone", [-1, 1])
@pytest.mark.parametrize("seed", range(10))
def test_monotone_splits_respect_their_direction(monotone, seed):
    split, *_ = search([FeatureInfo(9, monotone=monotone)], seed=seed)
    free, *_ = search([FeatureInfo(9)], seed=seed)
    if split is not None:
        assert monotone * (split.right_output - split.left_output) >= 0
        assert split.gain <= free.gain * (1 + 1e-12)


def test_bounds_hold_outputs():
    infos = [FeatureInfo(9, monotone=-1)]
    free, *_ = search(infos)
    held, *_ = search(infos, low=0.5 * free.right_output, high=0.5 * free.left_output)
    for output in (held.left_output, held.right_output):
        assert 0.5 * free.right_output <= output <= 0.5 * free.left_output


def test_one_bin_is_never_split():
    split, splittable, *_ = search([FeatureInfo(1)])
    assert split is None
    assert not splittable.any()


@pytest.mark.parametrize(
    "bad",
    [
        {"n_bins": 0},
        {"n_bins": 70_000},
        {"n_bins": 3, "most_frequent_bin": 3},
        {"n_bins": 3, "monotone": 2},
        {"n_bins": 3, "monotone": 1, "is_categorical": True},
        {"n_bins": 3, "has_missing": True, "is_categorical": True},
    ],
)
def test_feature_infos_are_checked(bad):
    with pytest.raises(InputError):
        FeatureInfo(**bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_depth": 0},
        {"max_depth": 17},
        {"lambda_l2": -1.0},
        {"lambda_l2": float("nan")},
        {"min_child_samples": -1},
        {"min_child_weight": float("inf")},
        {"min_split_gain": -0.1},
        {"cat_smooth": -1.0},
        {"max_cat_threshold": 0},
        {"min_data_per_group": 0},
    ],
)
def test_params_are_checked(bad):
    with pytest.raises(InputError):
        TreeParams(**bad)


def test_a_table_needs_features():
    with pytest.raises(InputError):
        FeatureTable.of([])
