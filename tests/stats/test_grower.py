import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.stats.binning import bin_matrix, fit_bins
from fedcredit.stats.grower import TreeGrower
from fedcredit.stats.histograms import local_histograms
from fedcredit.stats.quantise import Quantiser, logistic_gradients
from fedcredit.stats.tree_params import FeatureInfo, TreeParams
from fedcredit.stats.trees import LEAF, decision_directions

N = 3000


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 5))
    X[rng.random(N) < 0.3, 1] = np.nan
    X[:, 4] = rng.integers(0, 8, N)
    z = X[:, 0] + np.isnan(X[:, 1]) + X[:, 2] * X[:, 3] + np.sin(3 * X[:, 4])
    y = (rng.random(N) < 1 / (1 + np.exp(-z))).astype(float)
    bins = [fit_bins(X[:, f], is_categorical=f == 4) for f in range(5)]
    q = Quantiser.exact().quantise(*logistic_gradients(np.zeros(N), y), tree=0)
    return bin_matrix(bins, X), [b.info() for b in bins], q


def start(data, in_bag=None, params=None, infos=None, **settings):
    _, own, q = data
    in_bag = np.ones(N, bool) if in_bag is None else in_bag
    params = params or TreeParams(max_depth=4)
    return TreeGrower(in_bag, q.g, q.h, q.g_scale, q.h_scale, infos or own, params, **settings)


def supply(grower, data, work):
    codes, _, q = data
    grower.supply(work.node, *local_histograms(codes, work.rows, q.g, q.h, grower.features.offsets))


def grow(grower, data, reverse=False, learning_rate=0.1):
    order = reversed if reverse else list
    while not grower.done:
        for work in order(grower.histogram_work()):
            supply(grower, data, work)
        for decision in order(grower.decide()):
            column = data[0][decision.rows, decision.feature]
            grower.partition(decision.node, decision_directions(column, decision))
    return grower.finish(learning_rate)


def test_the_tree_is_what_the_rows_say(data):
    codes, _, q = data
    grower = start(data)
    tree = grow(grower, data)
    assert tree.depth == 4
    np.testing.assert_array_equal(tree.apply(codes), grower.leaf_of_row)
    np.testing.assert_array_equal(
        np.bincount(grower.leaf_of_row, minlength=tree.n_nodes)[tree.leaves],
        tree.count[tree.leaves],
    )
    for leaf in tree.leaves:
        rows = grower.leaf_of_row == leaf
        # The categorical feature adds its own penalty to its children's outputs.
        parent = int(np.flatnonzero((tree.left == leaf) | (tree.right == leaf))[0])
        l2 = TreeParams().cat_l2 if tree.split(parent).is_categorical else 0.0
        value = -0.1 * q.g[rows].sum() * q.g_scale / (q.h[rows].sum() * q.h_scale + l2)
        assert tree.value[leaf] == pytest.approx(value, rel=1e-9)
    inner = tree.feature != LEAF
    np.testing.assert_array_equal(
        tree.count[inner], tree.count[tree.left[inner]] + tree.count[tree.right[inner]]
    )
    assert (tree.gain[inner] > 0).all()


def test_histograms_are_asked_for_the_smaller_sibling_only(data):
    grower = start(data)
    asked = []
    while not grower.done:
        work = grower.histogram_work()
        asked.append(sum(len(w.rows) for w in work))
        assert all(w.rows.dtype == np.int32 for w in work)
        for w in work:
            supply(grower, data, w)
        for decision in grower.decide():
            column = data[0][decision.rows, decision.feature]
            grower.partition(decision.node, decision_directions(column, decision))
    assert asked[0] == N
    assert len(asked) == 4, "the deepest level needs no histograms"
    assert max(asked[1:]) <= N // 2


def test_order_of_supply_and_partition_does_not_matter(data):
    first, second = start(data), start(data)
    assert grow(first, data).to_dict() == grow(second, data, reverse=True).to_dict()
    np.testing.assert_array_equal(first.leaf_of_row, second.leaf_of_row)


def test_rows_out_of_the_sample_only_follow(data):
    codes, infos, q = data
    bag = np.random.default_rng(1).random(N) < 0.5
    grower = start(data, bag)
    tree = grow(grower, data)
    alone = TreeGrower(
        np.ones(bag.sum(), bool), q.g[bag], q.h[bag], q.g_scale, q.h_scale, infos,
        TreeParams(max_depth=4),
    )  # fmt: skip
    subset = codes[bag], infos, type(q)(q.g[bag], q.h[bag], q.g_scale, q.h_scale)
    assert grow(alone, subset).to_dict() == tree.to_dict()
    np.testing.assert_array_equal(grower.leaf_of_row, tree.apply(codes))
    np.testing.assert_array_equal(grower.leaf_of_row[bag], alone.leaf_of_row)


def test_decisions_carry_all_rows_and_work_only_the_sample(data):
    bag = np.arange(N) % 3 > 0
    grower = start(data, bag)
    (work,) = grower.histogram_work()
    np.testing.assert_array_equal(work.rows, np.flatnonzero(bag))
    supply(grower, data, work)
    (decision,) = grower.decide()
    np.testing.assert_array_equal(decision.rows, np.arange(N))
    assert "rows" not in repr(decision)


def test_masked_features_are_not_used_and_their_histograms_ignored(data):
    codes, infos, q = data
    mask = np.array([False, True, True, False, True])
    grower = start(data, col_mask=mask)
    offsets = grower.features.offsets
    while not grower.done:
        for work in grower.histogram_work():
            G, H = local_histograms(codes, work.rows, q.g, q.h, offsets)
            for f in np.flatnonzero(~mask):
                G[offsets[f] : offsets[f + 1]] = 7
                H[offsets[f] : offsets[f + 1]] = -1
            grower.supply(work.node, G, H)
        for decision in grower.decide():
            grower.partition(
                decision.node, decision_directions(codes[decision.rows, decision.feature], decision)
            )
    tree = grower.finish(0.1)
    assert set(tree.feature) <= {LEAF, 1, 2, 4}
    constant = codes.copy()
    constant[:, ~mask] = 0
    assert grow(start((constant, infos, q)), (constant, infos, q)).to_dict() == tree.to_dict()


def test_split_budget(data):
    budget = np.array([1, 9, 0, 2, 9])
    tree = grow(start(data, split_budget=budget), data)
    used = np.bincount(tree.feature[tree.feature != LEAF], minlength=5)
    assert (used <= budget).all()
    free = np.bincount(grow(start(data), data).feature + 1, minlength=6)[1:]
    assert (free > budget).any(), "the budget binds"
    np.testing.assert_array_equal(budget, [1, 9, 0, 2, 9])


def test_monotone_trees_are_monotone(data):
    codes, infos, _ = data
    for direction in (-1, 1):
        constrained = [FeatureInfo(infos[0].n_bins, monotone=direction), *infos[1:]]
        tree = grow(start(data, infos=constrained, params=TreeParams(max_depth=6)), data)
        if direction > 0:
            assert (tree.feature == 0).any()
        swept = [tree.predict(_with_first(codes, b)) for b in range(infos[0].n_bins)]
        assert (direction * np.diff(swept, axis=0) >= 0).all()


def _with_first(codes, b):
    out = codes.copy()
    out[:, 0] = b
    return out


def test_too_few_rows_make_a_single_leaf(data):
    grower = start(data, params=TreeParams(min_child_samples=N))
    assert grower.done
    assert grower.histogram_work() == []
    tree = grower.finish(0.1)
    assert tree.n_nodes == 1
    assert tree.value[0] == 0.0
    assert not grower.leaf_of_row.any()


def test_no_useful_split_makes_a_single_leaf(data):
    grower = start(data, params=TreeParams(min_split_gain=1e9))
    (work,) = grower.histogram_work()
    supply(grower, data, work)
    assert grower.decide() == []
    assert grower.done
    assert grower.finish(0.1).n_leaves == 1


def test_a_child_may_turn_out_empty():
    """Counts are estimated from hessians, so a side may hold no row at all."""
    g, h = np.array([10, 10, 0, 0], np.int64), np.array([1, 1, 0, 0], np.int64)
    codes = np.array([[1], [1], [1], [1]], np.uint8)
    params = TreeParams(max_depth=3, min_child_samples=0, min_child_weight=0.0)
    grower = TreeGrower(np.ones(4, bool), g, h, 1.0, 2.0**-20, [FeatureInfo(2)], params)
    while not grower.done:
        for work in grower.histogram_work():
            assert len(work.rows)
            grower.supply(
                work.node, *local_histograms(codes, work.rows, g, h, grower.features.offsets)
            )
        for decision in grower.decide():
            grower.partition(decision.node, decision_directions(codes[decision.rows, 0], decision))
    tree = grower.finish(1.0)
    assert 0 in tree.count
    assert np.isfinite(tree.value).all()
    np.testing.assert_allclose(tree.predict(codes), -10 * 2.0**20, rtol=1e-6)
    np.testing.assert_array_equal(grower.leaf_of_row, tree.apply(codes))


@pytest.mark.parametrize("which", [0, 1])
def test_damaged_histograms_do_not_pass(data, which):
    codes, _, q = data
    grower = start(data)
    (work,) = grower.histogram_work()
    sums = local_histograms(codes, work.rows, q.g, q.h, grower.features.offsets)
    sums[which][grower.features.offsets[2] + 3] += 1
    with pytest.raises(InputError, match="bins of feature 2 do not add up"):
        grower.supply(work.node, *sums)
    sums[which][grower.features.offsets[2] + 3] -= 1
    grower.supply(work.node, *sums)
    assert grower.histogram_work() == []


def test_negative_hessian_sums_do_not_pass(data):
    codes, _, q = data
    grower = start(data)
    (work,) = grower.histogram_work()
    G, H = local_histograms(codes, work.rows, q.g, q.h, grower.features.offsets)
    H[0] += H[1] + 1
    H[1] = -1
    with pytest.raises(InputError, match="negative"):
        grower.supply(work.node, G, H)


def test_calls_out_of_turn_are_refused(data):
    grower = start(data)
    with pytest.raises(InputError, match="outstanding"):
        grower.decide()
    with pytest.raises(InputError, match="not grown"):
        grower.finish(0.1)
    (work,) = grower.histogram_work()
    zeros = np.zeros(grower.features.total_bins, np.int64)
    with pytest.raises(InputError, match="waits for no histograms"):
        grower.supply(1, zeros, zeros)
    with pytest.raises(InputError, match="one value per bin"):
        grower.supply(0, zeros[1:], zeros)
    with pytest.raises(InputError, match="int64"):
        grower.supply(0, zeros.astype(float), zeros)
    supply(grower, data, work)
    with pytest.raises(InputError, match="waits for no histograms"):
        supply(grower, data, work)
    (decision,) = grower.decide()
    with pytest.raises(InputError, match="directions are outstanding"):
        grower.decide()
    with pytest.raises(InputError, match="waits for no directions"):
        grower.partition(5, np.ones(N, bool))
    with pytest.raises(InputError, match="one bool per row"):
        grower.partition(decision.node, np.ones(N - 1, bool))
    with pytest.raises(InputError, match="one bool per row"):
        grower.partition(decision.node, np.ones(N, int))
    column = data[0][decision.rows, decision.feature]
    turned = decision_directions(column, decision)
    turned[7] = ~turned[7]
    with pytest.raises(InputError, match="do not add up to the split's gradients"):
        grower.partition(decision.node, turned)


def test_learning_rate_is_checked(data):
    grower = start(data)
    grow(grower, data)
    with pytest.raises(InputError, match="learning rate"):
        grower.finish(0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"in_bag": np.zeros(4, bool)},
        {"in_bag": np.ones(3, bool)},
        {"in_bag": np.ones(4, int)},
        {"g": np.zeros(4)},
        {"h": np.array([1, 1, -1, 1])},
        {"g": np.array([2**52, 2**52, 0, 0])},
        {"g_scale": 0.3},
        {"h_scale": 0.0},
        {"h_scale": float("inf")},
        {"feature_infos": []},
        {"col_mask": np.ones(2, bool)},
        {"col_mask": np.ones(1, int)},
        {"split_budget": np.ones(2, int)},
    ],
)
def test_arguments_are_checked(change):
    good = {
        "in_bag": np.ones(4, bool),
        "g": np.zeros(4, np.int64),
        "h": np.ones(4, np.int64),
        "g_scale": 1.0,
        "h_scale": 0.5,
        "feature_infos": [FeatureInfo(2)],
        "params": TreeParams(),
    }
    assert TreeGrower(**good).done
    with pytest.raises(InputError):
        TreeGrower(**(good | change))
