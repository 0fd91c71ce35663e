"""Tag lists: exact join, Elias-Fano lists, and what malformed lists run into."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.crypto.taglist import TagList, TagShape, join_tags, tag_bytes
from fedcredit.errors import CiphertextError, InputError, ParameterError


def digests(n, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, 16), dtype=np.uint8)


@pytest.mark.parametrize(
    ("sizes", "expected"), [((1, 1), 8), ((10**6, 10**6), 10), ((2**20, 2**24), 11)]
)
def test_tag_length(sizes, expected):
    assert tag_bytes(*sizes) == expected


@given(st.integers(8, 16), st.sets(st.binary(min_size=1, max_size=1)), st.sets(st.integers(0, 255)))
def test_join_against_a_dict(size, left, right):
    # Tags that agree in all but one byte, at either end, are told apart.
    needles = [bytes(size - 1) + tag for tag in sorted(left)]
    haystack = [bytes(size - 1) + bytes([tag]) for tag in sorted(right, reverse=True)]
    place = {tag: at for at, tag in enumerate(haystack)}
    got = join_tags(
        np.array([list(tag) for tag in needles], np.uint8).reshape(-1, size),
        np.array([list(tag) for tag in haystack], np.uint8).reshape(-1, size),
    )
    assert got.tolist() == [place.get(tag, -1) for tag in needles]


def test_join_of_many():
    tags = digests(50_000)[:, :10]
    order = np.random.default_rng(2).permutation(50_000)
    np.testing.assert_array_equal(join_tags(tags[order], tags), order)
    assert (join_tags(digests(1000, seed=3)[:, :10], tags) == -1).all()


def test_join_refuses_repeated_tags_and_other_shapes():
    tags = digests(10)
    with pytest.raises(CiphertextError, match="twice"):
        join_tags(tags, np.concatenate((tags, tags[3:4])))
    with pytest.raises(InputError):
        join_tags(tags[:, :8], tags[:, :9])
    with pytest.raises(InputError):
        join_tags(tags[:, :7], tags[:, :7])


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 5000])
@pytest.mark.parametrize("capacity", [1, 1 << 16])
def test_list_finds_exactly_its_tags(n, capacity):
    made = digests(n)
    tags, order = TagList.build(made, capacity)
    assert sorted(order.tolist()) == list(range(n))
    again = TagList(tags.shape, tags.data)
    for copy in (tags, again):
        np.testing.assert_array_equal(order[copy.find(made)], np.arange(n))
        assert (copy.find(digests(2000, seed=9)) == -1).all()
    high, low = tags.shape.cut(made[order])
    ordered = list(zip(high.tolist(), low.tolist(), strict=True))
    assert ordered == sorted(ordered)


def test_size_is_close_to_the_bound():
    """A million tags for 65536 queries: 76 bits each, stored in about 58."""
    shape = TagShape(10**6, 1 << 16)
    assert shape.high_bits + 8 * shape.low_bytes >= 76 - 0.1
    assert shape.n_bytes == pytest.approx(7.26e6, rel=0.001)


def test_sizes_out_of_range_are_refused():
    for n, capacity in [(0, 1), (1, 0), ((1 << 30) + 1, 1)]:
        with pytest.raises(ParameterError):
            TagShape(n, capacity)
    with pytest.raises(ParameterError, match="too long"):
        TagShape(1, 1 << 40)


def test_malformed_lists_are_refused():
    tags, _ = TagList.build(digests(100), 10)
    shape, good = tags.shape, tags.data

    def refused(data):
        with pytest.raises(CiphertextError):
            TagList(shape, data)

    refused(good[:-1])
    refused(good.astype(np.uint16))
    empty = good.copy()
    empty[: shape.upper_bytes] = 0
    refused(empty)
    full = good.copy()
    full[: shape.upper_bytes] = 255
    refused(full)
    # All tags in one bucket with equal lower parts: the same tag a hundred times.
    bits = np.zeros(8 * shape.upper_bytes, np.uint8)
    bits[:100] = 1
    flat = np.zeros(shape.n_bytes, np.uint8)
    flat[: shape.upper_bytes] = np.packbits(bits, bitorder="little")
    refused(flat)
    # The last tag's upper part beyond the last bucket.
    bits[:] = 0
    bits[-100:] = 1
    beyond = good.copy()
    beyond[: shape.upper_bytes] = np.packbits(bits, bitorder="little")
    refused(beyond)


def test_equal_digests_cannot_be_listed():
    made = digests(10)
    made[3] = made[7]
    with pytest.raises(CiphertextError):
        TagList.build(made, 10)
