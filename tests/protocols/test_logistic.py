"""Joint logistic regressions are the pooled ones."""

import warnings

import numpy as np
import pytest
from scipy.stats import norm

from fedcredit.errors import InputError
from fedcredit.protocols.logistic import LogisticData, LogisticParams
from fedcredit.protocols.logistic_types import LogisticLimits
from fedcredit.stats.glm import fit_glm
from tests.support.joint_logistic import Case, fit, newton, synthetic, woe_columns
from tests.support.real_data import load_real

EXACT = LogisticParams(reveal_predictor=True, max_reveals=8)
HIDDEN = LogisticParams(polish_steps=0)


def errors(cov):
    return np.sqrt(np.diag(cov))


@pytest.mark.parametrize(
    "owners", [(2, 3), pytest.param((2, 3, 2), marks=pytest.mark.slow), (2, 2, 2, 2), (0, 4)]
)
def test_it_is_the_pooled_fit(owners):
    X, y = synthetic(1500, owners)
    joint = fit(Case(X, y, owners))
    coef, cov = newton(X, y)
    assert np.abs(joint.coef - coef).max() < 2e-4
    np.testing.assert_allclose(joint.standard_error, errors(cov), rtol=6e-3)
    outcome = joint.outcome
    assert outcome.converged
    assert outcome.revealed == 1
    assert [point.revealed for point in outcome.trace][-2:] == [0, 1]
    assert outcome.evaluations == len(outcome.trace)
    scale = np.outer(errors(cov), errors(cov))
    assert np.abs((outcome.covariance - cov) / scale).max() < 0.01
    for name, share in joint.shares.items():
        np.testing.assert_array_equal(outcome.released[name].coef, share.coef)


@pytest.mark.parametrize("owners", [(2, 3), (2, 3, 2)])
def test_the_exact_mode_is_exact(owners):
    X, y = synthetic(1500, owners)
    joint = fit(Case(X, y, owners, params=EXACT))
    coef, cov = newton(X, y)
    assert np.abs(joint.coef - coef).max() < 1e-6
    p_value = 2 * norm.sf(np.abs(joint.coef / joint.standard_error))
    assert np.abs(p_value - 2 * norm.sf(np.abs(coef / errors(cov)))).max() < 1e-4
    assert joint.outcome.converged
    np.testing.assert_allclose(joint.outcome.predictor, X @ coef[:-1] + coef[-1], atol=1e-5)
    phases = [point.phase for point in joint.outcome.trace]
    assert phases.count("exact") == joint.outcome.revealed <= 4


def test_without_a_reveal_it_is_near_and_nothing_is_revealed():
    X, y = synthetic(3000, (2, 3))
    joint = fit(Case(X, y, (2, 3), params=HIDDEN, limits=LogisticLimits(max_reveals=0)))
    coef, cov = newton(X, y)
    assert np.abs((joint.coef - coef) / errors(cov)).max() < 0.1
    assert joint.outcome.revealed == 0
    assert joint.outcome.predictor is None
    assert joint.outcome.covariance_own is None
    assert all(share.standard_error is None for share in joint.shares.values())


def crossed(kinds, quick_exact):
    """Every kind in both modes, quickly in one of them: exact if it is among ``quick_exact``."""
    return [
        pytest.param(kind, exact, marks=[] if (kind in quick_exact) == exact else pytest.mark.slow)
        for kind in kinds
        for exact in (False, True)
    ]


@pytest.mark.parametrize(
    ("what", "exact"), crossed(["weight", "offset", "ridge", "all"], ["weight", "offset", "ridge"])
)
def test_weights_offset_and_ridge(what, exact):
    params = EXACT if exact else LogisticParams()
    rng = np.random.default_rng(3)
    X, y = synthetic(1500, (2, 2, 2))
    options, l2 = {}, 0.0
    if what in ("weight", "all"):
        options["weight"] = rng.integers(1, 5, len(y)) / 2
    if what in ("offset", "all"):
        options["offset"] = rng.normal(scale=0.5, size=len(y))
    if what in ("ridge", "all"):
        l2 = 5.0
        params = LogisticParams(
            C=1 / l2, reveal_predictor=params.reveal_predictor, max_reveals=params.max_reveals
        )
    joint = fit(Case(X, y, (2, 2, 2), params=params, **options))
    coef, cov = newton(X, y, l2=l2, **options)
    assert np.abs(joint.coef - coef).max() < (1e-6 if params.reveal_predictor else 3e-4)
    np.testing.assert_allclose(joint.standard_error, errors(cov), rtol=6e-3)


@pytest.mark.parametrize(
    ("kind", "exact"),
    crossed(["lasso", "elastic net", "signs", "signs and ridge"], ["elastic net", "signs"]),
)
def test_lasso_elastic_net_and_signs(kind, exact):
    X, y = synthetic(1500, (2, 3, 2))
    options = {
        "lasso": {"C": 0.03, "l1_ratio": 1.0},
        "elastic net": {"C": 0.03, "l1_ratio": 0.6},
        "signs": {},
        "signs and ridge": {"C": 0.2},
    }[kind]
    signs = (1, 1, -1, -1, 0, 1, -1) if kind.startswith("signs") else None
    params = LogisticParams(**options, reveal_predictor=exact, max_reveals=8)
    joint = fit(Case(X, y, (2, 3, 2), params=params, signs=signs))
    pooled = fit_glm(X, y, signs=signs, **options)
    found = np.append(pooled.coef, pooled.intercept)
    assert np.abs(joint.coef - found).max() < (1e-6 if exact else 3e-4)
    np.testing.assert_array_equal(joint.coef == 0, found == 0)
    assert (found == 0).any()
    held = joint.coef == 0
    np.testing.assert_array_equal(np.isnan(joint.standard_error[2:]), held[2:])


def test_a_party_whose_coefficients_are_all_held_at_zero():
    X, y = synthetic(1500, (2, 2, 2), strength=1.0)
    coef, _ = newton(X, y)
    signs = (0, 0, *(int(-np.sign(c)) for c in coef[2:4]), 0, 0)
    joint = fit(Case(X, y, (2, 2, 2), signs=signs))
    pooled = fit_glm(X, y, signs=signs)
    np.testing.assert_array_equal(pooled.coef[2:4], 0)
    np.testing.assert_array_equal(joint.shares["tax"].coef, 0)
    assert np.isnan(joint.shares["tax"].standard_error).all()
    assert np.abs(joint.coef[:-1] - pooled.coef).max() < 3e-4


def test_only_what_is_released_is_given():
    X, y = synthetic(1200, (2, 2, 2))
    limits = LogisticLimits(max_reveals=3, release_coefficients=False)
    joint = fit(Case(X, y, (2, 2, 2), limits=limits))
    assert joint.outcome.released == {}
    assert joint.outcome.covariance is None
    coef, cov = newton(X, y)
    assert np.abs(joint.coef - coef).max() < 2e-4
    np.testing.assert_allclose(joint.standard_error, errors(cov), rtol=6e-3)


def test_a_wide_predictor_lengthens_the_period():
    X, y = synthetic(3000, (2, 3), strength=1.8)
    joint = fit(Case(X, y, (2, 3)))
    coef, cov = newton(X, y)
    assert np.ptp(X @ coef[:-1]) > 14
    assert np.abs((joint.coef - coef) / errors(cov)).max() < 0.01


# ------------------------------------------------------------------------------- bad input


def test_one_class_missing_values_and_wrong_shapes():
    X, y = synthetic(300, (2, 2))
    own = X[:, :2]
    with pytest.raises(InputError, match="all alike"):
        LogisticData(own, np.zeros(300))
    with pytest.raises(InputError, match="all alike"):
        LogisticData(own, y, weight=y)
    with pytest.raises(InputError, match="0 or 1"):
        LogisticData(own, y + 1)
    with pytest.raises(InputError, match="negative"):
        LogisticData(own, y, weight=np.full(300, -1.0))
    with pytest.raises(InputError, match="offset"):
        LogisticData(own, y, offset=np.full(300, np.nan))
    with pytest.raises(InputError, match="same rows"):
        LogisticData(own[:-1], y)


@pytest.mark.parametrize("party", ["platform", "tax"])
@pytest.mark.parametrize("what", ["constant", "missing", "dependent"])
def test_bad_columns_are_named_at_their_owner(party, what):
    X, y = synthetic(400, (3, 3))
    at = 0 if party == "platform" else 3
    X[:, at] = {"constant": 7.0, "missing": np.nan, "dependent": X[:, at + 1] - X[:, at + 2]}[what]
    reason = {"constant": "constant", "missing": "missing", "dependent": "linear combination"}
    with pytest.raises(InputError, match=reason[what]) as caught:
        fit(Case(X, y, (3, 3)))
    assert caught.value.party == party
    assert caught.value.fix


def test_a_column_that_stands_for_few_rows_is_refused_by_its_owner():
    X, y = synthetic(400, (2, 2))
    X[:, 3] = 0.0
    X[:3, 3] = 1.0
    with pytest.raises(InputError, match="labels its gradient would tell") as caught:
        fit(Case(X, y, (2, 2)))
    assert caught.value.party == "tax"


def test_too_many_columns_for_the_rows_are_refused_by_the_label_holder():
    X, y = synthetic(200, (2, 11))
    with pytest.raises(InputError, match="would tell labels") as caught:
        fit(Case(X, y, (2, 11)))
    assert caught.value.party == "tax"


@pytest.mark.parametrize("owners", [(2, 3), (2, 2, 2)])
def test_columns_that_two_parties_have_are_named(owners):
    X, y = synthetic(1500, owners)
    X[:, -1] = 2 * X[:, 0] + 1
    with pytest.raises(InputError, match="linearly dependent") as caught:
        fit(Case(X, y, owners))
    assert caught.value.party == ("tax" if len(owners) == 2 else "social_security")
    assert "C" in caught.value.fix


def test_a_ridge_penalty_bears_columns_that_two_parties_have():
    X, y = synthetic(1500, (2, 3))
    X[:, -1] = 2 * X[:, 0] + 1
    joint = fit(Case(X, y, (2, 3), params=LogisticParams(C=0.02)))
    coef, _ = newton(X, y, l2=50.0)
    assert np.abs(joint.coef - coef).max() < 1e-3


@pytest.mark.parametrize("params", [LogisticParams(), EXACT], ids=["default", "exact"])
def test_separated_labels_are_an_error(params):
    X, _ = synthetic(600, (2, 2))
    y = (X[:, 2] > np.median(X[:, 2])).astype(float)
    with pytest.raises(InputError, match=r"separated|reach too far|not converge|run away"):
        fit(Case(X, y, (2, 2), params=params))


# ------------------------------------------------------------------------------- real data

CASES = [
    ("default_credit", (6, 10)),
    ("default_credit", (6, 8, 8)),
    ("default_credit", (5, 5, 6, 6)),
    ("give_me_some_credit", (3, 5)),
    ("give_me_some_credit", (2, 3, 3)),
]
SETS = pytest.mark.parametrize(("name", "owners"), CASES)


def real(name, owners, rows, kind="woe"):
    frame, y = load_real(name, rows)
    X = frame.to_numpy()
    if kind == "woe":
        X = woe_columns(X, y)
    else:
        X = np.where(np.isnan(X), np.nanmedian(X, axis=0), X)
        X = np.clip(X, *np.quantile(X, [0.005, 0.995], axis=0))
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    X = X[:, np.random.default_rng(0).permutation(X.shape[1])]
    assert X.shape[1] >= sum(owners)
    return X[:, : sum(owners)], y


def statsmodels_fit(X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import statsmodels.api as sm

        model = sm.Logit(y, np.column_stack((X, np.ones(len(y)))))
        return model.fit(disp=0, method="newton", tol=1e-12)


def check(X, y, owners, params, coef_error, p_error):
    joint = fit(Case(X, y, owners, params=params))
    pooled = statsmodels_fit(X, y)
    assert np.abs(joint.coef - pooled.params).max() < coef_error
    p_value = 2 * norm.sf(np.abs(joint.coef / joint.standard_error))
    assert np.abs(p_value - pooled.pvalues).max() < p_error
    assert joint.outcome.converged


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "owners"),
    [
        pytest.param(*case, marks=[] if case in (CASES[1], CASES[3]) else [pytest.mark.slow])
        for case in CASES
    ],
)
def test_real_data_by_default(name, owners):
    check(*real(name, owners, 6000), owners, LogisticParams(), 1e-3, 1e-2)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["default_credit", pytest.param("give_me_some_credit", marks=pytest.mark.slow)]
)
def test_real_data_exactly(name):
    owners = (2, 3, 3)
    check(*real(name, owners, 8000), owners, EXACT, 1e-6, 1e-4)


@pytest.mark.realdata
def test_winsorised_raw_columns():
    owners = (3, 6)
    X, y = real("give_me_some_credit", owners, 8000, "raw")
    check(X, y, owners, LogisticParams(), 1e-3, 1e-2)


@pytest.mark.slow
@pytest.mark.realdata
@SETS
def test_full_size_by_default(name, owners):
    check(*real(name, owners, None), owners, LogisticParams(), 1e-3, 1e-2)


@pytest.mark.slow
@pytest.mark.realdata
@SETS
def test_full_size_exactly(name, owners):
    check(*real(name, owners, None), owners, EXACT, 1e-6, 1e-4)
