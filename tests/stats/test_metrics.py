import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from fedcredit.errors import InputError
from fedcredit.stats.metrics import auc, gains_table, gini, ks, lift, log_loss, roc_curve


def sample(n=3000, decimals=1, seed=0):
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=n), decimals)
    y = (rng.random(n) < 1 / (1 + np.exp(1.5 - score))).astype(int)
    return y, score, rng.random(n) + 0.1


@pytest.mark.parametrize("decimals", [0, 1, 12])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_scikit_learn(decimals, weighted):
    y, score, w = sample(decimals=decimals)
    weight = w if weighted else None
    expected = sk.roc_auc_score(y, score, sample_weight=weight)
    assert auc(y, score, weight) == pytest.approx(expected, abs=1e-12)
    assert gini(y, score, weight) == pytest.approx(2 * expected - 1, abs=1e-12)
    fpr, tpr, thresholds = sk.roc_curve(y, score, sample_weight=weight, drop_intermediate=False)
    curve = roc_curve(y, score, weight)
    np.testing.assert_allclose(curve.false_positive_rate, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.true_positive_rate, tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.threshold, thresholds)
    assert ks(y, score, weight) == pytest.approx(np.abs(tpr - fpr).max(), abs=1e-12)
    p = 1 / (1 + np.exp(-score))
    assert log_loss(y, p, weight) == pytest.approx(
        sk.log_loss(y, p, sample_weight=weight), abs=1e-12
    )


def test_ks_is_the_two_sample_statistic():
    y, score, _ = sample()
    expected = stats.ks_2samp(score[y == 1], score[y == 0]).statistic
    assert ks(y, score) == pytest.approx(expected, abs=1e-12)
    assert ks(y, -score) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3)), max_size=40))
@settings(deadline=None)
def test_whole_weights_are_repetitions(rows):
    y, score, weight = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else [()] * 3
    )
    many = np.repeat(y, weight), np.repeat(score, weight)
    if len(set(many[0])) < 2:
        return
    pairs = [(a, b) for a in many[1][many[0] == 1] for b in many[1][many[0] == 0]]
    by_pairs = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert auc(y, score, weight) == pytest.approx(by_pairs, abs=1e-12)
    for function in (auc, ks, lift):
        assert function(y, score, weight) == pytest.approx(function(*many), abs=1e-12)
    table, repeated = gains_table(y, score, weight), gains_table(*many)
    for name in table.to_dict():
        np.testing.assert_allclose(getattr(table, name), getattr(repeated, name), atol=1e-12)


def test_gains_table_in_deciles():
    y, score, _ = sample(decimals=12)
    table = gains_table(y, score)
    order = np.argsort(-score)
    np.testing.assert_array_equal(table.count, 300)
    np.testing.assert_array_equal(table.events, y[order].reshape(10, 300).sum(axis=1))
    np.testing.assert_allclose(table.event_rate, table.events / 300)
    np.testing.assert_allclose(table.lift, table.event_rate / y.mean())
    np.testing.assert_allclose(table.cumulative_share, np.arange(1, 11) / 10)
    np.testing.assert_allclose(table.cumulative_capture[-1], 1)
    np.testing.assert_allclose(table.cumulative_lift[-1], 1)
    np.testing.assert_allclose(table.cumulative_lift[0], table.lift[0])
    assert abs(table.ks[-1]) < 1e-12
    assert 0 < table.ks.max() <= ks(y, score) + 1e-12
    assert (table.lowest_score[:-1] > table.highest_score[1:]).all()
    assert lift(y, score, share=0.1) == pytest.approx(table.lift[0])
    assert lift(y, score, share=0.3) == pytest.approx(table.cumulative_lift[2])


def test_equal_scores_stay_together():
    y = np.array([1, 0] * 50)
    table = gains_table(y, np.repeat([1.0, 2.0], 50))
    np.testing.assert_array_equal(table.count, [50, 50])
    np.testing.assert_array_equal(table.highest_score, [2, 1])
    assert lift(y, np.zeros(100), share=0.1) == pytest.approx(1.0)


def test_perfect_and_reversed_scores():
    y = np.array([0, 0, 1, 1])
    assert auc(y, y) == ks(y, y) == gini(y, y) == 1.0
    assert auc(y, -y) == 0.0
    assert gini(y, -y) == -1.0
    assert auc(y, np.zeros(4)) == 0.5


def test_log_loss_of_certain_predictions_is_finite():
    assert log_loss([1, 0], [1.0, 0.0]) == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(log_loss([1, 0], [0.0, 1.0]))
    assert log_loss([1, 1], [0.5, 0.5]) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("y", "score", "weight"),
    [
        ([1, 1], [0.0, 1.0], None),
        ([0, 1], [0.0, np.nan], None),
        ([0, 2], [0.0, 1.0], None),
        ([0, 1], [0.0], None),
        ([], [], None),
        ([0, 1], [0.0, 1.0], [1.0, -1.0]),
        ([0, 1], [0.0, 1.0], [1.0, 0.0]),
        ([0, 1], [0.0, 1.0], [1.0]),
    ],
)
def test_unusable_input_is_refused(y, score, weight):
    for function in (auc, ks, roc_curve, gains_table, lift):
        with pytest.raises(InputError):
            function(y, score, weight)


def test_parameters_are_checked():
    with pytest.raises(InputError):
        gains_table([0, 1], [0, 1], n_groups=0)
    with pytest.raises(InputError):
        lift([0, 1], [0, 1], share=0.0)
    with pytest.raises(InputError):
        log_loss([0, 1], [0.5, 1.5])
    with pytest.raises(InputError):
        log_loss([0, 1], [0.5, 0.5], [0, 0])
