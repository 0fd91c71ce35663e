"""Oblivious selection against cheats, malformed messages and calls out of order."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedcredit.crypto import _selection_vole as vole
from fedcredit.crypto import ggm
from fedcredit.crypto.softspoken import (
    MAX_ROWS,
    SLOTS,
    Correction,
    SelectionAnswer,
    SelectionReceiver,
    SelectionSender,
)
from fedcredit.errors import CiphertextError, InputError, ProtocolError
from tests.support.selection import SESSION, connect, join


def to_planes(symbols: np.ndarray, words: int) -> np.ndarray:
    planes = np.zeros((4, 8 * words), np.uint8)
    for bit in range(4):
        packed = np.packbits(symbols >> bit & 1, bitorder="little")
        planes[bit, : len(packed)] = packed
    return planes.view(np.uint64)


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
