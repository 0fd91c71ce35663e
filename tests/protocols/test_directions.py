"""Directions reach the label holder for the slots it chose, and no others."""

import dataclasses

import numpy as np
import pytest

from fedcredit.errors import CiphertextError, FedCreditError, PeerProtocolError
from fedcredit.protocols import directions
from fedcredit.protocols.directions import DirectionsClient, DirectionsServer, no_slot
from fedcredit.wire import Peer, Transcript, run_in_process
from tests.support.alignment import outcome

SALT = b"directions between a test and itself"
MODES = pytest.mark.parametrize("hide", [True, False], ids=["hidden", "open"])


def roles(levels, n, hide, watch=None):
    """``levels``: per exchange the choices (lanes, n) and per lane {slot: directions}."""

    async def client():
        one = DirectionsClient(Peer("provider"), hide_membership=hide)
        await one.open(SALT)
        got = []
        for choices, owned in levels:
            await one.commit(choices)
            if watch is not None:
                watch(one)
            got.append(await one.fetch({slot for lane in owned for slot in lane}))
        return got

    async def server():
        one = DirectionsServer(Peer("platform"), hide_membership=hide, n_rows=n)
        await one.open(SALT)
        for choices, owned in levels:
            await one.receive(len(choices), n_rows=choices.shape[1])
            await one.answer(owned)

    return {"platform": client(), "provider": server()}


def level(rng, lanes, n, hide, slots):
    none = no_slot(hide)
    choices = rng.choice([*range(none), none], (lanes, n)).astype(np.uint8)
    owned = [{slot: rng.random(n) < 0.5 for slot in slots} for _ in range(lanes)]
    return choices, owned


def expected(choices, owned):
    out = np.zeros(choices.shape, np.bool_)
    for lane, slots in enumerate(owned):
        for slot, left in slots.items():
            out[lane] |= (choices[lane] == slot) & left
    return out


@MODES
@pytest.mark.parametrize("n", [1, 7, 64, 1001])
@pytest.mark.parametrize("lanes", [1, 3])
def test_directions_arrive(hide, n, lanes):
    rng = np.random.default_rng(n)
    levels = [
        level(rng, lanes, n, hide, slots) for slots in ([0], range(no_slot(hide)), [], [3, 1, 14])
    ]
    got = run_in_process(roles(levels, n, hide))["platform"]
    for bits, (choices, owned) in zip(got, levels, strict=True):
        np.testing.assert_array_equal(bits, expected(choices, owned))


@MODES
def test_lanes_with_different_slots_and_blocks_of_different_rows(hide):
    rng = np.random.default_rng(3)
    levels = []
    for n, slots in ((50, ([0, 1], [2], [])), (20, ([5], [5, 6])), (90, ([14],))):
        choices = rng.integers(0, 16, (len(slots), n)).astype(np.uint8)
        owned = [{s: rng.random(n) < 0.5 for s in lane} for lane in slots]
        levels.append((choices, owned))
    got = run_in_process(roles(levels, 50, hide))["platform"]
    for bits, (choices, owned) in zip(got, levels, strict=True):
        np.testing.assert_array_equal(bits, expected(choices, owned))


@MODES
def test_rows_outside_the_providers_slots_read_zero(hide):
    n = 4000
    choices = np.full((2, n), no_slot(hide), np.uint8)
    choices[1] = 7
    everything = np.ones(n, np.bool_)
    owned = [dict.fromkeys((0, 3), everything)] * 2
    (bits,) = run_in_process(roles([(choices, owned)], n, hide))["platform"]
    assert not bits.any()


def test_slots_not_chosen_stay_closed():
    """The receiver's own key bits open the chosen pad; against the other pads they are noise."""
    n, slots = 6000, range(15)
    choices = np.random.default_rng(4).integers(0, 16, (1, n)).astype(np.uint8)
    owned = [{slot: np.ones(n, np.bool_) for slot in slots}]
    own = []

    def watch(client):
        _, _, keys = client._selection._pending
        own.append(np.unpackbits(keys, bitorder="little", count=n))

    transcript = Transcript(keep=True)
    run_in_process(roles([(choices, owned)], n, True, watch), transcript=transcript)
    (masked,) = (r.message for r in transcript.records if r.message.kind == "directions.masked")
    pads = np.unpackbits(masked.pads, axis=1, bitorder="little", count=n)
    opened = pads ^ own[0]
    others = []
    for slot in slots:
        chosen = choices[0] == slot
        assert opened[slot][chosen].all()
        others.append(opened[slot][~chosen])
    # All true bits are 1, yet closed ones look like coins: 6 standard deviations, and no two
    # slots' pads differ by a constant.
    share = np.concatenate(others).mean()
    assert abs(share - 0.5) < 6 * 0.5 / (len(slots) * n) ** 0.5 * 1.1
    for first in slots:
        for second in range(first):
            both = (choices[0] != first) & (choices[0] != second)
            differing = (pads[first] ^ pads[second])[both].mean()
            assert abs(differing - 0.5) < 6 * 0.5 / both.sum() ** 0.5


def test_hidden_slots_are_masked_and_never_masked_alike():
    n = 3000
    same = (np.zeros((1, n), np.uint8), [{0: np.ones(n, np.bool_)}])
    transcript = Transcript(keep=True)
    run_in_process(roles([same, same], n, True), transcript=transcript)
    first, second = (
        r.message for r in transcript.records if r.message.kind == "directions.correction"
    )
    for message in (first, second):
        counts = np.bincount(message.columns.reshape(-1), minlength=256)
        mean = message.columns.size / 256
        assert abs(((counts - mean) ** 2 / mean).sum() - 255) < 6 * (2 * 255) ** 0.5
    assert (first.columns == second.columns).mean() < 0.01
    sizes = [r.data.size for r in transcript.records if r.message.kind == "directions.correction"]
    assert sizes[0] == sizes[1]


def cut(array):
    return array[..., :-1].copy()


def flip(array):
    changed = array.copy()
    changed[..., 0] ^= 1
    return changed


def flip_bytes(data):
    return bytes([data[0] ^ 1]) + data[1:]


HOSTILE = {
    # hidden?, kind, changed fields
    "offer cut": (True, "directions.offer", {"data": lambda d: d[:-1]}),
    "offer malformed": (True, "directions.offer", {"data": lambda d: b"\xff" * len(d)}),
    "reply cut": (True, "directions.reply", {"data": lambda d: d[:-32]}),
    "reply malformed": (True, "directions.reply", {"data": lambda d: b"\xff" * len(d)}),
    "seeds cut": (True, "directions.seeds", {"data": lambda d: d[1:]}),
    "seeds changed": (True, "directions.seeds", {"data": flip_bytes}),
    "another number of lanes": (True, "directions.correction", {"lanes": 2}),
    "fewer rows": (True, "directions.correction", {"n_rows": 99}),
    "rows again": (True, "directions.correction", {"first_row": -1}),
    "correction cut": (True, "directions.correction", {"columns": cut}),
    "two slots in one row": (True, "directions.correction", {"columns": flip}),
    "check cut": (True, "directions.correction", {"checks": cut}),
    "check changed": (True, "directions.correction", {"checks": flip}),
    "map of fewer rows": (False, "directions.map", {"slots": cut}),
    "map of more lanes": (False, "directions.map", {"slots": lambda s: np.tile(s, (2, 1))}),
    "answer for other rows": (True, "directions.masked", {"first_row": 64}),
    "answer for fewer rows": (True, "directions.masked", {"n_rows": 8}),
    "answer for another slot": (True, "directions.masked", {"slots": (0, 2)}),
    "answer for fewer slots": (
        True,
        "directions.masked",
        {"slots": (0,), "pads": lambda p: p[:1]},
    ),
    "answer for a slot twice": (True, "directions.masked", {"slots": (1, 1)}),
    "answer for a slot beyond": (True, "directions.masked", {"slots": (0, 99)}),
    "pads cut": (True, "directions.masked", {"pads": cut}),
    "directions cut": (False, "directions.open", {"bits": cut}),
    "directions too long": (False, "directions.open", {"bits": lambda b: np.tile(b, 2)}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_are_refused(case):
    hide, kind, changes = HOSTILE[case]
    rng = np.random.default_rng(5)
    choices, owned = level(rng, 1, 100, hide, [0, 1])
    changed = []

    def tamper(sender, message):
        if message.kind != kind:
            return None
        changed.append(sender)
        fields = {
            name: change(getattr(message, name)) if callable(change) else change
            for name, change in changes.items()
        }
        return dataclasses.replace(message, **fields)

    ends = outcome(roles([(choices, owned)], 100, hide), tamper)
    assert changed
    victim = "provider" if changed[0] == "platform" else "platform"
    assert isinstance(ends[victim], PeerProtocolError | CiphertextError)
    assert ends[victim].party == changed[0]
    assert ends[victim].step
    assert all(isinstance(end, FedCreditError) for end in ends.values())


def test_after_a_failed_check_the_transfers_stay_closed():
    rng = np.random.default_rng(6)
    choices, _ = level(rng, 1, 50, True, [0])
    held = []

    async def client():
        one = DirectionsClient(Peer("provider"), hide_membership=True)
        await one.open(SALT)
        await one.commit(choices)

    async def server():
        one = DirectionsServer(Peer("platform"), hide_membership=True, n_rows=50)
        await one.open(SALT)
        held.append(one)
        await one.receive(1)

    def tamper(sender, message):
        if isinstance(message, directions.SlotCorrection):
            return dataclasses.replace(message, columns=flip(message.columns))
        return None

    ends = outcome({"platform": client(), "provider": server()}, tamper)
    assert isinstance(ends["provider"], CiphertextError)
    with pytest.raises(FedCreditError, match="closed"):
        held[0]._selection.answer(np.zeros((1, 50), np.uint8), [0])
