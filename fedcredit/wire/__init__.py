"""Messages, their Arrow encoding, signed envelopes, sans-I/O sessions and transcripts."""

from fedcredit.wire.abort import Abort
from fedcredit.wire.codec import decode, encode
from fedcredit.wire.envelope import Envelope, Identity, Opener, Sealer, new_session
from fedcredit.wire.goodbye import Goodbye
from fedcredit.wire.message import (
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
    message_class,
)
from fedcredit.wire.session import Peer, Peers, Session, route, run_in_process
from fedcredit.wire.transcript import KindCount, Record, Transcript

__all__ = [
    "Abort",
    "Envelope",
    "F64x1",
    "F64x2",
    "Goodbye",
    "I32x1",
    "I64x1",
    "I64x2",
    "I64x3",
    "Identity",
    "KindCount",
    "Message",
    "Opener",
    "Peer",
    "Peers",
    "Record",
    "Sealer",
    "Session",
    "Transcript",
    "U8x1",
    "U8x2",
    "U8x3",
    "U16x1",
    "U16x2",
    "U32x1",
    "U32x2",
    "U64x1",
    "U64x2",
    "decode",
    "encode",
    "message_class",
    "new_session",
    "route",
    "run_in_process",
]
