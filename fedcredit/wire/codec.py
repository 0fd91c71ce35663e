"""One message is one Arrow IPC stream of one record batch with one row.

The schema's metadata carry the kind and the version. A decoder accepts exactly the schema that
the class declares: unknown kinds, other versions, missing or extra columns, nulls, compressed or
trailing bytes, shapes that do not fit and anything above the class's size limit are refused with
:class:`~fedcredit.errors.PeerProtocolError` before a value is looked at.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from fedcredit.errors import FedCreditError, InputError, PeerProtocolError
from fedcredit.wire.framing import check_stream
from fedcredit.wire.message import Field, Message, fields_of, message_class, schema_of

__all__ = ["decode", "encode"]

#: The end mark of an Arrow IPC stream (bytes).
_END_BYTES = 8
#: What a field of each element type takes, and as what it travels. Nothing that loses a value
#: does (a float for an ``int``, a ``bool`` for a number, text for bytes).
_ACCEPTED: dict[pa.DataType, tuple[tuple[type, ...], type]] = {
    pa.int64(): ((int, np.integer), int),
    pa.float64(): ((float, int, np.floating, np.integer), float),
    pa.bool_(): ((bool, np.bool_), bool),
    pa.utf8(): ((str,), str),
    pa.large_binary(): ((bytes, bytearray, memoryview), bytes),
}


def encode(message: Message) -> pa.Buffer:
    """Encode a message; array and ``bytes`` fields are copied once.

    Parameters
    ----------
    message : Message
        Arrays may have any memory layout and byte order; they arrive C-contiguous and native.

    Returns
    -------
    pyarrow.Buffer

    Raises
    ------
    InputError
        A field does not have its declared type, or the message exceeds its size limit.
    """
    cls = type(message)
    schema = schema_of(cls)
    columns: list[pa.Array] = []
    for field in fields_of(cls):
        columns.extend(_columns(cls, field, getattr(message, field.name)))
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    # The exact size is known before a byte is written: nothing grows, nothing is copied twice.
    size = schema.serialize().size + pa.ipc.get_record_batch_size(batch) + _END_BYTES
    if size > cls.max_bytes:
        raise InputError(
            f"a {cls.kind} message of {size} bytes exceeds its limit of {cls.max_bytes}.",
            step="encode",
            fix="send it in smaller blocks",
        )
    buffer = pa.allocate_buffer(size)
    with pa.FixedSizeBufferWriter(buffer) as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    return buffer


def _columns(cls: type[Message], field: Field, value: Any) -> list[pa.Array]:
    if field.array is not None:
        return _array_columns(cls, field, value)
    try:
        if field.is_tuple:
            if not isinstance(value, tuple | list):
                raise TypeError
            items = [_checked(field.type.value_type, item) for item in value]
            return [pa.array([items], field.type)]
        if field.type == pa.large_binary():
            return [_binary(value)]
        return [pa.array([_checked(field.type, value)], field.type)]
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        # The cause may quote the value: it is dropped, not chained.
        raise InputError(
            f"{cls.kind}.{field.name} does not hold its declared type ({type(error).__name__}).",
            step="encode",
        ) from None


def _checked(kind: pa.DataType, value: Any) -> Any:
    accepted, plain = _ACCEPTED[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        raise TypeError
    return plain(value)


def _binary(value: Any) -> pa.Array:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError
    if isinstance(value, memoryview) and not value.c_contiguous:
        value = value.tobytes()
    data = pa.py_buffer(value)
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def _array_columns(cls: type[Message], field: Field, value: Any) -> list[pa.Array]:
    assert field.array is not None
    dtype = np.dtype(field.array.dtype)
    array = np.asarray(value)
    if array.dtype.newbyteorder("=") != dtype or array.ndim != field.array.ndim:
        raise InputError(
            f"{cls.kind}.{field.name} must be {field.array.dtype} with {field.array.ndim} "
            f"dimensions, not {array.dtype} with {array.ndim}.",
            step="encode",
        )
    flat = pa.array(np.ascontiguousarray(array, dtype).reshape(-1))
    offsets = pa.array([0, array.size], pa.int64())
    out = [pa.LargeListArray.from_arrays(offsets, flat)]
    if array.ndim > 1:
        out.append(pa.array([list(array.shape)], pa.list_(pa.int64())))
    return out


def decode(data: pa.Buffer | bytes | memoryview) -> Message:
    """Decode and check a message.

    Parameters
    ----------
    data : bytes-like
        What :func:`encode` made.

    Returns
    -------
    Message
        Arrays are read-only views of ``data``.

    Raises
    ------
    PeerProtocolError
        The bytes are not exactly one message of a known kind, version and size, or the class
        refused their values.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    try:
        rows = check_stream(memoryview(buffer))
        cls, batch = _read(buffer, rows)
        values = {field.name: _value(cls, field, batch) for field in fields_of(cls)}
        return cls(**values)
    except PeerProtocolError:
        raise
    except FedCreditError as error:
        raise PeerProtocolError(f"a message was refused: {error.reason}", fix=error.fix) from None
    except Exception as error:
        # Whatever a hostile peer provokes in a library or in a class's own checks is the peer's
        # error. The cause may quote bytes of the message: it is dropped, not chained.
        raise PeerProtocolError(
            f"a message could not be decoded ({type(error).__name__})."
        ) from None


def _read(buffer: pa.Buffer, rows: int) -> tuple[type[Message], pa.RecordBatch]:
    with pa.ipc.open_stream(pa.BufferReader(buffer)) as reader:
        meta = reader.schema.metadata or {}
        cls = message_class(meta.get(b"fedcredit.kind", b"").decode("ascii", "replace"))
        if cls is None:
            raise PeerProtocolError("a message of an unknown kind arrived.")
        if buffer.size > cls.max_bytes:
            raise PeerProtocolError(
                f"a {cls.kind} message of {buffer.size} bytes exceeds its limit of {cls.max_bytes}."
            )
        if meta.get(b"fedcredit.version") != str(cls.version).encode():
            raise PeerProtocolError(
                f"{cls.kind} arrived in another version than {cls.version}.",
                fix="run the same release of fedcredit at every party",
            )
        if not reader.schema.equals(schema_of(cls), check_metadata=True):
            raise PeerProtocolError(f"{cls.kind} arrived with another schema.")
        # Without a column there is no row either (a mere acknowledgement).
        if rows != (1 if fields_of(cls) else 0):
            raise PeerProtocolError(f"{cls.kind} is not one row.")
        batch = reader.read_next_batch()
    batch.validate(full=True)
    return cls, batch


def _value(cls: type[Message], field: Field, batch: pa.RecordBatch) -> Any:
    column = batch.column(batch.schema.get_field_index(field.name))
    if field.array is not None:
        return _array(cls, field, batch, _items(cls, field, column))
    if field.is_tuple:
        return tuple(_items(cls, field, column).to_numpy(zero_copy_only=False).tolist())
    if field.type == pa.large_binary():
        return _bytes(column)
    return column[0].as_py()


def _bytes(column: pa.Array) -> bytes:
    # Indexing the column would make a scalar of its own copy first.
    _, offsets, data = column.buffers()
    begin, end = np.frombuffer(offsets, np.int64, 2).tolist()
    return data[begin:end].to_pybytes() if data is not None else b""


def _items(cls: type[Message], field: Field, column: pa.Array) -> pa.Array:
    """Return the one list of a list column, which must be all that the column holds."""
    items = column[0].values
    if len(items) != len(column.values):
        raise PeerProtocolError(f"{cls.kind}.{field.name} holds more than its list.")
    return items


def _array(cls: type[Message], field: Field, batch: pa.RecordBatch, items: pa.Array) -> Any:
    assert field.array is not None
    flat = items.to_numpy(zero_copy_only=True)
    if not flat.flags.aligned:  # a body at an odd address; compiled kernels need aligned data
        flat = flat.copy()
        flat.flags.writeable = False
    if field.array.ndim == 1:
        return flat
    column = batch.column(batch.schema.get_field_index(f"{field.name}.shape"))
    shape = _items(cls, field, column).to_numpy().tolist()
    # An empty array may still state a huge extent, which a role would then trust.
    if len(shape) != field.array.ndim or not all(0 <= n <= cls.max_bytes for n in shape):
        raise PeerProtocolError(f"{cls.kind}.{field.name} has a malformed shape.")
    if math.prod(shape) != flat.size:
        raise PeerProtocolError(f"{cls.kind}.{field.name} does not fill its shape.")
    return flat.reshape(shape)
