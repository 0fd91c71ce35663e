"""A party's link to the hub: connects, connects again, resends, acknowledges, dispatches.

Two threads: the reader owns the connection (connect, read, reconnect) and hands frames to
channels; the writer sends, in this order, control frames, due acknowledgements and pieces of
messages, one piece per peer and session in turn. One lock guards all state.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import (
    AuthenticationError,
    FedCreditError,
    PeerProtocolError,
    PeerUnavailable,
    SessionLost,
    TransportError,
)
from fedcredit.node.certs import Credentials, TlsMaterial
from fedcredit.node.channel import Channel, Outbox, PeerKey, Timeouts
from fedcredit.node.connection import HubConnection
from fedcredit.node.frames import BOOT_BYTES, Frame, FrameType
from fedcredit.wire import Envelope

__all__ = ["Backoff", "Link"]

log = logging.getLogger(__name__)

_PING_SECONDS = 20.0
_QUIET_SECONDS = 90.0
#: An acknowledgement waits this long for an envelope to travel on (seconds), or this many bytes.
_ACK_SECONDS = 0.05
_ACK_BYTES = 8 << 20
_MAX_FINISHED = 4096


@dataclass(frozen=True)
class Backoff:
    """Waiting times between attempts to connect: exponential with full jitter, bounded.

    Attributes
    ----------
    first, limit : float
        Seconds.
    refusals : int
        Attempts after which a refused certificate is final; it may also look like an outage.
    """

    first: float = 0.1
    limit: float = 10.0
    refusals: int = 5

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number ``attempt`` (from 0)."""
        ceiling = min(self.limit, self.first * 2.0 ** min(attempt, 30))
        # Jitter spreads the parties' return after a hub's restart; it is no secret.
        return ceiling * random.uniform(0.5, 1.0)


class Link:
    """A party's connection to the hub, held for the life of the process.

    Parameters
    ----------
    credentials : Credentials
    tls : TlsMaterial
    uri : str
        ``grpc+tls://host:port`` of the hub.
    hub_name : str
        The party whose certificate the hub must show.
    on_proposal : callable, optional
        Called in the reader thread with the frame and batch of a proposed session's first
        envelope; a link with it serves, one without only opens sessions.
    timeouts : Timeouts
    backoff : Backoff
    on_event : callable, optional
        Told ``(what, detail)``: ``connected``, ``disconnected``, ``refused``.

    Attributes
    ----------
    boot : bytes
        This process; a party that restarts has another one.
    refused : int
        Frames and envelopes that were refused.
    """

    def __init__(
        self,
        credentials: Credentials,
        tls: TlsMaterial,
        uri: str,
        *,
        hub_name: str = "platform",
        on_proposal: Callable[[Frame, Envelope, pa.RecordBatch], None] | None = None,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        self.credentials = credentials
        self.party = credentials.party
        self.uri, self.hub_name = uri, hub_name
        self.boot = secrets.token_bytes(BOOT_BYTES)
        self.timeouts = timeouts or Timeouts()
        self.refused = 0
        self.lock = threading.RLock()
        self.tls = tls
        self._on_proposal = on_proposal
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self._work = threading.Condition(self.lock)
        self._state = threading.Condition(self.lock)
        self._closing = threading.Event()
        self._connection: HubConnection | None = None
        self._down_since: float | None = time.monotonic()
        self._up_since = 0.0
        self._last_heard = self._last_ping = 0.0
        self._last_error: TransportError | None = None
        self._fatal: TransportError | None = None
        self._present: dict[tuple[str, bytes], bool] = {}
        self._left: dict[tuple[str, bytes], float] = {}
        self._channels: dict[bytes, Channel] = {}
        self._finished: OrderedDict[bytes, None] = OrderedDict()
        self._control: deque[Frame] = deque()
        self._acks: dict[tuple[bytes, str], float] = {}
        self._ack_bytes = 0
        self._ready: deque[Outbox] = deque()
        self._threads = [
            threading.Thread(target=self._run_reader, name=f"link-read-{self.party}", daemon=True),
            threading.Thread(target=self._run_writer, name=f"link-write-{self.party}", daemon=True),
        ]

    def __repr__(self) -> str:
        return f"Link({self.party!r}, {self.uri!r})"

    # --- life --------------------------------------------------------------------------------

    def start(self) -> Link:
        """Start connecting in the background; return self."""
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Wait for the last acknowledgements (``timeouts.linger``), then disconnect."""
        deadline = time.monotonic() + self.timeouts.linger
        with self.lock:
            for channel in list(self._channels.values()):
                channel.close()
            while any(map(self._owes, self._channels.values())) and self._fatal is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._state.wait(left):
                    break
            self._closing.set()
            connection = self._connection
            self._wake_all()
        if connection is not None:
            connection.cancel()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(self.timeouts.linger)

    def _owes(self, channel: Channel) -> bool:
        """Whether a peer that is there has yet to acknowledge something."""
        return any(not o.empty and self._here(o) for o in channel.outboxes.values())

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait for the hub.

        Raises
        ------
        PeerUnavailable
            Not within ``timeout`` seconds (``timeouts.absence`` by default).
        AuthenticationError
            The hub does not admit this party, or a certificate was refused repeatedly.
        """
        seconds = self.timeouts.absence if timeout is None else timeout
        with self.lock:
            self._state.wait_for(lambda: self._connection is not None or self._fatal, seconds)
            if self._connection is None:
                raise self.outage(seconds)

    def wait_fatal(self) -> TransportError | None:
        """Wait until the link is closed (None) or cannot go on (the reason)."""
        with self.lock:
            self._state.wait_for(lambda: self._closing.is_set() or self._fatal is not None)
            return None if self._closing.is_set() else self._fatal

    def wait_for(self, parties: Sequence[str], timeout: float | None = None) -> dict[str, bytes]:
        """Wait until every party is connected and serves; return their boots.

        Raises
        ------
        PeerUnavailable
            A party is named that is not there within ``timeout`` seconds
            (``timeouts.absence`` by default), or the hub is away.
        """
        seconds = self.timeouts.absence if timeout is None else timeout
        deadline = time.monotonic() + seconds
        with self.lock:
            while True:
                serving = {party: boot for (party, boot), serves in self._present.items() if serves}
                missing = [party for party in parties if party not in serving]
                if self._fatal is not None:
                    raise self._fatal
                if not missing and self._connection is not None:
                    return {party: serving[party] for party in parties}
                left = deadline - time.monotonic()
                if left <= 0:
                    if self._connection is None:
                        raise self.outage(seconds)
                    raise PeerUnavailable(
                        f"not connected to the hub: {', '.join(missing)}.",
                        party=missing[0],
                        step="open a session",
                        fix="start `fedcredit party start` there, then repeat the call",
                    )
                self._state.wait(left)

    def outage(self, seconds: float) -> TransportError:
        """Return why the hub is away, as an error to raise."""
        if self._fatal is not None:
            return self._fatal
        last = self._last_error
        if last is not None:
            return last
        return PeerUnavailable(
            f"the hub at {self.uri} has been away for {seconds:.0f} s.",
            party=self.party,
            step="connect to the hub",
            fix="check that the hub runs",
        )

    # --- channels ----------------------------------------------------------------------------

    def condition(self) -> threading.Condition:
        """Return a condition on the link's lock."""
        return threading.Condition(self.lock)

    def open_channel(
        self,
        session: bytes,
        peers: Mapping[str, PeerKey],
        *,
        introduce: Callable[[Envelope], Ed25519PublicKey] | None = None,
    ) -> Channel:
        """Register a session; its frames are dispatched from now on.

        Raises
        ------
        PeerProtocolError
            The session is known already.
        """
        channel = Channel(self, session, self.credentials.identity, peers, self.timeouts, introduce)
        with self.lock:
            if session in self._channels or session in self._finished:
                raise PeerProtocolError("a session was opened twice.", party=self.party)
            self._channels[session] = channel
            self._check_boots(channel)
        return channel

    def schedule(self, outbox: Outbox) -> None:
        """Let the writer send what an outbox holds (lock held)."""
        if outbox.pending and not outbox.scheduled and self._here(outbox):
            outbox.scheduled = True
            self._ready.append(outbox)
            self._work.notify()

    def _here(self, outbox: Outbox) -> bool:
        return (outbox.peer, outbox.boot) in self._present

    def acknowledge(
        self, channel: Channel, peer: str, *, size: int = 0, now: bool = False, resend: bool = False
    ) -> None:
        """Have a peer told what has arrived, at once or with the next envelope to it."""
        with self.lock:
            key = channel.session, peer
            self._ack_bytes += size
            if resend or channel.session not in self._channels:
                self._control.append(self._ack_frame(channel, peer, resend=resend))
                self._work.notify()
            elif now or self._ack_bytes > _ACK_BYTES:
                self._acks[key] = 0.0
                self._work.notify()
            elif key not in self._acks:
                # No notify: the writer looks at the clock often enough while a session is open.
                self._acks[key] = time.monotonic() + _ACK_SECONDS

    def closing(self, channel: Channel) -> None:
        """Retire a channel that takes no more messages once it is flushed (lock held)."""
        for key in self._acks:
            if key[0] == channel.session:
                self._acks[key] = 0.0
        self._retire_if_done(channel, time.monotonic())
        self._work.notify()

    def _retire_if_done(self, channel: Channel, now: float) -> None:
        if not channel.closed or not (channel.flushed or now >= channel.linger_until):
            return
        for outbox in channel.outboxes.values():
            outbox.clear()
        for peer in channel.peers:
            # Peers may still wait for these; afterwards the session is only known by name.
            if self._acks.pop((channel.session, peer), None) is not None:
                self._control.append(self._ack_frame(channel, peer))
        if self._channels.pop(channel.session, None) is not None:
            self._finished[channel.session] = None
            while len(self._finished) > _MAX_FINISHED:
                self._finished.popitem(last=False)
        self._work.notify()
        self._state.notify_all()

    def _ack_frame(self, channel: Channel, peer: str, *, resend: bool = False) -> Frame:
        return Frame(
            FrameType.ACK,
            self.party,
            peer,
            self.boot,
            channel.peers[peer].boot,
            channel.session,
            channel.expected(peer),
            resend=resend,
        )

    # --- who is there ------------------------------------------------------------------------

    def away_since(self, party: str | None, boot: bytes) -> float | None:
        """Return since when a peer's process (None: the hub) is away, or None (lock held)."""
        if party is None:
            return self._down_since
        if (party, boot) in self._present:
            return None
        return max(self._left.get((party, boot), 0.0), self._up_since)

    def is_present(self, party: str, boot: bytes) -> bool:
        """Whether a peer's process is connected, or the hub is away and nobody can tell."""
        with self.lock:
            return self._down_since is not None or (party, boot) in self._present

    def _on_hub(self, frame: Frame) -> None:
        try:
            event = json.loads(frame.rest)
            kind = event["event"]
            if kind == "welcome":
                self._on_welcome({_who(entry): bool(entry["serving"]) for entry in event["online"]})
            elif kind == "online":
                with self.lock:
                    self._present[_who(event)] = bool(event["serving"])
                    self._on_arrival({_who(event)})
            elif kind == "offline":
                with self.lock:
                    if self._present.pop(_who(event), None) is not None:
                        self._left[_who(event)] = time.monotonic()
                        while len(self._left) > _MAX_FINISHED:
                            self._left.pop(next(iter(self._left)))
                    self._wake_all()
            elif kind == "goodbye":
                self._on_goodbye(str(event["code"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise PeerProtocolError("the hub sent a malformed notice.") from None

    def _on_welcome(self, online: dict[tuple[str, bytes], bool]) -> None:
        with self.lock:
            self._present = online
            self._up_since = time.monotonic()
            self._down_since = self._last_error = None
            self._control.clear()
            self._on_arrival(set(online))
        log.info("%s is connected to the hub at %s", self.party, self.uri)
        self._tell("connected", self.uri)

    def _on_arrival(self, arrived: set[tuple[str, bytes]]) -> None:
        """Send what these processes may have missed; find out whose predecessor is gone."""
        for channel in self._channels.values():
            self._check_boots(channel)
            for outbox in channel.outboxes.values():
                if (outbox.peer, outbox.boot) in arrived:
                    outbox.rewind()
                    self.schedule(outbox)
        self._wake_all()

    def _check_boots(self, channel: Channel) -> None:
        for (party, boot), serving in self._present.items():
            peer = channel.peers.get(party)
            if peer is not None and peer.serving and serving and peer.boot != boot:
                channel.outboxes[party].clear()
                channel.fail(
                    SessionLost(
                        f"{party} has restarted and lost this session.",
                        party=party,
                        step="wait for a message",
                        fix="open the session again",
                    )
                )

    def _on_goodbye(self, code: str) -> None:
        if code == "replaced":
            self._give_up(
                AuthenticationError(
                    "another process of this party serves at the hub now.",
                    party=self.party,
                    step="serve",
                    fix="run one `fedcredit party start` per party",
                )
            )
        connection = self._connection
        if connection is not None:
            connection.finish()

    def _give_up(self, error: TransportError) -> None:
        with self.lock:
            self._fatal = error
            for channel in list(self._channels.values()):
                channel.fail(error)
            self._wake_all()

    def _wake_all(self) -> None:
        for channel in self._channels.values():
            channel.wake()
        self._work.notify_all()
        self._state.notify_all()

    def _tell(self, what: str, detail: str) -> None:
        if self._on_event is not None:
            self._on_event(what, detail)

    # --- the reader --------------------------------------------------------------------------

    def _run_reader(self) -> None:
        attempt = refusals = 0
        while not self._closing.is_set() and self._fatal is None:
            try:
                connection = HubConnection(
                    self.uri,
                    self.tls,
                    self.hub_name,
                    boot=self.boot,
                    serve=self._on_proposal is not None,
                )
            except TransportError as error:
                refusals = refusals + 1 if isinstance(error, AuthenticationError) else 0
                self._failed(error, final=refusals >= self._backoff.refusals)
                self._closing.wait(self._backoff.delay(attempt))
                attempt += 1
                continue
            if self._read(connection):
                attempt = refusals = 0
            # Also after a connection that broke at once, so that a hub is not hammered.
            self._closing.wait(self._backoff.delay(attempt))
            attempt += 1

    def _failed(self, error: TransportError, *, final: bool) -> None:
        with self.lock:
            self._last_error = error
        log.warning("%s", error)
        self._tell("refused" if final else "disconnected", str(error))
        if final:
            self._give_up(error)

    def _read(self, connection: HubConnection) -> bool:
        """Read one connection to its end; whether it was welcomed."""
        with self.lock:
            self._connection = connection
            self._last_heard = self._last_ping = time.monotonic()
            if self._closing.is_set():
                connection.cancel()
        welcomed = False
        while True:
            try:
                item = connection.read()
                if item is None:
                    break
                self._last_heard = time.monotonic()
                self._dispatch(*item)
                if not welcomed:
                    welcomed = True
                    with self.lock:
                        self._state.notify_all()
            except FedCreditError as error:
                self.refused += 1
                log.warning("%s refused a frame: %s", self.party, error.reason)
            except Exception:
                self.refused += 1
                log.exception("%s failed on a frame", self.party)
        with self.lock:
            self._connection = None
            if self._down_since is None:
                self._down_since = time.monotonic()
            self._present.clear()
            self._ready.clear()
            for channel in self._channels.values():
                for outbox in channel.outboxes.values():
                    outbox.scheduled = False
            self._wake_all()
        connection.close()
        if welcomed and not self._closing.is_set():
            log.warning("%s lost its connection to the hub", self.party)
            self._tell("disconnected", self.uri)
        return welcomed

    def _dispatch(self, frame: Frame, batch: pa.RecordBatch | None) -> None:
        if frame.type is FrameType.HUB:
            self._on_hub(frame)
            return
        if frame.type is FrameType.PONG:
            return
        if (frame.recipient, frame.recipient_boot) != (self.party, self.boot):
            raise PeerProtocolError("a frame is addressed to another party.")
        with self.lock:
            channel = self._channels.get(frame.session)
            if channel is not None:
                channel.on_acknowledged(frame)
                self._retire_if_done(channel, time.monotonic())
        if frame.type is FrameType.ENVELOPE and batch is not None:
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

    def _on_unknown(self, frame: Frame, batch: pa.RecordBatch) -> None:
        envelope = Envelope.parse(frame.rest, pa.py_buffer(b""))
        with self.lock:
            finished = frame.session in self._finished
        if finished:
            # The session is over here; its peer only wants to know that this arrived.
            answer = frame.answer(FrameType.ACK)
            self._send_control(
                Frame(
                    FrameType.ACK,
                    answer.sender,
                    answer.recipient,
                    answer.sender_boot,
                    answer.recipient_boot,
                    answer.session,
                    envelope.sequence + 1,
                )
            )
        elif self._on_proposal is not None and envelope.sequence == 0:
            self._on_proposal(frame, envelope, batch)
        else:
            self._send_control(frame.answer(FrameType.RESET))

    def _send_control(self, frame: Frame) -> None:
        with self.lock:
            self._control.append(frame)
            self._work.notify()

    # --- the writer --------------------------------------------------------------------------

    def _run_writer(self) -> None:
        while True:
            with self.lock:
                while (item := self._next_frame()) is None:
                    if self._closing.is_set():
                        return
                    self._work.wait(self._idle_seconds())
                connection, frame, piece = item
            if not connection.write(frame, piece):
                connection.cancel()
                with self.lock:
                    if self._connection is connection:
                        # The reader notices the end and connects again; until then, nothing.
                        self._ready.clear()
                        self._work.wait(self._backoff.first)

    def _next_frame(self) -> tuple[HubConnection, Frame, pa.Buffer | None] | None:
        now = time.monotonic()
        for channel in list(self._channels.values()) if now >= self._next_linger() else ():
            self._retire_if_done(channel, now)
        connection = self._connection
        if connection is None or self._down_since is not None:
            return None
        if now - self._last_heard > _QUIET_SECONDS:
            connection.cancel()
            return None
        if self._control:
            return connection, self._control.popleft(), None
        for (session, peer), due in self._acks.items():
            if due <= now:
                del self._acks[session, peer]
                self._ack_bytes = 0
                return connection, self._ack_frame(self._channels[session], peer), None
        while self._ready:
            outbox = self._ready.popleft()
            outbox.scheduled = False
            if outbox.pending:
                return connection, *self._piece_frame(outbox)
        if now - self._last_ping > _PING_SECONDS:
            self._last_ping = now
            return connection, Frame(FrameType.PING), None
        return None

    def _piece_frame(self, outbox: Outbox) -> tuple[Frame, pa.Buffer]:
        envelope, offset, piece = outbox.next_piece()
        self.schedule(outbox)
        channel = outbox.channel
        self._acks.pop((channel.session, outbox.peer), None)
        frame = Frame(
            FrameType.ENVELOPE,
            self.party,
            outbox.peer,
            self.boot,
            outbox.boot,
            channel.session,
            channel.expected(outbox.peer),
            offset,
            envelope.body.size,
            rest=envelope.header(),
        )
        return frame, piece

    def _next_linger(self) -> float:
        return min(
            (channel.linger_until for channel in self._channels.values()), default=float("inf")
        )

    def _idle_seconds(self) -> float:
        now = time.monotonic()
        if self._connection is None or self._down_since is not None:
            deadline = now + _PING_SECONDS
        else:
            deadline = now + _ACK_SECONDS if self._channels else self._last_ping + _PING_SECONDS
        return max(0.001, min(deadline, self._next_linger()) - now)


def _who(entry: Mapping[str, Any]) -> tuple[str, bytes]:
    party, boot = entry["party"], bytes.fromhex(entry["boot"])
    if not isinstance(party, str) or len(boot) != BOOT_BYTES:
        raise ValueError("malformed")
    return party, boot
