"""Base oblivious transfers: agreement, independence and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

from fedcredit.crypto import group
from fedcredit.crypto.base_ot import KEY_BYTES, MAX_INSTANCES, BaseOTReceiver, BaseOTSender
from fedcredit.errors import CiphertextError, InputError, ProtocolError

SESSION = b"base-ot-session-"


def transfer(
    choices: np.ndarray, session: bytes = SESSION
) -> tuple[np.ndarray, np.ndarray, bytes, bytes]:
    sender, receiver = BaseOTSender(session, len(choices)), BaseOTReceiver(session, choices)
    first = sender.first()
    reply = receiver.reply(first)
    return sender.keys(reply), receiver.keys, first, reply


@pytest.mark.parametrize("n", [1, 2, 128])
def test_the_receiver_gets_exactly_the_chosen_keys(n: int) -> None:
    choices = np.random.default_rng(n).integers(0, 2, n)
    keys, got, first, reply = transfer(choices)
    assert keys.shape == (n, 2, KEY_BYTES)
    assert got.shape == (n, KEY_BYTES)
    assert (len(first), len(reply)) == (32 * n, 64 * n)
    rows = np.arange(n)
    assert np.array_equal(keys[rows, choices], got)
    assert not np.any(np.all(keys[rows, 1 - choices] == got, axis=1))
    assert len({key.tobytes() for key in keys.reshape(-1, KEY_BYTES)}) == 2 * n


def test_keys_follow_the_written_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    scalars = [group.random_scalar() for _ in range(4)]
    supply = iter(scalars)
    monkeypatch.setattr(group, "random_scalar", lambda: next(supply))
    choices = np.array([1, 0])
    keys, _, first, reply = transfer(choices)
    name = hashlib.sha256(SESSION).digest()
    tag = b"fedcredit-base-ot-v1-key"
    whole = hashlib.sha256(tag + name + (64).to_bytes(8, "big") + first + reply).digest()
    dst = b"fedcredit-base-ot-v1-point-with-ristretto255_XMD:SHA-512_R255MAP_RO_"
    for i in range(2):
        pair = [reply[64 * i : 64 * i + 32], reply[64 * i + 32 : 64 * i + 64]]
        for j in range(2):
            place = i.to_bytes(4, "big") + bytes([j])
            point = group.add(pair[j], group.hash_to_group(name + place + pair[1 - j], dst))
            shared = group.mult(scalars[i], point)
            if j == choices[i]:
                assert point == group.base_mult(scalars[2 + i])
            expected = hashlib.sha256(tag + whole + place + shared).digest()[:KEY_BYTES]
            assert keys[i, j].tobytes() == expected


def test_boolean_choices_are_taken() -> None:
    keys, got, _, _ = transfer(np.array([True, False]))
    assert np.array_equal(keys[[0, 1], [1, 0]], got)


def test_the_reply_looks_the_same_for_both_choices() -> None:
    n = 400
    for choice in (0, 1):
        _, _, _, reply = transfer(np.full(n, choice))
        points = np.frombuffer(reply, np.uint8).reshape(n, 2, 32)
        assert all(group.is_valid(point.tobytes()) for point in points.reshape(-1, 32))
        # Encodings are uniform numbers below 2^255 - 19 that are even: bits 1 to 254 are fair.
        bits = np.unpackbits(points, axis=2, bitorder="little")[:, :, 1:255]
        ones = bits.sum(axis=(0, 2)) / (254 * n)
        # Six standard deviations of a mean of 254·400 fair bits.
        assert np.all(np.abs(ones - 0.5) < 6 * 0.5 / np.sqrt(254 * n))


def test_equal_points_in_two_instances_give_unrelated_keys() -> None:
    # The attack on batches of McQuoid, Rosulek and Roy: play one instance against another.
    sender = BaseOTSender(SESSION, 2)
    receiver = BaseOTReceiver(SESSION, [0, 1])
    reply = receiver.reply(sender.first())
    keys = sender.keys(reply[:64] * 2)
    assert len({key.tobytes() for key in keys.reshape(-1, KEY_BYTES)}) == 4


def test_other_sessions_and_changed_messages_give_other_keys() -> None:
    sender, receiver = BaseOTSender(SESSION, 1), BaseOTReceiver(SESSION[::-1], [0])
    reply = receiver.reply(sender.first())
    assert not np.any(np.all(sender.keys(reply)[0] == receiver.keys[0], axis=1))

    sender, receiver = BaseOTSender(SESSION, 2), BaseOTReceiver(SESSION, [0, 0])
    reply = receiver.reply(sender.first())
    swapped = sender.keys(reply[:64] + reply[96:] + reply[64:96])
    # The key derivation takes in the whole exchange: even the untouched instance differs.
    assert not np.array_equal(swapped[0, 0], receiver.keys[0])


def test_malformed_points_and_lengths_are_refused() -> None:
    good = BaseOTSender(SESSION, 3).first()
    for bad in (good[:-1], good + b"\0", b"", good[:64] + bytes(32), good[:64] + b"\xff" * 32):
        with pytest.raises(CiphertextError):
            BaseOTReceiver(SESSION, [0, 1, 0]).reply(bad)
    for position in range(6):
        for point in (bytes(32), b"\x01" + bytes(31), b"\xff" * 32):
            sender, receiver = BaseOTSender(SESSION, 3), BaseOTReceiver(SESSION, [0, 1, 0])
            reply = receiver.reply(sender.first())
            changed = reply[: 32 * position] + point + reply[32 * position + 32 :]
            with pytest.raises(CiphertextError):
                sender.keys(changed)
            # Scalars never serve a second reply.
            with pytest.raises(ProtocolError):
                sender.keys(reply)
    sender, receiver = BaseOTSender(SESSION, 3), BaseOTReceiver(SESSION, [0, 1, 0])
    reply = receiver.reply(sender.first())
    for bad in (reply[:-1], reply + b"\0", b""):
        with pytest.raises(CiphertextError):
            sender.keys(bad)


def test_steps_out_of_order_are_refused() -> None:
    sender, receiver = BaseOTSender(SESSION, 1), BaseOTReceiver(SESSION, [1])
    with pytest.raises(ProtocolError):
        sender.keys(bytes(64))
    with pytest.raises(ProtocolError):
        receiver.keys
    first = sender.first()
    with pytest.raises(ProtocolError):
        sender.first()
    reply = receiver.reply(first)
    with pytest.raises(ProtocolError):
        receiver.reply(first)
    sender.keys(reply)
    with pytest.raises(ProtocolError):
        sender.keys(reply)
    with pytest.raises(ProtocolError):
        sender.first()


@pytest.mark.parametrize("choices", [[], [2], [-1], [0.0, 1.0], [[0, 1]], ["0"]])
def test_choices_other_than_bits_are_refused(choices: Any) -> None:
    with pytest.raises(InputError):
        BaseOTReceiver(SESSION, choices)


def test_sizes_and_session_names_are_checked() -> None:
    for n in (0, -1, MAX_INSTANCES + 1):
        with pytest.raises(InputError):
            BaseOTSender(SESSION, n)
    with pytest.raises(InputError):
        BaseOTSender(b"short", 1)
    with pytest.raises(InputError):
        BaseOTReceiver(b"short", [0])


def test_secrets_are_neither_shown_nor_pickled() -> None:
    sender, receiver = BaseOTSender(SESSION, 1), BaseOTReceiver(SESSION, [1])
    receiver.reply(sender.first())
    assert repr(sender) == "BaseOTSender(n=1)"
    assert repr(receiver) == "BaseOTReceiver(n=1)"
    for secret in (sender, receiver):
        with pytest.raises(TypeError):
            pickle.dumps(secret)
