"""Sums per bin come back exact, fresh, and only under the parameters that a provider accepts."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.encsum_profile import MAX_ROWS, SumProfile
from fedcredit.errors import FedCreditError, PeerProtocolError
from fedcredit.protocols.encrypted_sums import (
    MAX_DISTANCE,
    MAX_PLAIN_BITS,
    SumClient,
    SumServer,
)
from fedcredit.wire import Peer, Peers, Transcript, run_in_process
from tests.support.alignment import outcome

N = 900
BINS = [7, 2, 20]


def columns(seed=0, n=N):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, k, n) for k in BINS]).astype(np.uint8)


def expected(values, bins):
    out = np.zeros((len(values), sum(BINS)), np.int64)
    for v, vector in enumerate(values):
        at = 0
        for feature, k in zip(bins, BINS, strict=True):
            np.add.at(out[v], at + feature, vector)
            at += k
    return out


def roles(passes, profile, bins=None, n_rows=None, names=("tax",)):
    """``passes``: arrays (V, n)."""
    bins = columns() if bins is None else bins

    async def client():
        peers = Peers(names)
        sums = SumClient(profile)
        await sums.open(peers)
        got = []
        for values in passes:
            await sums.request(peers, values)
            got.append([await sums.collect(peer, len(values), BINS) for peer in peers.values()])
        return got

    async def server():
        peer = Peer("platform")
        sums = await SumServer.open(peer, n_rows=bins.shape[1] if n_rows is None else n_rows)
        plan = sums.plan(bins, np.array(BINS), cache_bytes=1 << 26)
        for values in passes:
            await sums.serve(peer, plan, len(values), bins.shape[1])

    return {"platform": client(), **{name: server() for name in names}}


PROFILES = {
    "packed": SumProfile.packed(N),
    "packed, wide": SumProfile.packed(N, 1024),
    "exact": SumProfile.exact(N, value_bits=18),
    "high": SumProfile.high_assurance(N),
}


@pytest.mark.parametrize("name", PROFILES)
def test_sums_are_exact(name):
    rng = np.random.default_rng(1)
    passes = [rng.integers(-(1 << 16), 1 << 16, (v, N)) for v in (1, 3)]
    got = run_in_process(roles(passes, PROFILES[name]))["platform"]
    for values, (sums,) in zip(passes, got, strict=True):
        np.testing.assert_array_equal(sums, expected(values, columns()))


def test_many_blocks_and_two_providers():
    n = 512 * 17 + 3  # more than one chunk
    rng = np.random.default_rng(2)
    values, bins = rng.integers(-9, 9, (2, n)), columns(3, n)
    transcript = Transcript()
    made = roles([values], SumProfile.packed(n), bins, names=("tax", "housing"))
    ((first, second),) = run_in_process(made, transcript=transcript)["platform"]
    np.testing.assert_array_equal(first, expected(values, bins))
    np.testing.assert_array_equal(second, first)
    assert transcript.received_by("tax")["sums.chunk"].messages == 2


# ---------------------------------------------------------------------- what crosses the wire


def looks_uniform(data):
    """Pearson's chi-square of 256 byte counts, 6 standard deviations."""
    counts = np.bincount(data.reshape(-1), minlength=256)
    mean = data.size / 256
    return abs(((counts - mean) ** 2 / mean).sum() - 255) < 6 * (2 * 255) ** 0.5


def messages(values, bins=None):
    transcript = Transcript(keep=True)
    made = roles(values, PROFILES["packed"], bins)
    got = run_in_process(made, transcript=transcript)["platform"]
    chunks = [r.message for r in transcript.records if r.message.kind == "sums.chunk"]
    replies = [r.message for r in transcript.records if r.message.kind == "sums.reply"]
    return got, chunks, replies


def test_ciphertexts_are_uniform_and_never_the_same():
    zeros = np.zeros((1, N), np.int64)
    ones = np.ones((1, N), np.int64)
    _, chunks, replies = messages([zeros, zeros, ones])
    seeds = {row.tobytes() for chunk in chunks for row in chunk.seeds}
    assert len(seeds) == sum(len(chunk.seeds) for chunk in chunks)
    for chunk in chunks:
        assert looks_uniform(chunk.c0)
    for reply in replies:
        assert looks_uniform(reply.c0)
        assert looks_uniform(reply.c1)
    assert (chunks[0].c0 == chunks[1].c0).mean() < 0.01
    assert (replies[0].c0 == replies[1].c0).mean() < 0.01
    assert [chunk.c0.shape for chunk in chunks] == [chunks[0].c0.shape] * 3


def test_other_rows_with_the_same_sums_look_the_same():
    """Rows are permuted within equal values: the sums agree, the answers share no pattern."""
    values = (np.arange(N) % 3)[None].astype(np.int64)
    bins = columns(4)
    moved = bins.copy()
    rng = np.random.default_rng(5)
    for value in range(3):
        rows = np.flatnonzero(values[0] == value)
        moved[:, rows] = bins[:, rng.permutation(rows)]
    assert (moved != bins).mean() > 0.3
    ((one,),), _, (first,) = messages([values], bins)
    ((other,),), _, (second,) = messages([values], moved)
    np.testing.assert_array_equal(one, other)
    assert (first.c0.shape, first.c1.shape) == (second.c0.shape, second.c1.shape)
    for field in ("c0", "c1"):
        a, b = getattr(first, field), getattr(second, field)
        assert looks_uniform(a)
        assert looks_uniform(b)
        assert looks_uniform(a ^ b)


# ------------------------------------------------------------------------------------ hostile


def test_every_preset_is_acceptable_for_any_number_of_rows():
    for make in (
        SumProfile.packed,
        SumProfile.high_assurance,
        lambda n: SumProfile.exact(n, value_bits=18),
    ):
        for n in (1, 1000, MAX_ROWS):
            profile = make(n)
            assert profile.statistical_distance() < MAX_DISTANCE
            assert profile.plain_bits <= MAX_PLAIN_BITS


BAD_PROFILES = {
    "no flood": {"flood_bits": 1},
    "little flood": {"flood_bits": 42},
    "large numbers": {"plain_bits": 43, "answer_bits": 53, "flood_bits": 48},
    "large numbers in the larger ring": {
        "degree": 8192,
        "primes": 5,
        "plain_bits": 52,
        "block": 1024,
        "answer_bits": 62,
        "flood_bits": 101,
    },
    "other rows": {"max_rows": N + 1},
}


@pytest.mark.parametrize("name", BAD_PROFILES)
def test_profiles_that_hide_less_are_refused(name):
    """They are valid for SEAL, and would let the key holder read bins off the noise."""
    profile = dataclasses.replace(SumProfile.packed(N), **BAD_PROFILES[name])
    with pytest.raises(PeerProtocolError, match="profile") as caught:
        run_in_process(roles([np.ones((1, N), np.int64)], profile))
    assert caught.value.party == "platform"


def field_value(name, value):
    def change(message):
        values = dict(zip(message.fields, message.values, strict=True)) | {name: value}
        return {"fields": tuple(values), "values": tuple(values.values())}

    return change


def cut(array):
    return array[..., :-1].copy()


def too_large(array):
    return np.full_like(array, 255)


HOSTILE = {
    "profile without a field": (
        "sums.keys",
        lambda m: {"fields": m.fields[1:], "values": m.values[1:]},
    ),
    "profile with a field too many": (
        "sums.keys",
        lambda m: {"fields": (*m.fields, "x"), "values": (*m.values, 1)},
    ),
    "profile of two lengths": ("sums.keys", lambda m: {"values": m.values[1:]}),
    "profile outside the table": ("sums.keys", field_value("primes", 5)),
    "profile with a negative number": ("sums.keys", field_value("block", -1)),
    "profile with a huge number": ("sums.keys", field_value("degree", 1 << 60)),
    "public key cut": ("sums.keys", lambda m: {"public_key": m.public_key[:-1]}),
    "public key empty": ("sums.keys", lambda m: {"public_key": b""}),
    "Galois keys cut": ("sums.keys", lambda m: {"galois_keys": m.galois_keys[:-100]}),
    "no Galois keys": ("sums.keys", lambda m: {"galois_keys": b""}),
    "chunk out of turn": ("sums.chunk", lambda m: {"first_block": 16}),
    "chunk at a negative block": ("sums.chunk", lambda m: {"first_block": -16}),
    "no blocks": ("sums.chunk", lambda m: {"n_blocks": 0}),
    "negative blocks": ("sums.chunk", lambda m: {"n_blocks": -1}),
    "too many blocks": ("sums.chunk", lambda m: {"n_blocks": 1 << 40}),
    "another number of vectors": ("sums.chunk", lambda m: {"n_vectors": 2}),
    "seeds cut": ("sums.chunk", lambda m: {"seeds": cut(m.seeds)}),
    "seeds of fewer ciphertexts": ("sums.chunk", lambda m: {"seeds": m.seeds[1:]}),
    "ciphertexts cut": ("sums.chunk", lambda m: {"c0": cut(m.c0)}),
    "fewer ciphertexts": ("sums.chunk", lambda m: {"c0": m.c0[1:]}),
    "residues out of range": ("sums.chunk", lambda m: {"c0": too_large(m.c0)}),
    "answers for other vectors": ("sums.reply", lambda m: {"n_vectors": 2}),
    "answers for other bins": ("sums.reply", lambda m: {"total_bins": 3}),
    "answers cut": ("sums.reply", lambda m: {"c0": cut(m.c0)}),
    "answers missing": ("sums.reply", lambda m: {"c1": m.c1[1:]}),
    "answers of something else": ("sums.reply", lambda m: {"c1": m.c1 ^ np.uint8(85)}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_are_refused(case):
    kind, change = HOSTILE[case]
    changed = []

    def tamper(sender, message):
        if message.kind != kind:
            return None
        changed.append(sender)
        return dataclasses.replace(message, **change(message))

    ends = outcome(roles([np.ones((1, N), np.int64)], PROFILES["packed"]), tamper)
    assert changed
    victim = "tax" if changed[0] == "platform" else "platform"
    assert isinstance(ends[victim], FedCreditError)
    assert (ends[victim].party, ends[victim].step) == (changed[0], "encrypted sums")
