import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn import calibration
from sklearn import metrics as sk

from fedcredit.errors import InputError
from fedcredit.stats.credit_metrics import (
    CharacteristicStability,
    bootstrap_draws,
    bootstrap_interval,
    brier_score,
    calibration_curve,
    characteristic_stability,
    confusion_at,
    hosmer_lemeshow,
    population_stability_index,
    stability_contributions,
)
from fedcredit.stats.metrics import auc


def outcomes(n=3000, seed=0, decimals=12):
    rng = np.random.default_rng(seed)
    eta = rng.normal(-1.5, 1.0, n)
    y = (rng.random(n) < special.expit(eta)).astype(int)
    return y, np.round(special.expit(eta), decimals), rng.integers(0, 4, n).astype(float)


def test_stability_by_hand():
    expected, actual = np.array([100.0, 200.0, 700.0]), np.array([30.0, 20.0, 50.0])
    by_hand = 0.2 * np.log(3.0) + 0.0 * np.log(1.0) - 0.2 * np.log(0.5 / 0.7)
    assert population_stability_index(expected, actual) == pytest.approx(by_hand, rel=1e-12)
    # Symmetric, blind to the size of a sample, and zero for equal shares.
    assert population_stability_index(actual, expected) == pytest.approx(by_hand, rel=1e-12)
    assert population_stability_index(7 * expected, actual) == pytest.approx(by_hand, rel=1e-12)
    assert population_stability_index(expected, expected / 10) == pytest.approx(0.0, abs=1e-15)
    shares = (
        stats.entropy([0.3, 0.2, 0.5], [0.1, 0.2, 0.7]),
        stats.entropy([0.1, 0.2, 0.7], [0.3, 0.2, 0.5]),
    )
    assert by_hand == pytest.approx(sum(shares), rel=1e-12)
    np.testing.assert_allclose(
        stability_contributions(expected, actual),
        [0.2 * np.log(3.0), 0.0, -0.2 * np.log(5 / 7)],
        atol=1e-15,
    )


def test_empty_cells():
    # A cell without rows on one side counts as half a row there.
    assert population_stability_index([10, 0], [5, 5]) == population_stability_index(
        [10, 0.5], [5, 5]
    )
    assert population_stability_index([10, 0], [5, 5], empty=1e-6) == population_stability_index(
        [10, 1e-6], [5, 5]
    )
    assert population_stability_index([10, 0], [5, 5], empty=0.0) == np.inf
    # One without rows on both sides is no cell.
    both = population_stability_index([10, 0, 20], [5, 0, 5])
    assert both == population_stability_index([10, 20], [5, 5])
    assert stability_contributions([10, 0, 20], [5, 0, 5])[1] == 0.0


def test_stability_is_scorecardpys():
    """On two samples of scores, cut at its breaks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("scorecardpy")
        from scorecardpy import perf_psi
    rng = np.random.default_rng(0)
    score = {"train": rng.normal(600, 40, 4000).round(), "test": rng.normal(590, 45, 2000).round()}
    frames = {k: pd.DataFrame({"score": v}) for k, v in score.items()}
    labels = {k: pd.Series((rng.random(len(v)) < 0.2).astype(int)) for k, v in score.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = perf_psi(
            score=frames, label=labels, x_limits=[500, 700], x_tick_break=20, show_plot=False
        )["psi"]["PSI"].iloc[0]
    cuts = [-np.inf, *range(500, 700, 20), np.inf]
    counts = [np.histogram(score[k], cuts)[0] for k in ("train", "test")]
    assert population_stability_index(*counts) == pytest.approx(theirs, rel=1e-10)


def test_characteristic_stability():
    expected = {"age": [10, 30], "income": [20, 20]}
    actual = {"income": [10, 30], "age": [10, 30]}
    points = {"age": [5.0, 9.0], "income": [10.0, 30.0]}
    index = population_stability_index([20, 20], [10, 30])
    assert characteristic_stability(expected, actual, points) == [
        CharacteristicStability("age", 0.0, 0.0),
        CharacteristicStability("income", index, 0.25 * 20.0),
    ]
    assert [c.point_shift for c in characteristic_stability(expected, actual)] == [None, None]


@pytest.mark.parametrize(
    "call",
    [
        lambda: population_stability_index([1, 2], [1]),
        lambda: population_stability_index([1, -2], [1, 2]),
        lambda: population_stability_index([0, 0], [1, 2]),
        lambda: population_stability_index([1, np.nan], [1, 2]),
        lambda: population_stability_index([1, 2], [1, 2], empty=-1.0),
        lambda: characteristic_stability({"a": [1]}, {"b": [1]}),
        lambda: characteristic_stability({"a": [1]}, {"a": [1]}, {}),
        lambda: characteristic_stability({"a": [1]}, {"a": [1]}, {"a": [1.0, 2.0]}),
    ],
)
def test_stability_refuses(call):
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("weighted", [False, True])
def test_brier_and_confusion_are_scikit_learns(weighted):
    y, p, w = outcomes(decimals=2)
    weight = w if weighted else None
    theirs = sk.brier_score_loss(y, p, sample_weight=weight)
    assert brier_score(y, p, weight) == pytest.approx(theirs, rel=1e-12)
    for cutoff in (0.0, 0.2, 0.37, 1.1):
        called = (p >= cutoff).astype(int)
        ours = confusion_at(y, p, cutoff, weight)
        (tn, fp), (fn, tp) = sk.confusion_matrix(y, called, sample_weight=weight, labels=[0, 1])
        assert ours.true_negative == tn
        assert ours.false_positive == fp
        assert ours.false_negative == fn
        assert ours.true_positive == tp
        assert ours.accuracy == pytest.approx(sk.accuracy_score(y, called, sample_weight=weight))
        given = {"sample_weight": weight, "zero_division": np.nan}
        assert ours.recall == pytest.approx(sk.recall_score(y, called, **given))
        assert ours.precision == pytest.approx(sk.precision_score(y, called, **given), nan_ok=True)
        assert ours.f1 == pytest.approx(sk.f1_score(y, called, **given))
        assert ours.specificity == pytest.approx(sk.recall_score(y, called, pos_label=0, **given))


def test_confusion_of_one_class():
    only_events = confusion_at([1, 1], [0.2, 0.8], 0.5)
    assert np.isnan(only_events.specificity)
    assert np.isnan(confusion_at([0, 0], [0.2, 0.8], 0.9).f1)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("n_bins", [1, 7, 10])
@pytest.mark.parametrize("decimals", [1, 12])
def test_calibration_curve_is_scikit_learns(strategy, n_bins, decimals):
    y, p, weight = outcomes(decimals=decimals)
    rate, mean = calibration.calibration_curve(y, p, n_bins=n_bins, strategy=strategy)
    curve = calibration_curve(y, p, n_bins=n_bins, strategy=strategy)
    np.testing.assert_allclose(curve.event_rate, rate, rtol=1e-12)
    np.testing.assert_allclose(curve.mean_predicted, mean, rtol=1e-12)
    assert curve.count.sum() == len(y)
    gap = np.abs(rate - mean)
    assert curve.expected_error == pytest.approx(np.average(gap, weights=curve.count))
    if strategy == "uniform":
        many = [np.repeat(v, weight.astype(int)) for v in (y, p)]
        rate, mean = calibration.calibration_curve(*many, n_bins=n_bins)
        curve = calibration_curve(y, p, weight, n_bins=n_bins)
        np.testing.assert_allclose(curve.event_rate, rate, rtol=1e-10)
        np.testing.assert_allclose(curve.mean_predicted, mean, rtol=1e-10)
    assert set(curve.to_dict()) == {"mean_predicted", "event_rate", "count"}


@pytest.mark.parametrize(
    ("n_groups", "fitted", "df"), [(10, True, 8), (10, False, 10), (5, True, 3)]
)
def test_hosmer_lemeshow_by_the_formula(n_groups, fitted, df):
    """Pearson's statistic over events and non-events of groups of equal size."""
    y, p, _ = outcomes(3000)
    frame = pd.DataFrame({"y": y, "p": p, "g": pd.qcut(p, n_groups, labels=False)})
    by = frame.groupby("g").agg(n=("y", "size"), o=("y", "sum"), e=("p", "sum"))
    chi2 = ((by.o - by.e) ** 2 / by.e + (by.n - by.o - (by.n - by.e)) ** 2 / (by.n - by.e)).sum()
    test = hosmer_lemeshow(y, p, n_groups=n_groups, fitted=fitted)
    assert test.chi2 == pytest.approx(chi2, rel=1e-10)
    assert test.df == df
    assert test.p_value == pytest.approx(1 - stats.chi2.cdf(chi2, df), rel=1e-8)
    np.testing.assert_array_equal(test.count, by.n)
    np.testing.assert_array_equal(test.observed, by.o)
    np.testing.assert_allclose(test.expected, by.e)
    assert hosmer_lemeshow(y, p / 2, n_groups=n_groups).p_value < 1e-10


def test_hosmer_lemeshow_has_its_distribution():
    """On rows drawn from the probabilities the p-values are uniform."""
    p_values = [
        hosmer_lemeshow(*outcomes(1500, seed)[:2], fitted=False).p_value for seed in range(200)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_hosmer_lemeshow_keeps_ties_together():
    y = np.array([0, 1] * 50)
    p = np.repeat([0.1, 0.4, 0.6, 0.9], [70, 10, 10, 10])
    test = hosmer_lemeshow(y, p, n_groups=10)
    np.testing.assert_array_equal(test.count, [70, 10, 10, 10])
    assert test.df == 2
    sure = hosmer_lemeshow([0, 0, 1, 0, 1, 1], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0], n_groups=3)
    assert sure.chi2 == 0.0
    wrong = hosmer_lemeshow([1, 0, 1, 0, 1, 1], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0], n_groups=3)
    assert (wrong.chi2, wrong.p_value) == (np.inf, 0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: brier_score([0, 1], [0.1, 1.1]),
        lambda: brier_score([0, 2], [0.1, 0.2]),
        lambda: brier_score([0, 1], [0.1]),
        lambda: brier_score([], []),
        lambda: hosmer_lemeshow([0, 1, 1], [0.1, 0.2, 0.3], n_groups=2),
        lambda: hosmer_lemeshow([0, 1, 1], [0.1, 0.2, 0.2]),
        lambda: calibration_curve([0, 1], [0.1, 0.2], n_bins=0),
        lambda: calibration_curve([0, 1], [0.1, 0.2], strategy="kmeans"),
        lambda: confusion_at([0, 1], [0.1, 0.2], np.nan),
        lambda: confusion_at([0, 1], [0.1, np.inf], 0.5),
        lambda: bootstrap_interval(auc, [0, 1], [0.1, 0.2], level=1.0),
        lambda: bootstrap_interval(auc, [0, 1], [0.1, 0.2], resamples=19),
        lambda: bootstrap_interval(auc, [1, 1], [0.1, 0.2]),
        lambda: bootstrap_interval(auc, [0, 1], [0.1, 0.2], resamples=25),
    ],
)
def test_measures_refuse(call):
    with pytest.raises(InputError):
        call()


def test_bootstrap_of_a_mean_is_normal_theory():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.3).astype(float)
    p = np.clip(rng.normal(0.3, 0.1, 2000), 0, 1)
    interval = bootstrap_interval(brier_score, y, p, resamples=2000, seed=5, level=0.9)
    loss = (y - p) ** 2
    half = stats.norm.ppf(0.95) * loss.std() / np.sqrt(2000)
    assert interval.value == pytest.approx(loss.mean())
    assert interval.low == pytest.approx(loss.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(loss.mean() + half, abs=0.1 * half)
    assert (interval.level, interval.resamples, interval.seed) == (0.9, 2000, 5)
    again = bootstrap_interval(brier_score, y, p, resamples=2000, seed=5, level=0.9)
    assert again == interval
    assert bootstrap_interval(brier_score, y, p, resamples=2000, seed=6, level=0.9) != interval


def test_draws_in_which_a_metric_is_not_defined_are_left_out():
    y, p, _ = outcomes(40)
    y = np.zeros(40)
    y[3] = 1.0
    interval = bootstrap_interval(auc, y, p, resamples=300)
    # A row is missing from a draw with probability (1 - 1/n)^n.
    assert interval.resamples == pytest.approx(300 * (1 - (1 - 1 / 40) ** 40), abs=30)


def test_draws_are_rows_with_replacement():
    rows = np.arange(30.0)
    weight = np.linspace(1, 2, 30)
    draws = bootstrap_draws(lambda w: [w @ rows / w.sum(), w.sum()], weight, 50, 7)
    rng = np.random.default_rng(7)
    for draw in draws:
        drawn = rng.integers(30, size=30)
        np.testing.assert_allclose(
            draw, [np.average(rows[drawn], weights=weight[drawn]), weight[drawn].sum()]
        )
