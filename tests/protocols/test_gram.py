"""The joint Gram matrix is numpy's, and nothing but the matrix shows on the wire."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.encsum_profile import MAX_ROWS, SumProfile
from fedcredit.errors import FedCreditError, InputError, PeerProtocolError, PolicyError
from fedcredit.protocols.encrypted_sums import MAX_DISTANCE, SumClient, SumServer
from fedcredit.protocols.gram import gram_label_holder, gram_profile
from fedcredit.protocols.gram_messages import GramSeed
from fedcredit.protocols.gram_provider import gram_provider
from fedcredit.protocols.gram_scales import angle_masks, exact_bits, unit_columns
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.wire import Peers, Transcript, run_in_process
from tests.support.alignment import outcome

SESSION = b"gram matrices of tests, session 1"
NAMES = ("tax", "housing", "social")
LIMIT = 5e-5  # of n max(w), columns of mean square 1


def roles(own, parts, weight=None, *, profile=None, sizes=None, **limits):
    """Platform and one provider per array of ``parts``."""
    names = NAMES[: len(parts)]
    profile = gram_profile(len(own)) if profile is None else profile

    async def platform():
        peers = Peers(names)
        client = SumClient(profile)
        await client.open(peers)
        given = [part.shape[1] for part in parts] if sizes is None else sizes
        return await gram_label_holder(peers, client, own, weight, given)

    async def provider(me, part):
        others = [name for name in names if name != me]
        peers = Peers(["platform", *others])
        server = await SumServer.open(peers["platform"], n_rows=len(own))
        zero = await ZeroShares.agree(peers, me, others, SESSION)
        return await gram_provider(peers, "platform", names, me, server, part, zero, **limits)

    made = {name: provider(name, part) for name, part in zip(names, parts, strict=True)}
    return {"platform": platform(), **made}


def data(sizes=(2, 3, 2), n=800, own=3, seed=0):
    """Correlated columns; the providers' have few values, like weights of evidence."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 2))
    mine = common @ rng.normal(size=(2, own)) + rng.normal(size=(n, own))
    mine[:, :1] = 1
    parts = []
    for size in sizes:
        raw = common @ rng.normal(size=(2, size)) + rng.normal(size=(n, size))
        part = np.empty_like(raw)
        for column in range(size):
            cuts = np.quantile(raw[:, column], np.sort(rng.uniform(size=5)))
            part[:, column] = rng.normal(size=6)[np.digitize(raw[:, column], cuts)]
        parts.append(part * 10.0 ** rng.integers(-3, 4, size))
    probability = 1 / (1 + np.exp(2 - common[:, 0]))
    return mine, parts, probability * (1 - probability)


def pooled(own, parts, weight=None):
    """The same matrix of the pooled columns, and the root mean squares of all columns."""
    units = [part / np.sqrt((part**2).mean(axis=0)) for part in parts]
    columns = np.hstack([own, *units])
    weights = np.ones(len(own)) if weight is None else weight
    size = np.sqrt((columns**2).mean(axis=0))
    return (columns * weights[:, None]).T @ columns, np.outer(size, size) * len(own)


def assert_gram(got, own, parts, weight=None, limit=LIMIT):
    expected, size = pooled(own, parts, weight)
    top = 1.0 if weight is None else np.abs(weight).max()
    assert got.shape == expected.shape
    assert np.abs((got - expected) / (size * top)).max() < limit
    np.testing.assert_array_equal(got, got.T)


# ----------------------------------------------------------------------------------- results


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("providers", [1, 2, 3])
def test_the_matrix_is_that_of_the_pooled_columns(providers, weighted):
    own, parts, weight = data((2, 3, 2)[:providers])
    weight = weight if weighted else None
    got = run_in_process(roles(own, parts, weight))
    assert_gram(got["platform"], own, parts, weight)
    for name, part in zip(NAMES, parts, strict=False):
        np.testing.assert_allclose(got[name], np.sqrt((part**2).mean(axis=0)), rtol=1e-12)


def test_unweighted_blocks_of_providers_are_exact():
    own, parts, _ = data()
    d = own.shape[1]
    got = run_in_process(roles(own, parts))["platform"][d:, d:]
    expected = pooled(own, parts)[0][d:, d:]
    assert np.abs(got - expected).max() / len(own) < 1e-7


def test_correlations_of_centred_columns_have_four_digits():
    own, parts, _ = data((3, 3), n=1500)
    own = own[:, 1:] - own[:, 1:].mean(axis=0)
    parts = [part - part.mean(axis=0) for part in parts]
    got = run_in_process(roles(own, parts))["platform"]
    size = np.sqrt(np.diag(got))
    expected = np.corrcoef(np.hstack([own, *parts]), rowvar=False)
    assert np.abs(got / np.outer(size, size) - expected).max() < 1e-5


def test_standard_errors_of_a_regression():
    own, parts, weight = data((3, 4), n=1500)
    got = run_in_process(roles(own, parts, weight))["platform"]
    expected = pooled(own, parts, weight)[0]
    errors = [np.sqrt(np.diag(np.linalg.inv(matrix))) for matrix in (got, expected)]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_extreme_columns_need_no_other_scale(weighted):
    """One row alone, two opposite rows, zeros, a constant, tiny and huge values."""
    own, (part,), weight = data((6,), n=500)
    part[:, :4] = 0
    part[7, 0] = 1
    part[[7, 8], 1] = [1e200, -1e200]
    part[:, 3] = -3e-200
    parts = [part, part[::-1].copy()]
    own[:, 1] = 0
    own[7, 1] = -1e9
    got = run_in_process(roles(own, parts, weight if weighted else None))["platform"]
    columns = [own]
    for values in parts:
        scaled = values / np.maximum(np.abs(values).max(axis=0), 1e-300)
        scale = np.sqrt((scaled**2).mean(axis=0))
        columns.append(scaled / np.where(scale == 0, 1, scale))
    joint = np.hstack(columns)
    expected = (joint * (weight[:, None] if weighted else 1)).T @ joint
    size = np.sqrt((joint**2).mean(axis=0))
    size[size == 0] = 1
    assert np.isfinite(got).all()
    assert np.abs((got - expected) / np.outer(size, size)).max() / len(own) < LIMIT


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_rows(n, weighted):
    own, parts, weight = data((1, 2), n=n, own=1)
    weight = -weight if weighted else None
    got = run_in_process(roles(own, parts, weight, max_own_columns=1))["platform"]
    assert_gram(got, own, parts, weight, limit=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_label_holder_without_columns(weighted):
    own, parts, weight = data((2, 2), own=0)
    weight = weight if weighted else None
    got = run_in_process(roles(own, parts, weight))["platform"]
    assert_gram(got, own, parts, weight)


def test_many_columns_take_several_requests():
    own, parts, weight = data((17,), n=300, own=1)
    transcript = Transcript()
    got = run_in_process(roles(own, parts, weight), transcript=transcript)["platform"]
    assert_gram(got, own, parts, weight)
    # 153 pairs in two requests, and one request for the platform's column.
    assert transcript.sent_by("tax")["sums.reply"].messages == 3


@pytest.mark.parametrize("n", [1, 100, 20_000, 150_000, MAX_ROWS])
def test_the_profile_hides_enough_for_any_number_of_rows(n):
    assert gram_profile(n).statistical_distance() < MAX_DISTANCE


# ------------------------------------------------------------------------ what crosses the wire


def record(own, parts, weight=None):
    transcript = Transcript(keep=True)
    run_in_process(roles(own, parts, weight), transcript=transcript)
    return transcript.records


def looks_uniform(data):
    """Pearson's chi-square of 256 byte counts, 6 standard deviations."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    mean = len(data) / 256
    return abs(((counts - mean) ** 2 / mean).sum() - 255) < 6 * (2 * 255) ** 0.5


def field(records, kind, name, **ends):
    """A field of every message of a kind, as bytes."""
    values = [
        getattr(r.message, name)
        for r in records
        if r.message.kind == kind and all(getattr(r, end) == who for end, who in ends.items())
    ]
    return [value if isinstance(value, bytes) else value.tobytes() for value in values]


SUMS = {"sums.keys", "sums.chunk", "sums.reply", "gram.start"}
BETWEEN = {"pairwise.key"}
KINDS = {
    (False, 1): (SUMS | {"gram.own"}, set()),
    (False, 2): (
        SUMS | {"gram.own", "gram.masked", "gram.correction"},
        BETWEEN | {"pairwise.common"},
    ),
    (True, 1): (SUMS, set()),
    (True, 2): (SUMS | {"gram.seed"}, BETWEEN | {"gram.angles"}),
}


@pytest.mark.parametrize(("weighted", "providers"), KINDS)
def test_the_messages_are_those_of_the_module(weighted, providers):
    own, parts, weight = data((2, 3)[:providers], n=300)
    records = record(own, parts, weight if weighted else None)
    at_platform = {r.message.kind for r in records if "platform" in (r.sender, r.recipient)}
    between = {r.message.kind for r in records if "platform" not in (r.sender, r.recipient)}
    assert (at_platform, between) == KINDS[weighted, providers]
    if weighted:
        # Only the provider after the first one sends a column, and only to that one.
        assert {(r.sender, r.recipient) for r in records if r.message.kind == "gram.angles"} <= {
            ("housing", "tax")
        }


@pytest.mark.parametrize("weighted", [False, True])
def test_no_value_of_a_column_or_weight_is_in_any_message(weighted):
    own, parts, weight = data(n=200)
    own, weight = own[:, 1:], weight if weighted else None
    records = record(own, parts, weight)
    wire = b"".join(bytes(r.data) for r in records)
    # The search sees what is there: the seed, or an entry of a block in the clear.
    there = field(
        records, "gram.seed" if weighted else "gram.own", "seed" if weighted else "products"
    )
    assert there
    assert there[0][:8] in wire
    hidden = [own, *parts] + ([weight[:, None]] if weighted else [])
    for part in parts:
        units = unit_columns(part)[0].T
        fixed = np.rint(units * 2.0 ** exact_bits(len(own))).astype(np.int64)
        hidden += [units, fixed, np.arcsin(units / (1.1 * len(own) ** 0.5))]
    for array in hidden:
        values = np.unique(array[array != 0])[:10]
        assert values.size
        assert not [value for value in values if value.tobytes() in wire]


def test_masked_columns_and_corrections_are_uniform_and_fresh():
    """Columns of zeros: everything that is sent of them is mask and nothing else."""
    own, parts = np.ones((4000, 1)), [np.zeros((4000, 12)), np.zeros((4000, 12))]
    first, second = record(own, parts), record(own, parts)
    seen = set()
    for records in (first, second):
        for kind, name in (("gram.masked", "values"), ("gram.correction", "values")):
            for sent in field(records, kind, name):
                assert looks_uniform(sent)
                seen.add(sent)
    assert len(seen) == 2 * (24 + 2)
    values = np.frombuffer(b"".join(seen), np.uint64)
    assert len(np.unique(values)) > len(values) - 2 * 144


def test_columns_between_providers_are_sealed_against_the_label_holder():
    """Angles of zeros are the masks, which the label holder knows; it must not find them."""
    own, parts = np.ones((4000, 1)), [np.ones((4000, 1)), np.zeros((4000, 3))]
    weight = np.linspace(0.1, 1, 4000)
    first, second = record(own, parts, weight), record(own, parts, weight)
    seen = set()
    for records in (first, second):
        (seed,) = field(records, "gram.seed", "seed")
        for column, sealed in enumerate(field(records, "gram.angles", "sealed")):
            masks = angle_masks(seed, column, 4000).astype("<u4").tobytes()
            assert len(sealed) == len(masks) + 16
            assert looks_uniform(sealed)
            matches = np.frombuffer(sealed[:-16], np.uint8) == np.frombuffer(masks, np.uint8)
            assert matches.mean() < 0.01  # one in 256 by chance
            seen.add(sealed)
    assert len(seen) == 6
    assert len({field(records, "gram.seed", "seed")[0] for records in (first, second)}) == 2


def test_what_the_other_provider_opens_is_uniform(monkeypatch):
    opened = []
    open_ = ZeroShares.open

    def opening(self, name, sealed, purpose):
        opened.append(open_(self, name, sealed, purpose))
        return opened[-1]

    monkeypatch.setattr(ZeroShares, "open", opening)
    own, parts = np.ones((4000, 1)), [np.ones((4000, 1)), np.zeros((4000, 3))]
    record(own, parts, np.ones(4000))
    assert len(opened) == len(set(opened)) == 3
    assert all(looks_uniform(angles) for angles in opened)


@pytest.mark.parametrize("weighted", [False, True])
def test_sizes_on_the_wire_do_not_depend_on_the_data(weighted):
    shapes = []
    for seed in (0, 1):
        own, parts, weight = data(n=300, seed=seed)
        records = record(own, parts, weight if weighted else None)
        # SEAL compresses public keys, so their length is random by a few bytes.
        shapes.append(
            [
                (r.sender, r.recipient, r.message.kind, r.data.size)
                for r in records
                if r.message.kind != "sums.keys"
            ]
        )
    assert sorted(shapes[0]) == sorted(shapes[1])


# ---------------------------------------------------------------------------------- arguments


def refused(error, *args, **options):
    """The error of whoever refuses first."""
    with pytest.raises(error) as caught:
        run_in_process(roles(*args, **options))
    assert caught.value.step
    return caught.value


BAD_LABEL_HOLDERS = {
    "missing value": {"own": np.full((300, 1), np.nan)},
    "another type": {"own": np.ones((300, 1), np.float32)},
    "no matrix": {"own": np.ones(300)},
    "weights of other rows": {"weight": np.ones(299)},
    "infinite weight": {"weight": np.full(300, np.inf)},
    "no weight at all": {"weight": np.zeros(300)},
    "sizes of other providers": {"sizes": [2]},
    "a provider without columns": {"sizes": [2, 0]},
    "profile for bins": {"profile": SumProfile.packed(300)},
    "profile for one vector": {
        "profile": SumProfile.dense(300, n_vectors=1, value_bits=12, weight_bits=20, sum_bits=42)
    },
    "coarse profile": {"profile": SumProfile.dense(300, n_vectors=2, value_bits=12, weight_bits=4)},
}


@pytest.mark.parametrize("case", BAD_LABEL_HOLDERS)
def test_the_label_holder_checks_its_arguments(case):
    own, parts, _ = data((2, 2), n=300, own=1)
    bad = {"own": own, "parts": parts} | BAD_LABEL_HOLDERS[case]
    assert refused(InputError, **bad).party == "platform"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_provider_refuses_missing_values(value):
    own, parts, _ = data((2, 2), n=300)
    parts[1][5, 1] = value
    assert refused(InputError, own, parts).party == "housing"


def test_a_provider_refuses_columns_without_a_shape():
    for bad in (np.zeros(300), np.zeros((300, 0)), np.zeros((300, 2), np.float32)):
        with pytest.raises(InputError):
            unit_columns(bad)


def test_parties_must_be_those_of_the_session():
    _, (part,), _ = data((2,), n=300)
    zero = ZeroShares("tax", {}, Peers([]))
    for names, me in ((["housing"], "tax"), (["tax", "housing"], "tax"), (["tax"], "housing")):
        with pytest.raises(InputError):
            run_in_process(
                {"tax": gram_provider(Peers(["platform"]), "platform", names, me, None, part, zero)}
            )


def test_the_number_of_the_label_holders_columns_is_limited():
    own, parts, _ = data((2,), n=300, own=3)
    assert refused(PolicyError, own, parts, max_own_columns=2).party == "platform"
    own, parts, _ = data((2,), n=5, own=3)
    refused(PolicyError, own, parts)


# ------------------------------------------------------------------------------------ hostile


def cut(array):
    return array[:-1].copy()


def asymmetric(block):
    out = block.copy()
    out[0, 1] += 1e-6
    return out


HOSTILE = {
    "other rows": (True, "gram.start", lambda m: {"n_rows": m.n_rows + 1}),
    "negative columns": (True, "gram.start", lambda m: {"own_columns": -1}),
    "columns without end": (False, "gram.start", lambda m: {"own_columns": 1 << 60}),
    "other sizes": (True, "gram.start", lambda m: {"sizes": m.sizes[::-1]}),
    "no sizes": (True, "gram.start", lambda m: {"sizes": ()}),
    "sizes too few": (True, "gram.start", lambda m: {"sizes": m.sizes[:1]}),
    "negative size": (True, "gram.start", lambda m: {"sizes": (m.sizes[0], -1)}),
    "huge size": (False, "gram.start", lambda m: {"sizes": (m.sizes[0], 1 << 60)}),
    "seed cut": (True, "gram.seed", lambda m: {"seed": m.seed[:-1]}),
    "seal changed": (True, "gram.angles", lambda m: {"sealed": b"x" + m.sealed[1:]}),
    "seal cut": (True, "gram.angles", lambda m: {"sealed": m.sealed[:-1]}),
    "nothing sealed": (True, "gram.angles", lambda m: {"sealed": b""}),
    "own block cut": (False, "gram.own", lambda m: {"products": cut(m.products)}),
    "own block not a number": (False, "gram.own", lambda m: {"products": m.products * np.nan}),
    "own block too large": (False, "gram.own", lambda m: {"products": m.products * 1.1}),
    "own block not symmetric": (False, "gram.own", lambda m: {"products": asymmetric(m.products)}),
    "masked column cut": (False, "gram.masked", lambda m: {"values": cut(m.values)}),
    "masked column empty": (False, "gram.masked", lambda m: {"values": m.values[:0]}),
    "corrections cut": (False, "gram.correction", lambda m: {"values": cut(m.values)}),
    "corrections of another session": (
        False,
        "gram.correction",
        lambda m: {"values": m.values * np.uint64(3)},
    ),
    "seed of common masks changed": (False, "pairwise.common", lambda m: {"sealed": bytes(48)}),
    "sums of other columns": (True, "sums.reply", lambda m: {"total_bins": m.total_bins + 1}),
    "chunk out of turn": (True, "sums.chunk", lambda m: {"first_block": 1}),
}


def tampered(kind, change):
    """Replace the first message of a kind; note who sent it."""
    senders = []

    def tamper(sender, message):
        if message.kind != kind or senders:
            return None
        senders.append(sender)
        return change(message)

    return senders, tamper


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_are_refused(case):
    weighted, kind, change = HOSTILE[case]
    own, parts, weight = data((3, 2), n=300, own=1)
    senders, tamper = tampered(kind, lambda m: dataclasses.replace(m, **change(m)))
    ends = outcome(roles(own, parts, weight if weighted else None), tamper)
    assert senders
    errors = [end for end in ends.values() if isinstance(end, FedCreditError)]
    assert isinstance(ends["platform"], FedCreditError)
    assert all(error.step for error in errors)
    if case != "corrections of another session":  # whose fault it is, cannot be known
        assert senders[0] in {error.party for error in errors}


def test_angles_of_other_rows_are_refused(monkeypatch):
    seal = ZeroShares.seal
    monkeypatch.setattr(
        ZeroShares, "seal", lambda self, name, plain, purpose: seal(self, name, plain[:-4], purpose)
    )
    own, parts, weight = data((3, 2), n=300, own=1)
    end = outcome(roles(own, parts, weight))["tax"]
    assert isinstance(end, PeerProtocolError)
    assert (end.party, end.step) == ("housing", "gram matrix")


@pytest.mark.parametrize("kind", ["gram.start", "gram.angles", "gram.own", "gram.masked"])
def test_another_message_than_expected_is_refused(kind):
    own, parts, weight = data((3, 2), n=300, own=1)
    _, tamper = tampered(kind, lambda m: GramSeed(bytes(32)))
    ends = outcome(roles(own, parts, weight if kind == "gram.angles" else None), tamper)
    found = [end.found for end in ends.values() if isinstance(end, PeerProtocolError)]
    assert "gram.seed" in found
