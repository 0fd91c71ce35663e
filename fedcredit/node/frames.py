"""What travels on a stream between a party and the hub.

A frame is one Flight chunk: its metadata are the header below, and, for a piece of an envelope,
a batch of one row and one binary column holds the piece. The hub reads the header's routing part
and passes the rest on as it came.

============  ====================================  ==============================================
type          from, to                              carries
============  ====================================  ==============================================
ENVELOPE      party, party                          the signed header and a piece of the body
ACK           party, party                          ``ack`` only: everything below it has arrived
RESET         party, party                          the session is unknown here
PING, PONG    party, hub and back                   nothing; keeps the stream known to be alive
HUB           hub, party                            JSON: welcome, online, offline, goodbye
============  ====================================  ==============================================

Header, little endian: magic ``FC``, version, type, boots of sender and recipient (16 each),
session (32), ``ack`` (8), offset and total of the body (8 each), flags, lengths of both names
(1 each), names, then the rest (an envelope's header, or JSON). ``ack`` is the sequence number
that its sender expects next from the recipient in this session, so every envelope acknowledges
what came the other way. Acknowledgements and resets are not signed: forging them delays or ends
a session, which a hub could do anyhow by carrying nothing.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fedcredit.errors import PeerProtocolError

__all__ = [
    "BOOT_BYTES",
    "MAX_PIECE_BYTES",
    "PIECE_BYTES",
    "PROTOCOL",
    "SCHEMA",
    "Frame",
    "FrameType",
    "check_piece",
    "piece_batch",
    "piece_body",
]

#: Version of the stream; parties and hub must speak the same.
PROTOCOL = 1
#: Length of a boot identifier: random, new whenever a process starts.
BOOT_BYTES = 16
#: Bodies are sent in pieces of at most this size (bytes).
PIECE_BYTES = 4 << 20
#: A larger piece is refused (bytes).
MAX_PIECE_BYTES = 64 << 20
MAX_HEADER_BYTES = 8 << 10
SCHEMA = pa.schema([pa.field("piece", pa.large_binary(), nullable=False)])

_MAGIC = b"FC"
_FIXED = struct.Struct("<2sBB16s16s32sQQQBBB")
_NO_BOOT = bytes(BOOT_BYTES)
_NO_SESSION = bytes(32)
_MAX_NAME = 63


class FrameType(enum.IntEnum):
    """What a frame is."""

    ENVELOPE = 1
    ACK = 2
    RESET = 3
    PING = 4
    PONG = 5
    HUB = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's header.

    Attributes
    ----------
    type : FrameType
    sender, recipient : str
        Party names; empty for frames from or to the hub.
    sender_boot, recipient_boot : bytes
        The processes concerned: a party that restarted does not receive what was meant for its
        predecessor.
    session : bytes
    ack : int
        Next sequence number expected from the recipient.
    offset, total : int
        Position of the piece and size of the body (bytes).
    resend : bool
        An acknowledgement that asks for everything from ``ack`` on once more.
    rest : bytes
        An envelope's header, or JSON from the hub.
    """

    type: FrameType
    sender: str = ""
    recipient: str = ""
    sender_boot: bytes = _NO_BOOT
    recipient_boot: bytes = _NO_BOOT
    session: bytes = _NO_SESSION
    ack: int = 0
    offset: int = 0
    total: int = 0
    resend: bool = False
    rest: bytes = b""

    def encode(self) -> bytes:
        """Return the header's bytes."""
        names = self.sender.encode("ascii"), self.recipient.encode("ascii")
        fixed = _FIXED.pack(
            _MAGIC,
            PROTOCOL,
            self.type,
            self.sender_boot,
            self.recipient_boot,
            self.session,
            self.ack,
            self.offset,
            self.total,
            self.resend,
            len(names[0]),
            len(names[1]),
        )
        return b"".join((fixed, *names, self.rest))

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """Read a header.

        Raises
        ------
        PeerProtocolError
            The bytes are not a frame of this protocol version.
        """
        if not _FIXED.size <= len(data) <= MAX_HEADER_BYTES:
            raise PeerProtocolError("a frame has a malformed header.")
        magic, version, kind, sender_boot, recipient_boot, session, *rest = _FIXED.unpack_from(data)
        ack, offset, total, flags, first, second = rest
        end = _FIXED.size + first + second
        if magic != _MAGIC or version != PROTOCOL or flags > 1 or end > len(data):
            raise PeerProtocolError("a frame has a malformed header.")
        if max(first, second) > _MAX_NAME:
            raise PeerProtocolError("a frame has a malformed header.")
        try:
            sender = data[_FIXED.size : _FIXED.size + first].decode("ascii")
            recipient = data[_FIXED.size + first : end].decode("ascii")
            frame_type = FrameType(kind)
        except ValueError:
            raise PeerProtocolError("a frame has a malformed header.") from None
        return cls(
            frame_type,
            sender,
            recipient,
            sender_boot,
            recipient_boot,
            session,
            ack,
            offset,
            total,
            bool(flags),
            data[end:],
        )

    def answer(self, kind: FrameType, *, ack: int = 0) -> Frame:
        """Return a frame of ``kind`` in the opposite direction of the same session."""
        return replace(
            self,
            type=kind,
            sender=self.recipient,
            recipient=self.sender,
            sender_boot=self.recipient_boot,
            recipient_boot=self.sender_boot,
            ack=ack,
            offset=0,
            total=0,
            resend=False,
            rest=b"",
        )


def piece_batch(piece: pa.Buffer) -> pa.RecordBatch:
    """Wrap a piece of a body, without a copy, as the batch that carries it."""
    offsets = pa.py_buffer(np.array([0, piece.size], np.int64))
    column = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, piece])
    return pa.RecordBatch.from_arrays([column], schema=SCHEMA)


def check_piece(batch: pa.RecordBatch) -> int:
    """Return the size of a piece's batch (bytes), or raise PeerProtocolError."""
    try:
        if batch.schema != SCHEMA or batch.num_rows != 1 or batch.nbytes > MAX_PIECE_BYTES + 64:
            raise PeerProtocolError("a frame's body is malformed or too large.")
        # Offsets are taken as they come by every later access: check them first.
        batch.validate(full=True)
        if batch.column(0).null_count:
            raise PeerProtocolError("a frame's body is malformed or too large.")
        return int(batch.nbytes)
    except (pa.ArrowException, ValueError):
        raise PeerProtocolError("a frame's body is malformed or too large.") from None


def piece_body(batch: pa.RecordBatch) -> pa.Buffer:
    """Check a piece's batch and return the piece, without a copy.

    Raises
    ------
    PeerProtocolError
        The batch is not one row of one binary column within the size limit.
    """
    check_piece(batch)
    return batch.column(0)[0].as_buffer()
