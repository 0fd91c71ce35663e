import warnings

import numpy as np
import pytest
from scipy import stats

from fedcredit.errors import InputError
from fedcredit.stats.glm import fit_glm
from fedcredit.stats.selection import (
    Dropped,
    correlation_filter,
    iv_filter,
    stepwise,
    submodel,
    vif,
    vif_filter,
)
from tests.support.real_data import load_real

NAMES = ["a", "b", "c", "d", "e"]


def correlated(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    X[:, 1] += 2.0 * X[:, 0]
    X[:, 2] += 2.0 * X[:, 1]
    return X


def test_iv_filter():
    assert iv_filter(["a", "b", "c"], [0.02, 0.019, 0.5]) == [Dropped("b", "iv", 0.019, 0.02)]


def test_correlation_filter_by_hand():
    corr = np.eye(4)
    # A chain: a-b and b-c correlate too much, a-c do not; d is the opposite of c.
    for i, j, r in [(0, 1, 0.8), (1, 2, 0.75), (0, 2, 0.5), (2, 3, -0.9)]:
        corr[i, j] = corr[j, i] = r
    names = ["a", "b", "c", "d"]
    # b goes because of a; so it cannot drive out c. c drives out d.
    assert correlation_filter(names, corr, [0.5, 0.4, 0.3, 0.2], 0.7) == [
        Dropped("b", "correlation", 0.8, 0.7, "a"),
        Dropped("d", "correlation", -0.9, 0.7, "c"),
    ]
    # With b the strongest, both of its neighbours go; its closer one is not named for d.
    dropped = correlation_filter(names, corr, [0.4, 0.5, 0.3, 0.2], 0.7)
    assert [(d.name, d.by) for d in dropped] == [("a", "b"), ("c", "b")]
    assert correlation_filter(names, corr, [0.1] * 4, 0.9) == []
    # Equal values: the earlier feature stays.
    assert [d.name for d in correlation_filter(names, corr, [0.1] * 4, 0.7)] == ["b", "d"]


@pytest.mark.parametrize("seed", range(5))
def test_no_pair_above_the_threshold_stays(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(100, 12)) @ rng.normal(size=(12, 12))
    corr, iv = np.corrcoef(X.T), rng.random(12)
    names = [f"f{k}" for k in range(12)]
    dropped = correlation_filter(names, corr, iv, 0.3)
    gone = {d.name for d in dropped}
    stays = [k for k in range(12) if names[k] not in gone]
    assert 0 < len(stays) < 12
    assert (np.abs(corr[np.ix_(stays, stays)] - np.eye(len(stays))) <= 0.3).all()
    for d in dropped:
        i, j = names.index(d.name), names.index(d.by)
        assert d.by not in gone
        assert iv[j] >= iv[i]
        assert abs(d.value) == pytest.approx(np.abs(corr[i, stays])[iv[stays] >= iv[i]].max())


def test_vif_is_statsmodels():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outliers = pytest.importorskip("statsmodels.stats.outliers_influence")
    X = correlated()
    design = np.column_stack([X, np.ones(len(X))])
    theirs = [outliers.variance_inflation_factor(design, k) for k in range(5)]
    np.testing.assert_allclose(vif(np.corrcoef(X.T)), theirs, rtol=1e-10)


def test_vif_of_collinear_columns():
    X = correlated()
    X[:, 3] = X[:, 0] - X[:, 1] + 5.0
    factors = vif(np.corrcoef(X.T))
    np.testing.assert_array_equal(np.isinf(factors), [True, True, False, True, False])
    # The others keep the factors they have once the dependency is resolved.
    rest = vif(np.corrcoef(np.delete(X, 3, axis=1).T))
    np.testing.assert_allclose(factors[[2, 4]], rest[[2, 3]], rtol=1e-8)
    noisy = np.array([[1.0, 1.004], [1.004, 1.0]])
    assert np.isinf(vif(noisy)).all()
    assert vif(np.zeros((0, 0))).shape == (0,)
    np.testing.assert_array_equal(vif(np.eye(3)), 1.0)


def test_vif_filter_recomputes_after_every_drop():
    X = correlated()
    corr = np.corrcoef(X.T)
    dropped = vif_filter(NAMES, corr, 5.0)
    first = int(np.argmax(vif(corr)))
    assert [d.name for d in dropped] == [NAMES[first]] == ["b"]
    assert dropped[0].value == pytest.approx(vif(corr)[first])
    assert dropped[0].by == "c"
    # Three were too large at first; after one drop none is.
    assert (vif(corr) > 5.0).sum() == 3
    # Of the two that are left the factors are equal, up to rounding: the later one goes.
    dropped = vif_filter(NAMES[:3], corr[:3, :3], 1.01)
    assert [d.name for d in dropped] == ["b", "c"]


def test_vif_filter_of_collinear_columns_drops_the_weakest():
    X = correlated()
    X[:, 3] = X[:, 0] - X[:, 4]
    corr = np.corrcoef(X.T)
    dropped = vif_filter(NAMES, corr, 100.0, iv=[0.1, 0.5, 0.5, 0.2, 0.05])
    assert [(d.name, d.value) for d in dropped] == [("e", np.inf)]
    assert [d.name for d in vif_filter(NAMES, corr, 100.0)] == ["e"]
    twins = vif_filter(["x", "y"], np.ones((2, 2)), 10.0, iv=[0.1, 0.2])
    assert [(d.name, d.by) for d in twins] == [("x", "y")]


@pytest.mark.parametrize(
    "call",
    [
        lambda: iv_filter(["a"], [np.nan]),
        lambda: iv_filter(["a", "b"], [0.1]),
        lambda: correlation_filter(["a"], np.eye(2), [0.1]),
        lambda: correlation_filter(["a", "b"], [[1, np.nan], [np.nan, 1]], [0.1, 0.2]),
        lambda: correlation_filter(["a", "b"], np.eye(2), [0.1, 0.2], 1.5),
        lambda: vif([[1.0, 0.5], [0.1, 1.0]]),
        lambda: vif([[2.0, 0.5], [0.5, 2.0]]),
        lambda: vif([[1.0, 1.5], [1.5, 1.0]]),
        lambda: vif([1.0, 2.0]),
        lambda: vif_filter(["a", "b"], np.eye(2), 0.5),
    ],
)
def test_filters_refuse(call):
    with pytest.raises(InputError):
        call()


def orthogonal_fit():
    """Coefficients with z of 1, 5, 0.5, 3 and 1.8, independent of each other."""
    return np.array([1.0, 5.0, 0.5, 3.0, 1.8]), np.eye(5)


def test_independent_coefficients_keep_their_p_values():
    coef, covariance = orthogonal_fit()
    p = 2 * stats.norm.sf(coef)
    backward = stepwise(NAMES, coef, covariance, direction="backward")
    assert [(s.action, s.name) for s in backward] == [("remove", "c"), ("remove", "a")]
    forward = stepwise(NAMES, coef, covariance, direction="forward")
    assert [(s.action, s.name) for s in forward] == [("enter", "b"), ("enter", "d")]
    assert forward[-1].selected == ("b", "d")
    np.testing.assert_allclose(forward[-1].p_values, p[[1, 3]])
    np.testing.assert_allclose(forward[0].chi_square, 25.0)
    aic = stepwise(NAMES, coef, covariance, direction="backward", criterion="aic")
    assert aic[-1].selected == ("b", "d", "e")
    np.testing.assert_allclose([s.aic_change for s in aic], [0.25 - 2.0, 1.0 - 2.0])
    kept = stepwise(NAMES, coef, covariance, direction="backward", keep=["c"])
    assert [s.name for s in kept] == ["a"]
    kept = stepwise(NAMES, coef, covariance, direction="forward", keep=["c"])
    assert kept[-1].selected == ("b", "c", "d")
    assert stepwise(NAMES, coef, covariance, direction="backward", remove=1.0) == []
    assert stepwise(NAMES, coef, covariance, direction="forward", enter=0.0) == []


def test_both_directions_undo_an_entry():
    """x is close to the sum of y and z: best alone, and superfluous beside them."""
    rng = np.random.default_rng(0)
    y, z = rng.normal(size=(2, 1000))
    design = np.column_stack([y + z + 0.3 * rng.normal(size=1000), y, z])
    information = design.T @ design
    coef = np.array([0.0, 1.0, 1.0])
    covariance = np.linalg.inv(information)
    steps = stepwise(["x", "y", "z"], coef, covariance, direction="both")
    done = [(s.action, s.name) for s in steps]
    assert done[0] == ("enter", "x")
    assert done[-1] == ("remove", "x")
    assert steps[-1].selected == ("y", "z")
    forward = stepwise(["x", "y", "z"], coef, covariance, direction="forward")
    assert set(forward[-1].selected) == {"x", "y", "z"}


def test_submodel_is_exact_for_least_squares():
    """There the log likelihood is the quadratic that the method assumes."""
    X = correlated(300)
    X = X - X.mean(axis=0)
    y = X @ [0.5, -0.2, 0.1, 0.0, 0.3] + np.random.default_rng(1).normal(size=300)
    inverse = np.linalg.inv(X.T @ X)
    coef, covariance = submodel(inverse @ X.T @ y, inverse, [0, 2, 4])
    part = X[:, [0, 2, 4]]
    np.testing.assert_allclose(coef, np.linalg.lstsq(part, y)[0], rtol=1e-10)
    np.testing.assert_allclose(covariance, np.linalg.inv(part.T @ part), rtol=1e-9, atol=1e-15)
    empty, _ = submodel(inverse @ X.T @ y, inverse, [])
    assert empty.shape == (0,)


def test_units_do_not_matter():
    coef, covariance = np.array([1.0, -2.0, 0.4]), np.diag([0.1, 0.2, 0.3]) + 0.05
    factor = np.array([1e-8, 1.0, 1e8])
    names = ["x", "y", "z"]
    one = stepwise(names, coef, covariance)
    other = stepwise(names, coef * factor, covariance * np.outer(factor, factor))
    assert [(s.action, s.name) for s in one] == [(s.action, s.name) for s in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.p_values, b.p_values, rtol=1e-8)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a", "a", "c", "d", "e"]},
        {"names": ["a"]},
        {"direction": "sideways"},
        {"criterion": "bic"},
        {"enter": 0.2, "remove": 0.1, "direction": "both"},
        {"enter": -1.0},
        {"keep": ["z"]},
        {"covariance": np.eye(4)},
        {"covariance": np.ones((5, 5))},
        {"covariance": np.diag([1, 1, 1, 1, np.nan])},
        {"covariance": np.diag([1, 1, 1, 1, 0])},
    ],
)
def test_stepwise_refuses(change):
    coef, covariance = orthogonal_fit()
    given = {"names": NAMES, "coef": coef, "covariance": covariance} | change
    with pytest.raises(InputError):
        stepwise(given.pop("names"), given.pop("coef"), given.pop("covariance"), **given)


def test_submodel_refuses():
    with pytest.raises(InputError):
        submodel([1.0], [[1.0]], [1])
    with pytest.raises(InputError):
        submodel([1.0, 2.0], np.eye(2), [0, 0])


def woe_columns(frame, y):
    """Every column as the log odds of its quantile bin."""
    out = np.empty(frame.shape)
    for j, name in enumerate(frame):
        values = frame[name].to_numpy()
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 9)[1:-1]))
        place = np.searchsorted(edges, values, side="right")
        count, event = np.bincount(place), np.bincount(place, y)
        out[:, j] = np.log((event + 0.5) / (count - event + 0.5))[place]
    return out


def refitted_stepwise(X, y, direction, enter=0.05, remove=0.10):
    """Select by fitting every candidate model anew."""

    def z_squared(chosen):
        fit = fit_glm(X[:, chosen], y)
        return fit.coef**2 / np.diag(fit.covariance)[:-1]

    chosen = list(range(X.shape[1])) if direction == "backward" else []
    while True:
        if direction == "backward":
            values = z_squared(chosen)
            worst = int(np.argmin(values))
            if not stats.chi2.sf(values[worst], 1) > remove:
                return set(chosen)
            chosen.pop(worst)
            continue
        rest = [k for k in range(X.shape[1]) if k not in chosen]
        gains = [z_squared([*chosen, k])[-1] for k in rest]
        best = int(np.argmax(gains))
        if not stats.chi2.sf(gains[best], 1) < enter:
            return set(chosen)
        chosen.append(rest[best])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("columns", "direction"),
    [
        (slice(0, 23), "backward"),
        pytest.param(slice(0, 23), "forward", marks=pytest.mark.slow),
        (slice(0, 12), "backward"),
        (slice(0, 12), "forward"),
        (slice(11, 23), "backward"),
        (slice(11, 23), "forward"),
    ],
)
def test_against_refits_on_real_data(direction, columns):
    """The same features as by true refits, and z statistics within 0.15 of theirs."""
    frame, y = load_real("default_credit", 10_000)
    frame = frame.iloc[:, columns]
    X, names = woe_columns(frame, y), list(frame)
    full = fit_glm(X, y)
    steps = stepwise(names, full.coef, full.covariance, direction=direction)
    ours = steps[-1].selected
    assert 3 < len(ours) < len(names)
    chosen = sorted(refitted_stepwise(X, y, direction))
    assert ours == tuple(names[k] for k in chosen)
    refit = fit_glm(X[:, chosen], y)
    z = np.abs(refit.coef) / np.sqrt(np.diag(refit.covariance)[:-1])
    approximate = stats.norm.isf(0.5 * np.array(steps[-1].p_values))
    np.testing.assert_allclose(approximate, z, atol=0.15)
