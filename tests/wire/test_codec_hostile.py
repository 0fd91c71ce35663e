"""What a hostile peer may send: only PeerProtocolError comes of it, at bounded cost."""

import random
import struct
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from fedcredit.errors import PeerProtocolError
from fedcredit.wire import I64x3, Message, U8x1, U64x2, decode, encode
from fedcredit.wire.message import schema_of


@dataclass(frozen=True, eq=False, repr=False)
class Mixed(Message, kind="test-hostile.mixed", version=3, max_bytes=1 << 16):
    number: int
    ratio: float
    flag: bool
    text: str
    blob: bytes
    numbers: tuple[int, ...]
    ratios: tuple[float, ...]
    texts: tuple[str, ...]
    blobs: tuple[bytes, ...]
    table: U64x2
    cube: I64x3
    flat: U8x1


@dataclass(frozen=True, eq=False, repr=False)
class Grid(Message, kind="test-hostile.grid"):
    size: int
    grid: U64x2


MIXED = Mixed(
    7,
    2.5,
    True,
    "grüße",
    b"\x00\x01",
    (1, -2),
    (0.5, -0.0),
    ("a", "", "bcd"),
    (b"", b"xy"),
    np.arange(6, dtype=np.uint64).reshape(2, 3),
    np.arange(4, dtype=np.int64).reshape(1, 2, 2),
    np.arange(9, dtype=np.uint8),
)
GRID = Grid(3, np.arange(6, dtype=np.uint64).reshape(2, 3))


def _stream(schema, *batches, **options) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _batch(message) -> pa.RecordBatch:
    with pa.ipc.open_stream(encode(message)) as reader:
        return reader.read_next_batch()


def _columns(**changes) -> dict[str, pa.Array]:
    batch = _batch(GRID)
    return {name: batch.column(name) for name in batch.schema.names} | changes


def _grid(columns, metadata=None, **options) -> bytes:
    """Write the Grid message with other columns; types and nullability follow the class."""
    declared = schema_of(Grid)
    names = {name: declared.field(name) for name in declared.names}
    fields = [
        names[name] if name in names and names[name].type == array.type else (name, array.type)
        for name, array in columns.items()
    ]
    schema = pa.schema(fields, metadata=metadata or declared.metadata)
    return _stream(
        schema, pa.RecordBatch.from_arrays([*columns.values()], schema=schema), **options
    )


def _body_size(data: bytes) -> int:
    reader = pa.ipc.MessageReader.open_stream(data)
    reader.read_next_message()
    return reader.read_next_message().body.size


def _list(values, kind=None) -> pa.Array:
    return pa.array([values], kind or pa.list_(pa.int64()))


def test_the_writer_of_these_tests_makes_acceptable_streams():
    assert decode(_grid(_columns())).size == 3


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (lambda: b"", "truncated"),
        (lambda: b"\x00" * 64, "malformed frame"),
        (lambda: _stream(schema_of(Grid)), "malformed frame"),
        (lambda: _stream(schema_of(Grid), _batch(GRID), _batch(GRID)), "not one record batch"),
        (lambda: _stream(schema_of(Grid), _batch(GRID).slice(0, 0)), "not one row"),
        (
            lambda: _stream(
                schema_of(Grid),
                pa.Table.from_batches([_batch(GRID)] * 2).combine_chunks().to_batches()[0],
            ),
            "not one row",
        ),
        (lambda: encode(GRID).to_pybytes() + b"\x00" * 8, "bytes that do not belong"),
        (lambda: encode(GRID).to_pybytes() * 2, "bytes that do not belong"),
        (lambda: encode(GRID).to_pybytes()[:-8], "not one record batch"),
        (lambda: _stream(schema_of(Grid), _batch(GRID), compression="zstd"), "compressed"),
        (lambda: _stream(schema_of(Grid), _batch(GRID), compression="lz4"), "compressed"),
        (lambda: _stream(schema_of(Grid), _batch(GRID), use_legacy_format=True), "malformed frame"),
        (lambda: _grid(_columns(), {"fedcredit.version": "1"}), "unknown kind"),
        (lambda: _grid(_columns(), {"fedcredit.kind": "no.such"}), "unknown kind"),
        (lambda: _grid(_columns(), {"fedcredit.kind": b"\xff"}), "unknown kind"),
        (lambda: _grid(_columns(), {"fedcredit.kind": Grid.kind}), "another version than 1"),
        (
            lambda: _grid(_columns(), {"fedcredit.kind": Grid.kind, "fedcredit.version": "2"}),
            "another version than 1.*same release",
        ),
        (
            lambda: _grid(_columns(), {**schema_of(Grid).metadata, b"more": b"x"}),
            "another schema",
        ),
        (lambda: _grid(_columns(more=pa.array([1]))), "another schema"),
        (lambda: _grid({k: v for k, v in _columns().items() if k != "size"}), "another schema"),
        (lambda: _grid(dict(reversed(_columns().items()))), "another schema"),
        (lambda: _grid(_columns(size=pa.array([1.0]))), "another schema"),
        (lambda: _grid(_columns(size=pa.array([1], pa.int32()))), "another schema"),
        (lambda: _grid(_columns(size=pa.array([1]).dictionary_encode())), "another schema|batch"),
        (lambda: _grid(_columns(size=pa.array([None], pa.int64()))), "holds a null"),
        (
            lambda: _grid(_columns(grid=_list([1, None] * 3, pa.large_list(pa.uint64())))),
            "holds a null",
        ),
        (lambda: _grid(_columns(**{"grid.shape": _list([2, None])})), "holds a null"),
        (lambda: _grid(_columns(**{"grid.shape": _list([2, 4])})), "does not fill its shape"),
        (lambda: _grid(_columns(**{"grid.shape": _list([-2, -3])})), "malformed shape"),
        (lambda: _grid(_columns(**{"grid.shape": _list([6])})), "malformed shape"),
        (lambda: _grid(_columns(**{"grid.shape": _list([1, 2, 3])})), "malformed shape"),
        (lambda: _grid(_columns(**{"grid.shape": _list([2**33, 2**31])})), "malformed shape"),
        (
            lambda: _grid(
                _columns(
                    grid=_list([], pa.large_list(pa.uint64())), **{"grid.shape": _list([0, 2**62])}
                )
            ),
            "malformed shape",
        ),
    ],
)
def test_anything_but_one_exact_message_is_refused(data, match):
    with pytest.raises(PeerProtocolError, match=match):
        decode(data())


def test_a_message_above_its_limit_is_refused_before_its_columns_are_read():
    schema = schema_of(Mixed)
    columns = [
        pa.array([b"x" * Mixed.max_bytes], pa.large_binary()) if name == "blob" else column
        for name, column in zip(schema.names, _batch(MIXED).columns, strict=True)
    ]
    data = _stream(schema, pa.RecordBatch.from_arrays(columns, schema=schema))
    with pytest.raises(PeerProtocolError, match="exceeds its limit of 65536"):
        decode(data)


def test_a_schema_of_absurd_size_is_refused_before_arrow_builds_it():
    schema = pa.schema([(f"c{i}", pa.int64()) for i in range(5000)])
    batch = pa.RecordBatch.from_arrays([pa.array([1])] * 5000, schema=schema)
    with pytest.raises(PeerProtocolError, match="malformed frame"):
        decode(_stream(schema, batch))


@pytest.mark.parametrize("extra", [8, 56, 64, 4096])
def test_bytes_cannot_hide_between_the_buffers_and_the_end(extra):
    data, size = encode(GRID).to_pybytes(), _body_size(encode(GRID).to_pybytes())
    at = data.index(struct.pack("<q", size), 400)
    longer = data[:at] + struct.pack("<q", size + extra) + data[at + 8 : -8]
    longer += bytes(extra) + data[-8:]
    assert _body_size(longer) == size + extra
    if extra < 64:  # another writer's padding
        assert decode(longer).size == GRID.size
    else:
        with pytest.raises(PeerProtocolError, match="overlap or leave its body"):
            decode(longer)


def test_metadata_beside_the_batch_are_refused():
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema_of(Grid)) as writer:
        writer.write_batch(_batch(GRID), custom_metadata={"more": "x"})
    with pytest.raises(PeerProtocolError, match="not one record batch"):
        decode(sink.getvalue())


@pytest.mark.parametrize("pack", [(5, 6), (0, 5), (0, 7), (-1, 6), (0, 2**40), (6, 0)], ids=str)
def test_list_offsets_must_span_exactly_the_values(pack):
    data = encode(GRID).to_pybytes()
    sound = struct.pack("<qq", 0, 6)
    at = data.rindex(sound)  # in the body; the batch's own table has such a pair too
    assert at >= len(data) - 8 - _body_size(data)
    with pytest.raises(PeerProtocolError):
        decode(data[:at] + struct.pack("<qq", *pack) + data[at + 16 :])


@pytest.mark.parametrize("pack", [(0, 8), (1, 9), (9, 9)], ids=str)
def test_a_list_hides_no_values_outside_its_offsets(pack):
    data = encode(MIXED).to_pybytes()
    at = data.rindex(struct.pack("<qq", 0, 9))
    with pytest.raises(PeerProtocolError, match="flat holds more than its list"):
        decode(data[:at] + struct.pack("<qq", *pack) + data[at + 16 :])


def test_text_must_be_utf8():
    data = encode(MIXED).to_pybytes()
    raw = "grüße".encode()
    assert data.count(raw) == 1
    with pytest.raises(PeerProtocolError):
        decode(data.replace(raw, b"\xff" * len(raw)))


def test_errors_quote_nothing_of_the_message():
    data = encode(MIXED).to_pybytes().replace("grüße".encode(), b"SECRET\xff")
    with pytest.raises(PeerProtocolError) as caught:
        decode(data)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# --- mutations ------------------------------------------------------------------------------

WORDS32 = (0, 1, 8, 0x7F, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS64 = (0, 1, 8, 2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _byte(data: bytearray, rng: random.Random) -> bytearray:
    data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def _word32(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(0, len(data) - 4, 4)
    data[at : at + 4] = struct.pack("<I", rng.choice((*WORDS32, rng.randrange(256))))
    return data


def _word64(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(0, len(data) - 8, 8)
    data[at : at + 8] = struct.pack("<Q", rng.choice((*WORDS64, rng.randrange(256))))
    return data


def _move(data: bytearray, rng: random.Random) -> bytearray:
    size = 8 * rng.randrange(1, 8)
    a, b = (rng.randrange(0, len(data) - size, 4) for _ in range(2))
    data[a : a + size] = data[b : b + size]
    return data


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    a = rng.randrange(len(data))
    del data[a : a + rng.choice((1, 4, 8, 64, len(data)))]
    return data


def _insert(data: bytearray, rng: random.Random) -> bytearray:
    a = rng.randrange(0, len(data) + 1)
    data[a:a] = rng.randbytes(rng.choice((1, 4, 8, 64)))
    return data


MUTATIONS = (_flip, _flip, _byte, _word32, _word64, _move, _cut, _insert)


def _only_peer_errors(data: bytes) -> bool:
    """Decode; whatever comes back must be a message that can be used."""
    try:
        message = decode(data)
    except PeerProtocolError:
        return False
    repr(message)
    for value in vars(message).values():
        if isinstance(value, np.ndarray):
            value.sum()
    encode(message)
    return True


@pytest.mark.parametrize("message", [MIXED, GRID], ids=["mixed", "grid"])
def test_thousands_of_mutations(message):
    rng = random.Random(20240501)
    sound = encode(message).to_pybytes()
    before = pa.total_allocated_bytes()
    slowest, accepted = 0.0, 0
    for _ in range(6000):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            if len(data) > 80:
                data = rng.choice(MUTATIONS)(data, rng)
        start = time.process_time()
        accepted += _only_peer_errors(bytes(data))
        slowest = max(slowest, time.process_time() - start)
    # Values may change unseen (envelopes are signed for that); the frame may not.
    assert 0 < accepted < 3000
    assert slowest < 1.0
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_one_bit_of_every_byte():
    sound = bytearray(encode(GRID).to_pybytes())
    for at in range(len(sound)):
        bit = 1 << (at * 5 % 8)
        sound[at] ^= bit
        _only_peer_errors(bytes(sound))
        sound[at] ^= bit


def test_every_truncation():
    sound = encode(MIXED).to_pybytes()
    for size in range(len(sound)):
        with pytest.raises(PeerProtocolError):
            decode(sound[:size])


def test_splices_of_two_messages():
    rng = random.Random(7)
    one, two = encode(MIXED).to_pybytes(), encode(GRID).to_pybytes()
    for _ in range(2000):
        a, b = rng.randrange(0, len(one), 8), rng.randrange(0, len(two), 8)
        _only_peer_errors(one[:a] + two[b:])
        _only_peer_errors(two[:b] + one[a:])


def test_random_bytes():
    rng = random.Random(11)
    head = encode(GRID).to_pybytes()[:8]
    for size in [*range(64), *(rng.randrange(4096) for _ in range(1500))]:
        with pytest.raises(PeerProtocolError):
            decode(rng.randbytes(size))
        with pytest.raises(PeerProtocolError):
            decode(head + rng.randbytes(size))


@pytest.mark.parametrize("claim", [1 << 33, 1 << 40, 1 << 62])
def test_a_declared_uncompressed_size_allocates_nothing(claim):
    table = np.zeros((100, 100), np.uint64)
    data = bytearray(_stream(schema_of(Grid), _batch(Grid(1, table)), compression="zstd"))
    at = data.index(struct.pack("<q", table.nbytes), 400)
    data[at : at + 8] = struct.pack("<q", claim)
    before = pa.total_allocated_bytes()
    with pytest.raises(PeerProtocolError, match="compressed"):
        decode(bytes(data))
    assert pa.total_allocated_bytes() == before
