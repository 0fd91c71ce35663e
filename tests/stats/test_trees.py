import json

import numpy as np
import pytest

from fedcredit.errors import InputError
from fedcredit.stats.histograms import local_histograms
from fedcredit.stats.trees import LEAF, Split, Tree, decision_directions


@pytest.fixture
def tree():
    """Feature 1 numeric with a missing bin 9, then feature 0 categorical on its left."""
    return Tree(
        feature=[1, 0, LEAF, LEAF, LEAF],
        threshold_bin=[3, -1, -1, -1, -1],
        default_left=[True, False, False, False, False],
        missing_bin=[9, -1, -1, -1, -1],
        category_start=[0, 0, 2, 2, 2, 2],
        categories=[2, 5],
        left=[1, 3, LEAF, LEAF, LEAF],
        right=[2, 4, LEAF, LEAF, LEAF],
        value=[0.0, 0.1, 0.2, 0.3, 0.4],
        gain=[2.0, 1.0, 0.0, 0.0, 0.0],
        count=[10, 6, 4, 3, 3],
    )


BINS = np.array([[2, 3], [5, 9], [4, 0], [2, 4], [0, 9], [300, 1]])
LEAVES = [3, 3, 4, 2, 4, 4]


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_apply(tree, dtype):
    np.testing.assert_array_equal(tree.apply(BINS.astype(dtype)), LEAVES)
    np.testing.assert_array_equal(tree.predict(BINS), tree.value[LEAVES])
    np.testing.assert_array_equal(tree.apply(BINS[:5].astype(np.uint8)), LEAVES[:5])
    assert tree.apply(BINS[:0]).shape == (0,)


def test_apply_is_a_walk_along_the_splits(tree):
    for row, leaf in zip(BINS, LEAVES, strict=True):
        node = 0
        while tree.feature[node] != LEAF:
            split = tree.split(node)
            left = decision_directions(row[[split.feature]], split)[0]
            node = tree.left[node] if left else tree.right[node]
        assert node == leaf


def test_shape(tree):
    assert (tree.n_nodes, tree.n_leaves, tree.depth) == (5, 3, 2)
    np.testing.assert_array_equal(tree.leaves, [2, 3, 4])
    assert tree.split(1) == Split(feature=0, threshold_bin=-1, left_bins=(2, 5))
    assert tree.split(1).is_categorical
    assert not tree.split(0).is_categorical
    for node in (2, -1, 5):
        with pytest.raises(InputError):
            tree.split(node)


def test_json_round_trip(tree):
    again = Tree.from_dict(json.loads(json.dumps(tree.to_dict())))
    assert again.to_dict() == tree.to_dict()
    np.testing.assert_array_equal(again.apply(BINS), LEAVES)


def test_arrays_are_read_only_copies(tree):
    with pytest.raises(ValueError, match="read-only"):
        tree.value[0] = 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"feature": []},
        {"feature": [1, 0, LEAF, LEAF]},
        {"feature": [1, -2, LEAF, LEAF, LEAF]},
        {"feature": [1.5, 0, LEAF, LEAF, LEAF]},
        {"feature": [2**40, 0, LEAF, LEAF, LEAF]},
        {"left": [0, 3, LEAF, LEAF, LEAF]},
        {"left": [1, 1, LEAF, LEAF, LEAF]},
        {"left": [1, 3, 4, LEAF, LEAF]},
        {"right": [2, 7, LEAF, LEAF, LEAF]},
        {"right": [1, 4, LEAF, LEAF, LEAF]},
        {"threshold_bin": [-1, -1, -1, -1, -1]},
        {"category_start": [0, 0, 2, 2, 2]},
        {"category_start": [0, 2, 1, 2, 2, 2]},
        {"category_start": [0, 0, 1, 1, 2, 2]},
        {"category_start": [0, 0, 2, 2, 2, 3]},
        {"categories": [-1, 2]},
        {"value": [0.0, 0.1, float("nan"), 0.3, 0.4]},
        {"value": ["a"] * 5},
        {"count": [[1, 2, 3, 4, 5]]},
        {"default_left": [2, 0, 0, 0, 0]},
        {"extra": [1]},
    ],
)
def test_damaged_dicts_are_refused(tree, change):
    with pytest.raises(InputError):
        Tree.from_dict(tree.to_dict() | change)


def test_missing_fields_are_refused(tree):
    data = tree.to_dict()
    del data["gain"]
    with pytest.raises(InputError):
        Tree.from_dict(data)


@pytest.mark.parametrize("bins", [BINS[:, :1], BINS.astype(float), BINS[0], BINS - 1, BINS * 1000])
def test_apply_refuses(tree, bins):
    with pytest.raises(InputError):
        tree.apply(bins)


def test_directions():
    column = np.array([0, 3, 4, 9], np.uint8)
    plain = Split(feature=0, threshold_bin=3)
    np.testing.assert_array_equal(decision_directions(column, plain), [1, 1, 0, 0])
    missing_left = Split(feature=0, threshold_bin=3, default_left=True, missing_bin=9)
    np.testing.assert_array_equal(decision_directions(column, missing_left), [1, 1, 0, 1])
    alone = Split(feature=0, threshold_bin=8, default_left=False, missing_bin=9)
    np.testing.assert_array_equal(decision_directions(column, alone), [1, 1, 1, 0])
    categories = Split(feature=0, threshold_bin=-1, left_bins=(4, 200))
    np.testing.assert_array_equal(decision_directions(column, categories), [0, 0, 1, 0])
    assert decision_directions(column[:0], categories).shape == (0,)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_histograms_are_sums_per_bin(dtype):
    rng = np.random.default_rng(0)
    sizes = np.array([5, 1, 17])
    bins = np.column_stack([rng.integers(0, s, 500) for s in sizes]).astype(dtype)
    g, h = rng.integers(-(2**16), 2**16, (2, 500))
    rows = np.flatnonzero(rng.random(500) < 0.4).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    G, H = local_histograms(bins, rows, g, h, offsets)
    for values, sums in ((g, G), (h, H)):
        assert sums.dtype == np.int64
        for f in range(3):
            expected = [values[rows][bins[rows, f] == b].sum() for b in range(sizes[f])]
            np.testing.assert_array_equal(sums[offsets[f] : offsets[f + 1]], expected)


def test_histograms_refuse():
    bins = np.array([[0, 1], [1, 0]], np.uint8)
    rows = np.array([0, 1], np.int32)
    ones = np.ones(2, np.int64)
    offsets = np.array([0, 2, 4])
    local_histograms(bins, rows, ones, ones, offsets)
    with pytest.raises(InputError, match="not below"):
        local_histograms(bins, rows, ones, ones, np.array([0, 1, 3]))
    with pytest.raises(InputError, match="fit together"):
        local_histograms(bins, rows, ones[:1], ones, offsets)
    with pytest.raises(InputError, match="out of range"):
        local_histograms(bins, rows + 1, ones, ones, offsets)
    with pytest.raises(InputError, match="uint8"):
        local_histograms(bins.astype(float), rows, ones, ones, offsets)
