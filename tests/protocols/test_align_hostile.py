"""Private alignment: whatever a peer changes in its messages, nobody takes it for a result."""

import dataclasses

import numpy as np
import pytest

from fedcredit.errors import PeerProtocolError
from fedcredit.protocols import align
from tests.support.alignment import SETS, outcome, roles


def flip(data):
    return bytes([data[0] ^ 1]) + data[1:]


def twice(array):
    array = array.copy()
    array[-1] = array[0]
    return array


def drop_row(array):
    return array[:-1]


def drop_column(array):
    return array[:, :-1].copy()


HOSTILE = {
    # strategy, number of providers, kind, fields of the changed message
    "negative size": ("private", 1, "align.offer", {"size": -1}),
    "short commitment": ("private", 1, "align.offer", {"commitment": b"x"}),
    "huge size": ("private", 1, "align.answer", {"size": 1 << 60}),
    "floor zero": ("private", 1, "align.answer", {"floor": 0}),
    "short coin": ("private", 1, "align.answer", {"coin": b"x"}),
    "coin changed": ("private", 1, "align.terms", {"coin": flip}),
    "floor lowered": ("private", 1, "align.terms", {"floor": 0}),
    "matrix out of range": ("private", 1, "align.setup", {"log_rows": 60}),
    "more ids than offered": ("private", 1, "align.setup", {"rows": 10**6}),
    "no ids": ("private", 1, "align.setup", {"rows": 0}),
    "OT cut": ("private", 1, "align.setup", {"ot": lambda ot: ot[:-32]}),
    "OT malformed": ("private", 1, "align.setup", {"ot": lambda ot: bytes(32) + ot[32:]}),
    "OT reply cut": ("private", 1, "align.choices", {"ot": lambda ot: ot[:-32]}),
    "OT reply malformed": ("private", 1, "align.choices", {"ot": lambda ot: b"\xff" * len(ot)}),
    "place key cut": ("private", 1, "align.place-key", {"key": b"x"}),
    "columns out of place": ("private", 1, "align.columns", {"first": 1}),
    "columns cut": ("private", 1, "align.columns", {"columns": drop_column}),
    "column missing": ("private", 1, "align.columns", {"columns": drop_row}),
    "tags out of place": ("private", 1, "align.tags", {"first": 1}),
    "tags cut": ("private", 1, "align.tags", {"tags": drop_column}),
    "tag repeated": ("private", 1, "align.tags", {"tags": twice}),
    "no tags": ("private", 1, "align.tags", {"tags": lambda tags: tags[:0]}),
    "rows out of place": ("private", 1, "align.rows", {"first": 1}),
    "row repeated": ("private", 1, "align.rows", {"rows": twice}),
    "row out of range": ("private", 1, "align.rows", {"rows": lambda rows: rows + np.uint32(99)}),
    "too many rows": ("private", 1, "align.rows", {"total": 10**9}),
    "share key cut": ("private", 2, "align.share-key", {"public": b"x"}),
    "share key of small order": ("private", 2, "align.share-key", {"public": bytes(32)}),
    "store of another size": ("private", 2, "align.store-head", {"n_keys": 7}),
    "store seed cut": ("private", 2, "align.store-head", {"seed": b"x"}),
    "store out of place": ("private", 2, "align.store-part", {"first": 5}),
    "store too long": ("private", 2, "align.store-part", {"words": lambda w: np.tile(w, 2)}),
    "found too many": ("private", 2, "align.found", {"total": 10**9}),
    "found none": ("private", 2, "align.found", {"total": 0}),
    "found out of place": ("private", 2, "align.found", {"first": 1}),
    "found twice": ("private", 2, "align.found", {"tags": twice}),
    "found unknown": ("private", 2, "align.found", {"tags": lambda tags: tags ^ np.uint8(1)}),
    "found cut": ("private", 2, "align.found", {"tags": drop_column}),
    "list name cut": ("cached", 1, "align.list-head", {"list_id": b"x"}),
    "list of another size": ("cached", 1, "align.list-head", {"size": 7}),
    "list without capacity": ("cached", 1, "align.list-head", {"capacity": 0}),
    "list with too much capacity": ("cached", 1, "align.list-head", {"capacity": 1 << 40}),
    "no queries": ("cached", 1, "align.list-fetch", {"queries": 0}),
    "too many queries": ("cached", 1, "align.list-fetch", {"queries": 10**6}),
    "list out of place": ("cached", 1, "align.list-part", {"first": 1}),
    "list damaged": ("cached", 1, "align.list-part", {"data": lambda data: data ^ np.uint8(255)}),
    "query out of place": ("cached", 1, "align.query", {"first": 1}),
    "query malformed": ("cached", 1, "align.query", {"elements": np.zeros_like}),
    "query cut": ("cached", 1, "align.query", {"elements": drop_column}),
    "reply out of place": ("cached", 1, "align.reply", {"first": 1}),
    "reply malformed": ("cached", 1, "align.reply", {"elements": np.zeros_like}),
    "reply short": ("cached", 1, "align.reply", {"elements": drop_row}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_are_refused(case):
    strategy, n_providers, kind, changes = HOSTILE[case]
    changed = []

    def tamper(sender, message):
        if message.kind != kind or changed:
            return None
        changed.append(sender)
        fields = {
            name: change(getattr(message, name)) if callable(change) else change
            for name, change in changes.items()
        }
        return dataclasses.replace(message, **fields)

    ends = outcome(roles(*SETS[: n_providers + 1], strategy=strategy), tamper)
    assert changed, "the message never came"
    assert all(isinstance(end, PeerProtocolError) for end in ends.values())
    assert "91440300" not in "".join(map(str, ends.values()))


def test_another_message_than_expected_is_refused():
    def tamper(sender, message):
        return align.PlaceKey(bytes(16)) if message.kind == "align.columns" else None

    ends = outcome(roles(*SETS[:2]), tamper)
    assert all(isinstance(end, PeerProtocolError) for end in ends.values())
    assert ends["tax"].found == "align.place-key"


def test_a_provider_refuses_a_matrix_that_is_too_narrow():
    """A consistent message whose only fault is that the function would be weak."""

    def tamper(sender, message):
        if message.kind == "align.setup":
            return dataclasses.replace(message, width=140, ot=message.ot[: 140 * 32])
        return None

    ends = outcome(roles(*SETS[:2]), tamper)
    assert all(isinstance(end, PeerProtocolError) for end in ends.values())
    assert "matrix is too small" in str(ends["tax"])
