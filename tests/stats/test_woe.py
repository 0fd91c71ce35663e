"""Weights of evidence follow one formula, whichever way they are asked for."""

import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.stats.woe import woe_table

COUNT, EVENT = [100, 300, 0, 600], [30, 60, 0, 10]


def test_worked_by_hand():
    table = woe_table(COUNT, EVENT, smoothing=0)
    bad, good = np.array([30, 60, 10]) / 100, np.array([70, 240, 590]) / 900
    filled = [0, 1, 3]
    np.testing.assert_allclose(table.woe[filled], np.log(bad / good), rtol=1e-14)
    np.testing.assert_allclose(table.iv[filled], (bad - good) * np.log(bad / good), rtol=1e-14)
    assert table.total_iv == pytest.approx(
        float(((bad - good) * np.log(bad / good)).sum()), rel=1e-14
    )
    assert table.event_rate[filled].tolist() == [0.3, 0.2, 10 / 600]
    assert np.isnan(table.event_rate[2])
    assert table.woe[2] == table.iv[2] == 0
    assert table.non_event.tolist() == [70, 240, 0, 590]
    assert table.count.dtype == table.event.dtype == table.non_event.dtype == np.int64


def test_smoothing_counts_the_bins_that_have_rows():
    s, n_filled = 0.5, 3
    table = woe_table(COUNT, EVENT, smoothing=s)
    assert table.woe[0] == pytest.approx(
        np.log((30.5 / (100 + s * n_filled)) / (70.5 / (900 + s * n_filled))), abs=1e-14
    )
    without = woe_table([c for c in COUNT if c], [30, 60, 10], smoothing=s)
    np.testing.assert_array_equal(table.woe[[0, 1, 3]], without.woe)


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 7.0])
def test_smoothed_shares_sum_to_one_and_values_are_never_negative(smoothing):
    rng = np.random.default_rng(0)
    count = rng.integers(20, 50, 12)
    event = rng.binomial(count, 0.4)
    assert ((event > 0) & (event < count)).all()
    count[5] = event[5] = 0
    table = woe_table(count, event, smoothing=smoothing)
    assert (table.iv >= 0).all()
    # The good shares times exp(weight) are the bad shares, and both sum to one.
    filled = count > 0
    good = (table.non_event + smoothing) / (table.non_event.sum() + smoothing * filled.sum())
    bad = good * np.exp(table.woe)
    assert good[filled].sum() == pytest.approx(1, rel=1e-13)
    assert bad[filled].sum() == pytest.approx(1, rel=1e-13)
    assert table.total_iv == pytest.approx(((bad - good) * table.woe)[filled].sum(), rel=1e-12)


def test_the_sign_is_all_that_the_convention_changes():
    one = woe_table(COUNT, EVENT)
    other = woe_table(COUNT, EVENT, convention="good_over_bad")
    np.testing.assert_array_equal(one.woe, -other.woe)
    np.testing.assert_array_equal(one.iv, other.iv)
    assert one.woe[0] > 0 > one.woe[3]


def test_bins_of_one_class():
    bare = woe_table([10, 10, 80], [0, 10, 20], smoothing=0)
    assert bare.woe[:2].tolist() == bare.iv[:2].tolist() == [0, 0]
    smooth = woe_table([10, 10, 80], [0, 10, 20])
    assert smooth.woe[0] < smooth.woe[2] < smooth.woe[1]
    assert np.isfinite(smooth.woe).all()


def test_one_bin_tells_nothing():
    table = woe_table([100, 0], [30, 0])
    assert table.total_iv == 0
    assert table.woe.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("count", "event"), [([10, 5], [0, 0]), ([10, 5], [10, 5]), ([0], [0]), ([], [])]
)
def test_one_class_is_refused_with_a_fix(count, event):
    with pytest.raises(InputError, match="only one class") as error:
        woe_table(np.array(count, np.int64), np.array(event, np.int64))
    assert "label 1" in error.value.fix


@pytest.mark.parametrize(
    "arguments",
    [
        {"event": [11, 1]},
        {"event": [-1, 1]},
        {"event": [1]},
        {"event": [1.5, 1]},
        {"event": [np.nan, 1]},
        {"event": ["1", "1"]},
        {"count": [[10, 5]]},
        {"smoothing": -0.1},
        {"smoothing": np.nan},
        {"smoothing": np.inf},
        {"convention": "good"},
    ],
)
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(InputError):
        woe_table(**({"count": [10, 5], "event": [1, 1]} | arguments))


def test_counts_stored_as_floats_are_counts():
    table = woe_table(np.array([10.0, 5.0]), np.array([1.0, 2.0]))
    assert table.count.tolist() == [10, 5]
