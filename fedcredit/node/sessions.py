"""A party's open sessions: which frame belongs to which channel, and who is there for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import FedCreditError, PeerProtocolError, SessionLost, TransportError
from fedcredit.node.certs import Credentials
from fedcredit.node.channel import Channel, Outbox, PeerKey, Timeouts
from fedcredit.node.frames import Frame, FrameType
from fedcredit.node.presence import Presence
from fedcredit.node.sender import Sender
from fedcredit.wire import Envelope

__all__ = ["PROPOSAL_KIND", "Sessions"]

log = logging.getLogger(__name__)

#: The kind of message that may open a session which is not known yet.
PROPOSAL_KIND = "session.propose"
_MAX_FINISHED = 4096


class Sessions:
    """Dispatches frames to channels. One lock guards it, its channels, presence and sender.

    Parameters
    ----------
    credentials : Credentials
    boot : bytes
        This process.
    timeouts : Timeouts
    outage : callable
        Given seconds, returns why the hub is away, as an error.
    on_proposal : callable, optional
        Given the frame and batch of a proposed session's first envelope.

    Attributes
    ----------
    lock : threading.RLock
    work, state : threading.Condition
        Notified when there is something to send; when anything else has changed.
    presence : Presence
    sender : Sender
    """

    def __init__(
        self,
        credentials: Credentials,
        boot: bytes,
        timeouts: Timeouts,
        outage: Callable[[float], TransportError],
        on_proposal: Callable[[Frame, pa.RecordBatch], None] | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.work = threading.Condition(self.lock)
        self.state = threading.Condition(self.lock)
        self.presence = Presence()
        self.sender = Sender(credentials.party, boot, self.presence, self.work)
        self.outage = outage
        self._credentials = credentials
        self._process = credentials.party, boot
        self._timeouts = timeouts
        self._on_proposal = on_proposal
        self._channels: dict[bytes, Channel] = {}
        #: Recent sessions, each with the peers that have not learned how it ended here.
        self._finished: OrderedDict[bytes, frozenset[str]] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether a session is open or not yet acknowledged."""
        return bool(self._channels)

    def open(
        self,
        session: bytes,
        peers: Mapping[str, PeerKey],
        introduce: Callable[[Envelope], Ed25519PublicKey] | None = None,
    ) -> Channel:
        """Register a session; its frames are dispatched from now on.

        Raises
        ------
        PeerProtocolError
            The session is known already.
        """
        channel = Channel(
            self, session, self._credentials.identity, peers, self._timeouts, introduce
        )
        with self.lock:
            if session in self._channels or session in self._finished:
                raise PeerProtocolError("a session was opened twice.", party=self._process[0])
            self._channels[session] = channel
            self._check_boots(channel)
        return channel

    # --- what channels ask for ---------------------------------------------------------------

    def condition(self) -> threading.Condition:
        """Return a new condition on the lock."""
        return threading.Condition(self.lock)

    def schedule(self, outbox: Outbox) -> None:
        """Let the writer send what an outbox holds (lock held)."""
        self.sender.schedule(outbox)

    def acknowledge(
        self, channel: Channel, peer: str, *, size: int = 0, now: bool = False, resend: bool = False
    ) -> None:
        """Have a peer told what has arrived, at once or with the next envelope to it."""
        with self.lock:
            urgent = now or channel.closed
            self.sender.acknowledge(channel, peer, size=size, now=urgent, resend=resend)

    def closing(self, channel: Channel) -> None:
        """Retire a channel that takes no more messages once it is flushed (lock held)."""
        self.sender.finish(channel)
        self._retire_if_done(channel, time.monotonic())
        self.work.notify()

    def _retire_if_done(self, channel: Channel, now: float) -> None:
        if not channel.closed or not (channel.flushed or now >= channel.linger_until):
            return
        untold = frozenset(peer for peer, box in channel.outboxes.items() if not box.empty)
        for outbox in channel.outboxes.values():
            outbox.clear()
        # Peers may still wait for these; afterwards the session is only known by name.
        self.sender.finish(channel)
        if self._channels.pop(channel.session, None) is not None:
            self._finished[channel.session] = untold
            while len(self._finished) > _MAX_FINISHED:
                self._finished.popitem(last=False)
        self.work.notify()
        self.state.notify_all()

    # --- what the link tells -----------------------------------------------------------------

    @property
    def owed(self) -> bool:
        """Whether a peer that is there has yet to acknowledge something (lock held)."""
        return any(
            not outbox.empty and (outbox.peer, outbox.boot) in self.presence
            for channel in self._channels.values()
            for outbox in channel.outboxes.values()
        )

    def close_all(self) -> None:
        """Close every channel (lock held)."""
        for channel in list(self._channels.values()):
            channel.close()

    def fail_all(self, error: FedCreditError) -> None:
        """End every session with ``error`` (lock held)."""
        for channel in self._channels.values():
            channel.fail(error)

    def wake_all(self) -> None:
        """Let everybody who waits look again (lock held)."""
        for channel in self._channels.values():
            channel.wake()
        self.work.notify_all()
        self.state.notify_all()

    def sweep(self, now: float) -> float:
        """Retire what has lingered long enough; return when the next is due (lock held)."""
        if now >= self._next_linger():
            for channel in list(self._channels.values()):
                self._retire_if_done(channel, now)
        return self._next_linger()

    def _next_linger(self) -> float:
        return min(
            (channel.linger_until for channel in self._channels.values()), default=float("inf")
        )

    def disconnected(self) -> None:
        """Take note that the connection to the hub is lost."""
        with self.lock:
            self.presence.disconnected()
            self.sender.disconnected()
            self.wake_all()

    def on_notice(self, notice: Mapping[str, Any]) -> None:
        """Take in a hub's notice of who is there; send what arrivals may have missed.

        Raises
        ------
        PeerProtocolError
            The notice is malformed.
        """
        with self.lock:
            arrived = self.presence.update(notice)
            if notice["event"] == "welcome":
                self.sender.connected()
            for channel in self._channels.values():
                self._check_boots(channel)
                for outbox in channel.outboxes.values():
                    if (outbox.peer, outbox.boot) in arrived:
                        outbox.rewind()
                        self.schedule(outbox)
            self.wake_all()

    def _check_boots(self, channel: Channel) -> None:
        for party, boot in self.presence.serving().items():
            peer = channel.peers.get(party)
            if peer is not None and peer.serving and peer.boot != boot:
                channel.outboxes[party].clear()
                channel.fail(
                    SessionLost(
                        f"{party} has restarted and lost this session.",
                        party=party,
                        step="wait for a message",
                        fix="open the session again",
                    )
                )

    def dispatch(self, frame: Frame, batch: pa.RecordBatch | None) -> None:
        """Hand a party's frame to its channel (reader thread, no lock held).

        Raises
        ------
        PeerProtocolError, AuthenticationError
            The frame is refused; nothing has changed by it.
        """
        if (frame.recipient, frame.recipient_boot) != self._process:
            raise PeerProtocolError("a frame is addressed to another party.")
        with self.lock:
            channel = self._channels.get(frame.session)
            if channel is not None:
                channel.on_acknowledged(frame)
                self._retire_if_done(channel, time.monotonic())
                if channel.closed:
                    # Whoever waits for what is owed looks again: it may have been the last of
                    # it, although the channel still keeps something for a peer that is away.
                    self.state.notify_all()
        if frame.type is FrameType.ENVELOPE:
            if batch is None:
                raise PeerProtocolError("an envelope came without a body.")
            if channel is not None:
                channel.on_piece(frame, batch)
            else:
                self._on_unknown(frame, batch)
        elif frame.type is FrameType.RESET and channel is not None:
            self._on_reset(channel, frame)

    def _on_reset(self, channel: Channel, frame: Frame) -> None:
        peer = channel.peers.get(frame.sender)
        if peer is None or peer.boot != frame.sender_boot:
            raise PeerProtocolError("a party outside a session tried to end it.")
        with self.lock:
            channel.outboxes[frame.sender].clear()
            channel.fail(
                SessionLost(f"{frame.sender} no longer knows this session.", party=frame.sender)
            )
            self._retire_if_done(channel, time.monotonic())
            self.state.notify_all()

    def _on_unknown(self, frame: Frame, batch: pa.RecordBatch) -> None:
        envelope = Envelope.parse(frame.rest, pa.py_buffer(b""))
        with self.lock:
            untold = self._finished.get(frame.session)
        if untold is None and envelope.kind == PROPOSAL_KIND and self._on_proposal is not None:
            self._on_proposal(frame, batch)
            return
        if untold is None or frame.sender in untold:
            answer = frame.answer(FrameType.RESET)
        else:
            # The session is over here; its peer only wants to know that this arrived.
            answer = frame.answer(FrameType.ACK, ack=envelope.sequence + 1)
        with self.lock:
            self.sender.control(answer)
