import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression

from fedcredit.errors import InputError
from fedcredit.stats.scorecard_points import (
    Calibration,
    PointCard,
    PointScale,
    band_edges,
    bands,
    characteristic_points,
    cutoff_table,
    fit_calibration,
    make_card,
    neutral_points,
    reason_codes,
)

WOE = [np.array([-0.8, -0.1, 0.6, 0.0]), np.array([1.2, -0.4]), np.array([0.3, -0.33, 0.05])]
COEF, INTERCEPT = np.array([0.9, 1.1, 0.5]), -1.7


def random_bins(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.integers(len(w), size=n) for w in WOE])


def log_odds(bins):
    return INTERCEPT + sum(COEF[c] * WOE[c][bins[:, c]] for c in range(3))


def test_the_scale_keeps_what_its_numbers_say():
    scale = PointScale(pdo=20, base_score=600, base_odds=50)
    bad = 1 / 51
    assert scale.to_points(special.logit(bad)) == pytest.approx(600, abs=1e-10)
    # Twice the odds of good to bad are pdo more points.
    for points in (300.0, 600.0, 712.5):
        p = scale.to_probability([points, points + 20])
        odds = (1 - p) / p
        assert odds[1] / odds[0] == pytest.approx(2.0, rel=1e-12)
    x = np.linspace(-9, 9, 50).reshape(5, 10)
    np.testing.assert_allclose(scale.to_log_odds(scale.to_points(x)), x, atol=1e-12)
    np.testing.assert_allclose(scale.to_probability(scale.to_points(x)), special.expit(x))
    assert scale.factor == pytest.approx(28.8539, abs=1e-4)
    assert scale.offset == pytest.approx(487.1229, abs=1e-4)


@pytest.mark.parametrize(
    "numbers", [{"pdo": 0}, {"pdo": -20}, {"base_odds": 0}, {"base_score": np.inf}]
)
def test_the_scale_refuses(numbers):
    with pytest.raises(InputError):
        PointScale(**numbers)


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("decimals", [0, 1, 2, None])
def test_totals_are_exact_up_to_the_rounding_bound(spread, decimals):
    scale = PointScale()
    card = make_card(WOE, COEF, INTERCEPT, scale, spread_base=spread, decimals=decimals)
    bins = random_bins()
    exact = scale.to_points(log_odds(bins))
    total = card.total(bins)
    numbers = 3 if spread else 4
    bound = 0.0 if decimals is None else 0.5 * 10.0**-decimals * numbers
    assert card.rounding_bound == pytest.approx(bound)
    assert np.abs(total - exact).max() <= bound + 1e-9
    if decimals is not None:
        np.testing.assert_allclose(total, np.round(total, decimals), atol=1e-9)
    assert (card.base == 0) == spread
    assert card.lowest <= total.min() <= total.max() <= card.highest
    # The least and the most points are those of the riskiest and the safest bins.
    corners = np.array([[2, 0, 0], [0, 1, 1]])
    np.testing.assert_allclose(card.total(corners), [card.lowest, card.highest])
    again = PointCard.from_dict(json.loads(json.dumps(card.to_dict())))
    np.testing.assert_array_equal(again.total(bins), total)
    assert again.rounding_bound == card.rounding_bound


def test_the_rounding_bound_is_reached():
    """Every part just above half a point goes down or up by as much as the bound allows."""
    scale = PointScale(pdo=np.log(2.0), base_score=0.0, base_odds=1.0)
    card = make_card([[-0.4999], [-0.4999], [-0.4999]], np.ones(3), 0.0, scale)
    assert card.total(np.zeros((1, 3), int))[0] == 0.0
    assert scale.to_points(-3 * 0.4999) == pytest.approx(card.rounding_bound, abs=1e-3)


def test_a_party_alone_finds_its_points_of_the_whole_card():
    scale = PointScale()
    card = make_card(WOE, COEF, INTERCEPT, scale)
    share = float(scale.to_points(INTERCEPT)) / 3
    for c in range(3):
        alone = characteristic_points(WOE[c], COEF[c], scale, base=share)
        np.testing.assert_array_equal(alone, card.points[c])
        assert not np.signbit(alone[alone == 0]).any()


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize(("points0", "odds0", "pdo"), [(600, 1 / 19, 50), (660, 1 / 15, 20)])
def test_scorecardpy_makes_the_same_card(spread, points0, odds0, pdo):
    """Its odds are bad to good; it always rounds to whole points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pytest.importorskip("scorecardpy")
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression()
        model.coef_, model.intercept_ = COEF[None], np.array([INTERCEPT])
        bins = {
            f"v{c}": pd.DataFrame({"variable": f"v{c}", "bin": [str(b) for b in w], "woe": w})
            for c, w in enumerate(map(np.asarray, WOE))
        }
        card = theirs.scorecard(
            bins,
            model,
            [f"v{c}_woe" for c in range(3)],
            points0=points0,
            odds0=odds0,
            pdo=pdo,
            basepoints_eq0=spread,
        )
    scale = PointScale(pdo=pdo, base_score=points0, base_odds=1 / odds0)
    ours = make_card(WOE, COEF, INTERCEPT, scale, spread_base=spread)
    for c in range(3):
        np.testing.assert_array_equal(ours.points[c], card[f"v{c}"]["points"].to_numpy(float))
    assert ours.base == float(card["basepoints"]["points"].iloc[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: make_card([], [], 0.0, PointScale()),
        lambda: make_card([[0.1]], [1.0, 2.0], 0.0, PointScale()),
        lambda: make_card([[]], [1.0], 0.0, PointScale()),
        lambda: make_card([[0.1, np.nan]], [1.0], 0.0, PointScale()),
        lambda: make_card([[0.1]], [np.inf], 0.0, PointScale()),
        lambda: make_card([[0.1]], [1.0], np.nan, PointScale()),
        lambda: make_card([[0.1]], [1.0], 0.0, PointScale(), decimals=-1),
        lambda: make_card(WOE, COEF, 0.0, PointScale()).total([[0, 0]]),
        lambda: make_card(WOE, COEF, 0.0, PointScale()).total([[0, 2, 0]]),
        lambda: make_card(WOE, COEF, 0.0, PointScale()).total([[0, -1, 0]]),
        lambda: make_card(WOE, COEF, 0.0, PointScale()).total([[0.0, 1.0, 0.0]]),
        lambda: PointCard.from_dict({}),
        lambda: PointCard.from_dict(
            make_card(WOE, COEF, 0, PointScale()).to_dict() | {"base": "x"}
        ),
        lambda: PointCard.from_dict(
            make_card(WOE, COEF, 0, PointScale()).to_dict() | {"points": [[np.nan]]}
        ),
        lambda: PointCard.from_dict(
            make_card(WOE, COEF, 0, PointScale()).to_dict() | {"scale": {"pdo": -1}}
        ),
    ],
)
def test_cards_refuse(call):
    with pytest.raises(InputError):
        call()


def test_neutral_points():
    card = make_card(WOE, COEF, INTERCEPT, PointScale())
    np.testing.assert_array_equal(neutral_points(card), [p.max() for p in card.points])
    counts = [[0, 5, 5, 0], [3, 1], [1, 1, 2]]
    mean = [np.average(p, weights=c) for p, c in zip(card.points, counts, strict=True)]
    np.testing.assert_allclose(neutral_points(card, "mean", counts), mean)
    np.testing.assert_array_equal(
        neutral_points(card, "max", counts), [card.points[0][1], *neutral_points(card)[1:]]
    )
    # The last bin of the first characteristic has WOE 0.
    np.testing.assert_array_equal(neutral_points(card, "zero-woe"), [card.points[0][3]] * 3)
    alone = make_card(WOE, COEF, INTERCEPT, PointScale(), spread_base=False)
    np.testing.assert_array_equal(neutral_points(alone, "zero-woe"), 0.0)
    for bad in (
        lambda: neutral_points(card, "min"),
        lambda: neutral_points(card, "mean"),
        lambda: neutral_points(card, "mean", counts[:2]),
        lambda: neutral_points(card, "mean", [[0] * 4, *counts[1:]]),
        lambda: neutral_points(card, "max", [[1, 1], *counts[1:]]),
    ):
        with pytest.raises(InputError):
            bad()


def test_reason_codes_by_hand():
    points = [[10, 30, 5, 20], [40, 30, 20, 20], [10, 5, 5, 20], [0, 30, 0, 0]]
    neutral = [40, 30, 20, 20]
    codes = reason_codes(points, neutral, 3)
    np.testing.assert_array_equal(codes.index, [[0, 2, -1], [-1, -1, -1], [0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(codes.loss, [[30, 15, 0], [0, 0, 0], [30, 25, 15], [40, 20, 20]])
    assert codes.index.dtype == np.int64
    assert reason_codes(points, neutral, 99).index.shape == (4, 4)


def test_equal_losses_go_to_the_first_characteristic():
    losses = np.tile([0.1 + 0.2, 0.3, 0.3 - 1e-15, 0.1], (2000, 1))
    codes = reason_codes(-losses, np.zeros(4), 4)
    np.testing.assert_array_equal(codes.index, np.tile([0, 1, 2, 3], (2000, 1)))


def test_gains_over_the_mean_are_no_reasons():
    codes = reason_codes([[25.0, 10.0]], [20.0, 12.0], 2)
    np.testing.assert_array_equal(codes.index, [[1, -1]])


@pytest.mark.parametrize(
    "given",
    [([[1.0, 2.0]], [1.0], 1), ([1.0], [1.0], 1), ([[np.nan]], [1.0], 1), ([[1.0]], [1.0], 0)],
)
def test_reason_codes_refuse(given):
    with pytest.raises(InputError):
        reason_codes(*given)


def outcomes(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    scale = PointScale()
    eta = rng.normal(-1.0, 1.0, n)
    points = np.round(scale.to_points(eta))
    return points, (rng.random(n) < special.expit(eta)).astype(int), rng.integers(0, 4, n)


def test_bands_by_pandas():
    score, y, weight = outcomes()
    edges = np.array([490.0, 510.0, 525.0, 900.0])
    table = bands(score, y, edges, weight)
    rows = pd.DataFrame({"score": score, "n": weight, "bad": y * weight})
    cuts = [-np.inf, *edges, np.inf]
    by = rows.groupby(pd.cut(rows["score"], cuts, right=False), observed=False).sum()
    np.testing.assert_array_equal(table.count, by["n"])
    np.testing.assert_array_equal(table.events, by["bad"])
    np.testing.assert_array_equal(table.low, cuts[:-1])
    np.testing.assert_array_equal(table.high, cuts[1:])
    np.testing.assert_allclose(table.event_rate[:4], (by["bad"] / by["n"])[:4])
    np.testing.assert_allclose(table.odds[:4], ((by["n"] - by["bad"]) / by["bad"])[:4])
    for b in range(4):
        better = score >= cuts[b]
        share = weight[better].sum() / weight.sum()
        assert table.cumulative_approval_rate[b] == pytest.approx(share)
        rate = (weight * y)[better].sum() / weight[better].sum()
        assert table.cumulative_bad_rate[b] == pytest.approx(rate)
    # Nobody reaches the last band.
    assert table.count[4] == 0
    assert np.isnan([table.event_rate[4], table.odds[4], table.cumulative_bad_rate[4]]).all()
    assert table.cumulative_approval_rate[4] == 0
    plain = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert plain["low"][0] is None
    assert plain["event_rate"][4] is None
    assert plain["count"] == table.count.tolist()


def test_edges_split_rows_evenly():
    score, _, _ = outcomes()
    edges = band_edges(score, 10)
    assert len(edges) == 9
    table = bands(score, np.zeros(len(score)), edges)
    assert (np.abs(table.count - 400) < 100).all()
    assert np.isinf(table.odds).all()
    assert len(band_edges([5.0] * 10)) == 0
    np.testing.assert_array_equal(band_edges([1.0] * 9 + [2.0], 10), [2.0])
    np.testing.assert_array_equal(band_edges([1.0, 2.0, 3.0, 4.0], 4), [2.0, 3.0, 4.0])


def test_cutoffs_by_hand():
    score = [1, 2, 2, 3, 4]
    y = [1, 1, 0, 0, 0]
    table = cutoff_table(score, y, [0.0, 2.0, 3.0, 9.0])
    np.testing.assert_array_equal(table.approved, [5, 4, 2, 0])
    np.testing.assert_allclose(table.approval_rate, [1.0, 0.8, 0.4, 0.0])
    np.testing.assert_allclose(table.bad_rate, [0.4, 0.25, 0.0, np.nan])
    np.testing.assert_allclose(table.odds, [1.5, 3.0, np.inf, np.nan])
    np.testing.assert_allclose(table.rejected_bad_share, [0.0, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(table.rejected_good_share, [0.0, 0.0, 1 / 3, 1.0])
    np.testing.assert_allclose(table.ks, [0.0, 0.5, 2 / 3, 0.0])


def test_default_cutoffs_begin_with_everybody():
    score, y, weight = outcomes()
    table = cutoff_table(score, y, weight=weight)
    assert table.cutoff[0] == score.min()
    assert table.approval_rate[0] == 1.0
    assert 15 < len(table.cutoff) <= 20
    assert (np.diff(table.approval_rate) < 0).all()
    assert (np.diff(table.bad_rate[:10]) < 0).all()
    json.dumps(table.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bands([1.0], [0], [2.0, 1.0]),
        lambda: bands([1.0], [0], [1.0, 1.0]),
        lambda: bands([1.0], [0], [np.inf]),
        lambda: bands([1.0], [2], [1.0]),
        lambda: bands([1.0, 2.0], [0], [1.0]),
        lambda: bands([np.nan], [0], [1.0]),
        lambda: bands([1.0], [0], [1.0], [-1.0]),
        lambda: bands([1.0], [0], [1.0], [0.0]),
        lambda: cutoff_table([1.0], [0], [[1.0]]),
        lambda: band_edges([]),
        lambda: band_edges([1.0], 0),
    ],
)
def test_tables_refuse(call):
    with pytest.raises(InputError):
        call()


def test_logistic_calibration_is_platts():
    score, y, weight = outcomes()
    curve = fit_calibration(score, y, weight=weight)
    used = weight > 0
    many = np.repeat(score, weight), np.repeat(y, weight)
    # scikit-learn weights rows but not the counts behind the targets: give it repetitions.
    slope, intercept = _sigmoid_calibration(*many)
    np.testing.assert_allclose(
        curve.probability(score[used]),
        special.expit(-(slope * score[used] + intercept)),
        atol=2e-5,
    )
    # The generating curve is that of the scale.
    p = PointScale().to_probability(score)
    np.testing.assert_allclose(curve.probability(score), p, atol=0.02)
    residual = np.repeat(curve.probability(score), weight)
    bad, n = many[1].sum(), len(many[1])
    target = np.where(many[1] == 1, (bad + 1) / (bad + 2), 1 / (n - bad + 2))
    assert (residual - target).sum() == pytest.approx(0.0, abs=1e-6)
    assert (many[0] * (residual - target)).sum() == pytest.approx(0.0, abs=1e-3)


def test_logistic_calibration_of_separated_classes():
    curve = fit_calibration([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0])
    assert curve.slope < 0
    assert 0.5 < curve.probability(1.0) < 1
    # Targets are 3/4 and 1/4: the two conditions of the likelihood for them.
    residual = curve.probability([1.0, 2.0, 3.0, 4.0]) - [0.75, 0.75, 0.25, 0.25]
    assert residual.sum() == pytest.approx(0.0, abs=1e-9)
    assert residual @ [1.0, 2.0, 3.0, 4.0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("riskier", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_isotonic_calibration_is_scikit_learns(riskier, weighted):
    score, y, weight = outcomes()
    score = -score if riskier else score
    w = weight.astype(float) if weighted else None
    curve = fit_calibration(score, y, method="isotonic", weight=w, higher_is_riskier=riskier)
    theirs = IsotonicRegression(increasing=riskier, out_of_bounds="clip").fit(score, y, w)
    asked = np.concatenate([score, np.linspace(score.min() - 9, score.max() + 9, 777)])
    np.testing.assert_allclose(curve.probability(asked), theirs.predict(asked), atol=1e-12)
    assert len(curve.knots) < 60
    change = np.diff(curve.probability(np.sort(asked)))
    assert ((change if riskier else -change) >= 0).all()


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_a_saved_calibration_is_the_same(method):
    score, y, _ = outcomes()
    curve = fit_calibration(score, y, method=method)
    again = Calibration.from_dict(json.loads(json.dumps(curve.to_dict(), allow_nan=False)))
    asked = np.linspace(300, 700, 99).reshape(9, 11)
    np.testing.assert_array_equal(again.probability(asked), curve.probability(asked))
    assert "knots" not in repr(curve)


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"method": "beta"},
        {"method": "logistic", "slope": None, "intercept": 0.0},
        {"method": "logistic", "slope": float("nan"), "intercept": 0.0},
        {"method": "isotonic", "knots": [], "values": []},
        {"method": "isotonic", "knots": [2.0, 1.0], "values": [0.1, 0.2]},
        {"method": "isotonic", "knots": [1.0, 2.0, 3.0], "values": [0.1, 0.3, 0.2]},
        {"method": "isotonic", "knots": [1.0, 2.0], "values": [0.1, 1.2]},
        {"method": "isotonic", "knots": [1.0], "values": [0.1, 0.2]},
    ],
)
def test_broken_calibrations_are_refused(saved):
    with pytest.raises(InputError):
        Calibration.from_dict(saved)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_calibration([1.0, 2.0], [0, 0]),
        lambda: fit_calibration([1.0, 2.0], [0, 1], method="spline"),
        lambda: fit_calibration([1.0, 1.0], [0, 1]),
        lambda: fit_calibration([1.0, 2.0], [0, 1], weight=[1.0, 0.0]),
        lambda: fit_calibration([1.0, 2.0], [0, 1]).probability([np.nan]),
    ],
)
def test_calibration_refuses(call):
    with pytest.raises(InputError):
        call()
