"""What a link's writer sends next. Guarded by the link's lock."""

from __future__ import annotations

import threading
import time
from collections import deque

import pyarrow as pa

from fedcredit.node.channel import Channel, Outbox
from fedcredit.node.frames import Frame, FrameType
from fedcredit.node.presence import Presence

__all__ = ["Sender"]

#: A silent stream is kept known to be alive by a ping every so often (seconds).
PING_SECONDS = 20.0
#: An acknowledgement waits this long for an envelope to travel on (seconds), or this many bytes.
ACK_SECONDS = 0.05
ACK_BYTES = 8 << 20


class Sender:
    """Queues of a link, served in this order.

    1. control frames: acknowledgements that ask for a copy, resets, last acknowledgements;
    2. acknowledgements that are due; most travel with an envelope and never become due;
    3. pieces of envelopes, one piece per peer and session in turn;
    4. a ping if nothing was said for long.

    Parameters
    ----------
    party : str
    boot : bytes
    presence : Presence
    work : threading.Condition
        Notified when there is something new to send.
    """

    def __init__(
        self, party: str, boot: bytes, presence: Presence, work: threading.Condition
    ) -> None:
        self._party, self._boot = party, boot
        self._presence = presence
        self._work = work
        self._control: deque[Frame] = deque()
        self._acks: dict[tuple[bytes, str], tuple[Channel, float]] = {}
        self._ack_bytes = 0
        self._ready: deque[Outbox] = deque()
        self._last_ping = 0.0

    def connected(self) -> None:
        """Start over on a new connection."""
        self._control.clear()
        self._last_ping = time.monotonic()

    def disconnected(self) -> None:
        """Forget what was about to be sent; outboxes are scheduled again on arrival."""
        for outbox in self._ready:
            outbox.scheduled = False
        self._ready.clear()

    def control(self, frame: Frame) -> None:
        """Queue a control frame."""
        self._control.append(frame)
        self._work.notify()

    def schedule(self, outbox: Outbox) -> None:
        """Queue what an outbox holds, if its recipient is there."""
        here = (outbox.peer, outbox.boot) in self._presence
        if outbox.pending and not outbox.scheduled and here:
            outbox.scheduled = True
            self._ready.append(outbox)
            self._work.notify()

    def acknowledge(
        self, channel: Channel, peer: str, *, size: int = 0, now: bool = False, resend: bool = False
    ) -> None:
        """Have ``peer`` told what has arrived: at once, or with the next envelope to it."""
        self._ack_bytes += size
        if resend:
            self.control(self._ack_frame(channel, peer, resend=True))
        elif now or self._ack_bytes > ACK_BYTES:
            self._acks[channel.session, peer] = channel, 0.0
            self._work.notify()
        elif (channel.session, peer) not in self._acks:
            # No notify: the writer looks at the clock often enough while a session is open.
            self._acks[channel.session, peer] = channel, time.monotonic() + ACK_SECONDS

    def finish(self, channel: Channel) -> None:
        """Have everything acknowledged at once that a closing channel has received."""
        for peer in channel.peers:
            if self._acks.pop((channel.session, peer), None) is not None:
                self.control(self._ack_frame(channel, peer))

    def next(self, now: float) -> tuple[Frame, pa.Buffer | None] | None:
        """Return the next frame to write and its piece of a body, or None."""
        if self._control:
            return self._control.popleft(), None
        for (session, peer), (channel, due) in self._acks.items():
            if due <= now:
                del self._acks[session, peer]
                self._ack_bytes = 0
                return self._ack_frame(channel, peer), None
        while self._ready:
            outbox = self._ready.popleft()
            outbox.scheduled = False
            if outbox.pending:
                return self._piece_frame(outbox)
        if now - self._last_ping > PING_SECONDS:
            self._last_ping = now
            return Frame(FrameType.PING), None
        return None

    def seconds_until_due(self, now: float, *, busy: bool) -> float:
        """Return how long the writer may sleep; ``busy`` while a session is open."""
        return ACK_SECONDS if busy else max(0.0, self._last_ping + PING_SECONDS - now)

    def _ack_frame(self, channel: Channel, peer: str, *, resend: bool = False) -> Frame:
        return Frame(
            FrameType.ACK,
            self._party,
            peer,
            self._boot,
            channel.peers[peer].boot,
            channel.session,
            channel.expected(peer),
            resend=resend,
        )

    def _piece_frame(self, outbox: Outbox) -> tuple[Frame, pa.Buffer]:
        envelope, offset, piece = outbox.next_piece()
        self.schedule(outbox)
        channel = outbox.channel
        self._acks.pop((channel.session, outbox.peer), None)
        frame = Frame(
            FrameType.ENVELOPE,
            self._party,
            outbox.peer,
            self._boot,
            outbox.boot,
            channel.session,
            channel.expected(outbox.peer),
            offset,
            envelope.body.size,
            rest=envelope.header(),
        )
        return frame, piece
