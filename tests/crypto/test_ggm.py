"""Puncturable seeds: what the puncturer recovers, and that a cheating builder is caught."""

from __future__ import annotations

import numpy as np
import pytest

from fedcredit.crypto import ggm
from fedcredit.errors import CiphertextError

SESSION = b"session"
RNG = np.random.default_rng(20)
KEYS = RNG.integers(0, 256, (ggm.TREES * ggm.DEPTH, 2, 16), dtype=np.uint8)
PUNCTURED = np.concatenate([np.arange(16), RNG.integers(0, 16, 16)]).astype(np.uint8)
TREES = np.arange(ggm.TREES)


def chosen_keys() -> np.ndarray:
    choices = ggm.path_choices(PUNCTURED)
    return KEYS[np.arange(len(choices)), choices]


def test_the_choices_are_the_complement_of_the_path() -> None:
    choices = ggm.path_choices(PUNCTURED).reshape(ggm.TREES, ggm.DEPTH)
    assert choices[5].tolist() == [1, 0, 1, 0]  # leaf 5 is 0101, the root's child first
    assert choices[12].tolist() == [0, 0, 1, 1]


def test_every_leaf_but_the_punctured_one_is_recovered() -> None:
    seeds, message = ggm.build(SESSION, KEYS)
    assert len(message) == ggm.MESSAGE_BYTES
    got = ggm.complete(SESSION, PUNCTURED, chosen_keys(), message)
    assert len({seed.tobytes() for seed in seeds.reshape(-1, 16)}) == ggm.TREES * ggm.LEAVES
    known = np.ones((ggm.TREES, ggm.LEAVES), bool)
    known[TREES, PUNCTURED] = False
    assert np.array_equal(got[known], seeds[known])
    assert not np.any(got[~known])


def test_trees_are_fresh() -> None:
    assert not np.any(np.all(ggm.build(SESSION, KEYS)[0] == ggm.build(SESSION, KEYS)[0], axis=2))


def test_a_changed_level_sum_is_caught_exactly_where_it_is_used() -> None:
    _, message = ggm.build(SESSION, KEYS)
    choices = ggm.path_choices(PUNCTURED)
    for index in range(0, ggm.TREES * ggm.DEPTH, 11):
        for side in (0, 1):
            changed = bytearray(message)
            changed[(2 * index + side) * 16 + index % 16] ^= 1 << index % 8
            if side == choices[index]:
                with pytest.raises(CiphertextError):
                    ggm.complete(SESSION, PUNCTURED, chosen_keys(), bytes(changed))
            else:
                ggm.complete(SESSION, PUNCTURED, chosen_keys(), bytes(changed))


def test_changed_check_bytes_are_caught() -> None:
    _, message = ggm.build(SESSION, KEYS)
    sums = ggm.TREES * ggm.DEPTH * 2 * 16
    for position in range(sums, ggm.MESSAGE_BYTES, 97):
        changed = bytearray(message)
        changed[position] ^= 0x80
        with pytest.raises(CiphertextError):
            ggm.complete(SESSION, PUNCTURED, chosen_keys(), bytes(changed))


def test_other_sessions_lengths_and_keys_are_refused() -> None:
    _, message = ggm.build(SESSION, KEYS)
    with pytest.raises(CiphertextError):
        ggm.complete(b"other", PUNCTURED, chosen_keys(), message)
    with pytest.raises(CiphertextError):
        ggm.complete(SESSION, PUNCTURED, chosen_keys()[::-1], message)
    for bad in (message[:-1], message + b"\0", b""):
        with pytest.raises(CiphertextError):
            ggm.complete(SESSION, PUNCTURED, chosen_keys(), bad)
