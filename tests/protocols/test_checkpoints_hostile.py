"""Members that cheat when checkpoints are exchanged: forged notes, proofs, copies and sizes."""

import re

import pytest

from fedcredit.crypto import merkle
from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.governance.checkpoint import Checkpoint, cosign, merge_signatures, sign_checkpoint
from fedcredit.protocols.checkpoints import (
    CheckpointCopy,
    CheckpointHead,
    CheckpointKnown,
    CheckpointReport,
    exchange_checkpoints,
)
from fedcredit.wire import Identity, Peers
from tests.support.checkpoints import (
    BANK,
    NOW,
    PARTIES,
    PLATFORM,
    SOCIAL,
    TAX,
    Forging,
    World,
)


@pytest.fixture
def world():
    return World()


# -------------------------------------------------------------------- notes and proofs are forged


def shows(world, **forged):
    """What the bank says to a log of tax that is shown in another way."""
    side = world[TAX].side
    role = exchange_checkpoints(
        Peers([n for n in world if n != TAX], {n: world[n].identity.public_key for n in world}),
        TAX,
        client=BANK,
        logs=PARTIES,
        witness=side,
        own=Forging(side, **forged),
    )
    done = world.exchange(**{TAX: role})
    assert set(done[TAX].refused_by) == {BANK, PLATFORM, SOCIAL}
    return done[BANK].refused[TAX]


def signed_by(identity, origin="tax/fedcredit-audit", size=50):
    return sign_checkpoint(origin, size, b"\x01" * 32, identity).note


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (lambda note: "", "malformed"),
        (lambda note: "no note", "malformed"),
        (lambda note: note * 2, "malformed|signature|another log|no checkpoint"),
        (lambda note: note.replace("\n6\n", "\n7\n"), "invalid signature"),
        (lambda note: signed_by(Identity.generate(TAX)), "not signed with the key"),
        (lambda note: signed_by(Identity.generate(SOCIAL), "social/fedcredit-audit"), "not signed"),
    ],
)
def test_a_note_that_the_log_has_not_signed_is_no_evidence_of_anything(world, note, why):
    world.exchange()
    assert re.search(why, shows(world, note=note))
    for name in (BANK, PLATFORM, SOCIAL):
        assert world[name].refused() == []
        assert world[name].side.known(TAX) == 6
    assert len(world[SOCIAL].entries("witness_refused")) == 1


def test_the_log_of_another_party_is_refused(world):
    """Tax cannot pass a log of its own off as social's, nor under another name."""
    own = world[TAX].identity
    reason = shows(world, note=lambda _: signed_by(own, "social/fedcredit-audit"))
    assert "not signed with the key" in reason
    assert world[BANK].side.known(SOCIAL) == 7


@pytest.mark.parametrize(
    "proof",
    [
        lambda proof: (),
        lambda proof: proof[:-1],
        lambda proof: (*proof, bytes(32)),
        lambda proof: (bytes(32), *proof[1:]),
        lambda proof: proof[::-1],
        lambda proof: tuple(item[:31] for item in proof),
    ],
)
def test_a_proof_that_does_not_hold_is_refused(world, proof):
    world.exchange()
    world[TAX].write(5)
    assert len(world[TAX].log.prove_consistency(6, 11)) > 1
    assert "does not continue the history of 6 entries" in shows(world, proof=proof)
    assert [note.size for note in world[BANK].refused()] == [11]


def test_signatures_of_others_on_a_note_are_not_passed_on():
    """Neither a party nor a witness can make it look as if a third one had signed."""
    world = World(BANK, TAX)
    stranger = Identity.generate(SOCIAL)

    def decorate(note):
        return merge_signatures(note, cosign(Checkpoint.parse(note), stranger, NOW).note)

    class Decorating(Forging):
        def keep(self, witness, key, note, size):
            super().keep(witness, key, decorate(note), size)

    side = world[TAX].side
    role = exchange_checkpoints(
        Peers([BANK], {BANK: world[BANK].identity.public_key}),
        TAX,
        client=BANK,
        logs=[TAX],
        witness=side,
        own=Decorating(side, note=decorate),
    )
    assert world.exchange(**{TAX: role})[TAX].cosigned == (BANK,)
    for name in (BANK, TAX):
        (kept,) = world[name].seen("tax/fedcredit-audit")
        assert kept.signers == ("tax/fedcredit-audit", BANK)


# ------------------------------------------------------------------------------- hostile members


async def _tax_as(world, *, known=0, head=None, copy=None, report=()):
    """Tax in a session with the bank alone, saying what it likes."""
    bank = Peers([BANK])[BANK]
    await bank.recv(CheckpointKnown)
    note, _ = world[TAX].side.head()
    await bank.send(head if head is not None else CheckpointHead(note, ()))
    await bank.recv(CheckpointCopy)
    await bank.send(CheckpointReport(report))


async def _witness_as(size, copy):
    tax = Peers([TAX])[TAX]
    await tax.send(CheckpointKnown(size))
    head = await tax.recv(CheckpointHead)
    await tax.send(copy(head))
    await tax.recv(CheckpointReport)


@pytest.mark.parametrize(
    "cheat",
    [
        {"head": CheckpointHead("note", (bytes(32),) * 129)},
        {"report": ("somebody",)},
    ],
)
def test_a_party_that_does_not_follow_the_protocol_is_named(cheat):
    world = World(BANK, TAX)
    with pytest.raises(PeerProtocolError) as caught:
        world.exchange(**{TAX: _tax_as(world, **cheat)})
    assert caught.value.party == TAX


@pytest.mark.parametrize("size", [-1, -(2**63)])
def test_a_size_below_zero_is_a_violation(size):
    world = World(BANK, TAX)
    with pytest.raises(PeerProtocolError, match="below zero") as caught:
        world.exchange(**{BANK: _witness_as(size, lambda head: None)})
    assert caught.value.party == BANK


def test_an_unknown_outcome_is_a_violation():
    world = World(BANK, TAX)
    with pytest.raises(PeerProtocolError, match="unknown outcome"):
        world.exchange(**{BANK: _witness_as(0, lambda head: CheckpointCopy("well", ""))})


@pytest.mark.parametrize("size", [0, 3, 2**62])
@pytest.mark.parametrize(
    ("copy", "why"),
    [
        (lambda head: CheckpointCopy("refused", ""), "refuses this log"),
        (lambda head: CheckpointCopy("witnessed", ""), "malformed"),
        (lambda head: CheckpointCopy("witnessed", head.note), "not cosigned by this witness"),
    ],
)
def test_a_witness_that_refuses_or_gives_no_copy_is_noted(size, copy, why):
    world = World(BANK, TAX)
    done = world.exchange(**{BANK: _witness_as(size, copy)})
    assert why in done[TAX].refused_by[BANK]
    assert done[TAX].cosigned == ()


def test_a_copy_of_an_older_checkpoint_is_not_taken():
    world = World(BANK, TAX)
    world.exchange()
    (old,) = world[BANK].seen("tax/fedcredit-audit")
    world[TAX].write(1)
    done = world.exchange(**{BANK: _witness_as(6, lambda _: CheckpointCopy("witnessed", old.note))})
    assert "another checkpoint" in done[TAX].refused_by[BANK]


def test_without_keys_nothing_is_witnessed(world):
    role = exchange_checkpoints(
        Peers([TAX]), BANK, client=BANK, logs=[TAX], witness=world[BANK].side
    )
    pair = World(BANK, TAX)
    with pytest.raises(InputError, match="signing key of tax is not known"):
        pair.exchange(**{BANK: role})


def test_secrets_stay_out_of_sight(world):
    for side in (world[BANK].side, world[TAX].side):
        assert re.fullmatch(r"(LogWitness|WitnessedLog)\('(bank|tax)'\)", repr(side))
        with pytest.raises(TypeError):
            side.__reduce__()


def test_the_largest_proof_fits_the_limit():
    """Trees of 2^62 entries: what an honest party sends is never refused as too long."""
    proof = merkle.consistency_proof(2**61 + 12345, 2**62 - 1, lambda *_: bytes(32))
    assert 32 < len(proof) <= 128
