"""Events per bin: exact for any number of providers, and refused where something does not fit."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.errors import CiphertextError, InputError, PeerProtocolError
from fedcredit.protocols import binning
from fedcredit.protocols.binning import (
    BinnedColumn,
    binning_label_holder,
    binning_provider,
    count_label_holder,
    count_provider,
    hide_small,
    woe_label_holder,
)
from fedcredit.protocols.binning_messages import (
    BinFeatures,
    BinJob,
    CountJob,
    GroupCounts,
    WoeAck,
    WoeJob,
)
from fedcredit.protocols.encrypted_sums import SumClient, SumReply
from fedcredit.stats.bin_rules import category_rule, quantile_rule
from fedcredit.wire import Peers, run_in_process

FLOOR = 10
NAMES = ("tax", "social", "housing")


def make_columns(n, seed, prefix="f"):
    rng = np.random.default_rng(seed)
    amounts = np.where(rng.random(n) < 0.2, np.nan, rng.lognormal(size=n))
    amounts[rng.random(n) < 0.1] = -999.0
    kinds = rng.integers(0, 5, n).astype(float)
    rules = [
        (amounts, quantile_rule(amounts, max_bins=12, min_bin_count=FLOOR, special_codes=(-999,))),
        (kinds, category_rule(kinds, 5, min_bin_count=FLOOR)),
        (np.ones(n), quantile_rule(np.ones(n), min_bin_count=FLOOR)),
        (np.full(n, np.nan), quantile_rule(np.full(n, np.nan), min_bin_count=FLOOR)),
    ]
    return [
        BinnedColumn(f"{prefix}{i}", rule, rule.apply(values))
        for i, (values, rule) in enumerate(rules, 1)
    ]


def job(n, columns=()):
    none = np.zeros(1, np.int32)
    rows = np.arange(n, dtype=np.uint32)
    return BinJob("b", "f", rows, 20, columns, (), none, np.zeros(0), (), none, np.zeros(0))


def run(y, columns, *, asked=(), provider=binning_provider, **changes):
    n = len(y)

    async def serve(name):
        peer = Peers(["platform"])["platform"]
        await peer.recv(BinJob)
        options = {"n_rows": n, "floor": FLOOR} | changes
        await provider(peer, columns[name], **options)

    jobs = {name: job(n, asked) for name in columns}
    roles = {"platform": binning_label_holder(Peers(columns), jobs, y)}
    return run_in_process(roles | {name: serve(name) for name in columns})["platform"]


def labels(n, rate=0.3, seed=0):
    return (np.random.default_rng(seed).random(n) < rate).astype(np.int64)


@pytest.mark.parametrize("rate", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("parties", [0, 1, 2, 3])
def test_events_are_exact(parties, rate):
    y = labels(700, rate)
    columns = {name: make_columns(700, seed) for seed, name in enumerate(NAMES[:parties])}
    found = run(y, columns)
    assert list(found) == list(columns)
    for name, features in found.items():
        assert [f.label for f in features] == ["f1", "f2", "f3", "f4"]
        assert [f.state for f in features] == ["usable", "usable", "constant", "all missing"]
        for feature, column in zip(features, columns[name], strict=True):
            size = column.rule.n_bins
            assert feature.roles == column.rule.roles
            np.testing.assert_array_equal(feature.count, np.bincount(column.codes, minlength=size))
            np.testing.assert_array_equal(
                feature.event, np.bincount(column.codes[y == 1], minlength=size)
            )


def test_a_provider_without_features_takes_no_part_in_the_sums():
    y = labels(300)
    found = run(y, {"tax": make_columns(300, 1), "social": []})
    assert found["social"] == []
    assert len(found["tax"]) == 4


@pytest.mark.parametrize("n", [20, 255, 256, 2048, 5000])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_any_number_of_rows_and_any_rate_fit_the_smallest_modulus(n, rate):
    y = np.zeros(n, np.int64)
    y[: int(n * rate)] = 1
    column = make_columns(n, 2)[1]
    (feature,) = run(y, {"tax": [column]})["tax"]
    np.testing.assert_array_equal(
        feature.event, np.bincount(column.codes[y == 1], minlength=column.rule.n_bins)
    )
    assert SumProfile.counts(n).plain_bits == max(8, n.bit_length())


@pytest.mark.parametrize("y", [[0, 1, 2], [[0, 1]], [], [-1, 1]])
def test_labels_are_zero_or_one(y):
    with pytest.raises(InputError, match="neither 0 nor 1"):
        run_in_process({"platform": binning_label_holder(Peers(()), {}, np.array(y, np.int64))})


# -------------------------------------------------------------------------- hostile provider


def describing(**changes):
    """A provider that describes its bins as changed."""

    async def provider(peer, columns, *, n_rows, floor):
        class Changed(type(peer)):
            async def send(self, message):
                if isinstance(message, BinFeatures):
                    new = {k: f(getattr(message, k)) for k, f in changes.items()}
                    message = dataclasses.replace(message, **new)
                await super().send(message)

        await binning_provider(Changed(peer.name), columns, n_rows=n_rows, floor=floor)

    return provider


def put(index, value):
    def change(array):
        out = array.copy()
        out[index] = value
        return out

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": lambda x: x[:-1]},
        {"labels": lambda x: (x[0], *x[:-1])},
        {"states": lambda x: x[:-1]},
        {"states": put(0, 3)},
        {"n_bins": put(0, 0)},
        {"n_bins": put(0, 70_000)},
        {"n_bins": put(0, -5)},
        {"n_bins": lambda x: x[:-1]},
        {"roles": put(0, 4)},
        {"roles": put(0, 3)},
        {"roles": lambda x: x[:-1]},
        {"counts": put(0, -1)},
        {"counts": put(0, 2**62)},
        {"counts": put(0, 0)},
        {"counts": lambda x: x[:-1]},
    ],
)
def test_a_wrong_description_is_blamed_on_its_party(changes):
    with pytest.raises(PeerProtocolError) as caught:
        run(labels(300), {"tax": make_columns(300, 1)}, provider=describing(**changes))
    assert caught.value.party == "tax"
    assert caught.value.step == "count events"


def test_features_are_those_asked_for():
    columns = make_columns(300, 1)
    assert len(run(labels(300), {"tax": columns[:2]}, asked=("f1", "f2"))["tax"]) == 2
    with pytest.raises(PeerProtocolError, match="others than were asked for"):
        run(labels(300), {"tax": columns}, asked=("f1", "f2"))


def test_counts_that_the_events_contradict_are_blamed_on_their_party():
    """Rows moved, in the description, out of the bin in which all events are."""
    columns = make_columns(300, 1)[:1]
    count = columns[0].count
    full = int(count.argmax())
    y = (columns[0].codes == full).astype(np.int64)

    def move(counts):
        out = counts.copy()
        out[full] -= 20
        out[(full + 1) % len(out)] += 20
        return out

    with pytest.raises(CiphertextError, match="more events than rows") as caught:
        run(y, {"tax": columns}, provider=describing(counts=move))
    assert caught.value.party == "tax"


def test_events_that_do_not_add_up_are_refused():
    events, counts = np.array([10, 20]), np.array([100, 200])
    binning._check_events(events, counts, [2], 30)
    with pytest.raises(CiphertextError, match="add up"):
        binning._check_events(events, counts, [2], 31)
    with pytest.raises(CiphertextError, match="fewer than no events"):
        binning._check_events(np.array([-1, 31]), counts, [2], 30)


def test_a_garbled_answer_is_blamed_on_its_party():
    async def provider(peer, columns, *, n_rows, floor):
        class Garbling(type(peer)):
            async def send(self, message):
                if isinstance(message, SumReply):
                    c0 = message.c0.copy()
                    c0[0, :64] ^= 0x55
                    message = dataclasses.replace(message, c0=c0)
                await super().send(message)

        await binning_provider(Garbling(peer.name), columns, n_rows=n_rows, floor=floor)

    with pytest.raises(CiphertextError) as caught:
        run(labels(300), {"tax": make_columns(300, 1)}, provider=provider)
    assert caught.value.party == "tax"


# ---------------------------------------------------------------------- hostile label holder


@pytest.mark.parametrize("profile", [SumProfile.packed(300), SumProfile.exact(300)])
def test_a_provider_refuses_a_larger_plain_modulus(profile):
    columns = make_columns(300, 1)

    async def platform():
        peers = Peers(["tax"])
        await peers["tax"].recv(BinFeatures)
        await SumClient(profile).open(peers)

    provider = binning_provider(Peers(["platform"])["platform"], columns, n_rows=300, floor=FLOOR)
    with pytest.raises(PeerProtocolError, match="larger numbers than counting needs"):
        run_in_process({"platform": platform(), "tax": provider})


def test_nothing_is_said_about_bins_below_the_floor():
    columns = make_columns(300, 1)
    provider = binning_provider(Peers(["platform"])["platform"], columns, n_rows=300, floor=40)
    with pytest.raises(InputError, match="below the floor"):
        run_in_process({"tax": provider})


# --------------------------------------------------------------------------- the other jobs


@pytest.mark.parametrize(
    ("count", "shown", "small"),
    [
        ([50, 20, 0, 30], [50, 20, 0, 30], 0),
        ([50, 5, 0, 5], [50, -1, 0, -1], 10),
        ([50, 5, 0, 30], [50, -1, 0, -1], 35),
        ([50, 9, 0, 0], [-1, -1, 0, 0], 59),
        ([10, 0], [10, 0], 0),
    ],
)
def test_small_bins_are_counted_together(count, shown, small):
    found = hide_small(np.array(count), FLOOR)
    assert found[0].tolist() == shown
    assert found[1] == small
    visible = found[0][found[0] > 0]
    assert (visible >= FLOOR).all()
    assert small == 0 or small >= FLOOR


def count_job(n, groups):
    sizes = np.array(groups, np.int32)
    place = np.concatenate([np.arange(size) for size in groups]).astype(np.int32)
    names = tuple(f"f{i}" for i in range(len(groups)))
    return CountJob("b", "f", np.arange(n, dtype=np.uint32), names, sizes, place)


def ask_counts(n, groups, reply):
    async def provider():
        peer = Peers(["platform"])["platform"]
        await peer.recv(CountJob)
        await reply(peer)

    role = count_label_holder(Peers(["tax"]), {"tax": count_job(n, groups)})
    return run_in_process({"platform": role, "tax": provider()})["platform"]["tax"]


def test_rows_per_final_bin():
    counts = [np.array([40, 50, 0, 10]), np.array([95, 5])]
    (first, none), (second, small) = ask_counts(
        100, (4, 2), lambda peer: count_provider(peer, counts, floor=FLOOR)
    )
    assert (first.tolist(), none) == ([40, 50, 0, 10], 0)
    assert (second.tolist(), small) == ([-1, -1], 100)


@pytest.mark.parametrize(
    ("counts", "small"),
    [
        ([40, 60], [0, 0]),
        ([40, 50], [0]),
        ([40, 70], [-10]),
        ([40, -2], [60]),
        ([40, 60, 0], [0]),
        ([2**62, 2**62], [100]),
    ],
)
def test_wrong_counts_are_blamed_on_their_party(counts, small):
    async def reply(peer):
        await peer.send(GroupCounts(np.array(counts, np.int64), np.array(small, np.int64)))

    with pytest.raises(PeerProtocolError) as caught:
        ask_counts(100, (2,), reply)
    assert caught.value.party == "tax"


def test_an_acknowledgement_of_other_weights_is_refused():
    none = np.zeros(0)
    numbers = np.zeros(0, np.int32)
    message = WoeJob("b", "w", "bad_over_good", (), numbers, numbers, none, none)

    async def provider():
        peer = Peers(["platform"])["platform"]
        await peer.recv(WoeJob)
        await peer.send(WoeAck("another"))

    with pytest.raises(PeerProtocolError, match="other weights"):
        run_in_process(
            {
                "platform": woe_label_holder(Peers(["tax"]), {"tax": message}),
                "tax": provider(),
            }
        )
