"""What crosses the wire during an alignment, held to the leakage tables of the protocol files."""

import hashlib

import numpy as np
import pytest

from fedcredit.crypto import okvs
from fedcredit.protocols import align_many
from fedcredit.wire import Transcript, message_class, run_in_process
from tests.support.alignment import STRATEGIES, roles, uscc

#: Numeric fields that a party may see; every other field is a key, a group element or masked data.
NUMBERS = {"size", "floor", "rows", "total", "first", "n_keys", "capacity", "queries", "wanted"}


def record(*sets, strategy="private"):
    transcript = Transcript(keep=True)
    results = run_in_process(roles(*sets, strategy=strategy), transcript=transcript)
    return transcript.records, results


def stripped(records):
    """Sender, recipient, kind, length and the plain numbers of every message, in order."""
    seen = []
    for entry in records:
        numbers = {
            name: value
            for name, value in vars(entry.message).items()
            if name in NUMBERS and not isinstance(value, np.ndarray)
        }
        seen.append((entry.sender, entry.recipient, entry.message.kind, entry.data.size, numbers))
    return sorted(seen, key=repr)


def field_bytes(records, kind, field):
    parts = [getattr(r.message, field).tobytes() for r in records if r.message.kind == kind]
    return np.frombuffer(b"".join(parts), np.uint8)


def unkeyed(item):
    """Every form of an id that anybody could compute: itself and plain hashes of it."""
    yield item
    yield item[::-1]
    yield item.hex().encode()
    for make in (hashlib.md5, hashlib.sha1, hashlib.sha256, hashlib.sha512, hashlib.sha3_256):
        yield make(item).digest()
        yield make(item).hexdigest().encode()
    for size in (8, 10, 16, 18, 32, 64):
        yield hashlib.blake2b(item, digest_size=size).digest()
    yield hashlib.blake2s(item).digest()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_id_and_no_unkeyed_hash_of_one_is_on_the_wire(strategy):
    sets = uscc(*range(60)), uscc(*range(20, 90)), uscc(*range(10, 80))
    records, _ = record(*sets, strategy=strategy)
    wire = b"|".join(entry.data.to_pybytes() for entry in records)
    windows = {wire[at : at + 8] for at in range(len(wire) - 7)}
    assert records[0].message.strategy.encode() in wire  # the search sees what is there
    for item in {item for some in sets for item in some}:
        for form in unkeyed(item):
            # 8 leading bytes are enough to recognise a (cut) hash; chance: 2^-64 per window.
            assert form[:8] not in windows


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_sizes_and_the_result_show_in_the_shape_of_a_run(strategy):
    """Other ids, other orders: the same messages, lengths and numbers."""
    one, _ = record(uscc(*range(40)), uscc(*range(30, 80)), strategy=strategy)
    other, _ = record(
        uscc(*range(9000, 8960, -1)),
        uscc(*range(5000, 5040), *range(8970, 8980)),
        strategy=strategy,
    )
    assert stripped(one) == stripped(other)


# Three parties with 30 ids each and 10 in common; of the rest, the platform shares either nothing
# or everything with the first provider.
APART = uscc(*range(30)), uscc(*range(10), *range(100, 120)), uscc(*range(10), *range(200, 220))
CLOSE = uscc(*range(30)), uscc(*range(30)), uscc(*range(10), *range(200, 220))


def test_pairwise_intersections_do_not_show_with_private():
    assert stripped(record(*APART)[0]) == stripped(record(*CLOSE)[0])


def test_pairwise_intersections_do_show_with_pairwise():
    """The price of the simpler strategy, as its leakage note says."""
    apart, close = (
        [r.message.rows for r in record(*sets, strategy="pairwise")[0] if r.message.kind == kind]
        for sets in (APART, CLOSE)
        for kind in ("align.setup",)
    )
    assert apart == [30, 10]
    assert close == [30, 30]


def test_the_platform_cannot_tell_which_provider_lacks_an_id(monkeypatch):
    """For an id that one provider lacks, both its values look random: neither is zero."""
    opened = []
    decode, receive = okvs.decode, align_many.oprf_receive

    async def receiving(peer, ids, agreement, size, on_progress=None):
        hashes, outputs = await receive(peer, ids, agreement, size, on_progress)
        opened.append(outputs[:, :8].copy().view("<u8").reshape(-1))
        return hashes, outputs

    def decoding(store, keys):
        words = decode(store, keys)
        opened[-1] = opened[-1] ^ words
        return words

    monkeypatch.setattr(align_many, "oprf_receive", receiving)
    monkeypatch.setattr(align_many.okvs, "decode", decoding)
    record(*CLOSE)
    first, second = opened
    # Ids 0 to 9 are common: both providers' values are the same share, and no constant.
    np.testing.assert_array_equal(first[:10], second[:10])
    # Ids 10 to 29: the first provider holds them, the second does not; nothing is zero or equal.
    values = np.concatenate((first, second[10:]))
    assert len(np.unique(values)) == 50
    assert (values != 0).all()


@pytest.mark.parametrize(
    ("kind", "field", "n_providers", "strategy"),
    [
        ("align.columns", "columns", 1, "private"),
        ("align.tags", "tags", 1, "private"),
        ("align.store-part", "words", 2, "private"),
        ("align.found", "tags", 2, "private"),
        ("align.choices", "ot", 1, "private"),
    ],
)
def test_what_is_received_looks_uniform_and_is_fresh(kind, field, n_providers, strategy):
    """256 byte counts by Pearson's chi-square (6 standard deviations), and no value twice."""
    sets = [uscc(*range(1500)) for _ in range(n_providers + 1)]
    seen = []
    for _ in range(2):
        records, _ = record(*sets, strategy=strategy)
        if field == "ot":
            data = np.frombuffer(
                b"".join(r.message.ot for r in records if r.message.kind == kind), np.uint8
            )
            # Group elements have an even first byte and a last byte below 128 (RFC 9496).
            data = data.reshape(-1, 32)[:, 1:31].reshape(-1)
        else:
            data = field_bytes(records, kind, field)
        counts = np.bincount(data, minlength=256)
        expected = len(data) / 256
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert abs(statistic - 255) < 6 * (2 * 255) ** 0.5
        seen.append({data[at : at + 8].tobytes() for at in range(0, len(data) - 8, 8)})
    assert not seen[0] & seen[1]


def test_cached_queries_are_fresh_although_the_list_stays():
    ids = uscc(*range(50))
    queries = [
        {
            row.tobytes()
            for r in record(ids, ids, strategy="cached")[0]
            if r.message.kind == "align.query"
            for row in r.message.elements
        }
        for _ in range(2)
    ]
    assert len(queries[0] | queries[1]) == 100


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_message_says_what_it_reveals(strategy):
    records, _ = record(*APART, strategy=strategy)
    for kind in {entry.message.kind for entry in records}:
        assert message_class(kind).reveals


def test_providers_hear_only_the_platform_and_exchange_public_keys():
    records, _ = record(*APART)
    between = [r for r in records if "platform" not in (r.sender, r.recipient)]
    assert [r.message.kind for r in between] == ["align.share-key"] * 2
