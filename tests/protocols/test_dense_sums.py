"""Inner products over the wire: exact, masked, in both directions, and hostile peers refused."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.errors import FedCreditError, InputError, PeerProtocolError
from fedcredit.protocols.encrypted_sums import (
    MAX_DENSE_PLAIN_BITS,
    MAX_PLAIN_BITS,
    SumClient,
    SumServer,
    unmasked,
)
from fedcredit.wire import Peer, Peers, Transcript, run_in_process
from tests.support.alignment import outcome

N = 8192 + 300
PROFILE = SumProfile.dense(N, n_vectors=2, value_bits=12, weight_bits=14)
RNG = np.random.default_rng(0)
VALUES = RNG.integers(-2047, 2048, (2, N))
COLUMNS = {"tax": RNG.normal(size=(5, N)) * 900, "housing": RNG.normal(size=(2, N)) * 900}
TABLES = RNG.uniform(-1, 1, (2, N))


def expected(name, values=VALUES):
    weights = np.rint(COLUMNS[name][:, None] * TABLES[None]).astype(np.int64)
    return np.einsum("fvn,vn->f", weights, values)


async def hold(names, n_columns, values=VALUES, profile=PROFILE):
    """Hold the key and collect one pass from every peer."""
    peers = Peers(names)
    client = SumClient(profile)
    await client.open(peers)
    await client.request(peers, values)
    return [
        await client.collect_dense(peer, count)
        for peer, count in zip(peers.values(), n_columns, strict=True)
    ]


async def weigh(holder, name, *, masked=False, threads=1):
    peer = Peer(holder)
    server = await SumServer.open(peer, n_rows=N, threads=threads)
    return await server.serve_dense(peer, COLUMNS[name], TABLES, masked=masked)


def test_one_pass_serves_two_providers():
    transcript = Transcript()
    got = run_in_process(
        {
            "platform": hold(("tax", "housing"), (5, 2)),
            "tax": weigh("platform", "tax", threads=2),
            "housing": weigh("platform", "housing"),
        },
        transcript=transcript,
    )
    assert got["tax"] is None
    for name, sums in zip(("tax", "housing"), got["platform"], strict=True):
        np.testing.assert_array_equal(sums, expected(name))
    assert transcript.received_by("tax")["sums.chunk"].messages == 1
    assert transcript.received_by("platform")["sums.reply"].messages == 2


def test_masked_sums_stay_with_the_one_that_weighs():
    got = run_in_process(
        {"platform": hold(("tax",), (5,)), "tax": weigh("platform", "tax", masked=True)}
    )
    (sums,), masks = got["platform"], got["tax"]
    assert not np.any(sums == expected("tax"))
    np.testing.assert_array_equal(unmasked(sums, masks, PROFILE.plain_bits), expected("tax"))


def test_a_provider_may_hold_the_key():
    got = run_in_process(
        {"tax": hold(("platform",), (2,)), "platform": weigh("tax", "housing", masked=True)}
    )
    (sums,), masks = got["tax"], got["platform"]
    np.testing.assert_array_equal(unmasked(sums, masks, PROFILE.plain_bits), expected("housing"))


def test_several_passes_under_one_key():
    passes = [VALUES, VALUES[:1], -VALUES]

    async def client():
        peers = Peers(("tax",))
        sums = SumClient(PROFILE)
        await sums.open(peers)
        got = []
        for values in passes:
            await sums.request(peers, values)
            got.append(await sums.collect_dense(peers["tax"], 5))
        return got

    async def server():
        peer = Peer("platform")
        sums = await SumServer.open(peer, n_rows=N)
        for values in passes:
            await sums.serve_dense(peer, COLUMNS["tax"], TABLES[: len(values)])

    got = run_in_process({"platform": client(), "tax": server()})["platform"]
    first = np.rint(COLUMNS["tax"] * TABLES[0]).astype(np.int64) @ VALUES[0]
    np.testing.assert_array_equal(got[0], expected("tax"))
    np.testing.assert_array_equal(got[1], first)
    np.testing.assert_array_equal(got[2], -expected("tax"))


# ------------------------------------------------------------------------------------ refusals


def test_a_dense_profile_may_hold_larger_numbers_than_one_of_bins():
    wide = SumProfile.dense(N, n_vectors=2, value_bits=20, weight_bits=17)
    assert MAX_PLAIN_BITS < wide.plain_bits <= MAX_DENSE_PLAIN_BITS
    got = run_in_process(
        {"platform": hold(("tax",), (5,), profile=wide), "tax": weigh("platform", "tax")}
    )
    np.testing.assert_array_equal(got["platform"][0], expected("tax"))


@pytest.mark.parametrize("change", [{"flood_bits": 50}, {"max_rows": N + 1}])
def test_profiles_that_hide_less_are_refused(change):
    profile = dataclasses.replace(PROFILE, **change)
    with pytest.raises(PeerProtocolError, match="profile") as caught:
        run_in_process(
            {"platform": hold(("tax",), (5,), profile=profile), "tax": weigh("platform", "tax")}
        )
    assert caught.value.party == "platform"


def test_a_profile_of_bins_takes_no_weights():
    bins = SumProfile.packed(N)
    ends = outcome(
        {"platform": hold(("tax",), (5,), VALUES, bins), "tax": weigh("platform", "tax")},
        lambda sender, message: None,
    )
    assert isinstance(ends["tax"], InputError)
    assert "bins" in ends["tax"].reason


def cut(array):
    return array[..., :-1].copy()


HOSTILE = {
    "public key cut": ("sums.keys", lambda m: {"public_key": m.public_key[:-1]}),
    "no Galois keys": ("sums.keys", lambda m: {"galois_keys": b""}),
    "profile without a field": (
        "sums.keys",
        lambda m: {"fields": m.fields[1:], "values": m.values[1:]},
    ),
    "chunk out of turn": ("sums.chunk", lambda m: {"first_block": 16}),
    "no blocks": ("sums.chunk", lambda m: {"n_blocks": 0}),
    "too many blocks": ("sums.chunk", lambda m: {"n_blocks": 1 << 40}),
    "another number of vectors": ("sums.chunk", lambda m: {"n_vectors": 1}),
    "seeds cut": ("sums.chunk", lambda m: {"seeds": cut(m.seeds)}),
    "fewer ciphertexts": ("sums.chunk", lambda m: {"c0": m.c0[1:]}),
    "residues out of range": ("sums.chunk", lambda m: {"c0": np.full_like(m.c0, 255)}),
    "answers for other columns": ("sums.reply", lambda m: {"total_bins": 4}),
    "answers for other vectors": ("sums.reply", lambda m: {"n_vectors": 2}),
    "answers cut": ("sums.reply", lambda m: {"c0": cut(m.c0)}),
    "answers of something else": ("sums.reply", lambda m: {"c1": m.c1 ^ np.uint8(85)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_refused(name):
    kind, change = HOSTILE[name]
    changed = []

    def tamper(sender, message):
        if message.kind != kind:
            return None
        changed.append(sender)
        return dataclasses.replace(message, **change(message))

    ends = outcome(
        {"platform": hold(("tax",), (5,)), "tax": weigh("platform", "tax")},
        tamper,
    )
    assert changed
    victim = "tax" if changed[0] == "platform" else "platform"
    assert isinstance(ends[victim], FedCreditError)
    assert (ends[victim].party, ends[victim].step) == (changed[0], "encrypted sums")


def test_own_mistakes_are_not_blamed_on_the_peer():
    spoilt = COLUMNS["tax"].copy()
    spoilt[0, 0] = np.nan

    async def server():
        peer = Peer("platform")
        sums = await SumServer.open(peer, n_rows=N)
        await sums.serve_dense(peer, spoilt, TABLES)

    ends = outcome(
        {"platform": hold(("tax",), (5,)), "tax": server()}, lambda sender, message: None
    )
    assert isinstance(ends["tax"], InputError)
    assert ends["tax"].party != "platform"
    assert "finite" in ends["tax"].reason
