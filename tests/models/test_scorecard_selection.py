"""Which features a scorecard takes, and the trail of those that it does not."""

import math

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from fedcredit import errors
from fedcredit.models.scorecard_selection import (
    FullFit,
    drop_by_counts,
    drop_by_fit,
    drop_correlated,
    drop_wrong_signs,
)
from fedcredit.models.selector import FeatureSelector, SelectionTrail
from fedcredit.stats.glm import fit_glm
from tests.support.parties import LABEL, OPEN, assert_helpful, federation

NAMES = ["a.one", "a.two", "b.three", "b.four"]


def entry(trail, name):
    return next(e for e in trail.entries if e.name == name)


# ----------------------------------------------------------------- steps on plain numbers


def by_counts(selector, *, usable=NAMES, iv=None, missing=None, psi=None, keep=()):
    trail = SelectionTrail(NAMES)
    drop_by_counts(
        trail,
        selector,
        usable=set(usable),
        iv=dict(zip(NAMES, iv or [0.5, 0.3, 0.1, 0.01], strict=True)),
        missing=dict(zip(NAMES, missing or [0, 0, 0, 0], strict=True)),
        psi=None if psi is None else dict(zip(NAMES, psi, strict=True)),
        keep=keep,
    )
    return trail


def test_a_low_value_is_dropped_with_its_threshold():
    trail = by_counts(FeatureSelector(min_iv=0.2))
    assert trail.kept == ["a.one", "a.two"]
    found = entry(trail, "b.three")
    assert (found.step, found.statistic, found.value, found.threshold) == ("iv", "iv", 0.1, 0.2)


def test_a_suspiciously_high_value_too():
    trail = by_counts(FeatureSelector(max_iv=0.4))
    assert trail.kept == ["a.two", "b.three"]
    assert entry(trail, "a.one").threshold == 0.4


def test_the_first_step_that_drops_a_feature_is_the_one_recorded():
    trail = by_counts(
        FeatureSelector(max_psi=0.25),
        usable=NAMES[1:],
        missing=[0, 0.99, 0, 0],
        psi=[9.0, 9.0, 0.3, 0.1],
    )
    assert [e.step for e in trail.entries] == ["binning", "missing", "stability", "iv"]
    assert trail.kept == []


def test_a_threshold_itself_is_not_beyond():
    assert by_counts(FeatureSelector(min_iv=0.01, max_iv=0.5, max_missing=0.0)).kept == NAMES


def test_steps_that_are_switched_off_drop_nothing():
    trail = by_counts(FeatureSelector.none(), iv=[0, 0, 0, 9], missing=[1, 1, 1, 1])
    assert trail.kept == NAMES


def test_a_wish_keeps_a_feature_and_is_recorded_unless_it_is_constant():
    trail = by_counts(FeatureSelector(min_iv=0.2), usable=NAMES[:3], keep=["b.three", "b.four"])
    assert trail.kept == ["a.one", "a.two", "b.three"]
    found = entry(trail, "b.three")
    assert (found.step, found.value, found.threshold) == ("kept in spite of iv", 0.1, 0.2)
    assert entry(trail, "b.four").step == "binning"


CORRELATED = np.array(
    [
        [1.0, 0.9, 0.1, 0.0],
        [0.9, 1.0, 0.0, 0.0],
        [0.1, 0.0, 1.0, -0.95],
        [0.0, 0.0, -0.95, 1.0],
    ]
)
VALUES = dict(zip(NAMES, [0.1, 0.3, 0.5, 0.2], strict=True))


def correlated(selector, keep=(), matrix=CORRELATED):
    trail = SelectionTrail(NAMES)
    drop_correlated(trail, selector, names=NAMES, correlation=matrix, iv=VALUES, keep=keep)
    return trail


def test_of_two_correlated_features_the_more_valuable_one_stays():
    trail = correlated(FeatureSelector(max_vif=None))
    assert trail.kept == ["a.two", "b.three"]
    gone = entry(trail, "a.one")
    assert (gone.step, gone.value, gone.against) == ("correlation", 0.9, "a.two")
    assert entry(trail, "b.four").value == -0.95


def test_a_feature_to_keep_drives_out_the_more_valuable_one():
    trail = correlated(FeatureSelector(max_vif=None), keep=["a.one"])
    assert trail.kept == ["a.one", "b.three"]
    assert entry(trail, "a.two").against == "a.one"
    both = correlated(FeatureSelector(max_vif=None), keep=["a.one", "a.two"])
    assert both.kept == ["a.one", "a.two", "b.three"]
    assert entry(both, "a.one").step == "kept in spite of correlation"


def test_a_feature_that_others_explain_is_dropped_by_its_inflation():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_000, 4))
    X[:, 3] = X[:, :3].sum(axis=1) + 0.1 * rng.normal(size=2_000)
    matrix = np.corrcoef(X, rowvar=False)
    assert np.abs(matrix - np.eye(4)).max() < 0.8
    trail = correlated(FeatureSelector(), matrix=matrix)
    assert trail.kept == NAMES[:3]
    gone = entry(trail, "b.four")
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    unexplained = np.linalg.lstsq(Z[:, :3], Z[:, 3], rcond=None)[1][0] / len(Z)
    assert (gone.step, gone.threshold) == ("vif", 10.0)
    assert gone.value == pytest.approx(1 / unexplained)
    kept = correlated(FeatureSelector(), matrix=matrix, keep=["b.four"])
    assert "b.four" in kept.kept
    assert len(kept.kept) == 3


def regression(seed=0, n=4_000):
    """A fit in which the second feature only repeats the first, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 1] = x[:, 0] + 0.5 * x[:, 1]
    z = 1.0 * x[:, 0] - 0.4 * (x[:, 1] - x[:, 0]) + 0.8 * x[:, 2]
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    fitted = fit_glm(x, y)
    return x, y, FullFit(tuple(NAMES), fitted.coef, fitted.covariance)


def test_a_wrong_sign_is_dropped_and_the_rest_follows_the_smaller_model():
    x, y, fit = regression()
    assert fit.coef[1] < 0 < fit.coef[0]
    trail = SelectionTrail(NAMES)
    drop_wrong_signs(trail, fit, sign=1, iv=VALUES)
    small = fit_glm(x[:, [0, 2, 3]], y)
    expected = ["a.one", "b.three"] + (["b.four"] if small.coef[2] > 0 else [])
    assert trail.kept == expected
    gone = entry(trail, "a.two")
    assert (gone.step, gone.statistic, gone.threshold) == ("sign", "coefficient", 0.0)
    assert gone.value == pytest.approx(fit.coef[1], rel=1e-3)


def test_the_other_convention_wants_the_other_sign():
    trail = SelectionTrail(NAMES)
    flipped = FullFit(tuple(NAMES), np.array([-1.0, -2.0, 0.5, -0.1]), None)
    drop_wrong_signs(trail, flipped, sign=-1, iv=VALUES)
    assert trail.kept == ["a.one", "a.two", "b.four"]


def test_unknown_coefficients_and_wishes_survive_the_sign_step():
    trail = SelectionTrail(NAMES)
    fit = FullFit(tuple(NAMES), np.array([1.0, -1.0, np.nan, -0.1]), None)
    drop_wrong_signs(trail, fit, sign=1, iv=VALUES, keep=["a.two"])
    assert trail.kept == ["a.one", "a.two", "b.three"]
    assert entry(trail, "a.two").step == "kept in spite of sign"


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("criterion", ["p_value", "aic"])
def test_stepwise_drops_what_adds_nothing(direction, criterion):
    _, _, fit = regression()
    trail = SelectionTrail(NAMES)
    drop_by_fit(trail, FeatureSelector(stepwise=direction, criterion=criterion), fit)
    assert trail.kept == ["a.one", "a.two", "b.three"]
    gone = entry(trail, "b.four")
    assert gone.step == "stepwise"
    if criterion == "p_value":
        assert gone.threshold == (0.05 if direction == "forward" else gone.threshold)
        assert gone.value > gone.threshold
    else:
        assert (gone.statistic, gone.threshold) == ("aic change", 0.0)


def test_stepwise_keeps_what_is_wished():
    _, _, fit = regression()
    for direction in ("forward", "backward", "both"):
        trail = SelectionTrail(NAMES)
        drop_by_fit(trail, FeatureSelector(stepwise=direction), fit, keep=["b.four"])
        assert trail.kept == NAMES


def test_stepwise_works_on_what_is_left():
    _, _, fit = regression()
    trail = SelectionTrail(NAMES)
    trail.drop("a.one", "iv", "iv", 0.0, 0.02)
    drop_by_fit(trail, FeatureSelector(stepwise="backward"), fit)
    assert "a.one" not in trail.kept
    assert entry(trail, "a.one").step == "iv"
    assert "a.two" in trail.kept


def test_stepwise_needs_all_coefficients():
    fit = FullFit(tuple(NAMES), np.ones(4), None)
    with pytest.raises(errors.InputError) as caught:
        drop_by_fit(SelectionTrail(NAMES), FeatureSelector(stepwise="both"), fit)
    assert_helpful(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"min_iv": -0.1},
        {"min_iv": "0.1"},
        {"max_iv": True},
        {"max_missing": 1.5},
        {"max_correlation": math.nan},
        {"max_vif": 0.5},
        {"max_psi": -1},
        {"enter": 0.2, "remove": 0.1, "stepwise": "both"},
        {"enter": None},
        {"stepwise": "sideways"},
        {"criterion": "bic"},
    ],
)
def test_unusable_settings_are_refused(options):
    with pytest.raises(errors.InputError) as caught:
        FeatureSelector(**options).check()
    assert_helpful(caught.value)


def test_default_settings_pass():
    FeatureSelector().check()
    FeatureSelector.none().check()
    assert FeatureSelector().needs_correlations
    assert not FeatureSelector.none().needs_correlations


# -------------------------------------------------------------------- over the parties


def population(n=900, seed=5):
    """Two providers: one feature twice, one without value, one constant, one mostly missing."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    ids = [f"E{k:06d}" for k in rng.permutation(n)]
    p = 1 / (1 + np.exp(-(z @ [1.0, 0.8, 0.6] - 1)))
    tables = {
        "platform": pd.DataFrame({"own": z[:, 0], LABEL: (rng.random(n) < p).astype(int)}),
        "tax": pd.DataFrame(
            {
                "paid": z[:, 1],
                "paid_again": z[:, 1] + 0.05 * rng.normal(size=n),
                "noise": rng.normal(size=n),
            }
        ),
        "social": pd.DataFrame(
            {
                "staff": z[:, 2],
                "constant": 1.0,
                "empty": np.where(rng.random(n) < 0.97, np.nan, z[:, 2]),
            }
        ),
    }
    for table in tables.values():
        table.insert(0, "id", ids)
    return tables


def aligned(**changes):
    policy = fc.ProviderPolicy(**({**OPEN.__dict__, "max_revealed_predictors": 9} | changes))
    return federation(population(), policy=policy).align(on="id")


BINS = {"max_bins": 4, "prebins": 8, "min_bin_share": 0.01}


@pytest.fixture(scope="module")
def frame():
    return aligned()


@pytest.fixture(scope="module")
def card(frame):
    return fc.VerticalScorecard(binner=BINS, selector={"stepwise": "backward"}).fit(frame, LABEL)


def test_every_feature_is_in_the_trail_with_its_reason(card):
    trail = card.selection_
    assert list(trail.columns) == [
        *("party", "kept", "step", "statistic", "value", "threshold", "against", "iv")
    ]
    assert trail["step"].to_dict() | {"tax.noise": ""} == {
        "platform.own": "kept",
        "tax.paid": trail.loc["tax.paid", "step"],
        "tax.paid_again": trail.loc["tax.paid_again", "step"],
        "tax.noise": "",
        "social.staff": "kept",
        "social.constant": "binning",
        "social.empty": "missing",
    }
    twins = trail.loc[["tax.paid", "tax.paid_again"]]
    assert twins["kept"].sum() == 1
    gone = twins[~twins["kept"]].iloc[0]
    assert gone["step"] == "correlation"
    assert gone["against"] == twins.index[twins["kept"]][0]
    assert gone["iv"] < twins.loc[twins["kept"], "iv"].iloc[0]
    assert not trail.loc["tax.noise", "kept"]
    assert trail.loc["tax.noise", "step"] in ("iv", "stepwise", "sign")
    assert card.features_ == trail.index[trail["kept"]].tolist()


def test_a_kept_feature_stays(frame):
    card = fc.VerticalScorecard(
        binner=BINS,
        selector={"stepwise": "backward"},
        keep=["tax.noise", "tax.paid", "tax.paid_again"],
    ).fit(frame, LABEL)
    assert {"tax.noise", "tax.paid", "tax.paid_again"} <= set(card.features_)
    steps = card.selection_.loc[["tax.paid", "tax.paid_again"], "step"]
    assert steps.str.contains("correlation|vif").any()


def test_correlations_that_a_provider_refuses():
    frame = aligned(release_correlations=False)
    with pytest.raises(errors.PolicyError, match="not released") as caught:
        fc.VerticalScorecard(binner=BINS).fit(frame, LABEL)
    assert_helpful(caught.value)
    assert "max_correlation=None" in caught.value.fix
    selector = {"max_correlation": None, "max_vif": None, "min_iv": 0.1}
    card = fc.VerticalScorecard(binner=BINS, selector=selector).fit(frame, LABEL)
    assert "platform.own" in card.features_


def test_stepwise_where_a_provider_keeps_its_coefficients():
    frame = aligned(release_coefficients=False)
    selector = {"stepwise": "both", "max_correlation": None, "max_vif": None}
    card = fc.VerticalScorecard(binner=BINS, selector=selector)
    with pytest.raises(errors.InputError, match="stepwise") as caught:
        card.fit(frame, LABEL)
    assert_helpful(caught.value)


def test_features_that_moved_are_dropped():
    tables = population()
    late = np.arange(len(tables["tax"])) >= 600
    tables["tax"].loc[late, "paid"] += 3
    tables["platform"]["late"] = late.astype(int)
    tables["platform"] = tables["platform"][["id", "own", "late", LABEL]]
    policy = fc.ProviderPolicy(**({**OPEN.__dict__, "max_revealed_predictors": 9}))
    frame = federation(tables, policy=policy).align(on="id")
    is_late = frame["late"].to_numpy() == 1
    selector = {"max_psi": 0.25, "max_correlation": None, "max_vif": None}
    features = ["platform.own", "tax.paid", "tax.paid_again", "social.staff"]
    card = fc.VerticalScorecard(binner=BINS, selector=selector, features=features)
    card.fit(frame.take(~is_late), LABEL, validation=frame.take(is_late))
    gone = card.selection_.loc["tax.paid"]
    assert (gone["step"], gone["threshold"]) == ("stability", 0.25)
    assert gone["value"] > 0.25
    assert card.selection_.loc[["platform.own", "tax.paid_again", "social.staff"], "kept"].all()
    with pytest.raises(errors.InputError, match="validation") as caught:
        card.fit(frame.take(~is_late), LABEL)
    assert_helpful(caught.value)


def test_when_nothing_is_left_the_trail_says_why(frame):
    table = population()["tax"]
    y = population()["platform"][LABEL]
    card = fc.VerticalScorecard(selector={"min_iv": 9})
    with pytest.raises(errors.InputError, match="no feature is left") as caught:
        card.fit(table[["paid", "noise"]], y)
    assert_helpful(caught.value)
    assert card.selection_["step"].tolist() == ["iv", "iv"]
