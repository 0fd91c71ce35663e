"""One session's message stream: reliable, in order, authenticated end to end.

What a party sends is numbered and signed (:mod:`fedcredit.wire.envelope`) and kept until the
recipient has acknowledged it; when either end's connection to the hub is renewed, everything
unacknowledged goes out again. The recipient accepts, per sender, the next number only, and
counts it only after its signature has been verified: whatever a hub loses, repeats, reorders or
invents, the role sees every message once, in order, or none.

A channel is used by one driver thread; frames come in from the link's reader thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import (
    AuthenticationError,
    FedCreditError,
    PeerProtocolError,
    PeerUnavailable,
)
from fedcredit.node.frames import PIECE_BYTES, Frame, piece_body
from fedcredit.wire import Envelope, Identity, Opener, Sealer, message_class

if TYPE_CHECKING:
    from fedcredit.node.sessions import Sessions

__all__ = ["Channel", "PeerKey", "Received", "Timeouts"]

log = logging.getLogger(__name__)

#: Bytes sent but not acknowledged, per peer; a larger single message is sent alone.
WINDOW_BYTES = 64 << 20
#: Messages and bytes of one session that may wait for its role.
MAX_INBOX = 4096
MAX_INBOX_BYTES = 4 << 30
_ALIGNMENT = 64
#: A kind this release does not know is read up to here, so that its sender can be told.
_UNKNOWN_KIND_BYTES = 64 << 10
#: Requests for another copy of an envelope whose signature failed.
_MAX_COPIES = 8
_EMPTY = pa.py_buffer(b"")


@dataclass(frozen=True)
class Timeouts:
    """How long to wait (seconds).

    Attributes
    ----------
    idle : float
        For a connected peer that owes a message.
    absence : float
        For a peer, or the hub, that is not there.
    handshake : float
        For an answer while a session is opened.
    linger : float
        For the last acknowledgements after a session's end.
    """

    idle: float = 1800.0
    absence: float = 120.0
    handshake: float = 30.0
    linger: float = 10.0


@dataclass(frozen=True)
class PeerKey:
    """A peer's process and verification key in one session.

    ``key`` is None for a peer that introduces itself with its first message. ``serving`` peers
    (providers) have one process at a time: another boot means that this one is gone.
    ``certificate`` (DER) is what the key was taken from.
    """

    boot: bytes
    key: Ed25519PublicKey | None
    serving: bool
    certificate: bytes = b""


@dataclass(frozen=True)
class Received:
    """A verified message."""

    sender: str
    kind: str
    body: pa.Buffer = field(repr=False)


class Outbox:
    """What is to be sent to one peer, and what of it is unacknowledged."""

    def __init__(self, channel: Channel, peer: str, boot: bytes) -> None:
        self.channel, self.peer, self.boot = channel, peer, boot
        self.scheduled = False
        self.bytes = 0
        self._entries: dict[int, Envelope] = {}
        self._first = self._end = self._cursor = 0
        self._offset = 0

    @property
    def empty(self) -> bool:
        """Whether everything has been acknowledged."""
        return not self._entries

    @property
    def pending(self) -> bool:
        """Whether something has not been sent on the current connection."""
        return self._cursor < self._end

    def room(self, size: int) -> bool:
        """Whether ``size`` more bytes fit the window."""
        return not self._entries or self.bytes + size <= WINDOW_BYTES

    def push(self, envelope: Envelope) -> None:
        """Append an envelope."""
        self._entries[envelope.sequence] = envelope
        self._end = envelope.sequence + 1
        self.bytes += envelope.body.size

    def next_piece(self) -> tuple[Envelope, int, pa.Buffer]:
        """Return the next piece to send with its offset, and move on."""
        envelope, offset = self._entries[self._cursor], self._offset
        piece = envelope.body.slice(offset, min(PIECE_BYTES, envelope.body.size - offset))
        self._offset += piece.size
        if self._offset >= envelope.body.size:
            self._cursor, self._offset = self._cursor + 1, 0
        return envelope, offset, piece

    def acknowledge(self, upto: int) -> bool:
        """Forget everything below ``upto``; True if that was anything."""
        if not self._first < upto <= self._end:
            return False
        for sequence in range(self._first, upto):
            self.bytes -= self._entries.pop(sequence).body.size
        self._first = upto
        if self._cursor < upto:
            self._cursor, self._offset = upto, 0
        return True

    def rewind(self) -> None:
        """Send everything unacknowledged again."""
        self._cursor, self._offset = self._first, 0

    def clear(self) -> None:
        """Give up what is unacknowledged."""
        self._entries.clear()
        self._first = self._cursor = self._end
        self._offset = self.bytes = 0


class _Inbound:
    """What arrives from one peer: the number expected and an unfinished body."""

    def __init__(self, opener: Opener | None) -> None:
        self.opener = opener
        self.expected = 0
        self.copies = 0
        self.header = b""
        self.pieces: list[pa.Buffer] = []
        self.received = 0

    def start(self, header: bytes) -> None:
        self.header, self.pieces, self.received = header, [], 0

    def body(self) -> pa.Buffer:
        """Join the pieces; the result starts at a 64-byte boundary, as array views need."""
        if len(self.pieces) == 1 and self.pieces[0].address % _ALIGNMENT == 0:
            joined = self.pieces[0]
        else:
            joined = pa.allocate_buffer(self.received)
            view, at = np.frombuffer(joined, np.uint8), 0
            for piece in self.pieces:
                view[at : at + piece.size] = np.frombuffer(piece, np.uint8)
                at += piece.size
        self.start(b"")
        return joined


class Channel:
    """A session's messages as its driver sees them. Made by :meth:`Sessions.open`.

    Parameters
    ----------
    sessions : Sessions
    session : bytes
    identity : Identity
    peers : mapping of party name to PeerKey
    timeouts : Timeouts
    introduce : callable, optional
        Given the first envelope of a peer without a key, returns its key or raises
        AuthenticationError.
    """

    def __init__(
        self,
        sessions: Sessions,
        session: bytes,
        identity: Identity,
        peers: Mapping[str, PeerKey],
        timeouts: Timeouts,
        introduce: Callable[[Envelope], Ed25519PublicKey] | None = None,
    ) -> None:
        self.session = session
        self.party = identity.name
        self.peers = dict(peers)
        self.timeouts = timeouts
        self.closed = False
        self.linger_until = float("inf")
        self.outboxes = {name: Outbox(self, name, peer.boot) for name, peer in peers.items()}
        self._sessions = sessions
        self._changed = sessions.condition()
        self._sealer = Sealer(identity, session)
        self._inbound = {
            name: _Inbound(self._opener(name, peer.key) if peer.key is not None else None)
            for name, peer in peers.items()
        }
        self._introduce = introduce
        self._inbox: deque[Received] = deque()
        self._inbox_bytes = 0
        self._failure: FedCreditError | None = None

    def __repr__(self) -> str:
        return f"Channel({self.session.hex()[:12]}, {list(self.peers)!r})"

    @property
    def keys(self) -> dict[str, Ed25519PublicKey]:
        """The peers' signing keys, as the session was opened with them."""
        return {name: peer.key for name, peer in self.peers.items() if peer.key is not None}

    def _opener(self, peer: str, key: Ed25519PublicKey) -> Opener:
        return Opener(self.party, self.session, {peer: key})

    # --- the driver's side -------------------------------------------------------------------

    def send(self, recipient: str, kind: str, body: pa.Buffer, *, urgent: bool = False) -> None:
        """Sign and queue a message; wait while the window to its recipient is full.

        Parameters
        ----------
        recipient, kind : str
        body : pyarrow.Buffer
        urgent : bool
            Neither wait nor fail (the announcement that this session ends).

        Raises
        ------
        PeerUnavailable
            The recipient or the hub stayed away too long.
        FedCreditError
            The session failed meanwhile.
        """
        outbox = self.outboxes[recipient]
        if not urgent:
            with self._sessions.lock:
                self._wait(lambda: outbox.room(body.size), recipient, self.timeouts.idle)
        # The number is taken only now that the envelope will surely be queued.
        envelope = self._sealer.seal(recipient, kind, body)
        with self._sessions.lock:
            outbox.push(envelope)
            self._sessions.schedule(outbox)

    def receive(self, waiting_for: str | None = None, timeout: float | None = None) -> Received:
        """Wait for the next message of any peer.

        Parameters
        ----------
        waiting_for : str, optional
            Named when nothing comes.
        timeout : float, optional
            Seconds; ``timeouts.idle`` by default; infinite to wait for as long as all are there.

        Raises
        ------
        PeerUnavailable
            Nothing came in time, or a peer or the hub stayed away too long.
        FedCreditError
            The session failed.
        """
        idle = self.timeouts.idle if timeout is None else timeout
        with self._sessions.lock:
            self._wait(lambda: bool(self._inbox), waiting_for, idle)
            received = self._inbox.popleft()
            self._inbox_bytes -= received.body.size
            return received

    def _wait(self, ready: Callable[[], bool], peer: str | None, idle: float) -> None:
        deadline = time.monotonic() + idle
        while not ready():
            if self._failure is not None:
                raise self._failure
            now = time.monotonic()
            if now >= deadline:
                raise PeerUnavailable(
                    f"{peer or 'a peer'} is connected but has sent nothing for {idle:.0f} s.",
                    party=peer,
                    step="wait for a message",
                    fix="see that party's log; raise [session] idle_timeout if its work takes long",
                )
            until = min(deadline, self._absence_deadline(now))
            self._changed.wait(min(until - now, threading.TIMEOUT_MAX))

    def _absence_deadline(self, now: float) -> float:
        """Return when waiting for whoever is away ends, or raise if that is past."""
        presence = self._sessions.presence
        away = presence.down_since
        if away is not None:
            if now < away + self.timeouts.absence:
                return away + self.timeouts.absence
            raise self._sessions.outage(self.timeouts.absence)
        nearest = float("inf")
        for name, peer in self.peers.items():
            away = presence.away_since(name, peer.boot)
            if away is None:
                continue
            nearest = min(nearest, away + self.timeouts.absence)
            if now >= nearest:
                raise PeerUnavailable(
                    f"{name} has been away from the hub for {self.timeouts.absence:.0f} s.",
                    party=name,
                    step="wait for a message",
                    fix=f"start {name} again, then repeat the call",
                )
        return nearest

    @property
    def failure(self) -> FedCreditError | None:
        """What has ended the session, if something has."""
        return self._failure

    def peek(self) -> Received | None:
        """Return the next message without taking it, if it is there already."""
        with self._sessions.lock:
            return self._inbox[0] if self._inbox else None

    def fail(self, error: FedCreditError) -> None:
        """End the session for its driver with ``error``; the first one counts."""
        with self._sessions.lock:
            if self._failure is None:
                self._failure = error
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more messages; what was sent is still carried until acknowledged."""
        with self._sessions.lock:
            if not self.closed:
                self.closed = True
                self.linger_until = time.monotonic() + self.timeouts.linger
                self._inbox.clear()
                self._sessions.closing(self)

    # --- the link's side ---------------------------------------------------------------------

    @property
    def flushed(self) -> bool:
        """Whether everything sent has been acknowledged."""
        return all(outbox.empty for outbox in self.outboxes.values())

    def expected(self, peer: str) -> int:
        """Return the number of the next message expected of ``peer``."""
        return self._inbound[peer].expected

    def on_acknowledged(self, frame: Frame) -> None:
        """Take note of what a peer has received (link lock held)."""
        outbox = self.outboxes.get(frame.sender)
        if outbox is None or frame.sender_boot != outbox.boot:
            return
        if outbox.acknowledge(frame.ack):
            self._changed.notify_all()
        if frame.resend:
            outbox.rewind()
            self._sessions.schedule(outbox)

    def on_piece(self, frame: Frame, batch: pa.RecordBatch) -> None:
        """Take a piece of an envelope (reader thread, no lock held).

        Raises
        ------
        PeerProtocolError
            It is malformed or oversized.
        AuthenticationError
            It is not what its sender signed for this session.
        """
        inbound = self._inbound.get(frame.sender)
        if inbound is None or frame.sender_boot != self.peers[frame.sender].boot:
            raise AuthenticationError("an envelope comes from a party outside this session.")
        header = Envelope.parse(frame.rest, _EMPTY)
        if (header.session, header.sender) != (frame.session, frame.sender):
            raise AuthenticationError("an envelope contradicts its frame.")
        if header.sequence != inbound.expected:
            # Repeated after a reconnect, or ahead of something that will be: nothing is lost.
            self._sessions.acknowledge(self, frame.sender, now=header.sequence < inbound.expected)
            return
        piece = piece_body(batch)
        kind = message_class(header.kind)
        if frame.total > (kind.max_bytes if kind is not None else _UNKNOWN_KIND_BYTES):
            raise PeerProtocolError("an envelope exceeds the size limit of its kind.")
        if frame.offset == 0:
            inbound.start(frame.rest)
        if frame.rest != inbound.header or frame.offset != inbound.received:
            raise PeerProtocolError("a piece does not continue its envelope.")
        inbound.pieces.append(piece)
        inbound.received += piece.size
        if inbound.received > frame.total or (not piece.size and frame.total):
            inbound.start(b"")
            raise PeerProtocolError("a piece does not fit its envelope.")
        if inbound.received == frame.total:
            self._complete(inbound, Envelope.parse(frame.rest, inbound.body()))

    def _complete(self, inbound: _Inbound, envelope: Envelope) -> None:
        try:
            opener = inbound.opener
            if opener is None:
                if self._introduce is None:
                    raise AuthenticationError("an envelope comes from an unknown party.")
                opener = self._opener(envelope.sender, self._introduce(envelope))
            body = opener.open(envelope)
        except AuthenticationError:
            # Damaged or forged on the way: the true one is still with its sender.
            inbound.copies += 1
            if inbound.copies <= _MAX_COPIES:
                self._sessions.acknowledge(self, envelope.sender, now=True, resend=True)
            raise
        inbound.opener, inbound.copies = opener, 0
        with self._sessions.lock:
            inbound.expected += 1
            if not self.closed:
                self._inbox.append(Received(envelope.sender, envelope.kind, body))
                self._inbox_bytes += body.size
                if len(self._inbox) > MAX_INBOX or self._inbox_bytes > MAX_INBOX_BYTES:
                    self._inbox.clear()
                    self.fail(
                        PeerProtocolError(
                            f"{envelope.sender} sent more than this session can hold.",
                            party=self.party,
                        )
                    )
                self._changed.notify_all()
            self._sessions.acknowledge(self, envelope.sender, size=body.size)

    def wake(self) -> None:
        """Let the driver look again at who is away (link lock held)."""
        self._changed.notify_all()
