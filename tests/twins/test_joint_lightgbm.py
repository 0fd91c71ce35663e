"""A forest that several parties grow on ciphertexts is LightGBM's on the pooled columns."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedcredit.stats.tree_params import TreeParams
from tests.support.joint_gbdt import (
    LAYOUTS,
    MANY,
    ONE_HOT,
    assert_same_forest,
    make_case,
    synthetic,
    train,
    train_alone,
)
from tests.support.lightgbm_twin import (
    assert_same_trees,
    fit_lightgbm,
    lightgbm_matrix,
    lightgbm_params,
)
from tests.support.real_data import CATEGORICAL, load_real

lgb = pytest.importorskip("lightgbm")

MODES = pytest.mark.parametrize("hide", [True, False], ids=["hidden", "open"])
REAL = pytest.mark.parametrize("name", list(CATEGORICAL))
# Whose the columns of the real data sets are; the platform has the rest.
SPLITS = {
    "default_credit": (
        ["LIMIT_BAL", *(f"PAY_AMT{i}" for i in range(1, 7))],
        ["SEX", "EDUCATION", "MARRIAGE", "AGE"],
    ),
    "give_me_some_credit": (
        ["MonthlyIncome", "DebtRatio", "NumberRealEstateLoansOrLines"],
        ["age", "NumberOfDependents"],
    ),
}


def assert_twins(case, at_least):
    """Split for split, leaf for leaf, and every party's score within 1e-12."""
    forest = train(case)
    work = case.boosting()
    booster, theirs = fit_lightgbm(work)
    trees = forest.state.trees
    assert assert_same_trees(trees, booster, case.infos) >= at_least
    np.testing.assert_allclose(forest.state.score, theirs, rtol=0, atol=1e-12)
    owners = {forest.pooled.owner[f] for tree in trees for f in tree.feature if f >= 0}
    assert owners & set(case.providers)
    return forest


@MODES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, hide):
    constrained = layout != "one provider"
    case = synthetic(layout, weighted=True, constrained=constrained, hide_membership=hide)
    assert_twins(case, at_least=18)


@MODES
def test_every_kind_of_split_is_made(hide):
    """Missing values to either side, one-hot and sorted categories, all of providers' columns."""
    case = synthetic("a platform without columns", n_estimators=6, hide_membership=hide, seed=11)
    forest = assert_twins(case, at_least=36)
    splits = [t.split(n) for t in forest.state.trees for n in np.flatnonzero(t.feature >= 0)]
    sizes = {s.feature: len(s.left_bins) for s in splits if s.is_categorical}
    assert sizes[ONE_HOT] == 1
    assert max(len(s.left_bins) for s in splits if s.feature == MANY) > 1
    assert {s.default_left for s in splits if s.missing_bin >= 0} == {False, True}


@MODES
def test_squared_error(hide):
    case = synthetic(weighted=True, objective="regression", hide_membership=hide)
    case = case.but(y=2 * case.y + np.random.default_rng(1).normal(size=len(case.y)))
    assert_twins(case, at_least=18)


@MODES
def test_few_bits_with_the_same_quantiser(hide):
    assert_twins(synthetic(precision="packed", hide_membership=hide, weighted=True), at_least=18)


# --------------------------------------------------------------------------------- real data


def real_case(name, rows, **params):
    X, y = load_real(name, rows)
    tax, social = SPLITS[name]
    platform = [column for column in X.columns if column not in (*tax, *social)]
    order = [*platform, *tax, *social]
    categorical = {order.index(column) for column in CATEGORICAL[name]}
    owners = (len(platform), len(tax), len(social))
    values = X[order].to_numpy()
    return make_case(values, y, owners, categorical=categorical, max_bins=32, **params)


@pytest.mark.realdata
@REAL
@MODES
def test_real_data_sample(name, hide):
    assert_twins(real_case(name, 2500, n_estimators=3, hide_membership=hide), at_least=18)


@pytest.mark.realdata
@REAL
@MODES
@pytest.mark.parametrize("providers", [1, 3])
def test_real_data_sample_with_other_owners(name, hide, providers):
    case = real_case(name, 2500, n_estimators=2, hide_membership=hide)
    platform, tax, social = case.owners
    owners = (platform, tax + social) if providers == 1 else (platform - 2, 2, tax, social)
    assert_twins(case.but(owners=owners), at_least=10)


@pytest.mark.realdata
@REAL
def test_real_data_sample_with_constraints_and_weights(name):
    case = real_case(name, 2500, n_estimators=4)
    signs = [0 if info.is_categorical else 1 - i % 3 for i, info in enumerate(case.infos)]
    case = real_case(name, 2500, n_estimators=4, monotone=signs)
    assert_twins(case.but(weight=1.0 + 4.0 * case.y), at_least=20)


@pytest.mark.slow
@pytest.mark.realdata
@REAL
@MODES
def test_real_data_in_full(name, hide):
    tree = TreeParams(max_depth=5)
    assert_twins(real_case(name, None, n_estimators=2, tree=tree, hide_membership=hide), 40)


# ------------------------------------------------------------------ LightGBM's own objective

TOLERANCE = {"exact": 1e-4, "packed": 1e-3}


def own_objective_auc(case):
    """AUC of LightGBM's ``binary`` on the same bins, with its own gradients."""
    values = lightgbm_matrix(case.codes, case.infos)
    params = lightgbm_params(case.params.tree, case.params.learning_rate, case.infos)
    model = lgb.LGBMClassifier(
        n_estimators=case.params.n_estimators, **params | {"boost_from_average": True}
    )
    categorical = [f for f, info in enumerate(case.infos) if info.is_categorical]
    model.fit(values, case.y, categorical_feature=categorical or "auto")
    return roc_auc_score(case.y, model.predict_proba(values)[:, 1])


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["default_credit", pytest.param("give_me_some_credit", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_as_good_as_lightgbms_own_objective(name, precision):
    """Fifty trees in plaintext, the first of which are shown to be the joint ones."""
    tree = TreeParams(max_depth=4)
    case = real_case(name, None, n_estimators=50, tree=tree, precision=precision)
    pooled = train_alone(case)
    auc = roc_auc_score(case.y, pooled.state.score)
    assert auc == pytest.approx(own_objective_auc(case), abs=TOLERANCE[precision])

    sample = real_case(name, 2500, n_estimators=2, tree=tree, precision=precision)
    assert_same_forest(train(sample), train_alone(sample))


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("precision", TOLERANCE)
def test_fifty_joint_trees(precision):
    tree = TreeParams(max_depth=3)
    case = real_case("default_credit", None, n_estimators=50, tree=tree, precision=precision)
    forest = train(case)
    assert_same_forest(forest, train_alone(case))
    auc = roc_auc_score(case.y, forest.state.score)
    assert auc == pytest.approx(own_objective_auc(case), abs=TOLERANCE[precision])
