"""Round trips through the codec, and what the encoder refuses."""

import math
from dataclasses import dataclass, fields

import hypothesis.extra.numpy as hnp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.wire import (
    F64x1,
    F64x2,
    I32x1,
    I64x1,
    I64x2,
    I64x3,
    Message,
    U8x1,
    U8x2,
    U8x3,
    U16x1,
    U16x2,
    U32x1,
    U32x2,
    U64x1,
    U64x2,
    decode,
    encode,
)
from fedcredit.wire.message import fields_of


@dataclass(frozen=True, eq=False, repr=False)
class Plain(Message, kind="test-codec.plain"):
    number: int
    ratio: float
    flag: bool
    text: str
    blob: bytes
    numbers: tuple[int, ...]
    ratios: tuple[float, ...]
    texts: tuple[str, ...]
    blobs: tuple[bytes, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Arrays(Message, kind="test-codec.arrays"):
    a: F64x1
    b: F64x2
    c: I32x1
    d: I64x1
    e: I64x2
    f: I64x3
    g: U8x1
    h: U8x2
    i: U8x3
    j: U16x1
    k: U16x2
    m: U32x1
    n: U32x2
    o: U64x1
    p: U64x2


@dataclass(frozen=True, eq=False, repr=False)
class Table(Message, kind="test-codec.table", max_bytes=4096):
    table: U64x2


@dataclass(frozen=True, eq=False, repr=False)
class Bare(Message, kind="test-codec.bare"):
    """No field at all: an acknowledgement."""


@dataclass(frozen=True, eq=False, repr=False)
class Positive(Message, kind="test-codec.positive"):
    """Checks itself."""

    number: int

    def __post_init__(self) -> None:
        if self.number == -2:
            raise ZeroDivisionError(f"secret {self.number}")
        if self.number < 0:
            raise InputError("the number is negative.", fix="send another")


INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=20)
BLOB = st.binary(max_size=40)
PLAIN = st.builds(
    Plain,
    INT64,
    st.floats(),
    st.booleans(),
    TEXT,
    BLOB,
    st.lists(INT64, max_size=5).map(tuple),
    st.lists(st.floats(), max_size=5).map(tuple),
    st.lists(TEXT, max_size=5).map(tuple),
    st.lists(BLOB, max_size=5).map(tuple),
)


def _array_of(dtype: str, ndim: int) -> st.SearchStrategy:
    """Arrays of both byte orders, empty and strided ones, C and Fortran order."""
    native = np.dtype(dtype)
    shapes = hnp.array_shapes(min_dims=ndim, max_dims=ndim, min_side=0, max_side=4)
    base = hnp.arrays(st.sampled_from([native, native.newbyteorder()]), shapes)
    views = [
        lambda x: x,
        lambda x: x[::-1],
        lambda x: x[::2],
        lambda x: np.asfortranarray(x),
        lambda x: x.transpose(),
        lambda x: x[..., 1:],
    ]
    return st.tuples(base, st.sampled_from(views)).map(lambda pair: pair[1](pair[0]))


ARRAYS = st.builds(Arrays, *(_array_of(f.array.dtype, f.array.ndim) for f in fields_of(Arrays)))


def _same(sent, got) -> bool:
    if isinstance(sent, float):
        return type(got) is float and (
            sent == got or (math.isnan(sent) and math.isnan(got))
        )  # -0.0 and 0.0 are told apart by test_floats_keep_every_bit
    if isinstance(sent, tuple):
        return type(got) is tuple and len(sent) == len(got) and all(map(_same, sent, got))
    return type(sent) is type(got) and sent == got


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_plain_fields_round_trip(message):
    got = decode(encode(message))
    assert type(got) is Plain
    for field in fields(Plain):
        assert _same(getattr(message, field.name), getattr(got, field.name)), field.name


@settings(max_examples=200, deadline=None)
@given(ARRAYS)
def test_arrays_round_trip_whatever_their_layout(message):
    got = decode(encode(message))
    for field in fields_of(Arrays):
        sent, received = getattr(message, field.name), getattr(got, field.name)
        assert received.dtype == np.dtype(field.array.dtype)
        assert received.dtype.isnative
        assert received.shape == sent.shape
        assert received.flags.c_contiguous
        assert received.flags.aligned
        assert not received.flags.writeable
        np.testing.assert_array_equal(sent, received)


def test_floats_keep_every_bit():
    bits = np.array([0x7FF8000000000123, 0x8000000000000000, 0x0000000000000001], np.uint64)
    empty = {f.name: np.zeros((0,) * f.array.ndim, f.array.dtype) for f in fields_of(Arrays)}
    message = Arrays(**(empty | {"a": bits.view(np.float64)}))
    np.testing.assert_array_equal(decode(encode(message)).a.view(np.uint64), bits)
    assert math.copysign(1.0, decode(encode(_plain(ratio=-0.0))).ratio) == -1.0


def _plain(**changes) -> Plain:
    values = {
        "number": 1,
        "ratio": 0.5,
        "flag": True,
        "text": "t",
        "blob": b"b",
        "numbers": (1,),
        "ratios": (0.5,),
        "texts": ("t",),
        "blobs": (b"b",),
    }
    return Plain(**(values | changes))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (3, 7)])
def test_shapes_of_empty_arrays_survive(shape):
    assert decode(encode(Table(np.zeros(shape, np.uint64)))).table.shape == shape


def test_a_message_without_fields():
    assert type(decode(encode(Bare()))) is Bare


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, pa.py_buffer])
def test_decode_takes_any_bytes(kind):
    data = encode(Table(np.eye(3, dtype=np.uint64))).to_pybytes()
    np.testing.assert_array_equal(decode(kind(data)).table, np.eye(3))


@pytest.mark.parametrize("shift", range(1, 9))
def test_arrays_are_aligned_wherever_the_bytes_lie(shift):
    data = encode(Table(np.arange(6, dtype=np.uint64).reshape(2, 3))).to_pybytes()
    room = np.zeros(len(data) + 16, np.uint8)
    room[shift : shift + len(data)] = np.frombuffer(data, np.uint8)
    table = decode(pa.py_buffer(room)[shift : shift + len(data)]).table
    assert table.flags.aligned
    assert not table.flags.writeable
    np.testing.assert_array_equal(table, np.arange(6).reshape(2, 3))


def test_what_was_sent_is_a_copy():
    table = np.ones((2, 2), np.uint64)
    data = encode(Table(table))
    table[:] = 7
    assert decode(data).table.max() == 1


def test_a_strided_memoryview_is_taken():
    assert decode(encode(_plain(blob=memoryview(b"a-b-c")[::2]))).blob == b"abc"


def test_numpy_scalars_and_byte_likes_are_taken():
    got = decode(
        encode(
            _plain(
                number=np.uint16(7),
                ratio=np.float32(0.5),
                flag=np.bool_(False),
                blob=memoryview(b"xy"),
                numbers=[np.int8(-1), 2],
                ratios=(1, 0.5),
                blobs=(bytearray(b"z"),),
            )
        )
    )
    assert (got.number, got.ratio, got.flag, got.blob) == (7, 0.5, False, b"xy")
    assert (got.numbers, got.ratios, got.blobs) == ((-1, 2), (1.0, 0.5), (b"z",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", 1.5),
        ("number", 1.0),
        ("number", True),
        ("number", None),
        ("number", "1"),
        ("number", 2**63),
        ("number", np.uint64(2**63)),
        ("number", np.zeros(1, np.int64)),
        ("ratio", True),
        ("ratio", "0.5"),
        ("ratio", 1j),
        ("ratio", 10**400),
        ("flag", 1),
        ("flag", "yes"),
        ("text", b"t"),
        ("text", None),
        ("text", "\ud800"),
        ("blob", "text"),
        ("blob", None),
        ("blob", 5),
        ("numbers", 5),
        ("numbers", None),
        ("numbers", (1, None)),
        ("numbers", (1, 0.5)),
        ("numbers", (True,)),
        ("ratios", (0.5, None)),
        ("texts", "text"),
        ("texts", ("a", b"b")),
        ("blobs", b"blob"),
        ("blobs", (b"a", "b")),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(InputError, match=rf"test-codec\.plain\.{name} does not hold") as caught:
        encode(_plain(**{name: value}))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2), np.uint32),
        np.zeros((2, 2)),
        np.zeros((2, 2), bool),
        np.zeros(4, np.uint64),
        np.zeros((2, 2, 1), np.uint64),
        np.full((2, 2), "secret", object),
        None,
    ],
    ids=lambda table: "none" if table is None else f"{table.dtype}{table.ndim}",
)
def test_an_array_of_another_type_or_rank_is_refused(table):
    with pytest.raises(InputError, match=r"test-codec\.table\.table must be u8 with 2") as caught:
        encode(Table(table))
    assert "secret" not in str(caught.value)


def test_the_size_limit_counts_the_encoded_bytes():
    most = max(n for n in range(400, 512) if _size(n) <= 4096)
    assert encode(Table(np.zeros((1, most), np.uint64))).size <= 4096
    with pytest.raises(InputError, match=r"exceeds its limit of 4096.*smaller blocks"):
        encode(Table(np.zeros((1, most + 1), np.uint64)))


def _size(n: int) -> int:
    @dataclass(frozen=True, eq=False, repr=False)
    class Measured(Message, kind="test-codec.sized"):  # as long a name as "test-codec.table"
        table: U64x2

    return encode(Measured(np.zeros((1, n), np.uint64))).size


def test_a_class_that_refuses_its_values_does_so_in_its_own_words():
    fine = encode(Positive(5)).to_pybytes()
    at = fine.index((5).to_bytes(8, "little"), 300)

    def changed(value: int) -> bytes:
        return fine[:at] + value.to_bytes(8, "little", signed=True) + fine[at + 8 :]

    assert decode(changed(6)).number == 6
    with pytest.raises(PeerProtocolError, match=r"refused: the number is negative\..*send another"):
        decode(changed(-1))
    with pytest.raises(PeerProtocolError, match=r"could not be decoded \(ZeroDivisionError\)") as e:
        decode(changed(-2))
    assert "secret" not in str(e.value)


def test_large_arrays_are_copied_once_by_encode_and_never_by_decode():
    @dataclass(frozen=True, eq=False, repr=False)
    class Large(Message, kind="test-codec.large"):
        block: U8x2

    size = 32 << 20
    message = Large(np.zeros((32, 1 << 20), np.uint8))
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    data = encode(message)
    assert size < pool.bytes_allocated() - before < size + 65536
    got = decode(data)
    assert pool.bytes_allocated() - before < size + 65536
    inside = got.block.__array_interface__["data"][0] - data.address
    assert 0 < inside < data.size - size + 1
