"""The sum of all parties' words gives the sum of the leaf values, exactly, and nothing else.

Attacks read what the arithmetic would show without the permutation or without the masks.
"""

import hashlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from fedcredit import errors
from fedcredit.crypto.encscore_format import SLOTS, TAG_BITS, VALUE_BITS, WORD_BITS
from fedcredit.protocols import tree_words
from fedcredit.protocols.tree_words import (
    MAX_TREES,
    ciphertexts_per_row,
    failure_probability,
    leaf_shifts,
    pack_rows,
    party_words,
    platform_words,
    read_words,
    rows_per_ciphertext,
    unpack_rows,
)

MASK = np.uint64((1 << WORD_BITS) - 1)
SEED = bytes(range(32))


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Draw the parties' randomness from a seed, so that no run meets a chance of 2^-28."""
    count = itertools.count()

    def token_bytes(size):
        return hashlib.shake_256(b"draw %d" % next(count)).digest(size)

    monkeypatch.setattr(tree_words, "secrets", SimpleNamespace(token_bytes=token_bytes))


class Forest:
    """Full trees whose nodes are dealt out at random, and rows with random directions."""

    def __init__(self, n_rows, n_trees, depth, n_parties, seed=0):
        rng = np.random.default_rng(seed)
        leaves = 1 << depth
        self.n_trees, self.n_leaves = n_trees, leaves
        owner = rng.integers(0, n_parties, (n_trees, leaves))
        right = rng.integers(0, 2, (n_rows, n_trees, leaves))
        limit = (1 << 30) // n_trees - 1
        self.values = rng.integers(-limit, limit + 1, (n_trees, leaves))
        self.reach = [np.ones((n_rows, n_trees, leaves), np.bool_) for _ in range(n_parties)]
        for leaf in range(leaves):
            for up in range(1, depth + 1):
                node = (leaves + leaf) >> up
                taken = right[:, :, node] == ((leaves + leaf) >> (up - 1)) & 1
                for party, reach in enumerate(self.reach):
                    reach[:, :, leaf] &= taken | (owner[:, node] != party)
        joint = np.logical_and.reduce(self.reach)
        assert (joint.sum(axis=2) == 1).all()
        self.leaf = joint.argmax(axis=2)
        self.scores = self.values[np.arange(n_trees), self.leaf].sum(axis=1)

    def words(self, seed=SEED, other=None):
        """Words of all parties; the last one's by another seed, if given."""
        seeds = [seed] * len(self.reach)
        seeds[-1] = seed if other is None else other
        first = platform_words(self.reach[0], self.values, seeds[0])
        rest = [party_words(r, s) for r, s in zip(self.reach[1:], seeds[1:], strict=True)]
        return [first, *rest]

    def total(self, **options):
        return sum(self.words(**options)) & MASK

    def read(self, total):
        return read_words(total, self.n_trees, self.n_leaves)

    def slots(self, total):
        """Where the institution finds tag zero, by row and tree, and the values there."""
        cells = total.reshape(len(total), self.n_trees, self.n_leaves)
        hit = cells >> np.uint64(VALUE_BITS) == 0
        assert (hit.sum(axis=2) == 1).all()
        return hit.argmax(axis=2), cells[hit].reshape(hit.shape[:2])


def uniform(counts):
    """p-value of equal probability."""
    return stats.chisquare(counts).pvalue


def top_bits(numbers, bits, width):
    return np.bincount((numbers >> np.uint64(width - bits)).astype(np.int64), minlength=1 << bits)


# --------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize("n_parties", [1, 2, 3, 6])
@pytest.mark.parametrize(("n_trees", "depth"), [(100, 5), (1, 3), (7, 8), (33, 1), (5, 0)])
def test_the_sum_of_words_is_the_sum_of_the_leaf_values(n_trees, depth, n_parties):
    forest = Forest(40, n_trees, depth, n_parties)
    values, ok = forest.read(forest.total(seed=SEED[::-1]))
    assert ok.all()
    np.testing.assert_array_equal(values, forest.scores)


def test_a_thousand_rows():
    forest = Forest(1000, 100, 5, 3)
    values, ok = forest.read(forest.total())
    assert ok.all()
    np.testing.assert_array_equal(values, forest.scores)


def test_extreme_values_survive():
    limit = 1 << 30
    for value in (limit - 1, 1 - limit, 0, -1):
        reach = np.ones((3, 1, 1), np.bool_)
        words = platform_words(reach, np.array([[value]]), SEED)
        values, ok = read_words(words, 1, 1)
        assert ok.all()
        assert (values == value).all()


def test_plain_sums_of_64_bits_are_read_alike():
    forest = Forest(20, 9, 4, 3)
    words = forest.words()
    # Shares of zero mod 2^64, never reduced.
    share = np.random.default_rng(1).integers(0, 1 << 64, words[0].shape, np.uint64)
    plain = (words[0] + share) + (words[1] - share) + words[2]
    assert (plain > MASK).any()
    values, ok = forest.read(plain)
    assert ok.all()
    np.testing.assert_array_equal(values, forest.scores)


def test_words_are_fresh_and_in_range():
    forest = Forest(10, 5, 4, 2)
    for one, other in zip(forest.words(), forest.words(), strict=True):
        assert (one <= MASK).all()
        assert one.shape == (10, 5 * 16)
        assert (one != other).any()
    assert (forest.total() != forest.total()).any()


def test_no_rows():
    assert party_words(np.zeros((0, 4, 8), np.bool_), SEED).shape == (0, 32)
    values, ok = read_words(np.zeros((0, 32), np.uint64), 4, 8)
    assert len(values) == len(ok) == 0


# ----------------------------------------------------------------------------------- secrecy


def test_slots_values_and_the_rest_are_uniform():
    """Rows that are all alike look alike to nobody."""
    forest = Forest(1, 20, 4, 3)
    forest.reach = [np.repeat(reach, 4000, axis=0) for reach in forest.reach]
    total = forest.total()
    values, ok = forest.read(total)
    assert ok.all()
    assert (values == forest.scores[0]).all()
    slots, masked = forest.slots(total)
    assert uniform(np.bincount(slots.ravel(), minlength=16)) > 1e-4
    for tree in range(20):
        assert uniform(np.bincount(slots[:, tree], minlength=16)) > 1e-5
        assert uniform(top_bits(masked[:, tree], 5, VALUE_BITS)) > 1e-5
    # Two trees together, of which every further one fixes the sum.
    pairs = (slots[:, 0] * 16 + slots[:, 1]).astype(np.int64)
    assert uniform(np.bincount(pairs, minlength=256)) > 1e-4
    together = (masked[:, 2] >> np.uint64(27)) * np.uint64(16) + (masked[:, 3] >> np.uint64(27))
    assert uniform(np.bincount(together.astype(np.int64), minlength=256)) > 1e-4
    other = total[total >> np.uint64(VALUE_BITS) != 0]
    assert uniform(top_bits(other, 8, WORD_BITS)) > 1e-4
    assert uniform(np.bincount((other & np.uint64(255)).astype(np.int64), minlength=256)) > 1e-4


def test_attack_on_leaves_in_their_own_slots(monkeypatch):
    """Without the permutation the institution reads every leaf; with it, it guesses."""
    forest = Forest(300, 30, 5, 3)
    hidden, _ = forest.slots(forest.total())
    guessed = (hidden == forest.leaf).mean()
    assert abs(guessed - 1 / 32) < 0.01
    monkeypatch.setattr(tree_words, "leaf_shifts", lambda _, n, t, __: np.zeros((n, t), np.uint8))
    bare, _ = forest.slots(forest.total())
    np.testing.assert_array_equal(bare, forest.leaf)


def test_attack_on_values_without_masks(monkeypatch):
    """Without rho the institution reads every tree's value; with it, none is right."""
    forest = Forest(300, 30, 5, 3)
    true = forest.values[np.arange(30), forest.leaf] % (1 << VALUE_BITS)
    _, hidden = forest.slots(forest.total())
    assert (hidden.astype(np.int64) == true).mean() < 0.001
    monkeypatch.setattr(tree_words, "_tree_masks", lambda n, t: np.zeros((n, t), np.uint32))
    _, bare = forest.slots(forest.total())
    np.testing.assert_array_equal(bare.astype(np.int64), true)


def test_the_randomness_is_the_systems(monkeypatch):
    monkeypatch.undo()
    assert tree_words.secrets.token_bytes.__module__ == "secrets"


def test_masks_of_the_trees_add_up_to_zero():
    rho = tree_words._tree_masks(50, 7)
    assert rho.dtype == np.uint32
    assert (rho.sum(axis=1, dtype=np.uint64) % (1 << VALUE_BITS) == 0).all()
    assert len(np.unique(rho)) > 340
    assert not tree_words._tree_masks(50, 1).any()


def test_shifts_follow_the_seed_and_are_uniform():
    shifts = leaf_shifts(SEED, 2000, 10, 32)
    assert uniform(np.bincount(shifts.ravel(), minlength=32)) > 1e-4
    np.testing.assert_array_equal(shifts, leaf_shifts(SEED, 2000, 10, 32))
    assert (shifts != leaf_shifts(SEED[::-1], 2000, 10, 32)).mean() > 0.9
    # Shares of a row do not repeat those of another.
    assert len(np.unique(shifts, axis=0)) == 2000


# ------------------------------------------------------------------------------------ errors


def test_a_party_with_another_seed_is_noticed():
    forest = Forest(500, 100, 5, 3)
    values, ok = forest.read(forest.total(other=SEED[::-1]))
    assert not ok.any()
    assert not values.any()


def test_a_lost_or_repeated_tag_is_noticed():
    forest = Forest(3, 6, 3, 2)
    total = forest.total()
    cells = total.reshape(3, 6, 8)
    slots, _ = forest.slots(total)
    cells[1, 2, slots[1, 2]] |= np.uint64(1 << (WORD_BITS - 1))
    cells[2, 4, slots[2, 4] ^ 1] = 5
    values, ok = forest.read(total)
    assert ok.tolist() == [True, False, False]
    assert values.tolist() == [forest.scores[0], 0, 0]


def test_how_often_an_honest_row_is_asked_for_again():
    assert TAG_BITS + VALUE_BITS == WORD_BITS
    assert failure_probability(100, 32) < 1.2e-5
    assert failure_probability(10, 1) == 0


@pytest.mark.parametrize("seed", [b"", SEED[:16], SEED + SEED, "x" * 32, None])
def test_seeds_of_other_lengths(seed):
    reach = np.ones((1, 1, 2), np.bool_)
    with pytest.raises(errors.KeyMaterialError) as caught:
        party_words(reach, seed)
    assert caught.value.fix
    with pytest.raises(errors.KeyMaterialError):
        platform_words(reach, np.zeros((1, 2), np.int64), seed)


@pytest.mark.parametrize(
    "reach",
    [
        np.ones((2, 8), np.bool_),
        np.ones((2, 3, 8), np.uint8),
        np.ones((2, 3, 6), np.bool_),
        np.ones((2, 3, 512), np.bool_),
        np.ones((2, 0, 8), np.bool_),
        np.ones((2, 3, 0), np.bool_),
    ],
)
def test_reach_of_other_shapes(reach):
    with pytest.raises(errors.InputError):
        party_words(reach, SEED)


def test_values_that_do_not_fit():
    reach = np.ones((1, 2, 2), np.bool_)
    for values in (
        np.zeros((2, 4), np.int64),
        np.zeros((2, 2)),
        np.full((2, 2), 1 << 29),
        np.array([[-(2**63), 0], [0, 0]]),
    ):
        with pytest.raises(errors.InputError):
            platform_words(reach, values, SEED)


def test_sums_of_other_shapes():
    for words in (np.zeros((2, 15), np.uint64), np.zeros((2, 16)), np.zeros(16, np.uint64)):
        with pytest.raises(errors.InputError):
            read_words(words, 2, 8)


# ------------------------------------------------------------------------------------ layout


@pytest.mark.parametrize(
    ("n_trees", "n_leaves", "per_row", "shared"),
    [(100, 32, 1, 1), (128, 32, 1, 1), (129, 32, 2, 1), (100, 256, 7, 1), (10, 16, 1, 25)],
)
def test_ciphertexts(n_trees, n_leaves, per_row, shared):
    assert ciphertexts_per_row(n_trees, n_leaves) == per_row
    assert rows_per_ciphertext(n_trees, n_leaves) == shared
    for n in (0, 1, 24, 25, 26):
        words = np.random.default_rng(n).integers(0, 9**9, (n, n_trees * n_leaves), np.uint64)
        slots = pack_rows(words, n_trees, n_leaves)
        assert slots.shape == (-(-n // shared) * per_row, SLOTS)
        assert slots.sum() == words.sum()
        np.testing.assert_array_equal(unpack_rows(slots, n, n_trees, n_leaves), words)
        with pytest.raises(errors.InputError):
            unpack_rows(slots, n + shared, n_trees, n_leaves)


def test_trees_do_not_straddle_ciphertexts():
    tree = np.repeat(np.arange(100, dtype=np.uint64), 256)[None]
    slots = pack_rows(tree, 100, 256).reshape(7, 16, 256)
    assert (slots == slots[:, :, :1]).all()


@pytest.mark.parametrize("shape", [(0, 8), (MAX_TREES + 1, 8), (5, 0), (5, 12), (5, 512)])
def test_forests_out_of_range(shape):
    for function in (ciphertexts_per_row, rows_per_ciphertext, failure_probability):
        with pytest.raises(errors.InputError):
            function(*shape)
