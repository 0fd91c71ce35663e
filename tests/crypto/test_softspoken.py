"""Oblivious selection: exact for the picked slot, at chance for the others, cheating is caught."""

from __future__ import annotations

import dataclasses
import pickle
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedcredit.crypto import _selection_vole as vole
from fedcredit.crypto import ggm
from fedcredit.crypto._bitplanes import fold_leaves, gf16_multiply, planes_to_rows
from fedcredit.crypto.prg import TweakedHash
from fedcredit.crypto.softspoken import (
    MAX_ROWS,
    SLOTS,
    Correction,
    SelectionAnswer,
    SelectionReceiver,
    SelectionSender,
)
from fedcredit.errors import CiphertextError, InputError, ProtocolError

SESSION = b"selection-session"
PRODUCT = np.array([[gf16_multiply(a, b) for b in range(16)] for a in range(16)], np.uint8)


def connect(session: bytes = SESSION) -> tuple[SelectionReceiver, SelectionSender]:
    receiver, sender = SelectionReceiver(session), SelectionSender(session)
    sender.finish(receiver.finish(sender.reply(receiver.offer())))
    return receiver, sender


def join(session: bytes = SESSION) -> tuple[SelectionReceiver, SelectionSender]:
    """Return a pair as it is after its setup, without the public-key work of the setup."""
    receiver, sender = SelectionReceiver(session), SelectionSender(session)
    seeds = np.frombuffer(secrets.token_bytes(32 * 16 * 16), np.uint8).reshape(32, 16, 16)
    receiver._columns = vole.Columns(seeds, None)
    sender._columns = vole.Columns(seeds, sender._delta)
    for side in (receiver, sender):
        side._bind(b"setup")
    return receiver, sender


def to_planes(symbols: np.ndarray, words: int) -> np.ndarray:
    planes = np.zeros((4, 8 * words), np.uint8)
    for bit in range(4):
        packed = np.packbits(symbols >> bit & 1, bitorder="little")
        planes[bit, : len(packed)] = packed
    return planes.view(np.uint64)


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


# Cheating receivers.


def cheat(receiver: SelectionReceiver, columns: np.ndarray, guesses: dict[int, int]) -> Correction:
    """Correct with other slot numbers in other columns (32, n), as a clever cheater would.

    The image sent is that of column 0; for a column that differs, the digest is made for the
    guessed value of that column's secret.
    """
    n = columns.shape[1]
    words = -(-n // 64) + 4
    honest = vole.slot_planes(columns[0].astype(np.uint8), words)
    addend = np.concatenate([honest ^ to_planes(columns[0] ^ own, words) for own in columns])
    assert receiver._columns is not None
    row = receiver._next_row
    total, value = receiver._columns.fold(row, addend)
    challenge = vole.Challenge(receiver._transcript, row, total)
    image, claimed = challenge.image(value).reshape(32, 4, 32), challenge.image(honest)
    for column, guess in guesses.items():
        error = challenge.image(addend[4 * column : 4 * column + 4]) ^ claimed
        image[column] ^= vole.times_planes(np.array([guess], np.uint8), error)[0]
    digest = vole.proof_digest(receiver._transcript, row, image)
    checks = np.frombuffer(claimed.tobytes() + digest, np.uint8).reshape(1, 160)
    return Correction(row, n, total.view(np.uint8), checks)


def test_the_cheater_of_these_tests_passes_when_it_does_not_cheat() -> None:
    receiver, sender = join()
    columns = np.tile(np.random.default_rng(10).integers(0, 16, 300), (32, 1))
    sender.absorb(cheat(receiver, columns, {}))


def test_other_choices_in_every_column_are_caught() -> None:
    receiver, sender = join()
    columns = np.random.default_rng(11).integers(0, 16, (32, 300))
    with pytest.raises(CiphertextError, match="does not check"):
        sender.absorb(cheat(receiver, columns, {}))
    with pytest.raises(ProtocolError, match="closed"):
        sender.absorb(receiver.correct(columns[0]))


@pytest.mark.parametrize("rows", [1, 300])
def test_one_other_column_passes_only_with_its_secret_guessed(rows: int) -> None:
    column = 17
    for offset in (0, 1, 2, 7, 8, 15):
        receiver, sender = join()
        columns = np.tile(np.random.default_rng(12).integers(0, 16, 300), (32, 1))
        columns[column, :rows] ^= 5
        guess = int(sender._delta[column]) ^ offset
        correction = cheat(receiver, columns, {column: guess})
        if offset == 0:
            sender.absorb(correction)
        else:
            with pytest.raises(CiphertextError, match="does not check"):
                sender.absorb(correction)


def test_a_guess_for_two_columns_needs_both() -> None:
    for wrong in (None, 3, 30):
        receiver, sender = join()
        columns = np.tile(np.random.default_rng(13).integers(0, 16, 100), (32, 1))
        columns[[3, 30], 50] ^= 1
        guesses = {j: int(sender._delta[j]) ^ (7 if j == wrong else 0) for j in (3, 30)}
        correction = cheat(receiver, columns, guesses)
        if wrong is None:
            sender.absorb(correction)
        else:
            with pytest.raises(CiphertextError):
                sender.absorb(correction)


@pytest.mark.parametrize(
    "place", ["data", "last row", "masking rows", "image", "digest", "block 2"]
)
def test_any_flipped_bit_is_caught(place: str) -> None:
    n = 70_000 if place == "block 2" else 500
    for trial in range(3):
        receiver, sender = join()
        honest = receiver.correct(np.random.default_rng(trial).integers(0, 16, n))
        columns, checks = honest.columns.copy(), honest.checks.copy()
        # The challenge is a hash of the columns, so even a column whose secret is 0 gives it away.
        line = columns[4 * (7 * trial + 1) + trial]
        if place == "data":
            line[5] ^= 4
        elif place == "last row":
            line[(n - 1) // 8] ^= 1 << (n - 1) % 8
        elif place == "masking rows":
            line[-1 - 8 * trial] ^= 128
        elif place == "block 2":
            line[-100] ^= 1
        else:
            checks[0, trial * 10 + (128 if place == "digest" else 90)] ^= 1
        with pytest.raises(CiphertextError, match="does not check"):
            sender.absorb(Correction(0, n, columns, checks))
        with pytest.raises(ProtocolError, match="closed"):
            sender.answer(np.zeros((1, n), bool), [0])


def test_a_correction_of_another_session_is_caught() -> None:
    receiver, _ = connect()
    _, sender = connect()
    with pytest.raises(CiphertextError):
        sender.absorb(receiver.correct(np.zeros(64, int)))


def test_tampered_setup_is_caught() -> None:
    receiver, sender = SelectionReceiver(SESSION), SelectionSender(SESSION)
    message = bytearray(receiver.finish(sender.reply(receiver.offer())))
    message[-1] ^= 1
    with pytest.raises(CiphertextError):
        sender.finish(bytes(message))
    with pytest.raises(ProtocolError, match="not expected"):
        sender.finish(bytes(message))
    with pytest.raises(ProtocolError, match="closed"):
        sender.absorb(receiver.correct([0]))


# Shapes, order and values.


def prepared(n: int = 100) -> tuple[SelectionReceiver, SelectionSender, Correction]:
    receiver, sender = join()
    return receiver, sender, receiver.correct(np.arange(n) % 16)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {"columns": c.columns[:, :-8]},
        lambda c: {"columns": np.pad(c.columns, ((0, 0), (0, 8)))},
        lambda c: {"columns": c.columns[:-4]},
        lambda c: {"columns": c.columns.reshape(-1)},
        lambda c: {"columns": c.columns.view(np.int8)},
        lambda c: {"checks": c.checks[:, :-1]},
        lambda c: {"checks": c.checks[:0]},
        lambda c: {"checks": np.concatenate([c.checks, c.checks])},
        lambda c: {"checks": c.checks.astype(np.uint16)},
        lambda c: {"n_rows": 200},
        lambda c: {"n_rows": 0},
        lambda c: {"n_rows": -1},
        lambda c: {"n_rows": MAX_ROWS + 1},
        lambda c: {"first_row": 1},
        lambda c: {"first_row": -64},
    ],
)
def test_corrections_of_other_shapes_are_refused(
    change: Callable[[Correction], dict[str, Any]],
) -> None:
    _, sender, correction = prepared()
    with pytest.raises(CiphertextError):
        sender.absorb(dataclasses.replace(correction, **change(correction)))
    # Nothing secret was touched, so the right correction still goes through.
    sender.absorb(correction)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {"pads": a.pads[:, :-1]},
        lambda a: {"pads": a.pads[:1]},
        lambda a: {"pads": a.pads.view(np.int8)},
        lambda a: {"pads": np.pad(a.pads, ((0, 0), (0, 1)))},
        lambda a: {"slots": (1, 1)},
        lambda a: {"slots": (0, 16)},
        lambda a: {"slots": (-1, 0)},
        lambda a: {"slots": (0, 1, 2)},
        lambda a: {"n_rows": 99},
        lambda a: {"first_row": 100},
    ],
)
def test_answers_of_other_shapes_are_refused(
    change: Callable[[SelectionAnswer], dict[str, Any]],
) -> None:
    receiver, sender, correction = prepared()
    sender.absorb(correction)
    answer = sender.answer(np.ones((2, 100), bool), [0, 1])
    with pytest.raises(CiphertextError):
        receiver.select(dataclasses.replace(answer, **change(answer)))
    assert receiver.select(answer).sum() == 14


def test_steps_out_of_order_are_refused() -> None:
    receiver, sender = SelectionReceiver(SESSION), SelectionSender(SESSION)
    for use in (
        lambda: receiver.correct([0]),
        lambda: receiver.finish(bytes(8192)),
        lambda: sender.finish(bytes(ggm.MESSAGE_BYTES)),
        lambda: sender.answer([[0]], [0]),
    ):
        with pytest.raises(ProtocolError):
            use()
    offer = receiver.offer()
    with pytest.raises(ProtocolError):
        receiver.offer()
    message = receiver.finish(sender.reply(offer))
    with pytest.raises(ProtocolError):
        sender.reply(offer)
    sender.finish(message)
    with pytest.raises(ProtocolError):
        sender.finish(message)
    with pytest.raises(ProtocolError):
        sender.answer([[0]], [0])
    correction = receiver.correct([3])
    with pytest.raises(ProtocolError):
        receiver.correct([3])
    sender.absorb(correction)
    with pytest.raises(ProtocolError):
        sender.absorb(correction)
    answer = sender.answer([[1]], [3])
    with pytest.raises(ProtocolError):
        sender.answer([[0]], [3])
    with pytest.raises(CiphertextError, match="next ones"):
        sender.absorb(correction)
    assert receiver.select(answer).tolist() == [1]
    with pytest.raises(ProtocolError):
        receiver.select(answer)


@pytest.mark.parametrize("bad", [[], [16], [-1], [300], [0.0], [[1]], ["1"]])
def test_choices_out_of_range_are_refused(bad: Any) -> None:
    receiver, _ = join()
    with pytest.raises(InputError):
        receiver.correct(bad)


@pytest.mark.parametrize(
    ("bits", "slots"),
    [
        (np.zeros((1, 99), int), [0]),
        (np.zeros((2, 100), int), [0]),
        (np.zeros(100, int), [0]),
        (np.full((1, 100), 2), [0]),
        (np.full((1, 100), -1), [0]),
        (np.zeros((1, 100)), [0]),
        (np.zeros((1, 100), int), [SLOTS]),
        (np.zeros((2, 100), int), [1, 1]),
    ],
)
def test_bits_and_slots_out_of_range_are_refused(bits: np.ndarray, slots: list[int]) -> None:
    _, sender, correction = prepared()
    sender.absorb(correction)
    with pytest.raises(InputError):
        sender.answer(bits, slots)
    assert sender.answer(np.zeros((1, 100), int), [0]).slots == (0,)


def test_setup_messages_of_other_lengths_are_refused() -> None:
    receiver, sender = SelectionReceiver(SESSION), SelectionSender(SESSION)
    offer = receiver.offer()
    assert len(offer) == 4096
    for bad in (offer[:-1], offer + b"\0"):
        with pytest.raises(CiphertextError):
            sender.reply(bad)
    reply = sender.reply(offer)
    assert len(reply) == 8192
    with pytest.raises(CiphertextError):
        receiver.finish(reply[:-32])
    message = receiver.finish(reply)
    assert len(message) == ggm.MESSAGE_BYTES
    with pytest.raises(InputError):
        SelectionReceiver(b"short")
    with pytest.raises(InputError):
        SelectionSender(b"short")


def test_secrets_are_neither_shown_nor_pickled() -> None:
    receiver, sender, correction = prepared()
    sender.absorb(correction)
    assert repr(receiver) == "SelectionReceiver(rows_used=100)"
    assert repr(sender) == "SelectionSender(rows_used=100)"
    for secret in (receiver, sender):
        with pytest.raises(TypeError):
            pickle.dumps(secret)
