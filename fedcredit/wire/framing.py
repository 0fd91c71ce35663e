"""What an Arrow IPC stream must look like before Arrow itself may read it.

A message is exactly: one schema, one uncompressed record batch, the end mark. Arrow's reader takes
far more than that (dictionaries, compressed bodies that declare their own size, buffers that
overlap, any number of batches), which would let a few bytes of a hostile peer claim any amount of
memory. So the frames and the record batch's table are walked here first, by the layout of the
Arrow columnar format ("Encapsulated message format", ``Message.fbs``) and of FlatBuffers.
"""

from __future__ import annotations

import struct
from typing import Final

from fedcredit.errors import PeerProtocolError

__all__ = ["check_stream"]

#: No message class has a schema or a batch description near this size (bytes).
MAX_METADATA: Final = 64 << 10
_CONTINUATION: Final = 0xFFFFFFFF
_ALIGNMENT: Final = 8
#: Writers pad buffers to 8 bytes, or to 64 for vector units; a wider gap hides something.
_MAX_GAP: Final = 64
# MessageHeader in Message.fbs.
_SCHEMA: Final = 1
_RECORD_BATCH: Final = 3


def check_stream(data: memoryview) -> int:
    """Check that ``data`` is one schema, one plain record batch, and the end mark.

    Parameters
    ----------
    data : memoryview of bytes, one-dimensional
        A whole Arrow IPC stream.

    Returns
    -------
    int
        The number of rows that the batch claims to have.

    Raises
    ------
    PeerProtocolError
        It is anything else. The values of the columns are not looked at.
    """
    try:
        at = _schema(data, 0)
        at, rows = _batch(data, at)
    except struct.error:
        raise PeerProtocolError("a message is truncated or malformed.") from None
    end = data[at:]
    if len(end) < _ALIGNMENT or struct.unpack_from("<II", end) != (_CONTINUATION, 0):
        raise PeerProtocolError("a message is not one record batch.")
    if len(end) > _ALIGNMENT:
        raise PeerProtocolError("a message is followed by bytes that do not belong to it.")
    return rows


def _schema(data: memoryview, at: int) -> int:
    message, kind, body, at = _frame(data, at)
    if kind != _SCHEMA or body != 0 or message.has(4):
        raise PeerProtocolError("a message does not begin with its schema.")
    return at


def _batch(data: memoryview, at: int) -> tuple[int, int]:
    message, kind, body, at = _frame(data, at)
    if kind != _RECORD_BATCH or message.has(4):
        raise PeerProtocolError("a message is not one record batch.")
    batch = message.table(2)
    if batch.has(3) or batch.has(4):
        raise PeerProtocolError("a message must not be compressed or hold views.")
    if any(nulls for _, nulls in batch.pairs(1)):
        raise PeerProtocolError("a message holds a null.")
    end = 0
    for offset, length in [*batch.pairs(2), (body, 0)]:
        if length < 0 or offset % _ALIGNMENT or not 0 <= offset - end < _MAX_GAP:
            raise PeerProtocolError("a message's buffers overlap or leave its body.")
        end = offset + length
    # The sentinel (body, 0) has just shown that the last buffer ends at the body's end.
    return at + body, batch.number(0, "<q")


def _frame(data: memoryview, at: int) -> tuple[_Table, int, int, int]:
    """Read one encapsulated message; return its table, header type, body size and body start."""
    mark, size = struct.unpack_from("<Ii", data, at)
    if mark != _CONTINUATION or not 0 < size <= MAX_METADATA or size % _ALIGNMENT:
        raise PeerProtocolError("a message has a malformed frame.")
    at += 8
    if at + size > len(data):
        raise PeerProtocolError("a message is truncated or malformed.")
    metadata = data[at : at + size]
    message = _Table(metadata, *struct.unpack_from("<I", metadata))
    body = message.number(3, "<q")
    at += size
    if not 0 <= body <= len(data) - at or body % _ALIGNMENT:
        raise PeerProtocolError("a message is truncated or malformed.")
    return message, message.number(1, "<B"), body, at


class _Table:
    """A FlatBuffers table; every access is bounds-checked (``struct.error`` outside)."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._slots = at - self._read("<i", at)
        self._slots_end = self._slots + self._read("<H", self._slots)

    def _read(self, form: str, at: int) -> int:
        if at < 0:  # struct would count from the end
            raise struct.error
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def _field(self, slot: int) -> int:
        """Return the position of a field, or 0 where the table leaves it out."""
        entry = self._slots + 4 + 2 * slot
        if entry + 2 > self._slots_end:
            return 0
        offset = self._read("<H", entry)
        return self._at + offset if offset else 0

    def has(self, slot: int) -> bool:
        return self._field(slot) != 0

    def number(self, slot: int, form: str) -> int:
        """Read a scalar; zero, FlatBuffers' default, where it is left out."""
        at = self._field(slot)
        return self._read(form, at) if at else 0

    def table(self, slot: int) -> _Table:
        """Follow the offset to another table."""
        at = self._field(slot)
        if not at:
            raise struct.error
        return _Table(self._data, at + self._read("<I", at))

    def pairs(self, slot: int) -> list[tuple[int, int]]:
        """Read a vector of structs of two 64-bit integers (FieldNode, Buffer)."""
        at = self._field(slot)
        if not at:
            return []
        at += self._read("<I", at)
        count = self._read("<I", at)
        if at + 4 + 16 * count > len(self._data):
            raise struct.error
        flat = struct.unpack_from(f"<{2 * count}q", self._data, at + 4)
        return list(zip(flat[::2], flat[1::2], strict=True))
