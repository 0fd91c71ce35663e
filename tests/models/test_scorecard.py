"""A scorecard over several parties: its points, what they reveal, its settings, its edits."""

import copy

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from fedcredit import errors
from fedcredit.models.engine_scorecard import own_table
from fedcredit.models.local import local_frame
from fedcredit.models.scorecard_job import hand_out_card, provider_points
from fedcredit.models.scorecard_share import make_share, row_points
from fedcredit.stats.scorecard_points import PointScale
from tests.support.parties import LABEL, assert_helpful, federation
from tests.support.scorecards import (
    BINS,
    PROVIDERS,
    N,
    aligned,
    exact_log_odds,
    label,
    made_up,
    policy,
    pooled_table,
    scorecard,
    used,
)


@pytest.fixture(scope="module")
def frame():
    return aligned()


@pytest.fixture(scope="module")
def card(frame):
    return scorecard().fit(frame, LABEL)


@pytest.fixture(scope="module")
def pooled(frame):
    """The same card fitted on one table that holds everything, and that table."""
    table, y = pooled_table(frame)
    return scorecard().fit(table, y), table


# ------------------------------------------------------------------------------- points


def test_coefficients_are_those_of_one_table(card, pooled):
    alone = {label(c.name): c for c in pooled[0].share_.characteristics}
    assert {label(name) for name in card.features_} == set(alone)
    for c in card.share_.characteristics:
        np.testing.assert_array_equal(c.count, alone[label(c.name)].count)
        np.testing.assert_allclose(c.woe, alone[label(c.name)].woe, atol=1e-12)
        # The predictor that the fit reveals is rounded at random, unless a policy has it exact.
        assert abs(c.coef - alone[label(c.name)].coef) < 0.05 * c.standard_error


def test_points_are_exactly_those_of_the_coefficients(card, frame, pooled):
    """Every party adds its own points; the sum is that of one table with these coefficients."""
    alone, table = pooled
    order = {label(c.name): c for c in card.share_.characteristics}
    names = [c.name for c in alone.share_.characteristics]
    woe = alone.scoring_binner_.transform_own(local_frame(table), names)[names].to_numpy()
    coef = [order[label(name)].coef for name in names]
    share = card.share_
    expected = row_points(woe, coef, share.scale, base=share.spread, rounding=True).sum(axis=1)
    points = card.points(frame)
    assert points.dtype == np.int64
    assert points.name == "points"
    np.testing.assert_array_equal(points, expected)
    assert len(np.unique(points)) > 50


def test_points_fall_as_risk_rises(card, frame):
    quality = card.performance(frame, LABEL)
    assert quality["auc"] > 0.75
    assert quality["gini"] == pytest.approx(2 * quality["auc"] - 1)
    bands = card.bands(frame, LABEL, n=5)
    assert bands["event rate"].is_monotonic_decreasing


def test_probabilities_are_those_that_the_points_stand_for(card, frame):
    points = card.points(frame).to_numpy()
    odds = 50 * 2 ** ((points - 600) / 20)
    np.testing.assert_allclose(card.predict_proba(frame)[:, 1], 1 / (1 + odds), rtol=1e-12)
    np.testing.assert_allclose(card.decision_function(frame), -np.log(odds), atol=1e-12)
    np.testing.assert_array_equal(card.predict(frame), (odds < 1).astype(int))
    assert card.score(frame, LABEL) == np.mean(card.predict(frame) == frame[LABEL].to_numpy())


def test_whole_points_follow_the_exact_log_odds(card, frame):
    exact = exact_log_odds(card, frame)
    off = card.points(frame).to_numpy() - card.share_.scale.to_points(exact)
    assert np.abs(off).max() <= 0.5 * len(card.features_) + 1e-9


def test_scores_of_some_rows_in_any_order_are_the_same(card, frame):
    chosen = np.array([17, 3, 900, 3])
    np.testing.assert_array_equal(card.points(frame.take(chosen)), card.points(frame)[chosen])


def test_the_table_adds_up_to_the_scale(card):
    table = card.table()
    assert list(table.columns) == [
        *("party", "feature", "bin", "count", "share", "event rate", "woe", "coefficient"),
        "points",
    ]
    for _, bins in table.groupby(["party", "feature"]):
        assert bins["count"].sum() == N
        assert bins["share"].sum() == pytest.approx(1)
    foreign = table[table["party"] != "platform"]
    assert foreign["bin"].str.fullmatch(r"bin \d+ \(of (tax|social)\)|missing").all()
    at_neutral = card.share_.spread * len(card.features_)
    assert at_neutral == pytest.approx(card.share_.scale.to_points(card.share_.intercept))


def test_a_provider_sees_its_own_limits_and_the_same_points(card, frame):
    for name in PROVIDERS:
        own = own_table(frame.federation.engines[name], card.model_id_)
        theirs = card.table().query("party == @name")
        assert own["points"].tolist() == theirs["points"].tolist()
        assert own["woe"].tolist() == theirs["woe"].tolist()
        assert own["feature"].tolist() == theirs["feature"].tolist()
        assert own["bin"].str.contains(r"\[|missing|,|^\d").all()


# ---------------------------------------------------------------------- what is revealed


def test_points_and_probabilities_of_the_same_rows_cost_one_reveal():
    frame = aligned("tax")
    card = scorecard().fit(frame, LABEL)
    before = used(frame, "tax")
    some = frame.take(np.arange(100))
    card.points(some)
    assert used(frame, "tax") == before + 1
    card.predict_proba(some)
    card.performance(some, LABEL)
    card.bands(some, LABEL)
    assert used(frame, "tax") == before + 1
    card.reason_codes(some, 2)
    assert used(frame, "tax") == before + 2
    card.reason_codes(some, 2)
    assert used(frame, "tax") == before + 2
    card.reason_codes(some, 3)
    assert used(frame, "tax") == before + 3


def test_the_platform_receives_masked_points_only(card, frame):
    federation = frame.federation
    card.points(frame.take([1, 2, 3]))
    kinds = {kind for sender, _, kind in federation.session_counts() if sender != "platform"}
    assert kinds == {"pairwise.key", "predictor.share"}


def test_a_used_up_budget_ends_scoring():
    frame = aligned("tax", max_revealed_predictors=2)
    card = scorecard(sign_constraints=None).fit(frame, LABEL)
    card.points(frame)
    with pytest.raises(errors.BudgetError) as caught:
        card.reason_codes(frame.take([0]))
    assert_helpful(caught.value, party="tax")
    # A refused second fit leaves the card as it is, and its points are known already.
    assert card.revealed_ == card.n_fits_ == 1
    before = card.points(frame)
    with pytest.raises(errors.BudgetError):
        card.refit()
    assert card.points(frame).equals(before)


def test_a_missing_provider_never_gives_a_partial_score(card):
    parts = {name: table for name, table in made_up()[0].items() if name != "social"}
    other = federation(parts, policy=policy()).align(on="id")
    for call in (card.points, card.predict_proba, card.reason_codes):
        with pytest.raises(errors.InputError, match="social") as caught:
            call(other)
        assert_helpful(caught.value)


def test_a_sum_over_fewer_providers_is_refused_by_the_providers(card, frame):
    with pytest.raises(errors.PolicyError) as caught:
        provider_points(
            frame.federation,
            model_id=card.model_id_,
            frame_id=frame.frame_id,
            rows=np.arange(5, dtype=np.uint32),
            providers=("tax",),
        )
    assert_helpful(caught.value, party="tax")


def test_an_unknown_card_is_refused(card):
    stranger = aligned()
    with pytest.raises(errors.ProtocolError, match="not known") as caught:
        card.points(stranger)
    assert_helpful(caught.value)


# ------------------------------------------------------------------------ other settings


def test_coefficients_that_stay_at_home(card, frame):
    """The platform's table is blank there; points are the same up to the held signs."""
    home = aligned(release_coefficients=False)
    secret = scorecard().fit(home, LABEL)
    table = secret.table()
    foreign = table["party"] != "platform"
    assert table.loc[foreign, ["coefficient", "points"]].isna().all(axis=None)
    assert table.loc[~foreign, ["coefficient", "points"]].notna().all(axis=None)
    assert secret.n_fits_ == 2
    assert "–" in str(secret.summary())
    points = pd.Series(secret.points(home).to_numpy(), index=home.ids)
    expected = pd.Series(card.points(frame).to_numpy(), index=frame.ids)
    assert (points - expected.loc[points.index]).abs().max() <= 3
    own = own_table(home.federation.engines["tax"], secret.model_id_)
    assert own["points"].notna().all()


@pytest.mark.parametrize("allowed", [True, False])
def test_exact_points_are_what_the_regression_shows(allowed):
    frame = aligned("tax", allow_exact_predictor=allowed)
    card = scorecard(rounding=False).fit(frame, LABEL)
    before = used(frame, "tax")
    points = card.points(frame)
    assert points.dtype == np.float64
    shown = card.regression_.decision_function(frame)
    np.testing.assert_allclose(card.decision_function(frame), shown, atol=1e-9)
    assert used(frame, "tax") == before + 1
    coef = dict(zip(card.regression_.feature_labels_, card.regression_.coef_[0], strict=True))
    assert {c.name: c.coef for c in card.share_.characteristics} == coef


@pytest.mark.parametrize(("pdo", "allowed"), [(89, False), (89, True), (88, False)])
def test_points_as_fine_as_exact_log_odds_are_refused(pdo, allowed):
    frame = aligned("tax", allow_exact_predictor=allowed)
    card = scorecard(pdo=pdo, features=["platform.age", "tax.paid"])
    if pdo < 89 or allowed:
        assert card.fit(frame, LABEL).points(frame.take([0])).dtype == np.int64
        return
    with pytest.raises(errors.PolicyError, match="finer") as caught:
        card.fit(frame, LABEL)
    assert_helpful(caught.value, party="tax")


def test_cards_of_one_regression_on_other_scales_are_counted():
    frame = aligned("tax")
    card = scorecard(features=["platform.age", "tax.paid"]).fit(frame, LABEL)
    before = used(frame, "tax")
    card.points(frame)
    again = copy.deepcopy(card)
    again.model_id_ = "another-card"
    again.share_ = make_share(
        card.share_.characteristics,
        card.share_.intercept,
        PointScale(21.0),
        spread_base=True,
        rounding=True,
    )
    hand_out_card(
        frame.federation,
        again.share_,
        model_id=again.model_id_,
        frame_id=frame.frame_id,
        regression_id=card.regression_id_,
        binner_id=card.binner_.binner_id_,
        providers=card.providers_,
    )
    assert not np.array_equal(again.points(frame), card.points(frame))
    assert used(frame, "tax") == before + 2


def test_base_points_that_stand_alone(frame, pooled):
    table, y = pooled_table(frame)
    card = scorecard(spread_base=False).fit(table, y)
    assert card.table()["feature"].tolist().count("base points") == 1
    exact = card.share_.scale.to_points(card.regression_.decision_function(local_frame(table)))
    assert np.abs(card.points(table) - exact).max() <= 0.5 * (len(card.features_) + 1)
    assert card.share_.base == np.rint(card.share_.scale.to_points(card.share_.intercept))
    assert np.abs(card.points(table) - pooled[0].points(table)).max() <= len(card.features_)


@pytest.mark.parametrize("options", [{"convention": "good_over_bad"}, {"event": "good"}])
def test_conventions_and_events(frame, options):
    """Signs of weights change nothing; scores rise with the other class if that is the event."""
    table, y = pooled_table(frame)
    names = np.where(y == 1, "bad", "good")
    plain = scorecard(binner=BINS | {"event": "bad"}).fit(table, names)
    other = scorecard(binner=BINS | {"event": "bad"} | options).fit(table, names)
    assert plain.classes_.tolist() == ["bad", "good"]
    assert (plain.predict(table) == names).mean() > 0.7
    assert (other.predict(table) == names).mean() > 0.7
    np.testing.assert_allclose(
        other.predict_proba(table)[:, 0], plain.predict_proba(table)[:, 0], atol=0.12
    )
    if options == {"convention": "good_over_bad"}:
        np.testing.assert_array_equal(other.points(table), plain.points(table))
    else:
        assert np.corrcoef(other.points(table), plain.points(table))[0, 1] < -0.99


def test_an_unseen_category_gets_the_points_of_missing():
    rng = np.random.default_rng(0)
    n = 600
    kind = rng.choice(["a", "b", "c", None], n, p=[0.4, 0.3, 0.2, 0.1])
    rate = {"a": 0.2, "b": 0.4, "c": 0.6, None: 0.8}
    y = (rng.random(n) < np.vectorize(rate.get)(kind)).astype(int)
    table = pd.DataFrame({"kind": kind, "x": rng.normal(size=n)})
    card = scorecard().fit(table, y)
    new = pd.DataFrame({"kind": ["zzz", None, "a"], "x": [0.0, 0.0, 0.0]})
    points = card.points(new)
    assert points[0] == points[1] != points[2]


def test_weights_enter_the_regression(frame):
    table, y = pooled_table(frame)
    weight = np.where(y == 1, 2.0, 1.0)
    plain, heavy = (scorecard().fit(table, y, sample_weight=w) for w in (None, weight))
    shift = heavy.share_.intercept - plain.share_.intercept
    assert shift == pytest.approx(np.log(2), abs=0.1)


def test_a_named_weight_is_no_feature():
    parts, pooled_rows = made_up()
    extra = pooled_rows[["id", "weight"]]
    platform = parts["platform"].merge(extra, on="id", validate="one_to_one")
    frame = federation({"platform": platform}).align(on="id")
    card = scorecard().fit(frame, LABEL, sample_weight="weight")
    assert set(card.selection_.index) == {"platform.age", "platform.debt"}


def test_a_fitted_binner_is_used_as_it_is(frame):
    table, y = pooled_table(frame)
    binner = fc.VerticalBinner(**BINS)
    binner.fit(local_frame(table), y.to_numpy())
    name = "platform.debt"
    binner.merge(name, 0, 1)
    card = scorecard(binner=binner).fit(table, y)
    assert card.binner_ is binner
    assert len(card.binning_table(name)) == len(binner.binning_table(name))


# ------------------------------------------------------------------------- manual work


def test_edits_of_bins_count_after_a_refit():
    frame = aligned("tax")
    card = scorecard().fit(frame, LABEL)
    before, first_id = card.points(frame), card.model_id_
    lines = len(card.binning_table("tax.paid"))
    counted = frame.federation.phase_seconds()["bin"]
    card.binner_.merge("tax.paid", 0, 1)
    card.binner_.merge("platform.age", 0, 1)
    np.testing.assert_array_equal(card.points(frame), before)
    assert len(card.binning_table("tax.paid")) == lines
    card.refit()
    assert card.model_id_ != first_id
    assert len(card.binning_table("tax.paid")) == lines - 1
    assert not np.array_equal(card.points(frame), before)
    # Nothing was counted anew.
    assert frame.federation.phase_seconds()["bin"] == counted


def test_a_copy_does_not_refit(card):
    loaded = fc.VerticalScorecard.load(card.to_bytes())
    for copied in (copy.deepcopy(card), loaded):
        with pytest.raises(errors.InputError, match="rows of its fit") as caught:
            copied.refit()
        assert_helpful(caught.value)
