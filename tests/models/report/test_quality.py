from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from fedcredit.errors import InputError
from fedcredit.models.report import Scores, measure_uplift
from fedcredit.models.report.quality import ClassifierQuality, RegressorQuality, evaluate


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def _classified(rng, n=500, weighted=False):
    y = (rng.random(n) < 0.3).astype(int)
    p = np.round(np.clip(0.3 * y + 0.5 * rng.random(n), 0, 1), 2)  # with ties
    return y, p, rng.uniform(0.5, 3.0, n) if weighted else None


@pytest.mark.parametrize("weighted", [False, True])
def test_classifier_metrics_are_those_of_the_pooled_rows(rng, weighted):
    y, p, w = _classified(rng, weighted=weighted)
    (q,) = evaluate([Scores("joint", "test", y, p, w)], "classification")
    assert isinstance(q, ClassifierQuality)
    assert q.auc == pytest.approx(reference.roc_auc_score(y, p, sample_weight=w))
    assert q.gini == pytest.approx(2 * q.auc - 1)
    assert q.log_loss == pytest.approx(reference.log_loss(y, p, sample_weight=w))
    assert (q.rows, q.events) == (500, y.sum())
    weight = np.ones(500) if w is None else w
    assert sum(g.rows for g in q.gains) == pytest.approx(weight.sum())
    assert sum(b.rows for b in q.calibration) == pytest.approx(weight.sum())
    assert sum(b.rows * b.observed for b in q.calibration) == pytest.approx(weight @ y)
    assert sum(b.rows * b.predicted for b in q.calibration) == pytest.approx(weight @ p)


def test_the_kept_curve_holds_the_area_and_the_ks_point(rng):
    n = 20_000
    y = (rng.random(n) < 0.1).astype(int)
    p = 1 / (1 + np.exp(-rng.normal(size=n) - y))
    (q,) = evaluate([Scores("joint", "test", y, p)], "classification")
    ranking = q.ranking
    assert len(ranking.population) <= 205
    assert ranking.population[0] == ranking.events[0] == ranking.others[0] == 0
    assert ranking.population[-1] == pytest.approx(1)
    assert np.trapezoid(ranking.events, ranking.others) == pytest.approx(q.auc, abs=2e-3)
    at = ranking.ks_index
    assert ranking.events[at] - ranking.others[at] == pytest.approx(q.ks)


def test_calibration_groups_keep_equal_scores_together(rng):
    y, _, _ = _classified(rng)
    (q,) = evaluate([Scores("joint", "test", y, np.full(500, 0.25))], "classification")
    (only,) = q.calibration
    assert (only.rows, only.predicted) == (500, 0.25)
    # Wilson's interval, from its closed form in proportions.
    k, n, z = y.sum(), 500, 1.959964
    root = z * np.sqrt(z * z + 4 * k * (1 - k / n))
    assert only.low == pytest.approx((2 * k + z * z - root) / (2 * (n + z * z)))
    assert only.high == pytest.approx((2 * k + z * z + root) / (2 * (n + z * z)))


def test_one_class_alone_leaves_ranking_metrics_open():
    (q,) = evaluate([Scores("joint", "valid", np.zeros(9), np.linspace(0, 1, 9))], "classification")
    assert q.auc is q.gini is q.ks is q.ranking is q.histogram is None
    assert q.gains == ()
    assert q.log_loss is not None


def test_scores_that_are_no_probabilities_have_no_calibration(rng):
    y, p, _ = _classified(rng)
    (q,) = evaluate([Scores("joint", "test", y, 10 * p - 3)], "classification")
    assert q.log_loss is None
    assert q.calibration == ()
    assert q.auc == pytest.approx(reference.roc_auc_score(y, p))


@pytest.mark.parametrize("weighted", [False, True])
def test_regressor_metrics_and_bins(rng, weighted):
    p = rng.normal(size=400)
    y = p + 0.3 * rng.normal(size=400)
    w = rng.uniform(0.5, 2.0, 400) if weighted else None
    (q,) = evaluate([Scores("joint", "test", y, p, w)], "regression")
    assert isinstance(q, RegressorQuality)
    assert q.r2 == pytest.approx(reference.r2_score(y, p, sample_weight=w))
    assert q.rmse == pytest.approx(reference.root_mean_squared_error(y, p, sample_weight=w))
    assert q.mae == pytest.approx(reference.mean_absolute_error(y, p, sample_weight=w))
    assert len(q.bins) == 10
    for b in q.bins:
        assert b.target_low <= b.target_median <= b.target_high
        assert b.residual_low <= b.residual_median <= b.residual_high


def test_uplift_points_are_the_metrics_and_the_interval_covers_them(score_makers):
    scores = score_makers["classification"](4000)
    found = {u.metric: u for u in measure_uplift(scores, "classification", resamples=200)}
    joint, alone = (
        next(s for s in scores if (s.name, s.split) == (m, "test")) for m in ("joint", "alone")
    )
    area = found["AUC"]
    assert area.joint == pytest.approx(reference.roc_auc_score(joint.y_true, joint.y_score))
    assert area.alone == pytest.approx(reference.roc_auc_score(alone.y_true, alone.y_score))
    for u in found.values():
        assert u.low < u.difference < u.high
        assert (u.split, u.rows, u.resamples) == ("test", 4000, 200)
    assert area.verdict == "better"
    assert found["Gini"].low == pytest.approx(2 * area.low)


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_draws_equal_metrics_on_the_drawn_rows(rng, ties):
    n = 120
    y = (rng.random(n) < 0.4).astype(int)
    a, b = 0.5 * y + rng.random((2, n))
    if ties:
        a, b = np.round(a, 1), np.round(b, 1)
    weight = rng.uniform(0.5, 2.0, n)
    scores = [Scores("joint", "test", y, a, weight), Scores("alone", "test", y, b, weight)]
    area = measure_uplift(scores, "classification", resamples=40, confidence=0.9, seed=5)[0]
    again = np.random.default_rng(5)
    draws = []
    for _ in range(40):
        rows = again.integers(n, size=n)
        values = [
            reference.roc_auc_score(y[rows], s[rows], sample_weight=weight[rows]) for s in (a, b)
        ]
        draws.append(values[0] - values[1])
    assert (area.low, area.high) == pytest.approx(tuple(np.percentile(draws, [5, 95])))


def test_bootstrap_is_seeded(score_makers):
    scores = score_makers["regression"](300)
    same = [measure_uplift(scores, "regression", resamples=50, seed=4) for _ in range(2)]
    other = measure_uplift(scores, "regression", resamples=50, seed=9)
    assert same[0] == same[1] != other
    assert [u.verdict for u in same[0]] == ["better"] * 3
    assert [u.difference > 0 for u in same[0]] == [True, False, False]


def test_equal_models_have_an_open_verdict(rng):
    y, p, _ = _classified(rng)
    noise = [np.clip(p + 0.01 * rng.normal(size=500), 0, 1) for _ in range(2)]
    scores = [Scores("joint", "test", y, noise[0]), Scores("alone", "test", y, noise[1])]
    assert measure_uplift(scores, "classification", resamples=200)[0].verdict == "open"


def test_the_best_shared_part_is_compared(rng):
    y, p, _ = _classified(rng)
    parts = [("joint", "test"), ("joint", "valid"), ("alone", "valid"), ("alone", "train")]
    scores = [Scores(name, split, y, p) for name, split in parts]
    assert measure_uplift(scores, "classification", resamples=20)[0].split == "valid"
    assert measure_uplift(scores[:1], "classification") == ()


def test_models_on_different_rows_are_refused(rng):
    y, p, _ = _classified(rng)
    scores = [Scores("joint", "test", y, p), Scores("alone", "test", y[::-1], p)]
    with pytest.raises(InputError, match="same rows"):
        measure_uplift(scores, "classification")


@pytest.mark.parametrize(
    "arguments",
    [
        {"y_score": [0.1]},
        {"y_score": [0.1, np.nan, 0.2]},
        {"y_score": ["91110108MA01ABCD2X", "b", "c"]},
        {"y_score": [[0.1], [0.2], [0.3]]},
        {"weights": [1.0, -1.0, 1.0]},
        {"weights": [0.0, 0.0, 0.0]},
        {"weights": [1.0]},
        {"y_true": [], "y_score": []},
        {"split": "holdout"},
        {"name": "other"},
    ],
)
def test_bad_scores_are_refused_without_naming_a_value(arguments):
    good = {"name": "joint", "split": "test", "y_true": [0, 1, 0], "y_score": [0.1, 0.2, 0.3]}
    with pytest.raises(InputError) as caught:
        Scores(**{**good, **arguments})
    assert "91110108MA01ABCD2X" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_rows_of_weight_zero_do_not_count():
    scores = Scores("joint", "test", [0, 1, 0, 1], [0.9, 0.2, 0.1, 0.3], [0, 1, 2, 1])
    assert len(scores) == 3
    (q,) = evaluate([scores], "classification")
    assert (q.rows, q.events, q.auc, q.event_rate) == (3, 2, 1.0, 0.5)


def test_labels_of_a_classification_are_checked():
    with pytest.raises(InputError, match="0 and 1"):
        evaluate([Scores("joint", "test", [0, 2], [0.1, 0.2])], "classification")
    with pytest.raises(InputError, match="unknown task"):
        evaluate([], "clustering")


def test_scores_show_no_value():
    assert (
        repr(Scores("joint", "test", [0, 1], [0.123, 0.456])) == "Scores('joint', 'test', 2 rows)"
    )
