"""Parties that witness each other's audit logs: what is accepted, and changed histories."""

import pytest

from fedcredit.errors import StorageError
from fedcredit.governance import witness as witnesses
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.checkpoint import verify_cosignature
from fedcredit.governance.evidence import verify_bundle
from fedcredit.governance.witnessing import witnessed_sizes
from fedcredit.protocols.checkpoints import exchange_checkpoints
from fedcredit.wire import Peers
from tests.support.checkpoints import (
    BANK,
    NOW,
    PARTIES,
    PLATFORM,
    SOCIAL,
    TAX,
    Member,
    World,
    copy_of,
)


@pytest.fixture
def world():
    return World()


def test_everybody_witnesses_everybody(world):
    done = world.exchange()
    for name in PARTIES:
        others = tuple(other for other in PARTIES if other != name)
        assert done[name].witnessed == others
        assert done[name].size == world[name].side.known(name) > 4
        assert set(done[name].cosigned) == {BANK, *others}
        assert (done[name].refused, done[name].refused_by, done[name].reports) == ({}, {}, {})
        (copy,) = world[name].seen(world[name].log.origin)
        for witness in (BANK, *others):
            key = world[witness].identity.public_key
            assert verify_cosignature(copy.note, witness, key) == NOW
            assert world[witness].side.known(name) == done[name].size
        assert witnessed_sizes(world[name].log) == dict.fromkeys(
            sorted((BANK, *others)), done[name].size
        )
    assert done[BANK].reports == dict.fromkeys(PARTIES, ())
    assert done[BANK].size is None


def test_a_log_that_grows_is_witnessed_again_and_one_that_rests_is_not_kept_twice(world):
    world.exchange()
    world[TAX].write(9)
    done = world.exchange()
    assert set(done[TAX].cosigned) == {BANK, PLATFORM, SOCIAL}
    assert [c.size for c in world[BANK].seen("tax/fedcredit-audit")] == [6, 15]
    assert [c.size for c in world[BANK].seen("social/fedcredit-audit")] == [7]
    assert world[TAX].log.verify().ok


def test_an_empty_log_is_the_start_of_every_log():
    world = World(BANK)
    world.members[TAX] = Member(TAX)
    assert world.exchange()[TAX].cosigned == (BANK,)
    world[TAX].write(3)
    assert world.exchange()[TAX].cosigned == (BANK,)
    assert world[BANK].side.known(TAX) == 3


def test_a_client_may_have_a_log_of_its_own():
    world = World(*PARTIES)
    done = world.exchange(client=PLATFORM)
    assert set(done[PLATFORM].cosigned) == {TAX, SOCIAL}
    assert done[PLATFORM].reports == {TAX: (), SOCIAL: ()}


def test_evidence_has_the_witnesses_copies(world):
    world.exchange()
    world[TAX].write(4)
    world.exchange()
    world[TAX].write(2)
    keys = {name: world[name].identity.public_key for name in world}
    report = verify_bundle(world[TAX].log.export(7, now=NOW + 9), keys=keys)
    assert report.ok, report
    found = [check.text for check in report.checks if check.name == "copy"]
    for name in (BANK, PLATFORM, SOCIAL):
        assert sum(f"cosigned by {name}, 2025-11-24 16:00:00 UTC" in text for text in found) == 2
    assert sum("which had the entry already" in text for text in found) == 1


# ------------------------------------------------------------------------------ histories change


def cheated(world, size, root=None):
    """What everybody else notices in the next exchange, once tax's log has changed."""
    before = {name: len(world[name].entries("witness_refused")) for name in (PLATFORM, SOCIAL)}
    done = world.exchange()
    origin = world[TAX].log.origin
    assert set(done[TAX].refused_by) == {BANK, PLATFORM, SOCIAL}
    assert done[TAX].cosigned == ()
    for name in (BANK, PLATFORM, SOCIAL):
        assert set(done[name].refused) == {TAX}
        assert origin in done[name].refused[TAX]
        shown = world[name].refused()[-1]
        assert (shown.origin, shown.size) == (origin, size)
        largest = world[name].seen(origin)[-1]
        assert largest.size == world[name].side.known(TAX)
        assert (largest.size, largest.root) != (shown.size, shown.root)
        # Both bear the log's own signature.
        for note in (shown.note, largest.note):
            witnesses.open_checkpoint(note, world[TAX].identity.public_key, origin)
    for name in (PLATFORM, SOCIAL):
        logged = world[name].entries("witness_refused")[before[name] :]
        assert [(e.facts["log"], e.facts["size"], e.facts["known"]) for e in logged] == [
            (TAX, size, largest.size)
        ]
        assert world[name].log.verify().failed == ("others",)
    assert done[BANK].reports == {PLATFORM: (TAX,), TAX: (), SOCIAL: (TAX,)}
    # The others are not concerned.
    assert done[PLATFORM].witnessed == (SOCIAL,)
    assert done[SOCIAL].witnessed == (PLATFORM,)


def test_a_truncated_log_is_refused(world):
    world.exchange()
    world[TAX].cut(4)
    cheated(world, 4)
    # And every time anew.
    cheated(world, 4)


@pytest.mark.parametrize("more", [2, 1, 20])
def test_a_rewritten_log_is_refused(world, more):
    """Shorter than what was witnessed by one, as long, and longer with a valid proof of its own."""
    world.exchange()
    world[TAX].cut(3)
    world[TAX].write(more + 1, what="other")
    size = 3 + more + 1
    assert size in (6, 5, 24)
    cheated(world, size)


def test_a_log_cut_below_its_own_checkpoint_signs_nothing(world):
    world.exchange()
    world[TAX].cut(4, checkpoints=False)
    with pytest.raises(StorageError, match="does not continue its last checkpoint") as caught:
        world.exchange()
    assert caught.value.party == TAX


def test_two_histories_meet_in_one_witness(world):
    """Tax shows one log to the bank and another to social; the platform meets both."""
    twin = Member(TAX)
    twin.identity = world[TAX].identity
    twin.log = AuditLog(twin.ledger, twin.identity)
    twin.made()
    twin.write(9)
    first, second = World(BANK), World(SOCIAL)
    first.members |= {TAX: world[TAX], BANK: world[BANK]}
    second.members |= {TAX: twin, SOCIAL: world[SOCIAL]}
    assert first.exchange()[TAX].cosigned == (BANK,)
    assert second.exchange(client=SOCIAL)[TAX].cosigned == (SOCIAL,)
    third = World(PLATFORM)
    third.members |= {PLATFORM: world[PLATFORM], TAX: world[TAX]}
    assert third.exchange(client=PLATFORM)[TAX].cosigned == (PLATFORM,)
    third.members[TAX] = twin
    done = third.exchange(client=PLATFORM)
    assert "does not continue the history of 6 entries" in done[PLATFORM].refused[TAX]


def test_a_log_that_comes_back_is_accepted_again(world):
    world.exchange()
    copy = copy_of(world[TAX].ledger)
    world[TAX].cut(4)
    assert TAX in world.exchange()[BANK].refused
    world[TAX].ledger = copy
    world[TAX].log = AuditLog(copy, world[TAX].identity)
    world[TAX].made()
    done = world.exchange()
    assert done[BANK].refused == {}
    assert set(done[TAX].cosigned) == {BANK, PLATFORM, SOCIAL}
    # What was shown in between is not forgotten.
    assert world[SOCIAL].log.verify().failed == ("others",)


# --------------------------------------------------------------------------- several sessions


class Slow:
    """A witness in whose session something happens before it judges."""

    def __init__(self, side, meanwhile):
        self.side, self.meanwhile = side, meanwhile

    def known(self, party):
        return self.side.known(party)

    def judge(self, *arguments, **options):
        self.meanwhile()
        return self.side.judge(*arguments, **options)


@pytest.mark.parametrize("grown", [0, 5])
def test_a_session_that_was_overtaken_accuses_nobody(grown):
    world = World(BANK, TAX)
    world.exchange()
    world[TAX].write(3)
    faster = []

    def meanwhile():
        world[TAX].write(grown)
        faster.append(world.exchange()[TAX])

    role = exchange_checkpoints(
        Peers([TAX], {TAX: world[TAX].identity.public_key}),
        BANK,
        client=BANK,
        logs=[TAX],
        witness=Slow(world[BANK].side, meanwhile),
    )
    done = world.exchange(**{BANK: role})
    assert faster[0].cosigned == done[TAX].cosigned == (BANK,)
    assert (done[TAX].refused_by, done[BANK].refused) == ({}, {})
    assert (world[BANK].side.known(TAX), world[BANK].refused()) == (9 + grown, [])


def test_a_fork_shows_in_a_session_that_was_overtaken():
    world = World(BANK, TAX)
    world.exchange()
    world[TAX].write(3)
    whole = copy_of(world[TAX].ledger)
    world[TAX].cut(6)
    world[TAX].write(3, what="other")
    honest = Member(TAX)
    honest.identity, honest.ledger = world[TAX].identity, whole
    honest.log = AuditLog(whole, honest.identity)
    honest.made()

    def meanwhile():
        other = World(BANK)
        other.members |= {BANK: world[BANK], TAX: honest}
        other.exchange()

    role = exchange_checkpoints(
        Peers([TAX], {TAX: world[TAX].identity.public_key}),
        BANK,
        client=BANK,
        logs=[TAX],
        witness=Slow(world[BANK].side, meanwhile),
    )
    done = world.exchange(**{BANK: role})
    assert "two different histories of 9 entries" in done[BANK].refused[TAX]


# ------------------------------------------------------------------------------ keys are renewed


def test_a_log_is_signed_again_with_a_new_key(world):
    world.exchange()
    old = world[TAX].identity.public_key
    world[TAX].rekey()
    done = world.exchange()
    assert done[BANK].refused == {}
    assert set(done[TAX].cosigned) == {BANK, PLATFORM, SOCIAL}
    world[TAX].write(2)
    assert set(world.exchange()[TAX].cosigned) == {BANK, PLATFORM, SOCIAL}
    assert world[TAX].log.verify(former_keys=[old]).ok


def test_a_witness_cosigns_again_with_a_new_key(world):
    world.exchange()
    world[SOCIAL].rekey()
    done = world.exchange()
    assert set(done[TAX].cosigned) == {BANK, PLATFORM, SOCIAL}
    (copy,) = world[TAX].seen("tax/fedcredit-audit")
    verify_cosignature(copy.note, SOCIAL, world[SOCIAL].identity.public_key)
