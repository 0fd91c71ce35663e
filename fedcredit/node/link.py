"""A party's link to the hub: connects, connects again, resends, acknowledges, dispatches.

Two threads: the reader owns the connection (connect, read, reconnect) and hands frames to
channels; the writer sends what :class:`~fedcredit.node.sender.Sender` says is next. One lock
guards all state; see :class:`~fedcredit.node.sessions.Sessions`.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from fedcredit.errors import (
    AuthenticationError,
    FedCreditError,
    PeerProtocolError,
    PeerUnavailable,
    TransportError,
)
from fedcredit.node.certs import Credentials, TlsMaterial
from fedcredit.node.channel import Timeouts
from fedcredit.node.connection import Backoff, HubConnection, check_uri
from fedcredit.node.frames import BOOT_BYTES, Frame, FrameType
from fedcredit.node.sessions import Sessions

__all__ = ["Link"]

log = logging.getLogger(__name__)

#: How long a process that was lost may still be listed by the hub (seconds).
_LEAVING_SECONDS = 2.0


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

    Raises
    ------
    ConfigError
        ``uri`` has another form.

    Attributes
    ----------
    sessions : Sessions
        Where channels are opened.
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
        on_proposal: Callable[[Frame, pa.RecordBatch], None] | None = None,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        check_uri(uri)
        self.credentials = credentials
        self.party = credentials.party
        self.uri, self.hub_name = uri, hub_name
        self.boot = secrets.token_bytes(BOOT_BYTES)
        self.timeouts = timeouts or Timeouts()
        self.refused = 0
        self.tls = tls
        self._serve = on_proposal is not None
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self.sessions = Sessions(credentials, self.boot, self.timeouts, self.outage, on_proposal)
        self._lock, self._state = self.sessions.lock, self.sessions.state
        self._closing = threading.Event()
        self._connection: HubConnection | None = None
        self._next_linger = float("inf")
        self._last_error: TransportError | None = None
        self._fatal: TransportError | None = None
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
        with self._lock:
            self.sessions.close_all()
            while self.sessions.owed and self._fatal is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._state.wait(left):
                    break
            self._closing.set()
            connection = self._connection
            self.sessions.wake_all()
        if connection is not None:
            connection.cancel()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(self.timeouts.linger)

    @property
    def _connected(self) -> bool:
        return self.sessions.presence.down_since is None

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
        with self._lock:
            self._state.wait_for(lambda: self._connected or self._fatal is not None, seconds)
            if not self._connected:
                raise self.outage(seconds)

    def wait_fatal(self) -> TransportError | None:
        """Wait until the link is closed (None) or cannot go on (the reason)."""
        with self._lock:
            self._state.wait_for(lambda: self._closing.is_set() or self._fatal is not None)
            return None if self._closing.is_set() else self._fatal

    def wait_for(
        self,
        parties: Sequence[str],
        timeout: float | None = None,
        *,
        lost: Mapping[str, bytes] | None = None,
    ) -> dict[str, bytes]:
        """Wait until every party is connected and serves; return their boots.

        Parameters
        ----------
        parties : sequence of str
        timeout : float, optional
            Seconds; ``timeouts.absence`` by default.
        lost : mapping of party name to boot, optional
            Processes that said goodbye or were just lost: for a moment, the hub may still
            believe in them. They count only if nothing changes about them for a while.

        Raises
        ------
        PeerUnavailable
            A party is named that is not there within ``timeout`` seconds
            (``timeouts.absence`` by default), or the hub is away.
        """
        seconds = self.timeouts.absence if timeout is None else timeout
        start = time.monotonic()
        deadline, lost = start + seconds, dict(lost or {})
        with self._lock:
            while True:
                now = time.monotonic()
                if now >= start + _LEAVING_SECONDS:
                    lost.clear()
                serving = self.sessions.presence.serving()
                missing = [
                    party
                    for party in parties
                    if party not in serving or serving[party] == lost.get(party)
                ]
                if self._fatal is not None:
                    raise self._fatal
                if not missing and self._connected:
                    return {party: serving[party] for party in parties}
                left = deadline - now
                if left <= 0:
                    if not self._connected:
                        raise self.outage(seconds)
                    raise PeerUnavailable(
                        f"not connected to the hub: {', '.join(missing)}.",
                        party=missing[0],
                        step="open a session",
                        fix="start `fedcredit party start` there (`fedcredit serve` at the "
                        "platform), then repeat the call",
                    )
                self._state.wait(min(left, start + _LEAVING_SECONDS - now) if lost else left)

    def outage(self, seconds: float) -> TransportError:
        """Return why the hub is away, as an error to raise."""
        error = self._fatal or self._last_error
        if error is not None:
            return error
        return PeerUnavailable(
            f"the hub at {self.uri} has been away for {seconds:.0f} s.",
            party=self.party,
            step="connect to the hub",
            fix="check that the hub runs",
        )

    def serving(self) -> tuple[str, ...]:
        """Return the parties that are connected and serve, by name; none while the hub is away."""
        with self._lock:
            return tuple(sorted(self.sessions.presence.serving()))

    def is_present(self, party: str, boot: bytes) -> bool:
        """Whether a peer's process is connected, or the hub is away and nobody can tell."""
        with self._lock:
            return not self._connected or (party, boot) in self.sessions.presence

    def _on_hub(self, frame: Frame) -> None:
        try:
            notice = json.loads(frame.rest)
            event, code = notice["event"], notice.get("code")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise PeerProtocolError("the hub sent a malformed notice.") from None
        if event == "goodbye":
            self._on_goodbye(code)
        elif event in ("welcome", "online", "offline"):
            self.sessions.on_notice(notice)
            if event == "welcome":
                self._last_error = None
                log.info("%s is connected to the hub at %s", self.party, self.uri)
                self._tell("connected", self.uri)

    def _on_goodbye(self, code: object) -> None:
        if code == "replaced":
            self._give_up(
                AuthenticationError(
                    "another process of this party serves at the hub now.",
                    party=self.party,
                    step="serve",
                    fix="run one serving process per party",
                )
            )
        connection = self._connection
        if connection is not None:
            connection.finish()

    def _give_up(self, error: TransportError) -> None:
        with self._lock:
            self._fatal = error
            self.sessions.fail_all(error)
            self.sessions.wake_all()

    def _tell(self, what: str, detail: str) -> None:
        if self._on_event is not None:
            try:
                self._on_event(what, detail)
            except Exception:
                # An observer's failure must not end the thread that carries all sessions.
                log.exception("an observer of the link failed")

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
                    serve=self._serve,
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
        with self._lock:
            news = str(error) != str(self._last_error)
            self._last_error = error
        log.log(logging.WARNING if news else logging.DEBUG, "%s", error)
        if final:
            self._tell("refused", str(error))
            self._give_up(error)
        elif news:
            self._tell("disconnected", str(error))

    def _read(self, connection: HubConnection) -> bool:
        """Read one connection to its end; whether it was welcomed."""
        with self._lock:
            self._connection = connection
            if self._closing.is_set():
                connection.cancel()
        welcomed = False
        while True:
            try:
                item = connection.read()
                if item is None:
                    break
                self._take(*item)
                welcomed = True
            except FedCreditError as error:
                self.refused += 1
                log.warning("%s refused a frame: %s", self.party, error.reason)
            except Exception:
                self.refused += 1
                log.exception("%s failed on a frame", self.party)
        with self._lock:
            self._connection = None
        self.sessions.disconnected()
        connection.close()
        if welcomed and not self._closing.is_set():
            log.warning("%s lost its connection to the hub", self.party)
            self._tell("disconnected", self.uri)
        return welcomed

    def _take(self, frame: Frame, batch: pa.RecordBatch | None) -> None:
        if frame.type is FrameType.HUB:
            self._on_hub(frame)
        elif frame.type is not FrameType.PONG:
            self.sessions.dispatch(frame, batch)

    # --- the writer --------------------------------------------------------------------------

    def _run_writer(self) -> None:
        while True:
            with self._lock:
                while (item := self._next_frame()) is None:
                    if self._closing.is_set():
                        return
                    self.sessions.work.wait(self._idle_seconds())
                connection, frame, piece = item
            if not connection.write(frame, piece):
                connection.cancel()
                with self._lock:
                    if self._connection is connection:
                        # The reader notices the end and connects again; until then, nothing.
                        self.sessions.sender.disconnected()
                        self.sessions.work.wait(self._backoff.first)

    def _next_frame(self) -> tuple[HubConnection, Frame, pa.Buffer | None] | None:
        now = time.monotonic()
        self._next_linger = self.sessions.sweep(now)
        connection = self._connection
        if connection is None or not self._connected:
            return None
        item = self.sessions.sender.next(now)
        return None if item is None else (connection, *item)

    def _idle_seconds(self) -> float:
        now = time.monotonic()
        wait = self.sessions.sender.seconds_until_due(now, busy=self.sessions.busy)
        return max(0.001, min(wait, self._next_linger - now))
