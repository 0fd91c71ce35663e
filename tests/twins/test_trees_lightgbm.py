"""Trees grown from supplied histograms are LightGBM's trees on pooled bins, split for split."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedcredit.stats.binning import bin_matrix, fit_bins
from fedcredit.stats.quantise import Quantiser
from fedcredit.stats.tree_params import TreeParams
from tests.support.lightgbm_twin import (
    Boosting,
    assert_same_tree,
    assert_same_trees,
    fit_lightgbm,
    fit_lightgbm_bagged,
    fit_pooled,
    lightgbm_matrix,
    lightgbm_params,
)
from tests.support.real_data import CATEGORICAL, load_real

lgb = pytest.importorskip("lightgbm")

ONE_HOT, MANY = 6, 7
MONOTONE = [1, -1, 1, 0, -1, 1, 0, 0, 1]


def population(n=4000, seed=0):
    """Columns of every kind: dense, tied, missing little and much, sparse, few and many codes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 9))
    X[:, 1] = np.round(2 * X[:, 1])
    X[rng.random(n) < 0.2, 2] = np.nan
    X[rng.random(n) < 0.85, 3] = np.nan
    X[:, 4] = rng.random(n) < 0.15
    X[:, 5] = np.where(rng.random(n) < 0.8, 0.0, X[:, 5])
    X[:, ONE_HOT] = rng.integers(0, 3, n)
    X[:, MANY] = np.minimum(rng.geometric(0.05, n), 60)
    X[rng.random(n) < 0.1, MANY] = np.nan
    X[:, 8] = np.where(rng.random(n) < 0.5, np.nan, 1.0)
    effect = rng.normal(size=61)
    z = X[:, 0] - 0.5 * X[:, 1] + 0.7 * np.isnan(X[:, 2]) + np.nan_to_num(X[:, 3])
    z += (
        -X[:, 4]
        + X[:, 5]
        + 0.8 * (X[:, ONE_HOT] == 1)
        + effect[np.nan_to_num(X[:, MANY]).astype(int)]
    )
    z += 0.4 * np.isnan(X[:, 8]) - 1.5
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    weight = rng.integers(1, 9, n) / 4.0
    return X, y, weight


def boosting(X, y, categorical=(), monotone=None, **settings):
    bins = [fit_bins(X[:, f], is_categorical=f in categorical) for f in range(X.shape[1])]
    infos = [b.info(0 if monotone is None else monotone[f]) for f, b in enumerate(bins)]
    defaults = {"params": TreeParams(max_depth=3), "n_trees": 20, "quantiser": Quantiser.exact()}
    return Boosting(bin_matrix(bins, X), infos, y, **(defaults | settings))


def assert_twins(work, at_least):
    trees, score = fit_pooled(work)
    booster, theirs = fit_lightgbm(work)
    assert assert_same_trees(trees, booster, work.infos) >= at_least
    np.testing.assert_allclose(score, theirs, rtol=0, atol=1e-12)
    again = work.initial_score() + sum(tree.predict(work.codes) for tree in trees)
    np.testing.assert_allclose(again, score, rtol=0, atol=1e-12)
    return trees


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("constrained", [False, True], ids=["free", "monotone"])
def test_all_kinds_of_features(depth, weighted, constrained):
    X, y, weight = population()
    work = boosting(
        X,
        y,
        categorical={ONE_HOT, MANY},
        monotone=MONOTONE if constrained else None,
        params=TreeParams(max_depth=depth),
        n_trees=40,
        weight=weight if weighted else None,
    )
    trees = assert_twins(work, at_least=40 * (2**depth - 1) // 2)
    used = {int(f) for tree in trees for f in tree.feature}
    assert used >= set(range(9)), "every kind of feature takes part"
    if not constrained:
        lone = [s for t in trees for s in splits(t) if s.missing_bin == s.threshold_bin + 1]
        assert lone, "missing values alone are split off"
        assert any(s.default_left for t in trees for s in splits(t) if s.missing_bin >= 0)
    sizes = [len(s.left_bins) for t in trees for s in splits(t) if s.is_categorical]
    assert max(sizes) > 1


def splits(tree):
    return [tree.split(node) for node in range(tree.n_nodes) if tree.feature[node] >= 0]


@pytest.mark.parametrize(
    "params",
    [
        TreeParams(max_depth=4, lambda_l2=3.0, min_child_samples=5, min_child_weight=0.0),
        TreeParams(max_depth=6, lambda_l2=0.1, min_child_samples=150, min_split_gain=2.0),
        TreeParams(max_depth=4, min_child_samples=5, min_child_weight=20.0, max_cat_to_onehot=100),
        TreeParams(
            max_depth=4, cat_smooth=1.0, cat_l2=0.0, max_cat_threshold=5, min_data_per_group=10
        ),
    ],
    ids=["loose", "tight", "heavy", "categories"],
)
def test_parameters(params):
    X, y, weight = population(seed=1)
    work = boosting(X, y, categorical={ONE_HOT, MANY}, params=params, weight=weight)
    assert_twins(work, at_least=80)


def test_depth_that_exhausts_the_rows():
    X, y, _ = population(600, seed=2)
    assert_twins(boosting(X, y, {ONE_HOT, MANY}, params=TreeParams(max_depth=9)), at_least=100)


def test_trees_without_a_split():
    X, y, _ = population(seed=5)
    params = TreeParams(max_depth=2, min_split_gain=25.0)
    packed = Quantiser.packed(3, seed=1)
    work = boosting(X, y, {ONE_HOT, MANY}, params=params, quantiser=packed, learning_rate=1.0)
    trees = assert_twins(work, at_least=10)
    assert any(tree.n_nodes == 1 for tree in trees)
    assert_twins(boosting(X, y, params=TreeParams(min_split_gain=1e6)), at_least=0)


def test_few_bits_with_stochastic_rounding():
    X, y, weight = population(seed=3)
    packed = Quantiser.packed(6, seed=5, g_digit=16, h_digit=18)
    work = boosting(X, y, {ONE_HOT, MANY}, quantiser=packed, weight=weight)
    assert_twins(work, at_least=100)


def test_squared_error():
    X, y, weight = population(seed=4)
    target = np.random.default_rng(0).normal(size=len(y)) + 3 * y
    work = boosting(X, target, {ONE_HOT, MANY}, objective="squared", weight=weight)
    assert_twins(work, at_least=100)


def test_a_column_with_many_bins():
    rng = np.random.default_rng(6)
    X = np.column_stack([rng.normal(size=4000), rng.integers(0, 700, 4000)])
    y = (rng.random(4000) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    bins = [fit_bins(X[:, 0], max_bins=400), fit_bins(X[:, 1], max_bins=1000)]
    codes = bin_matrix(bins, X)
    assert codes.dtype == np.uint16
    infos = [b.info() for b in bins]
    assert max(info.n_bins for info in infos) > 256
    assert_twins(
        Boosting(codes, infos, y, TreeParams(max_depth=4), 10, Quantiser.exact()), at_least=50
    )


def test_bagged_rows():
    """Rows out of the sample change no split and get the leaf that LightGBM predicts for them."""
    X, y, _ = population(seed=7)
    work = boosting(X, y, {ONE_HOT, MANY}, params=TreeParams(max_depth=4))
    rng = np.random.default_rng(0)
    in_bag = [rng.random(len(y)) < 0.6 for _ in range(work.n_trees)]
    trees, score = fit_pooled(work, in_bag)
    roots, theirs = fit_lightgbm_bagged(work, in_bag)
    for number, (tree, root) in enumerate(zip(trees, roots, strict=True)):
        assert assert_same_tree(tree, root, work.infos, f"tree {number}") > 3
        assert tree.count[0] == in_bag[number].sum()
    np.testing.assert_allclose(score, theirs, rtol=0, atol=1e-12)


def test_no_worse_than_lightgbms_own_objective():
    X, y, _ = population(8000, seed=8)
    work = boosting(X, y, {ONE_HOT, MANY}, params=TreeParams(max_depth=4), n_trees=40)
    _, score = fit_pooled(work)
    values = lightgbm_matrix(work.codes, work.infos)
    own = lgb.LGBMClassifier(
        n_estimators=40,
        **lightgbm_params(work.params, work.learning_rate, work.infos)
        | {"boost_from_average": True},
    ).fit(values, y, categorical_feature=[ONE_HOT, MANY])
    theirs = own.predict_proba(values)[:, 1]
    assert roc_auc_score(y, score) == pytest.approx(roc_auc_score(y, theirs), abs=2e-3)


def real_work(name, rows, **settings):
    X, y = load_real(name, rows)
    categorical = {X.columns.get_loc(c) for c in CATEGORICAL[name]}
    return boosting(X.to_numpy(), y, categorical, **settings)


@pytest.mark.realdata
@pytest.mark.parametrize("name", list(CATEGORICAL))
@pytest.mark.parametrize("depth", [3, 5])
def test_real_data_sample(name, depth):
    work = real_work(name, 10_000, params=TreeParams(max_depth=depth))
    assert_twins(work, at_least=20 * (2**depth - 1) // 2)


@pytest.mark.realdata
@pytest.mark.parametrize("name", list(CATEGORICAL))
def test_real_data_sample_with_constraints_and_weights(name):
    plain = real_work(name, 10_000)
    rng = np.random.default_rng(1)
    monotone = [0 if i.is_categorical else int(rng.integers(-1, 2)) for i in plain.infos]
    assert any(monotone)
    work = real_work(
        name,
        10_000,
        monotone=monotone,
        weight=1.0 + 4.0 * plain.y,
        params=TreeParams(max_depth=4, lambda_l2=1.0),
    )
    assert_twins(work, at_least=100)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", list(CATEGORICAL))
@pytest.mark.parametrize("depth", [3, 5])
def test_real_data_in_full(name, depth):
    work = real_work(name, None, params=TreeParams(max_depth=depth), n_trees=50)
    assert_twins(work, at_least=50 * (2**depth - 1) // 2)
