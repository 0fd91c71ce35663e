import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression

from fedcredit.errors import InputError
from fedcredit.stats.glm import fit_glm, wald
from tests.support.real_data import load_real


def sample(n=1500, seed=0):
    """Columns of very different units, weights, an offset and targets of every family."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(n, 5))
    raw[:, 1] += raw[:, 0]
    X = raw * [1.0, 300.0, 0.01, 5.0, 1.0] + [0.0, 5000.0, 0.0, -2.0, 0.0]
    offset = rng.normal(size=n) * 0.3
    eta = raw @ [0.6, -0.4, 0.3, 0.0, 0.02] + offset
    mean = np.exp(0.5 * eta)
    targets = {
        "binomial": (rng.random(n) < 1 / (1 + np.exp(1.0 - eta))).astype(float),
        "poisson": rng.poisson(mean).astype(float),
        "gamma": rng.gamma(2.0, mean / 2.0),
        "tweedie": np.where(rng.random(n) < 0.4, 0.0, rng.gamma(2.0, mean)),
    }
    return X, targets, rng.integers(1, 4, n).astype(float), offset


FAMILIES = ["binomial", "poisson", "gamma", "tweedie"]


def loss_slope(family, y, eta, power):
    """First derivative of half the unit deviance, written down from the textbook."""
    mu = 1 / (1 + np.exp(-eta)) if family == "binomial" else np.exp(eta)
    if family in ("binomial", "poisson"):
        return mu - y
    p = 2.0 if family == "gamma" else power
    return (mu - y) * mu ** (1.0 - p)


def assert_optimal(fit, X, y, *, weight, offset, C=np.inf, l1_ratio=0.0, signs=None, rel=1e-9):
    """Karush-Kuhn-Tucker conditions, in units of the sum of absolute terms of each gradient."""
    slope = weight * loss_slope(fit.family, y, fit.predictor(X, offset), fit.power)
    gradient = X.T @ slope + (1.0 - l1_ratio) / C * fit.coef
    size = np.abs(X).T @ np.abs(slope)
    assert abs(slope.sum()) <= rel * np.abs(slope).sum()
    lasso = l1_ratio / C
    signs = np.zeros(len(fit.coef)) if signs is None else np.asarray(signs)
    on = fit.coef != 0
    assert (signs * fit.coef >= 0).all()
    assert (np.abs(gradient + lasso * np.sign(fit.coef))[on] <= rel * size[on]).all()
    # At zero no allowed move may be a descent.
    rising, falling = gradient + lasso, lasso - gradient
    assert (rising[~on & (signs >= 0)] >= -rel * size[~on & (signs >= 0)]).all()
    assert (falling[~on & (signs <= 0)] >= -rel * size[~on & (signs <= 0)]).all()
    return int(on.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_unpenalised_gradient_vanishes(family):
    X, targets, weight, offset = sample()
    y = targets[family]
    fit = fit_glm(X, y, family=family, power=1.3, weight=weight, offset=offset)
    assert fit.converged
    assert fit.iterations < 12
    assert assert_optimal(fit, X, y, weight=weight, offset=offset) == 5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("C", [0.002, 0.02, 1.0])
def test_elastic_net_is_optimal(family, l1_ratio, C):
    X, targets, weight, offset = sample()
    X = (X - X.mean(axis=0)) / X.std(axis=0) * [1.0, 2.0, 0.5, 1.0, 1.0]
    y = targets[family]
    fit = fit_glm(X, y, family=family, weight=weight, offset=offset, C=C, l1_ratio=l1_ratio)
    assert fit.converged
    left = assert_optimal(fit, X, y, weight=weight, offset=offset, C=C, l1_ratio=l1_ratio)
    if l1_ratio == 0.0:
        assert left == 5
    if l1_ratio == 1.0 and C == 0.002:
        assert left < 5


@pytest.mark.parametrize(("C", "l1_ratio"), [(np.inf, 0.0), (0.5, 0.0), (0.02, 0.7)])
@pytest.mark.parametrize("signs", [[1, 1, 1, 1, 1], [-1, 0, -1, 1, 0], [1, -1, 0, 0, -1]])
def test_sign_constraints_are_optimal(signs, C, l1_ratio):
    X, targets, weight, offset = sample()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = targets["binomial"]
    given = {"weight": weight, "offset": offset, "C": C, "l1_ratio": l1_ratio, "signs": signs}
    fit = fit_glm(X, y, **given)
    assert fit.converged
    assert_optimal(fit, X, y, **given)
    if signs == [1, 1, 1, 1, 1]:
        assert fit.coef[1] == 0.0
        assert np.isnan(fit.covariance[1]).all()
        assert np.isnan(wald(fit.coef, fit.covariance).p_value[1])
        free = fit_glm(np.delete(X, 1, axis=1), y, **(given | {"signs": [1, 1, 1, 1]}))
        keep = [0, 2, 3, 4, 5]
        np.testing.assert_allclose(
            fit.covariance[np.ix_(keep, keep)], free.covariance, rtol=1e-9, atol=1e-15
        )


def test_constraints_agree_with_a_bounded_quasi_newton():
    X, targets, weight, offset = sample()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = targets["binomial"]
    signs = [-1, 0, 1, -1, 1]

    def loss(t):
        eta = X @ t[:5] + t[5] + offset
        residual = weight * (1 / (1 + np.exp(-eta)) - y)
        value = weight @ np.logaddexp(0.0, np.where(y > 0, -eta, eta))
        return value, np.append(X.T @ residual, residual.sum())

    bounds = [{1: (0, None), -1: (None, 0), 0: (None, None)}[s] for s in [*signs, 0]]
    theirs = optimize.minimize(
        loss, np.zeros(6), jac=True, bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9}
    )
    fit = fit_glm(X, y, weight=weight, offset=offset, signs=signs)
    np.testing.assert_allclose(fit.parameters, theirs.x, atol=1e-5)
    assert loss(fit.parameters)[0] <= theirs.fun + 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_weights_are_repetitions(family):
    X, targets, weight, offset = sample(400)
    y, times = targets[family], weight.astype(int)
    weight[:20] = times[:20] = 0
    fit = fit_glm(X, y, family=family, weight=weight, offset=offset)
    many = [np.repeat(a, times, axis=0) for a in (X, y, offset)]
    other = fit_glm(many[0], many[1], family=family, offset=many[2])
    np.testing.assert_allclose(fit.parameters, other.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.covariance, other.covariance, rtol=1e-8, atol=1e-14)
    assert fit.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-11)
    assert fit.deviance == pytest.approx(other.deviance, rel=1e-11)


def test_a_change_of_units_changes_units_alone():
    X, targets, _, _ = sample()
    y = targets["binomial"]
    fit = fit_glm(X, y)
    factor = np.array([1e-6, 1e3, 1.0, 1e6, 7.0])
    other = fit_glm(X * factor + 100.0, y)
    np.testing.assert_allclose(other.coef * factor, fit.coef, rtol=1e-8)
    np.testing.assert_allclose(
        wald(other.coef, other.covariance).z, wald(fit.coef, fit.covariance).z, rtol=1e-8
    )


def test_no_intercept():
    X, targets, _, _ = sample()
    y = targets["binomial"]
    X = X - X.mean(axis=0)
    fit = fit_glm(X, y, fit_intercept=False)
    theirs = LogisticRegression(
        C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-12
    ).fit(X / X.std(axis=0), y)
    np.testing.assert_allclose(fit.coef * X.std(axis=0), theirs.coef_[0], atol=1e-9)
    assert fit.intercept == 0.0
    assert fit.covariance.shape == (5, 5)
    assert fit.parameters is fit.coef


def test_only_an_intercept():
    y = np.array([0.0, 1.0, 1.0, 1.0])
    fit = fit_glm(np.zeros((4, 0)), y)
    assert fit.intercept == pytest.approx(np.log(3.0), abs=1e-12)
    assert fit.covariance[0, 0] == pytest.approx(4.0 / 3.0)


@pytest.mark.parametrize("rare", [False, True], ids=["completely", "by a rare bin"])
def test_separation(rare):
    rng = np.random.default_rng(1)
    X, targets, _, _ = sample()
    y = targets["binomial"]
    column = (y > 0) & (rng.random(len(y)) < 0.1) if rare else y + 0.1 * rng.random(len(y))
    wide = np.column_stack([X, column])
    with pytest.raises(InputError, match="perfectly separated") as caught:
        fit_glm(wide, y)
    assert "merge bins, or set C" in str(caught.value)
    ridge = fit_glm(wide, y, C=1.0)
    assert ridge.converged
    assert np.isfinite(ridge.covariance).all()
    with pytest.raises(InputError, match="perfectly separated"):
        fit_glm(wide, y, signs=[0, 0, 0, 0, 0, 1])
    # On the other side of zero there is nothing to run away to.
    assert fit_glm(wide, y, signs=[0, 0, 0, 0, 0, -1]).coef[5] == 0.0


def test_separation_is_found_exactly_when_there_is_any():
    """Against the linear programme of Konis (2007) on small data of all kinds and units."""
    seen = {True: 0, False: 0}
    for seed in range(400):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(6, 60)), int(rng.integers(1, 4))
        noise, levels = rng.normal(size=(n, d)), rng.integers(0, 3, (n, d)).astype(float)
        units = 10.0 ** rng.integers(-3, 4, d)
        X = (noise, levels, noise * units + 5.0 * (levels > 1))[seed % 3]
        slope = 3.0 / max(X[:, 0].std(), 1e-9)
        y = (rng.random(n) < 1 / (1 + np.exp(-slope * X[:, 0]))).astype(float)
        design = np.column_stack([X, np.ones(n)])
        if y.min() == y.max() or np.linalg.matrix_rank(design) <= d:
            continue
        signed = (2 * y - 1)[:, None] * design / np.append(X.std(axis=0), 1.0)
        programme = optimize.linprog(
            -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(n), bounds=[(-1, 1)] * (d + 1)
        )
        separated = bool(programme.fun < -1e-6)
        seen[separated] += 1
        weight = rng.integers(1, 50, n) if seed % 2 else None
        if separated:
            with pytest.raises(InputError, match="perfectly separated"):
                fit_glm(X, y, weight=weight)
        else:
            assert fit_glm(X, y, weight=weight).converged
    assert min(seen.values()) > 100


@pytest.mark.parametrize("overlap", [1, 5])
def test_almost_separated_is_not_separated(overlap):
    """A few rows on the wrong side of a gap that is wide for all others."""
    X, targets, _, _ = sample()
    y = targets["binomial"]
    column = 10.0 * y
    column[np.flatnonzero(y > 0)[:overlap]] = 0.0
    column[np.flatnonzero(y == 0)[:overlap]] = 10.0
    wide = np.column_stack([X[:, :2], column])
    fit = fit_glm(wide, y)
    assert fit.converged
    assert_optimal(fit, wide, y, weight=np.ones(len(y)), offset=0.0)


def test_an_extreme_row_is_not_separation():
    X, targets, _, _ = sample()
    y = targets["binomial"]
    column = y + np.random.default_rng(1).normal(size=len(y))
    column[np.flatnonzero(y > 0)[0]] = 1000.0
    wide = np.column_stack([X, column])
    fit = fit_glm(wide, y)
    assert fit.converged
    assert fit.predictor(wide).max() > 500
    assert_optimal(fit, wide, y, weight=np.ones(len(y)), offset=0.0)


def test_poisson_group_without_events():
    X, targets, _, _ = sample()
    group = X[:, 0] > 1.5
    y = np.where(group, 0.0, targets["poisson"])
    with pytest.raises(InputError, match="targets are all zero"):
        fit_glm(np.column_stack([X, group]), y, family="poisson")


def test_dependent_columns_are_named():
    X, targets, _, _ = sample()
    y = targets["binomial"]
    wide = np.column_stack([X, 1e5 * X[:, 2] - 0.3 * X[:, 0] + 9.0])
    with pytest.raises(InputError, match=r"\b[025] on") as caught:
        fit_glm(wide, y)
    named = {
        int(word.strip(".,;"))
        for word in str(caught.value).split("0):")[1].split()
        if word.strip(".,;").isdigit()
    }
    assert named == {0, 2, 5}
    with pytest.raises(InputError, match="5 is constant"):
        fit_glm(np.column_stack([X, np.full(len(y), 0.1)]), y)
    assert fit_glm(wide, y, C=1.0).converged
    constant = fit_glm(np.column_stack([X, np.full(len(y), 0.1)]), y, C=1.0)
    assert constant.coef[5] == 0.0


def test_lasso_on_dependent_columns():
    X, targets, _, _ = sample()
    X = X[:, [0, 4]]
    twice = np.column_stack([X, X.sum(axis=1), X[:, 0]])
    fit = fit_glm(twice, targets["binomial"], C=5.0, l1_ratio=1.0)
    assert_optimal(
        fit, twice, targets["binomial"], weight=np.ones(1500), offset=0.0, C=5.0, l1_ratio=1.0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(1500)}, "one class"),
        ({"y": np.full(1500, 2.0)}, "0 or 1"),
        ({"y": np.zeros(1500), "family": "poisson"}, "every target is zero"),
        ({"y": np.zeros(1500), "family": "gamma"}, "positive"),
        ({"y": np.full(1500, -1.0), "family": "tweedie"}, "not negative"),
        ({"family": "normal"}, "unknown"),
        ({"family": "tweedie", "power": 2.0}, "between 1 and 2"),
        ({"weight": np.ones(3)}, "one per row"),
        ({"weight": np.zeros(1500)}, "positive"),
        ({"weight": np.full(1500, -1.0)}, "not negative"),
        ({"offset": np.full(1500, np.nan)}, "finite"),
        ({"C": 0.0}, "out of its range"),
        ({"l1_ratio": 1.5}, "out of its range"),
        ({"signs": [2, 0, 0, 0, 0]}, "-1, 0 or 1"),
        ({"signs": [1]}, "one per column"),
        ({"y": np.ones(3)}, "X is"),
    ],
)
def test_bad_arguments(change, message):
    X, targets, _, _ = sample()
    given = {"y": targets["binomial"]} | change
    with pytest.raises(InputError, match=message):
        fit_glm(X, given.pop("y"), **given)


def test_too_few_iterations_are_reported():
    X, targets, _, _ = sample()
    fit = fit_glm(X, targets["binomial"], max_iter=2)
    assert not fit.converged
    assert fit.iterations == 2


def test_mean_of_new_rows():
    X, targets, _, offset = sample()
    fit = fit_glm(X, targets["poisson"], family="poisson", offset=offset)
    np.testing.assert_allclose(
        fit.mean(X, offset), np.exp(X @ fit.coef + fit.intercept + offset), rtol=1e-12
    )
    assert fit.mean(X, offset).sum() == pytest.approx(targets["poisson"].sum(), rel=1e-9)
    with pytest.raises(InputError, match="other columns"):
        fit.mean(X[:, :2])


def test_wald_by_hand():
    table = wald([1.0, -0.5], [[0.25, 0.1], [0.1, 0.04]], level=0.9)
    np.testing.assert_allclose(table.standard_error, [0.5, 0.2])
    np.testing.assert_allclose(table.z, [2.0, -2.5])
    np.testing.assert_allclose(table.p_value, 2 * stats.norm.cdf([-2.0, -2.5]))
    half = stats.norm.ppf(0.95)
    np.testing.assert_allclose(table.lower, [1.0 - 0.5 * half, -0.5 - 0.2 * half])
    np.testing.assert_allclose(table.upper, [1.0 + 0.5 * half, -0.5 + 0.2 * half])
    larger = wald([1.0, -0.5], [[0.25, 0.1, 9.0], [0.1, 0.04, 9.0], [9.0, 9.0, 99.0]], level=0.9)
    np.testing.assert_array_equal(larger.p_value, table.p_value)
    # Far in the tail the p-value is still a number.
    assert 0 < wald([30.0], [[1.0]]).p_value[0] < 1e-190


@pytest.mark.parametrize(
    ("coef", "covariance", "level"),
    [([1.0], np.eye(3), 0.9), ([1.0], [[-1.0]], 0.9), ([1.0], [[1.0]], 1.0), (1.0, [[1.0]], 0.9)],
)
def test_wald_refuses(coef, covariance, level):
    with pytest.raises(InputError):
        wald(coef, covariance, level)


@pytest.mark.realdata
def test_raw_columns_of_real_data_need_no_preparation():
    """Amounts up to 1e6 beside ages and counts, outliers and all."""
    for name in ("default_credit", "give_me_some_credit"):
        X, y = load_real(name, 20_000)
        columns = X.fillna(0.0).to_numpy()
        fit = fit_glm(columns, y)
        assert fit.converged
        assert fit.iterations < 15
        assert_optimal(fit, columns, y, weight=np.ones(len(y)), offset=0.0, rel=1e-8)
