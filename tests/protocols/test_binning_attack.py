"""What a label holder gets that encrypts something else than labels, with and without defences.

``2^i`` for labels: the i-th of some rows has the number 2^i, all others 0, so the binary digits of
a bin's sum name those rows that are in it. With as many rows as the plain modulus has bits, one
pass tells their bins, in every feature. The defences are the smallest modulus that counting needs
and the number of passes that a provider answers.
"""

import secrets

import numpy as np
import pytest

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.errors import BudgetError, PeerProtocolError, PolicyError
from fedcredit.models.binning_ledger import BinningLedger, isolates_rows
from fedcredit.models.store import MemoryStore
from fedcredit.protocols.binning import BinnedColumn, binning_provider
from fedcredit.protocols.binning_messages import BinFeatures
from fedcredit.protocols.encrypted_sums import SumClient, SumServer
from fedcredit.stats.bin_rules import quantile_rule
from fedcredit.wire import Peers, run_in_process

N, FLOOR, PASSES = 600, 10, 3


def column():
    values = np.random.default_rng(5).normal(size=N)
    rule = quantile_rule(values, max_bins=16, min_bin_count=FLOOR)
    return BinnedColumn("f1", rule, rule.apply(values))


def powers(rows):
    numbers = np.zeros(N, np.int64)
    numbers[rows] = 1 << np.arange(len(rows), dtype=np.int64)
    return numbers


async def read_bins(profile, rows):
    """The malicious label holder: which bin each of ``rows`` is in."""
    peers = Peers(["tax"])
    sizes = (await peers["tax"].recv(BinFeatures)).n_bins.tolist()
    client = SumClient(profile)
    # The honest program refuses sums that may leave the centred range; the attacker's does not.
    client._holder.encrypt = lambda values: client._holder._chunks(values)
    await client.open(peers)
    await client.request(peers, powers(rows)[None, :])
    sums = (await client.collect(peers["tax"], 1, sizes))[0] % (1 << profile.plain_bits)
    inside = sums[:, None] >> np.arange(len(rows)) & 1
    assert (inside.sum(axis=0) == 1).all()
    return inside.argmax(axis=0)


async def careless_provider(held):
    """A provider that sums whatever it gets, as the kernel alone allows."""
    peer = Peers(["platform"])["platform"]
    await peer.send(
        BinFeatures(
            ("f1",),
            np.zeros(1, np.uint8),
            np.array([held.rule.n_bins], np.int32),
            np.zeros(held.rule.n_bins, np.uint8),
            held.count,
        )
    )
    server = await SumServer.open(peer, n_rows=N)
    codes = held.codes.astype(np.uint8)[None, :]
    await server.serve(peer, server.plan(codes, np.array([held.rule.n_bins])), 1, N)


def provider(held):
    return binning_provider(Peers(["platform"])["platform"], [held], n_rows=N, floor=FLOOR)


def attack(profile, provider_role, held, before_pass=lambda: None):
    """Read as many rows as one can; return the share of rows whose bin is known and right."""
    known = np.full(N, -1)
    for start in range(0, N, profile.plain_bits):
        rows = np.arange(N)[start : start + profile.plain_bits]
        try:
            before_pass()
        except BudgetError:
            break
        roles = {"platform": read_bins(profile, rows), "tax": provider_role(held)}
        known[rows] = run_in_process(roles)["platform"]
    return float((known == held.codes).mean())


def test_powers_of_two_for_labels():
    held = column()
    large, small = SumProfile.packed(N), SumProfile.counts(N)
    assert (large.plain_bits, small.plain_bits) == (42, 10)
    open_share = attack(large, careless_provider, held)

    with pytest.raises(PeerProtocolError, match="larger numbers"):
        attack(large, provider, held)

    ledger = BinningLedger(MemoryStore(), max_passes=PASSES, floor=FLOOR)
    ids = [secrets.token_hex(4) for _ in range(N)]
    guarded_share = attack(
        small, provider, held, lambda: ledger.charge({"f1": "paid"}, ids, events=True)
    )
    print(f"\nrows whose bin is read: {open_share:.1%} without defences, {guarded_share:.1%} with")
    assert open_share == 1.0
    assert ledger.passes() == {"paid": PASSES}
    assert guarded_share == pytest.approx(PASSES * small.plain_bits / N)


def test_what_is_left_shrinks_with_the_rows():
    """The share that three passes give, at the sizes of real portfolios."""
    for n, most in ((1_000, 0.031), (30_000, 0.0016), (150_000, 0.0004), (1_000_000, 7e-5)):
        assert PASSES * SumProfile.counts(n).plain_bits / n < most


# ------------------------------------------------------------------- differences of binnings


def counts_over(held, rows):
    return np.bincount(held.codes[rows], minlength=held.rule.n_bins)


@pytest.mark.parametrize("fewer", [1, 4, FLOOR - 1])
def test_the_difference_of_two_binnings(fewer):
    held = column()
    ids = np.array([f"Q{i}" for i in range(N)])
    everyone, others = np.arange(N), np.arange(fewer, N)
    # Without the rule, the difference of the counts is the bins of the rows left out.
    difference = counts_over(held, everyone) - counts_over(held, others)
    assert difference.sum() == fewer
    np.testing.assert_array_equal(
        difference, np.bincount(held.codes[:fewer], minlength=held.rule.n_bins)
    )
    ledger = BinningLedger(MemoryStore(), max_passes=PASSES, floor=FLOOR)
    ledger.charge({"f1": "paid"}, ids, events=True)
    for events in (True, False):
        with pytest.raises(PolicyError, match="single out fewer than 10"):
            ledger.charge({"f1": "paid"}, ids[others], events=events)
    assert ledger.passes() == {"paid": 1}
    ledger.charge({"f1": "paid"}, ids[FLOOR:], events=True)


def test_differences_of_three_binnings():
    """Everyone, a half, and the other half without one: no two of them are close."""
    held = column()
    everyone, half, rest = np.arange(N), np.arange(N // 2), np.arange(N // 2, N - 1)
    left = counts_over(held, everyone) - counts_over(held, half) - counts_over(held, rest)
    assert left.argmax() == held.codes[N - 1]
    assert left.sum() == 1
    sets = [np.isin(everyone, part) for part in (everyone, half, rest)]
    assert not isolates_rows(sets[:2], FLOOR)
    assert not isolates_rows(sets[1:], FLOOR)
    assert isolates_rows(sets, FLOOR)
