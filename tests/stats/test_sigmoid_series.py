"""The trigonometric series of the logistic function."""

import numpy as np
import pytest
from scipy.special import expit, logit

from fedcredit.errors import InputError
from fedcredit.stats.sigmoid_series import fit_series

CENTRES = [0.0, float(logit(0.22)), float(logit(0.067)), 2.0]


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize(("terms", "error"), [(3, 0.035), (5, 0.006), (8, 0.0016)])
def test_it_is_close_on_the_radius_and_periodic(centre, terms, error):
    series = fit_series(centre, terms=terms, period=14.0)
    x = np.linspace(-5, 5, 501)
    assert np.abs(series(x) - expit(centre + x)).max() < error
    assert series.error(5.0) < error
    np.testing.assert_allclose(series(x + 14.0), series(x), atol=1e-12)
    assert series.terms == terms


@pytest.mark.parametrize("period", [20.0, 28.0, 40.0])
def test_a_long_period_needs_more_terms(period):
    few = fit_series(-1.3, terms=3, period=period).error(period * 5 / 14)
    many = fit_series(-1.3, terms=round(0.36 * period), period=period).error(period * 5 / 14)
    assert many < 0.004 < few


def test_the_factors_follow_the_addition_theorem():
    rng = np.random.default_rng(0)
    series = fit_series(-1.0, terms=4, period=14.0)
    alpha, rho = rng.uniform(0, 2 * np.pi, (2, 300))
    k = np.arange(1, 5)[:, None]
    masks = np.empty((8, 300))
    masks[0::2], masks[1::2] = np.cos(k * rho), np.sin(k * rho)
    factors = series.factors(alpha)
    x = (alpha - rho) * 14.0 / (2 * np.pi)
    np.testing.assert_allclose((factors * masks).sum(0), series(x) - series.constant, atol=1e-12)
    assert np.abs(factors).max() <= series.largest_factor() + 1e-12
    assert np.abs(series(x) - series.constant).max() <= series.largest_value() + 1e-4


@pytest.mark.parametrize(
    "wrong",
    [{"terms": 0}, {"radius": 7.0}, {"radius": 0.0}, {"centre": np.inf}],
)
def test_arguments_out_of_range_are_refused(wrong):
    options = {"centre": 0.0, "terms": 3, "period": 14.0} | wrong
    with pytest.raises(InputError, match="out of range"):
        fit_series(options.pop("centre"), **options)
