"""One message is one Arrow IPC stream of one record batch with one row.

The schema's metadata carry the kind and the version. A decoder accepts exactly the schema that
the class declares: unknown kinds, other versions, missing or extra columns, nulls, trailing
bytes, shapes that do not fit and anything above the class's size limit are refused with
:class:`~fedcredit.errors.PeerProtocolError` before a value is looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.wire.message import Field, Message, fields_of, message_class, schema_of

__all__ = ["decode", "encode"]


def encode(message: Message) -> pa.Buffer:
    """Encode a message.

    Parameters
    ----------
    message : Message

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
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    buffer = sink.getvalue()
    if buffer.size > cls.max_bytes:
        raise InputError(
            f"a {cls.kind} message of {buffer.size} bytes exceeds its limit of {cls.max_bytes}.",
            step="encode",
            fix="send it in smaller blocks",
        )
    return buffer


def _columns(cls: type[Message], field: Field, value: Any) -> list[pa.Array]:
    if field.array is None:
        try:
            return [pa.array([list(value) if field.is_tuple else value], field.type)]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{cls.kind}.{field.name} has the wrong type.") from error
    array = np.asarray(value)
    if array.dtype != np.dtype(field.array.dtype) or array.ndim != field.array.ndim:
        raise InputError(
            f"{cls.kind}.{field.name} must be {field.array.dtype} with {field.array.ndim} "
            f"dimensions, not {array.dtype} with {array.ndim}."
        )
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
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
        The bytes are not exactly one message of a known kind, version and size.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    try:
        cls, batch = _read(buffer)
        values = {field.name: _value(cls, field, batch) for field in fields_of(cls)}
        return cls(**values)
    except PeerProtocolError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OSError, OverflowError, KeyError) as error:
        # The cause may quote bytes of the message: it is dropped, not chained.
        raise PeerProtocolError(
            f"a message could not be decoded ({type(error).__name__})."
        ) from None


def _read(buffer: pa.Buffer) -> tuple[type[Message], pa.RecordBatch]:
    source = pa.BufferReader(buffer)
    with pa.ipc.open_stream(source) as reader:
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
        batch = reader.read_next_batch()
        batch.validate(full=True)
        if batch.num_rows != 1 or any(column.null_count for column in batch.columns):
            raise PeerProtocolError(f"{cls.kind} must be one row without nulls.")
        try:
            reader.read_next_batch()
        except StopIteration:
            pass
        else:
            raise PeerProtocolError(f"{cls.kind} carries more than one batch.")
    if source.tell() != buffer.size:
        raise PeerProtocolError(f"{cls.kind} is followed by bytes that do not belong to it.")
    return cls, batch


def _value(cls: type[Message], field: Field, batch: pa.RecordBatch) -> Any:
    column = batch.column(batch.schema.get_field_index(field.name))
    if field.array is None:
        value = column[0].as_py()
        if not field.is_tuple:
            return value
        if any(item is None for item in value):
            raise PeerProtocolError(f"{cls.kind}.{field.name} holds a null.")
        return tuple(value)
    items = column[0].values
    if items.null_count:
        raise PeerProtocolError(f"{cls.kind}.{field.name} holds a null.")
    flat = items.to_numpy(zero_copy_only=True)
    if field.array.ndim == 1:
        return flat
    shape = batch.column(batch.schema.get_field_index(f"{field.name}.shape"))[0].as_py()
    if len(shape) != field.array.ndim or any(size is None or size < 0 for size in shape):
        raise PeerProtocolError(f"{cls.kind}.{field.name} has a malformed shape.")
    size = 1
    for extent in shape:
        size *= extent
    if size != flat.size:
        raise PeerProtocolError(f"{cls.kind}.{field.name} does not fill its shape.")
    return flat.reshape(shape)
