"""The oblivious key-value store: exact on its keys, random elsewhere, also with a 2-core."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.crypto import okvs
from fedcredit.errors import CiphertextError, CryptoError, InputError


def pairs(n, seed=1):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 2**64, (n, 2), dtype=np.uint64),
        rng.integers(0, 2**64, n, dtype=np.uint64),
    )


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 100, 1000, 50_000])
def test_decodes_what_was_encoded(n):
    keys, values = pairs(n)
    store = okvs.encode(keys, values)
    assert store.table.shape == (okvs.table_words(n),)
    np.testing.assert_array_equal(okvs.decode(store, keys), values)
    others, _ = pairs(2000, seed=2)
    found = okvs.decode(store, others)
    assert not np.isin(found, values).any()
    assert len(np.unique(found)) == 2000


def test_a_large_table_costs_a_third_more_than_its_values():
    assert okvs.table_words(10**6) < 1.31e6


def test_two_cores_are_solved_by_the_dense_part(monkeypatch):
    """With tight segments peeling leaves keys over, which only the dense part can encode."""
    monkeypatch.setattr(okvs, "segment_size", lambda n: -(-n * 2 // 5) + 2)
    cores = []
    peel = okvs._peel

    def counting(slots, n_words):
        order, owned = peel(slots, n_words)
        cores.append(len(slots) - len(order))
        return order, owned

    monkeypatch.setattr(okvs, "_peel", counting)
    for seed in range(60):
        keys, values = pairs(25, seed)
        store = okvs.encode(keys, values)
        np.testing.assert_array_equal(okvs.decode(store, keys), values)
    assert sum(core > 0 for core in cores) > 10


@given(
    st.integers(1, 24).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n),
            st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n),
        )
    ),
    st.lists(st.integers(0, 2**64 - 1), min_size=64, max_size=64),
)
def test_dense_systems(system, words):
    vectors, wanted = system
    solved = okvs._solve_dense(vectors, wanted, words)
    if solved is None:  # then some combination of the rows is zero
        rank = _rank(vectors)
        assert rank < len(vectors)
        return
    for vector, value in zip(vectors, wanted, strict=True):
        total = 0
        for bit in range(64):
            total ^= solved[bit] if vector >> bit & 1 else 0
        assert total == value


def _rank(vectors):
    rows = [v for v in vectors if v]
    rank = 0
    while rows:
        row = rows.pop()
        rank += 1
        top = row.bit_length() - 1
        rows = [v for v in (r ^ row if r >> top & 1 else r for r in rows) if v]
    return rank


def test_the_table_does_not_show_its_keys():
    """With uniform values every word is uniform: 256 byte counts within 5 standard errors."""
    keys, values = pairs(20_000)
    counts = np.bincount(okvs.encode(keys, values).table.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert np.abs(counts - expected).max() < 5 * expected**0.5


def test_equal_keys_cannot_be_encoded():
    keys = np.zeros((2, 2), np.uint64)
    with pytest.raises(CryptoError, match="distinct"):
        okvs.encode(keys, np.array([1, 2], np.uint64))


def test_wrong_shapes_are_refused():
    keys, values = pairs(5)
    with pytest.raises(InputError):
        okvs.encode(keys, values[:4])
    with pytest.raises(InputError):
        okvs.encode(keys[:, :1], values)
    store = okvs.encode(keys, values)
    with pytest.raises(CiphertextError):
        okvs.Okvs(store.seed, 5, store.table[:-1])
    with pytest.raises(CiphertextError):
        okvs.Okvs(b"short", 5, store.table)
    with pytest.raises(CiphertextError):
        okvs.Okvs(store.seed, -1, store.table)
