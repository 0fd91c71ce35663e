"""Oblivious selection: exact for the picked slot, at chance for the others."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedcredit.crypto import _selection_vole as vole
from fedcredit.crypto._bitplanes import fold_leaves, gf16_multiply, planes_to_rows
from fedcredit.crypto.prg import TweakedHash
from tests.support.selection import connect, join

PRODUCT = np.array([[gf16_multiply(a, b) for b in range(16)] for a in range(16)], np.uint8)


def from_planes(planes: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(planes.view(np.uint8), axis=1, bitorder="little")
    return bits[0] | bits[1] << 1 | bits[2] << 2 | bits[3] << 3


# The field and the kernels.


def test_the_field_is_one() -> None:
    assert np.array_equal(PRODUCT, PRODUCT.T)
    assert np.array_equal(PRODUCT[1], np.arange(16))
    assert all(sorted(row[1:]) == list(range(1, 16)) for row in PRODUCT[1:])
    for a in range(16):
        for b in range(16):
            assert np.array_equal(PRODUCT[PRODUCT[a, b]], PRODUCT[a][PRODUCT[b]])
            assert np.array_equal(PRODUCT[a ^ b], PRODUCT[a] ^ PRODUCT[b])
    power = 1
    for _ in range(4):
        power = int(PRODUCT[power, 2])
    assert power == 0b0011  # α⁴ = α + 1


@pytest.mark.parametrize("words", [1, 7, 256, 300])
def test_folding_is_the_sum_over_the_field(words: int) -> None:
    rng = np.random.default_rng(words)
    leaves = rng.integers(0, 2**64, (16, 4, words), dtype=np.uint64)
    addend = rng.integers(0, 2**64, (4, words), dtype=np.uint64)
    symbols = np.stack([from_planes(leaf) for leaf in leaves])
    for scalar in (0, 1, 6, 15):
        masks = np.array([-(scalar >> bit & 1) for bit in range(4)], np.int64).view(np.uint64)
        total, value = np.empty((4, words), np.uint64), np.empty((4, words), np.uint64)
        fold_leaves(leaves, addend, masks, total, value)
        expected = np.bitwise_xor.reduce(symbols, axis=0) ^ from_planes(addend)
        assert np.array_equal(from_planes(total), expected)
        weighted = np.bitwise_xor.reduce([PRODUCT[x][symbols[x]] for x in range(16)], axis=0)
        assert np.array_equal(from_planes(value), weighted ^ PRODUCT[scalar][expected])


@pytest.mark.parametrize("words", [1, 8, 13])
def test_planes_become_rows(words: int) -> None:
    planes = np.random.default_rng(words).integers(0, 2**64, (128, words + 4), dtype=np.uint64)
    rows = planes_to_rows(planes, words)
    bits = np.unpackbits(planes[:, :words].copy().view(np.uint8), axis=1, bitorder="little")
    assert np.array_equal(np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little"), bits.T)


def test_the_bit_hash_is_the_low_bit_of_tmmo() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 2**64, (128, 2), dtype=np.uint64)
    offsets = rng.integers(0, 2**64, (3, 2), dtype=np.uint64)
    got = vole.bit_hash(TweakedHash(bytes(16)), rows, offsets, 1000)
    cipher = Cipher(algorithms.AES(bytes(16)), modes.ECB())
    for k, offset in enumerate(offsets):
        for i, row in enumerate(rows):
            inner = int.from_bytes(cipher.encryptor().update((row ^ offset).tobytes()), "little")
            tweaked = (inner ^ (1000 + i)).to_bytes(16, "little")
            bit = (cipher.encryptor().update(tweaked)[0] ^ inner) & 1
            assert got[k, i // 8] >> (i % 8) & 1 == bit


def test_the_challenge_map_is_linear_and_takes_in_every_bit() -> None:
    rng = np.random.default_rng(4)
    challenge = vole.Challenge(b"t", 0, np.zeros((128, 20), np.uint64))
    a, b = rng.integers(0, 2**64, (2, 3, 20), dtype=np.uint64)
    assert np.array_equal(challenge.image(a ^ b), challenge.image(a) ^ challenge.image(b))
    assert not np.any(challenge.image(np.zeros((1, 20), np.uint64)))
    for word in (0, 9, 15, 16, 19):
        for bit in (0, 31, 63):
            single = np.zeros((1, 20), np.uint64)
            single[0, word] = np.uint64(1 << bit)
            assert np.any(challenge.image(single))
    other = vole.Challenge(b"t", 64, np.zeros((128, 20), np.uint64))
    assert not np.array_equal(challenge.image(a), other.image(a))


def test_both_sides_hold_the_correlation() -> None:
    receiver, sender = connect()
    n = 200
    choices = np.random.default_rng(5).integers(0, 16, n)
    correction = receiver.correct(choices)
    sender.absorb(correction)
    assert receiver._columns is not None
    assert sender._pending is not None
    _, value = receiver._columns.fold(0, np.zeros((4, 8), np.uint64))
    ours = planes_to_rows(value, 4).view(np.uint8)[:n]
    theirs = sender._pending[2][0].view(np.uint8)[:n]
    nibbles = np.stack([theirs & 15, theirs >> 4], axis=2) ^ np.stack([ours & 15, ours >> 4], 2)
    delta = sender._delta
    assert np.array_equal(nibbles.reshape(n, 32), PRODUCT[choices[:, None], delta[None, :]])


# The function.


@pytest.mark.parametrize("slots", range(1, 17))
def test_every_row_gets_the_bit_of_its_slot(slots: int) -> None:
    receiver, sender = connect()
    rng = np.random.default_rng(slots)
    for n in (1000, 1):
        choices = rng.integers(0, slots, n)
        bits = rng.integers(0, 2, (slots, n))
        sender.absorb(receiver.correct(choices))
        out = receiver.select(sender.answer(bits, range(slots)))
        assert out.dtype == np.uint8
        assert np.array_equal(out, bits[choices, np.arange(n)])


@pytest.mark.parametrize("n", [2, 63, 64, 65, 65535, 65536, 65537, 140_001])
def test_block_edges(n: int) -> None:
    receiver, sender = join()
    rng = np.random.default_rng(n)
    choices = rng.integers(0, 16, n, dtype=np.uint8)
    bits = rng.integers(0, 2, (16, n)).astype(bool)
    correction = receiver.correct(choices)
    blocks = -(-n // 65536)
    assert correction.columns.shape == (128, 8 * (-(-n // 64) + 4 * blocks))
    assert correction.checks.shape == (blocks, 160)
    sender.absorb(correction)
    answer = sender.answer(bits, range(16))
    assert answer.pads.shape == (16, -(-n // 8))
    assert np.array_equal(receiver.select(answer), bits[choices, np.arange(n)])
    if n % 8:
        assert not np.any(answer.pads[:, -1] >> n % 8)


def test_rows_whose_slot_is_not_sent_get_zero() -> None:
    receiver, sender = connect()
    n = 3000
    choices = np.random.default_rng(6).integers(0, 16, n)
    sender.absorb(receiver.correct(choices))
    answer = sender.answer(np.ones((2, n), bool), [11, 4])
    assert answer.pads.shape == (2, n // 8)
    assert np.array_equal(receiver.select(answer), np.isin(choices, [11, 4]).astype(np.uint8))
    sender.absorb(receiver.correct(choices))
    empty = sender.answer(np.zeros((0, n), bool), [])
    assert not np.any(receiver.select(empty))


def test_one_receiver_serves_several_calls_and_senders() -> None:
    rng = np.random.default_rng(7)
    pairs = [connect(b"session-of-party-" + bytes([i])) for i in range(2)]
    for n in (100, 70_000, 3):
        choices = rng.integers(0, 8, n)
        bits = rng.integers(0, 2, (8, n))
        merged = np.zeros(n, np.uint8)
        for (receiver, sender), owned in zip(pairs, ([0, 3, 5, 6], [1, 2, 4, 7]), strict=True):
            sender.absorb(receiver.correct(choices))
            merged |= receiver.select(sender.answer(bits[owned], owned))
        assert np.array_equal(merged, bits[choices, np.arange(n)])


# Secrecy.


def test_the_other_slots_stay_at_chance() -> None:
    receiver, sender = join()
    n = 40_000
    rng = np.random.default_rng(8)
    choices = rng.integers(0, 16, n)
    bits = rng.integers(0, 2, (16, n))
    sender.absorb(receiver.correct(choices))
    answer = sender.answer(bits, range(16))
    assert receiver._pending is not None
    own = np.unpackbits(receiver._pending[2], bitorder="little")[:n]
    opened = np.unpackbits(answer.pads, axis=1, bitorder="little")[:, :n] ^ own
    picked = choices == np.arange(16)[:, None]
    assert np.array_equal(opened[picked], bits[picked])
    right = (opened == bits)[~picked].mean()
    # Six standard deviations of 15·40000 fair guesses.
    assert abs(right - 0.5) < 6 * 0.5 / np.sqrt(15 * n)
    for slot in range(16):
        rows = ~picked[slot]
        assert abs((opened == bits)[slot, rows].mean() - 0.5) < 6 * 0.5 / np.sqrt(rows.sum())


def test_pads_of_two_slots_are_unrelated() -> None:
    receiver, sender = join()
    n = 40_000
    sender.absorb(receiver.correct(np.zeros(n, int)))
    pads = sender.answer(np.zeros((16, n), bool), range(16)).pads
    for a in range(16):
        for b in range(a):
            equal = 1 - np.unpackbits(pads[a] ^ pads[b]).mean()
            assert abs(equal - 0.5) < 6 * 0.5 / np.sqrt(n)


def chi_square(data: np.ndarray) -> float:
    counts = np.bincount(data.reshape(-1), minlength=256)
    expected = data.size / 256
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("kind", ["zero", "fifteen", "runs", "random"])
def test_what_the_sender_sees_is_uniform_whatever_the_choices(kind: str) -> None:
    n = 65_536
    choices = {
        "zero": np.zeros(n, int),
        "fifteen": np.full(n, 15),
        "runs": np.arange(n) // 4096,
        "random": np.random.default_rng(9).integers(0, 16, n),
    }[kind]
    receiver, _ = join()
    first = receiver.correct(choices)
    # 255 degrees of freedom: mean 255, standard deviation 22.6; seven of them on either side.
    assert abs(chi_square(first.columns) - 255) < 160
    rows = [chi_square(row) for row in first.columns]
    assert max(rows) < 255 + 160
    images = []
    for seed in range(8):
        other, _ = join(b"session-number-%d-" % seed)
        images.append(other.correct(choices[:64]).checks[:, :128])
    data = np.concatenate(images)
    assert abs(np.unpackbits(data).mean() - 0.5) < 6 * 0.5 / np.sqrt(data.size * 8)


def test_the_masked_image_is_fresh_for_equal_choices() -> None:
    receiver, sender = join()
    choices = np.full(640, 9)
    images = []
    for _ in range(2):
        correction = receiver.correct(choices)
        images.append(correction.checks[0, :128].tobytes())
        sender.absorb(correction)
        receiver.select(sender.answer(np.zeros((0, 640), bool), []))
    assert images[0] != images[1]


def test_no_stream_and_no_tweak_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sender = join()
    streams: list[tuple[bytes, int]] = []
    tweaks: list[tuple[int, int]] = []
    fill, apply = vole.prg_into, TweakedHash.__call__

    def filling(seed: bytes, out: np.ndarray, counter: int = 0) -> None:
        streams.append((seed, counter))
        fill(seed, out, counter)

    def hashing(self: TweakedHash, blocks: np.ndarray, first_tweak: int) -> np.ndarray:
        tweaks.append((first_tweak, first_tweak + len(blocks)))
        return apply(self, blocks, first_tweak)

    monkeypatch.setattr(vole, "prg_into", filling)
    monkeypatch.setattr(TweakedHash, "__call__", hashing)
    done = 0
    for n in (64, 1, 70_000, 128):
        correction = receiver.correct(np.zeros(n, int))
        assert correction.first_row == done
        done += n
        # Only the receiver ran so far: it expands each of its seeds once per block.
        blocks = -(-n // 65536)
        assert len(streams) == 512 * blocks
        assert len(set(streams)) == len(streams)
        counters = {counter for _, counter in streams}
        assert counters == {correction.first_row + 65536 * i for i in range(blocks)}
        assert min(low for low, _ in tweaks) == correction.first_row
        # Rows beyond the last one only fill up a word and are never read.
        assert max(high for _, high in tweaks) - done < 64
        streams.clear()
        tweaks.clear()
        sender.absorb(correction)
        assert len(streams) == 480 * blocks
        receiver.select(sender.answer(np.zeros((1, n), bool), [0]))
        streams.clear()
        tweaks.clear()
