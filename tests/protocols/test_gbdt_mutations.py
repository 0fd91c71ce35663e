"""Joint training: a few thousand changes of valid messages, none of which breaks a role."""

import dataclasses
import functools
import re

import numpy as np
import pytest

from fedcredit.errors import FedCreditError
from fedcredit.protocols.encrypted_sums import SumClient
from fedcredit.wire import Session, decode, encode
from fedcredit.wire.message import fields_of
from tests.support.joint_gbdt import roles, train_alone
from tests.support.replay_gbdt import conversation, replay, with_keys

INTEGERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 255, 1 << 31, 1 << 40, (1 << 63) - 1)


def mutated_number(rng, value):
    return int(rng.choice([value + 1, value - 1, *INTEGERS]).clip(-(1 << 63), (1 << 63) - 1))


def mutated_array(rng, array):
    kind = rng.integers(6)
    if kind == 0 and array.size:
        changed = array.copy()
        info = np.iinfo(array.dtype)
        at = tuple(rng.integers(size) for size in array.shape)
        changed[at] = rng.choice([info.min, info.max, 0, 1, rng.integers(info.min, info.max)])
        return changed
    if kind == 1:
        return array[:-1].copy()
    if kind == 2:
        return array[..., :-1].copy()
    if kind == 3:
        return np.concatenate([array, array[:1]])
    if kind == 4:
        return array[:0].copy()
    return rng.permutation(array.reshape(-1)).reshape(array.shape)


def mutated_bytes(rng, data):
    kind = rng.integers(4)
    if kind == 0 and data:
        at = int(rng.integers(len(data)))
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    return (data[:-1], b"", data + b"\0")[kind - 1]


def mutated_tuple(rng, items):
    kind = rng.integers(5)
    if kind == 0:
        return items[1:]
    if kind == 1:
        return (*items, *items[:1])
    if kind == 2:
        return ()
    if kind == 3:
        return tuple(rng.permutation(np.array(items, object)))
    if not items or isinstance(items[0], str):
        return (*items, "x") if items else (0,)
    at = int(rng.integers(len(items)))
    return (*items[:at], mutated_number(rng, items[at]), *items[at + 1 :])


def mutated(rng, message):
    """The message with one field changed, or None if the change cannot be sent."""
    name = rng.choice([field.name for field in fields_of(type(message))])
    value = getattr(message, name)
    if isinstance(value, np.ndarray):
        value = mutated_array(rng, value)
    elif isinstance(value, bool):
        value = not value
    elif isinstance(value, int):
        value = mutated_number(rng, value)
    elif isinstance(value, bytes):
        value = mutated_bytes(rng, value)
    elif isinstance(value, str):
        value = rng.choice(["", value + "x", "\0"]).item()
    else:
        value = mutated_tuple(rng, value)
    try:
        return decode(encode(dataclasses.replace(message, **{name: value})))
    except FedCreditError:
        return None


def check_error(error):
    assert error.party in ("platform", "tax")
    assert error.step
    text = str(error)
    assert not re.search(r"\d{6,}", text), "a number of the message is quoted"
    assert len(text) < 400


def mutations(rng, messages, count):
    """Lists of messages with one of them changed, left out, repeated or swapped."""
    made = 0
    # Keys are large and slow to read; a few mutations of theirs are in the tests of the sums.
    places = [i for i, m in enumerate(messages) if m.kind != "sums.keys"]
    while made < count:
        at = int(rng.choice(places))
        kind = rng.integers(12)
        if kind == 0:
            changed = [*messages[:at], *messages[at + 1 :]]
        elif kind == 1:
            changed = [*messages[: at + 1], *messages[at:]]
        elif kind == 2:
            other = int(rng.choice(places))
            changed = list(messages)
            changed[at], changed[other] = changed[other], changed[at]
        else:
            new = mutated(rng, messages[at])
            if new is None:
                continue
            changed = [*messages[:at], new, *messages[at + 1 :]]
        made += 1
        yield changed


def attack_provider(seed, count):
    case, _, down, _ = conversation()
    rng = np.random.default_rng(seed)
    refused = 0
    for messages in mutations(rng, down[1:], count):
        made = roles(case)
        made["platform"].close()
        session = Session(made["tax"], party="tax")
        end = replay(session, "platform", [down[0], *messages])
        if isinstance(end, FedCreditError):
            check_error(end)
            refused += 1
    return refused


def attack_label_holder(seed, count, monkeypatch):
    case, holder, _, up = conversation()
    monkeypatch.setattr(SumClient, "__init__", functools.partialmethod(with_keys, holder))
    rng = np.random.default_rng(seed)
    refused = 0
    for messages in mutations(rng, up, count):
        made = roles(case)
        made["tax"].close()
        end = replay(Session(made["platform"], party="platform"), "tax", messages)
        if isinstance(end, FedCreditError):
            check_error(end)
            refused += 1
    return refused


def test_the_replayed_conversation_is_valid(monkeypatch):
    case, holder, down, up = conversation()
    made = roles(case)
    share = replay(Session(made["tax"], party="tax"), "platform", down)
    assert share.n_trees == 1
    made["platform"].close()
    monkeypatch.setattr(SumClient, "__init__", functools.partialmethod(with_keys, holder))
    made = roles(case)
    state, _ = replay(Session(made["platform"], party="platform"), "tax", up)
    made["tax"].close()
    assert state.trees[0].to_dict() == train_alone(case).state.trees[0].to_dict()


def test_mutations_of_the_label_holders_messages():
    assert attack_provider(0, 700) > 500


def test_mutations_of_the_providers_messages(monkeypatch):
    assert attack_label_holder(0, 500, monkeypatch) > 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_more_mutations(seed, monkeypatch):
    attack_provider(seed, 4000)
    attack_label_holder(seed, 3000, monkeypatch)
