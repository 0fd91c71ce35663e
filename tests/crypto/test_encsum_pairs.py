import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto.encsum_pairs import decode_pair, encode_pair, fit_pair
from fedcredit.errors import InputError

pairs = st.lists(
    st.tuples(st.integers(-(2**17), 2**17), st.integers(0, 2**17)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(20, 52), st.randoms(use_true_random=False))
def test_every_subset_sum_is_exact_if_it_fits(rows, plain_bits, random):
    g, h = np.array(rows, np.int64).T.copy()
    fit = fit_pair(g, h, plain_bits)
    if not fit.fits:
        g, h = g >> fit.halvings, h >> fit.halvings
        # Floors of negative numbers may need one bit more.
        fit = fit_pair(g, h, plain_bits + 2)
    values = encode_pair(g, h, fit.split_bits)
    kept = np.array([random.random() < 0.5 for _ in rows])
    for rows_in in (kept, g > 0, g <= 0, np.ones_like(kept)):
        total = values[rows_in].sum()
        assert -(2 ** (plain_bits + 1)) <= total < 2 ** (plain_bits + 1)
        sums = decode_pair(np.array([total]), fit.split_bits)
        assert sums[0][0] == g[rows_in].sum()
        assert sums[1][0] == h[rows_in].sum()


def test_fit_counts_what_is_missing():
    n = 1000
    g = np.tile(np.array([-31, 31], np.int64), n // 2)
    h = np.full(n, 16, np.int64)
    fit = fit_pair(g, h, 42)
    assert fit.fits
    assert fit_pair(g << 10, h << 10, 42).halvings == 4
    assert not fit_pair(g << 10, h << 10, 42).fits
    assert fit_pair(g << 6, h << 6, 42).fits


def test_one_sided_gradients_need_one_bit_more():
    both = np.array([-(2**15), 2**15 - 1], np.int64)
    h = np.zeros(2, np.int64)
    assert fit_pair(both, h, 18).fits
    assert not fit_pair(np.abs(both), h, 17).fits


def test_refusals():
    one = np.ones(3, np.int64)
    with pytest.raises(InputError, match="negative"):
        fit_pair(one, -one, 42)
    with pytest.raises(InputError):
        fit_pair(one, np.ones(4, np.int64), 42)
    with pytest.raises(InputError):
        encode_pair(one, one.astype(np.int32), 10)
    with pytest.raises(InputError):
        encode_pair(one, one, 62)
