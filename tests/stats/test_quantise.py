import numpy as np
import pytest
from scipy.special import expit

from fedcredit.errors import InputError
from fedcredit.stats.quantise import (
    Quantiser,
    initial_logit,
    logistic_gradients,
    power_of_two_scale,
    squared_error_gradients,
)


@pytest.fixture(scope="module")
def derivatives():
    rng = np.random.default_rng(0)
    score = rng.normal(size=20_000) * 2
    y = (rng.random(20_000) < expit(score)).astype(float)
    return logistic_gradients(score, y)


def test_logistic_gradients_are_the_derivatives():
    rng = np.random.default_rng(1)
    score = rng.normal(size=1000) * 3
    y = rng.integers(0, 2, 1000)
    weight = rng.random(1000).astype(np.float32)
    g, h = logistic_gradients(score, y, weight)
    p = expit(score)
    assert g.dtype == h.dtype == np.float32
    np.testing.assert_allclose(g, weight * (p - y), rtol=2e-7)
    np.testing.assert_allclose(h, weight * p * (1 - p), rtol=2e-6)


def test_logistic_gradients_of_extreme_scores():
    g, h = logistic_gradients([800.0, 800.0, -800.0, -800.0], [0, 1, 0, 1])
    np.testing.assert_array_equal(g, [1, 0, 0, -1])
    np.testing.assert_array_equal(h, 0)


def test_squared_error_gradients():
    g, h = squared_error_gradients([1.0, 2.0], [3.0, 0.5], [2.0, 4.0])
    np.testing.assert_array_equal(g, [-4, 6])
    np.testing.assert_array_equal(h, [2, 4])
    np.testing.assert_array_equal(squared_error_gradients([1.0], [0.0])[1], [1])


@pytest.mark.parametrize(
    ("score", "y", "weight"),
    [
        ([0.0], [2.0], None),
        ([0.0, 1.0], [1.0], None),
        ([np.nan], [1.0], None),
        ([0.0], [1.0], [-1.0]),
        ([0.0], [1.0], [np.inf]),
        ([0.0], [1.0], [1.0, 1.0]),
        ([[0.0]], [[1.0]], None),
    ],
)
def test_gradients_refuse(score, y, weight):
    with pytest.raises(InputError):
        logistic_gradients(score, y, weight)


def test_initial_logit():
    assert initial_logit([1, 0, 0, 0]) == pytest.approx(np.log(1 / 3))
    assert initial_logit([1, 0, 0, 0], [3, 1, 1, 1]) == pytest.approx(0.0)
    assert np.isfinite(initial_logit([0, 0]))
    assert np.isfinite(initial_logit([1, 1]))
    with pytest.raises(InputError):
        initial_logit([0, 2])
    with pytest.raises(InputError):
        initial_logit([0, 1], [0, 0])


@pytest.mark.parametrize("largest", [1.0, 0.999, 1e-30, 255.0, 255.5, 3e7, 5e-324])
@pytest.mark.parametrize("top", [1, 127, 255, 65535])
def test_scale_is_the_smallest_fitting_power_of_two(largest, top):
    scale = power_of_two_scale(largest, top)
    assert np.frexp(scale)[0] == 0.5
    assert largest <= top * scale
    assert largest > top * scale / 2 or scale == 2.0**-1022


@pytest.mark.parametrize("bits", [2, 6, 8, 17, 24])
@pytest.mark.parametrize("stochastic", [False, True])
def test_range_and_error(derivatives, bits, stochastic):
    g, h = derivatives
    q = Quantiser(bits, stochastic, seed=3).quantise(g, h, tree=0)
    assert q.g.dtype == q.h.dtype == np.int64
    assert np.abs(q.g).max() <= 2 ** (bits - 1) - 1
    assert q.h.min() >= 0
    assert q.h.max() <= 2**bits - 1
    bound = 1.0 if stochastic else 0.5
    assert np.abs(q.g * q.g_scale - g).max() <= bound * q.g_scale
    assert np.abs(q.h * q.h_scale - h).max() <= bound * q.h_scale
    # Single precision holds every multiple, so LightGBM sees the same numbers.
    np.testing.assert_array_equal((q.g * q.g_scale).astype(np.float32), q.g * q.g_scale)


def test_stochastic_rounding_is_unbiased(derivatives):
    g, h = derivatives
    draws = [Quantiser(4, True, seed=1).quantise(g, h, tree=t) for t in range(40)]
    error = np.array([(q.g * q.g_scale).sum() - g.sum(dtype=float) for q in draws])
    spread = draws[0].g_scale * np.sqrt(len(g)) / 2
    assert abs(error.mean()) < 4 * spread / np.sqrt(40)
    assert error.std() < 1.5 * spread
    # Rounding to the nearest at so few bits loses the small hessians instead.
    nearest = Quantiser(4).quantise(g, h, tree=0)
    assert abs((nearest.g * nearest.g_scale).sum() - g.sum(dtype=float)) > abs(error.mean())


def test_streams_depend_on_seed_and_tree_only(derivatives):
    g, h = derivatives
    packed = Quantiser.packed(6, seed=9)
    first = packed.quantise(g, h, tree=4)
    np.testing.assert_array_equal(packed.quantise(g, h, tree=4).g, first.g)
    assert (packed.quantise(g, h, tree=5).g != first.g).any()
    assert (Quantiser.packed(6, seed=8).quantise(g, h, tree=4).g != first.g).any()


@pytest.mark.parametrize("stochastic", [False, True])
def test_digits_bound_every_subset_sum(derivatives, stochastic):
    g, h = derivatives
    free = Quantiser(8, stochastic).quantise(g, h, tree=0)
    tight = Quantiser(8, stochastic, g_digit=18, h_digit=17).quantise(g, h, tree=0)
    assert np.abs(free.g).sum() >= 2**17
    assert np.abs(tight.g).sum() < 2**17
    assert tight.h.sum() < 2**17 <= free.h.sum()
    assert tight.g_scale > free.g_scale
    # No more than needed is given away: half the unit would not have fitted.
    assert np.abs(tight.g).sum() > 2**15
    loose = Quantiser(8, stochastic, g_digit=40, h_digit=40).quantise(g, h, tree=0)
    np.testing.assert_array_equal(loose.g, free.g)


def test_digits_too_narrow_for_any_unit(derivatives):
    with pytest.raises(InputError, match="too narrow"):
        Quantiser(8, True, g_digit=4, h_digit=4).quantise(*derivatives, tree=0)


def test_rows_out_of_the_sample_are_zero_and_do_not_set_the_unit():
    g = np.array([100.0, 0.5, -0.25], np.float32)
    h = np.array([100.0, 0.5, 0.25], np.float32)
    bag = np.array([False, True, True])
    q = Quantiser(8).quantise(g, h, tree=0, in_bag=bag)
    np.testing.assert_array_equal(q.g * q.g_scale, [0, 0.5, -0.25])
    np.testing.assert_array_equal(q.h * q.h_scale, [0, 0.5, 0.25])


def test_zeros_quantise_to_zeros():
    q = Quantiser.packed().quantise(np.zeros(5), np.zeros(5), tree=0)
    assert not q.g.any()
    assert (q.g_scale, q.h_scale) == (1.0, 1.0)


@pytest.mark.parametrize(
    "bad", [{"bits": 1}, {"bits": 25}, {"seed": -1}, {"g_digit": 1}, {"h_digit": 63}]
)
def test_parameters_are_checked(bad):
    with pytest.raises(InputError):
        Quantiser(**bad)


@pytest.mark.parametrize(
    ("g", "h"),
    [([1.0, np.nan], [1.0, 1.0]), ([1.0, 1.0], [1.0, -1.0]), ([1.0], [1.0, 1.0])],
)
def test_values_are_checked(g, h):
    with pytest.raises(InputError):
        Quantiser().quantise(np.array(g), np.array(h), tree=0)


def test_repr_shows_no_values(derivatives):
    assert "array" not in repr(Quantiser().quantise(*derivatives, tree=0))
