"""Maximum likelihood and its standard errors are those of statsmodels; penalties scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor

from fedcredit.stats.glm import fit_glm, wald
from tests.support.real_data import load_real

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sm = pytest.importorskip("statsmodels.api")


def sample(n=2000, seed=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)) * [1.0, 50.0, 0.1, 2.0] + [0.0, 900.0, 0.0, 1.0]
    offset = rng.normal(size=n) * 0.2
    eta = (X - X.mean(axis=0)) @ [0.5, 0.006, 2.0, -0.1] + offset
    mean = np.exp(0.4 * eta)
    targets = {
        "binomial": (rng.random(n) < 1 / (1 + np.exp(1.5 - eta))).astype(float),
        "poisson": rng.poisson(mean).astype(float),
        "gamma": rng.gamma(2.0, mean / 2.0),
        "tweedie": np.where(rng.random(n) < 0.4, 0.0, rng.gamma(2.0, mean)),
    }
    return X, targets, rng.integers(1, 5, n).astype(float), offset


def their_family(name, power):
    log = sm.families.links.Log()
    return {
        "binomial": lambda: sm.families.Binomial(),
        "poisson": lambda: sm.families.Poisson(),
        "gamma": lambda: sm.families.Gamma(log),
        "tweedie": lambda: sm.families.Tweedie(log, power),
    }[name]()


def assert_twins(fit, theirs):
    """Coefficients to 1e-8 of a standard error, standard errors to 1e-6, p-values to 1e-8."""
    error = np.asarray(theirs.bse)
    ours = wald(fit.parameters, fit.covariance)
    np.testing.assert_allclose((fit.parameters - theirs.params) / error, 0.0, atol=1e-8)
    np.testing.assert_allclose(fit.parameters, theirs.params, rtol=1e-8, atol=1e-8 * error.max())
    np.testing.assert_allclose(ours.standard_error, error, rtol=1e-6)
    np.testing.assert_allclose(ours.p_value, theirs.pvalues, rtol=1e-6, atol=1e-12)
    bounds = np.column_stack([ours.lower, ours.upper])
    np.testing.assert_allclose(bounds, theirs.conf_int(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("family", "power"),
    [("binomial", 1.5), ("poisson", 1.5), ("gamma", 1.5), ("tweedie", 1.5), ("tweedie", 1.9)],
)
def test_against_statsmodels(family, power, weighted):
    X, targets, weight, offset = sample()
    given = {"weight": weight, "offset": offset} if weighted else {}
    fit = fit_glm(X, targets[family], family=family, power=power, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sm.GLM(
            targets[family],
            sm.add_constant(X, prepend=False),
            family=their_family(family, power),
            freq_weights=weight if weighted else None,
            offset=offset if weighted else None,
        ).fit(tol=1e-14, maxiter=500)
    assert_twins(fit, theirs)
    assert fit.deviance == pytest.approx(theirs.deviance, rel=1e-10)
    assert fit.dispersion == pytest.approx(theirs.scale, rel=1e-8)
    assert fit.log_likelihood == pytest.approx(theirs.llf, rel=1e-8)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["default_credit", "give_me_some_credit"])
def test_logit_on_real_data(name):
    X, y = load_real(name)
    columns = X.fillna(X.median()).to_numpy()
    fit = fit_glm(columns, y)
    # Raw amounts are too much for statsmodels' own stopping rule.
    scale = columns.std(axis=0)
    theirs = sm.Logit(y, sm.add_constant(columns / scale, prepend=False)).fit(
        method="newton", tol=1e-13, maxiter=100, disp=False
    )
    ours = fit_glm(columns / scale, y)
    assert_twins(ours, theirs)
    np.testing.assert_allclose(fit.coef * scale, ours.coef, rtol=1e-8, atol=1e-10)
    assert fit.log_likelihood == pytest.approx(theirs.llf, rel=1e-11)


@pytest.mark.parametrize("C", [0.003, 1.0, 100.0])
def test_ridge_against_scikit_learn(C):
    X, targets, weight, _ = sample()
    X = (X - X.mean(axis=0)) / X.std(axis=0) + 0.5
    y = targets["binomial"]
    theirs = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10).fit(X, y, weight)
    fit = fit_glm(X, y, weight=weight, C=C)
    np.testing.assert_allclose(fit.coef, theirs.coef_[0], atol=1e-8)
    assert fit.intercept == pytest.approx(theirs.intercept_[0], abs=1e-8)
    np.testing.assert_allclose(fit.mean(X), theirs.predict_proba(X)[:, 1], atol=1e-8)


@pytest.mark.parametrize(
    ("family", "model"), [("poisson", PoissonRegressor), ("gamma", GammaRegressor)]
)
def test_ridge_of_other_families_against_scikit_learn(family, model):
    """There the loss is a mean: alpha is one over C times the sum of the weights."""
    X, targets, weight, _ = sample()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    alpha = 0.1
    theirs = model(alpha=alpha, solver="newton-cholesky", tol=1e-11).fit(X, targets[family], weight)
    fit = fit_glm(X, targets[family], family=family, weight=weight, C=1 / (alpha * weight.sum()))
    np.testing.assert_allclose(fit.coef, theirs.coef_, atol=1e-8)
    assert fit.intercept == pytest.approx(theirs.intercept_, abs=1e-8)


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
@pytest.mark.parametrize("C", [0.01, 0.1])
def test_elastic_net_against_saga(C, l1_ratio):
    X, targets, weight, _ = sample()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    weight = weight / weight.max()
    y = targets["binomial"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        theirs = LogisticRegression(
            C=C, l1_ratio=l1_ratio, solver="saga", tol=1e-12, max_iter=3000, random_state=0
        ).fit(X, y, weight)
    fit = fit_glm(X, y, weight=weight, C=C, l1_ratio=l1_ratio)
    np.testing.assert_allclose(fit.coef, theirs.coef_[0], atol=1e-6)
    assert fit.intercept == pytest.approx(theirs.intercept_[0], abs=1e-6)
    np.testing.assert_array_equal(fit.coef == 0, np.abs(theirs.coef_[0]) < 1e-9)
