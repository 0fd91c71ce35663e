"""Zero shares cancel, common randomness is common, and the label holder's relay learns neither."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from fedcredit.crypto.prg import prg_u64
from fedcredit.errors import FedCreditError, InputError, PeerProtocolError
from fedcredit.protocols import pairwise
from fedcredit.protocols.pairwise import ZeroShares, agree_keys
from fedcredit.wire import Message, Peers, Transcript, run_in_process
from tests.support.alignment import outcome

SESSION = b"between providers, session 1"
NAMES = ("tax", "housing", "social")  # not in the order of the alphabet


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Note(Message, kind="test.note", reveals="nothing"):
    sealed: bytes


def roles(work, count=3):
    """``work(zero, peers)`` runs at every provider."""
    names = NAMES[:count]

    async def provider(name):
        others = [other for other in names if other != name]
        peers = Peers(others)
        zero = await ZeroShares.agree(peers, name, others, SESSION)
        return await work(zero, peers)

    return {name: provider(name) for name in names}


def run(work, count=3, **options):
    return run_in_process(roles(work, count), **options)


async def three_shares(zero, peers):
    return zero.u16(1000), zero.u64(1000), zero.u16(1000)


# ---------------------------------------------------------------------------- shares of zero


@pytest.mark.parametrize("count", [2, 3])
def test_shares_cancel_and_every_call_is_fresh(count):
    got = list(run(three_shares, count).values())
    for call, dtype in enumerate((np.uint16, np.uint64, np.uint16)):
        parts = [shares[call] for shares in got]
        assert all(part.dtype == dtype and part.shape == (1000,) for part in parts)
        assert not np.any(sum(parts[1:], parts[0]))
    for first, wide, second in got:
        # Equal by chance with probability 2^-16 per place; 20 of 1,000 never happen.
        assert (first == second).sum() < 20
        assert (first == wide.astype(np.uint16)).sum() < 20


@pytest.mark.parametrize("count", [2, 3])
def test_a_share_is_uniform(count):
    async def work(zero, peers):
        return zero.u64(20_000)

    for share in run(work, count).values():
        counts = np.bincount(share.view(np.uint8), minlength=256)
        mean = share.nbytes / 256
        assert abs(((counts - mean) ** 2 / mean).sum() - 255) < 6 * (2 * 255) ** 0.5


def test_three_providers_hide_from_each_other():
    """No two shares of three cancel: the third provider's mask is in both."""
    got = [shares[1] for shares in run(three_shares).values()]
    for i in range(3):
        assert np.all(got[i] + got[(i + 1) % 3])


def test_the_share_of_a_single_provider_is_zero():
    got = run(three_shares, 1)["tax"]
    assert not any(np.any(share) for share in got)


def test_sessions_are_independent():
    first, second = (run(three_shares)["tax"][1] for _ in range(2))
    assert not np.any(first == second)


def test_the_lower_name_adds():
    """The shares are the streams of the derived key, as the module states them."""
    key = bytes(range(32))
    stream = HKDFExpand(SHA256(), 96, b"fedcredit pairwise").derive(key)[:32]
    low, high = ZeroShares("a", {"b": key}, Peers("b")), ZeroShares("b", {"a": key}, Peers("a"))
    for call in (1, 2):
        expected = prg_u64(stream, 3, call)
        np.testing.assert_array_equal(low.u64(3), expected)
        np.testing.assert_array_equal(high.u64(3), np.uint64(0) - expected)


def test_negative_lengths_are_refused():
    zero = ZeroShares("a", {}, Peers([]))
    for draw in (zero.u16, zero.u64):
        with pytest.raises(InputError):
            draw(-1)


# ------------------------------------------------------------------------- common randomness


@pytest.mark.parametrize("count", [1, 2, 3])
def test_common_randomness_is_common_fresh_and_sealed(count):
    async def work(zero, peers):
        return [await zero.common(32), await zero.common(32), await zero.common(16)]

    transcript = Transcript(keep=True)
    got = list(run(work, count, transcript=transcript).values())
    assert all(drawn == got[0] for drawn in got)
    first, second, third = got[0]
    assert (len(first), len(second), len(third)) == (32, 32, 16)
    assert len({first[:16], second[:16], third}) == 3
    sealed = [r for r in transcript.records if r.message.kind == "pairwise.common"]
    assert len(sealed) == 3 * (count - 1)
    assert {r.sender for r in sealed} <= {min(NAMES)}
    for record in transcript.records:
        assert not any(drawn in bytes(record.data) for drawn in got[0])


@pytest.mark.parametrize("n_bytes", [0, -1, 5000])
def test_the_length_of_common_randomness_is_checked(n_bytes):
    async def work(zero, peers):
        await zero.common(n_bytes)

    with pytest.raises(InputError):
        run(work, 1)


def test_common_randomness_of_another_length_is_refused():
    async def work(zero, peers):
        return await zero.common(16 if zero.me == min(NAMES) else 32)

    ends = outcome(roles(work, 2))
    assert isinstance(ends["tax"], PeerProtocolError)
    assert ends["tax"].party == "housing"


# ---------------------------------------------------------------------------- sealed channel


async def exchange(zero, peers):
    """Everyone seals two notes for everyone and opens what comes."""
    for name, peer in peers.items():
        for text in (b"one", b"two"):
            await peer.send(Note(zero.seal(name, b"%s from %s" % (text, zero.me.encode()), "n")))
    got = []
    for name, peer in peers.items():
        notes = [await peer.recv(Note), await peer.recv(Note)]
        got += [zero.open(name, note.sealed, "n") for note in notes]
    return got


def test_notes_reach_every_provider():
    got = run(exchange)
    assert got["tax"] == [b"one from housing", b"two from housing", b"one from social",
                          b"two from social"]  # fmt: skip


def test_equal_notes_differ_under_the_seal():
    async def work(zero, peers):
        (name,) = peers
        sealed = [zero.seal(name, bytes(64), "n") for _ in range(2)]
        for note in sealed:
            await peers[name].send(Note(note))
        return sealed + [zero.open(name, (await peers[name].recv(Note)).sealed, "n") for _ in "ab"]

    got = run(work, 2)
    assert len({note for notes in got.values() for note in notes[:2]}) == 4
    assert all(notes[2:] == [bytes(64)] * 2 for notes in got.values())


def changed(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("case", ["changed", "cut", "empty", "repeated", "sent back"])
def test_a_note_that_does_not_open_is_refused(case):
    seen = {}

    def tamper(sender, message):
        if message.kind != "test.note":
            return None
        seen.setdefault(sender, []).append(message.sealed)
        if sender != "housing":
            return None
        replaced = {
            "changed": changed(message.sealed),
            "cut": message.sealed[:-1],
            "empty": b"",
            "repeated": seen["housing"][0],
            "sent back": seen.get("tax", [message.sealed[::-1]])[0],
        }[case]
        return Note(replaced)

    end = outcome(roles(exchange, 2), tamper)["tax"]
    assert isinstance(end, PeerProtocolError)
    assert (end.party, end.step) == ("housing", "n")


def test_the_purpose_is_authenticated():
    async def work(zero, peers):
        (name,) = peers
        await peers[name].send(Note(zero.seal(name, b"x", "angles")))
        return zero.open(name, (await peers[name].recv(Note)).sealed, "seeds")

    with pytest.raises(PeerProtocolError, match="does not open"):
        run(work, 2)


def test_nobody_else_has_a_channel():
    zero = ZeroShares("a", {}, Peers([]))
    with pytest.raises(InputError):
        zero.seal("b", b"", "n")
    with pytest.raises(InputError):
        zero.open("b", b"", "n")


# ------------------------------------------------------------------------------ key agreement


def test_keys_are_those_of_x25519_and_hkdf(monkeypatch):
    """Recomputed from the two secrets with the library's primitives alone."""
    secrets = [X25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2)]
    drawn = iter(secrets)
    monkeypatch.setattr(
        pairwise.X25519PrivateKey, "generate", staticmethod(lambda: next(drawn)), raising=True
    )

    async def one(me, other):
        return await agree_keys([Peers([other])[other]], SESSION, b"test")

    got = run_in_process({"a": one("a", "b"), "b": one("b", "a")})
    public = sorted(secret.public_key().public_bytes_raw() for secret in secrets)
    shared = secrets[0].exchange(secrets[1].public_key())
    expected = HKDF(SHA256(), 32, SESSION, b"test" + b"".join(public)).derive(shared)
    assert got == {"a": [expected], "b": [expected]}


@pytest.mark.parametrize("public", [b"", b"x" * 31, b"x" * 33, bytes(32)])
def test_malformed_keys_are_refused(public):
    def tamper(sender, message):
        if sender == "housing" and message.kind == "pairwise.key":
            return dataclasses.replace(message, public=public)
        return None

    end = outcome(roles(three_shares, 2), tamper)["tax"]
    assert isinstance(end, PeerProtocolError)
    assert "housing" in str(end)


def test_a_key_that_was_exchanged_on_the_way_ends_the_session():
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()

    def tamper(sender, message):
        if message.kind == "pairwise.key" and sender == "housing":
            return dataclasses.replace(message, public=other)
        return None

    end = outcome(roles(exchange, 2), tamper)["tax"]
    assert isinstance(end, FedCreditError)


@pytest.mark.parametrize("others", [["b", "b"], ["a"], ["c"]])
def test_names_must_be_different_peers(others):
    with pytest.raises(InputError):
        run_in_process({"a": ZeroShares.agree(Peers("b"), "a", others, SESSION)})


def test_secrets_are_neither_printed_nor_copied():
    zero = ZeroShares("a", {"b": bytes(range(32))}, Peers("b"))
    for thing in (zero, zero._pair("b")):
        text = repr(thing)
        assert bytes(range(4)).hex() not in text
        assert "\\x" not in text
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.copy(thing)
