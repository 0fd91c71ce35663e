"""Joint training under Paillier: the trees of BFV, by the same messages."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.paillier_profile import TEST_KEY_BITS, PaillierProfile
from fedcredit.errors import FedCreditError, InputError
from fedcredit.protocols.encrypted_sums import MAX_PLAIN_BITS, SumClient, SumServer
from fedcredit.protocols.forest import ForestParams
from fedcredit.wire import Peer, Peers, Transcript, run_in_process
from tests.support.alignment import outcome
from tests.support.joint_gbdt import assert_same_forest, first_columns, train

N = 150
BINS = [3, 5]


@pytest.fixture(autouse=True)
def small_keys(monkeypatch):
    monkeypatch.setattr(PaillierProfile, "min_key_bits", TEST_KEY_BITS)


@pytest.mark.parametrize("hide_membership", [True, False])
@pytest.mark.parametrize("precision", ["exact", "packed"])
def test_the_forest_is_that_of_bfv(precision, hide_membership):
    """200 rows, two trees, one provider."""
    case = first_columns(2, precision=precision, hide_membership=hide_membership)
    transcript = Transcript()
    paillier = train(case.but(backend="paillier"), transcript)
    bfv = train(case)
    assert_same_forest(paillier, bfv)
    assert any(share.splits for share in paillier.shares.values())
    assert paillier.shares == bfv.shares
    # Nothing but Paillier ciphertexts: 200 rows of 128 bytes in every first pass.
    assert transcript.received_by("tax")["sums.chunk"].bytes > 2 * 200 * 128


def test_parameters_of_the_ring_do_not_go_with_paillier():
    for wrong in ({"precision": "high"}, {"block": 512}):
        with pytest.raises(InputError, match="Paillier"):
            ForestParams(backend="paillier", **wrong)
    with pytest.raises(InputError, match="backend"):
        ForestParams(backend="ckks")


# ------------------------------------------------------------------------------------- hostile


def roles(profile):
    rng = np.random.default_rng(0)
    bins = np.stack([rng.integers(0, k, N) for k in BINS]).astype(np.uint8)

    async def client():
        peers = Peers(["tax"])
        sums = SumClient(profile)
        await sums.open(peers)
        await sums.request(peers, np.ones((2, N), np.int64))
        return await sums.collect(peers["tax"], 2, BINS)

    async def server():
        peer = Peer("platform")
        sums = await SumServer.open(peer, n_rows=N)
        await sums.serve(peer, sums.plan(bins, np.array(BINS), cache_bytes=1 << 20), 2, N)

    return {"platform": client(), "tax": server()}


def test_an_honest_pass():
    got = run_in_process(roles(PaillierProfile.packed(N)))["platform"]
    assert got.sum(axis=1).tolist() == [2 * N, 2 * N]


def test_small_keys_are_refused_by_the_provider(monkeypatch):
    made = roles(PaillierProfile.packed(N))

    def tamper(sender, message):
        if message.kind == "sums.keys":  # what the label holder alone has lowered
            monkeypatch.setattr(PaillierProfile, "min_key_bits", 2048)

    error = outcome(made, tamper)["tax"]
    assert isinstance(error, FedCreditError)
    assert error.party == "platform"
    assert "2048" in str(error)


def test_larger_sums_than_under_bfv_are_refused():
    profile = PaillierProfile(TEST_KEY_BITS, MAX_PLAIN_BITS + 1, N)
    error = outcome(roles(profile))["tax"]
    assert isinstance(error, FedCreditError)
    assert error.party == "platform"
    assert "larger numbers" in str(error)


def with_fields(**changes):
    def change(message):
        values = dict(zip(message.fields, message.values, strict=True)) | changes
        return {"fields": tuple(values), "values": tuple(values.values())}

    return change


def all_zero(message):
    return {"c0": np.zeros_like(message.c0)}


HOSTILE = {
    "other rows": ("sums.keys", with_fields(max_rows=N + 1)),
    "fields of both schemes": ("sums.keys", with_fields(degree=4096)),
    "negative key": ("sums.keys", with_fields(key_bits=-2048)),
    "huge key": ("sums.keys", with_fields(key_bits=1 << 40)),
    "another key size": ("sums.keys", with_fields(key_bits=1024)),
    "key without proof": ("sums.keys", lambda m: {"public_key": m.public_key[:64]}),
    "key with a wrong proof": (
        "sums.keys",
        lambda m: {"public_key": m.public_key[:-1] + bytes([m.public_key[-1] ^ 1])},
    ),
    "Galois keys": ("sums.keys", lambda m: {"galois_keys": b"x"}),
    "chunk out of turn": ("sums.chunk", lambda m: {"first_block": 1}),
    "many blocks": ("sums.chunk", lambda m: {"n_blocks": 3}),
    "zero ciphertexts": ("sums.chunk", all_zero),
    "fewer ciphertexts": ("sums.chunk", lambda m: {"c0": m.c0[1:]}),
    "seeds": ("sums.chunk", lambda m: {"seeds": np.zeros((2, 64), np.uint8)}),
    "answers of zero": ("sums.reply", all_zero),
    "fewer answers": ("sums.reply", lambda m: {"c0": m.c0[1:]}),
    "other bins": ("sums.reply", lambda m: {"total_bins": m.total_bins + 1}),
    "second part": ("sums.reply", lambda m: {"c1": m.c0}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_blamed_on_their_sender(name):
    kind, change = HOSTILE[name]
    done = []

    def tamper(sender, message):
        if message.kind == kind and not done:
            done.append(sender)
            return dataclasses.replace(message, **change(message))
        return None

    ends = outcome(roles(PaillierProfile.packed(N)), tamper)
    victim = "platform" if kind == "sums.reply" else "tax"
    assert isinstance(ends[victim], FedCreditError)
    assert ends[victim].party == done[0]
    assert done[0] != victim
