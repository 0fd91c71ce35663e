"""The hub: relays frames between parties that dial out to it over mutual TLS.

Every process of a party holds one ``do_exchange`` stream; frames that name another party's
process are put on that process's stream. The hub reads routing headers only, never a body, and
keeps nothing that must survive it: after a restart the parties connect again and resend what was
not acknowledged.

::

    party A ──▶ reader of A ──▶ bounded queue of B ──▶ writer of B ──▶ party B

A full queue stops the reader, and with it the sender (gRPC flow control). A recipient that takes
nothing for ``stall_timeout`` is disconnected, so that one slow party does not hold up the others.

Who a stream belongs to is the first subject alternative name of its TLS certificate. Handlers
never let an exception through as it is, because Flight would send its traceback to the peer.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from fedcredit import __version__
from fedcredit.errors import AuthenticationError, ConfigError, FedCreditError, PeerProtocolError
from fedcredit.node.certs import TlsMaterial
from fedcredit.node.frames import (
    BOOT_BYTES,
    PROTOCOL,
    SCHEMA,
    Frame,
    FrameType,
    check_piece,
)
from fedcredit.node.stream import Stream

__all__ = ["Hub"]

log = logging.getLogger(__name__)

_MAX_STREAMS = 16
_MAX_SESSIONS = 256
#: A stream that sent so many unusable frames is ended.
_MAX_REFUSED = 1000
_SESSION_SECONDS = 600.0


@dataclass
class _SessionCount:
    parties: set[str]
    bytes: int = 0
    frames: int = 0
    last: float = 0.0


class _Server(fl.FlightServerBase):
    """Turns Flight's calls into the hub's, and every failure into a code without a traceback."""

    def __init__(self, hub: Hub, location: str, tls: TlsMaterial) -> None:
        super().__init__(
            location,
            tls_certificates=[(tls.certificate, tls.private_pem())],
            verify_client=True,
            root_certificates=tls.ca,
        )
        self._hub = hub

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        try:
            self._hub._exchange(context.peer_identity(), descriptor.command, reader, writer)
        except Exception as error:
            raise _refusal(error) from None

    def do_action(self, context: Any, action: Any) -> list[bytes]:
        try:
            return [self._hub._action(context.peer_identity(), action.type)]
        except Exception as error:
            raise _refusal(error) from None

    def _unsupported(self, *_: Any) -> Any:
        raise fl.FlightServerError("the hub offers do_exchange and do_action only")

    get_flight_info = get_schema = list_flights = do_get = do_put = _unsupported

    def list_actions(self, context: Any) -> list[tuple[str, str]]:
        return [("admit", "whether the caller may connect"), ("status", "who is connected")]


def _refusal(error: Exception) -> Exception:
    if isinstance(error, AuthenticationError):
        return fl.FlightUnauthorizedError(error.reason)
    if isinstance(error, FedCreditError):
        return fl.FlightServerError(error.reason)
    log.error("a handler failed (%s)", type(error).__name__, exc_info=error)
    return fl.FlightServerError("the hub failed; see its log")


class Hub:
    """A running hub. The listening socket is open as soon as the constructor returns.

    Parameters
    ----------
    listen : str
        ``grpc+tls://host:port``; port 0 takes a free one, see :attr:`port`.
    tls : TlsMaterial
        The certificate of the party that runs the hub; peers are checked against its CAs.
    parties : sequence of str
        Who is admitted.
    queue_bytes : int
        Bytes that may wait for one recipient.
    stall_timeout : float
        Seconds after which a recipient that takes nothing is disconnected.
    quiet_timeout : float
        Seconds after which a party that sends nothing, not even a ping, is disconnected.

    Raises
    ------
    ConfigError
        The address cannot be listened on.
    """

    def __init__(
        self,
        listen: str,
        tls: TlsMaterial,
        parties: Sequence[str],
        *,
        queue_bytes: int = 32 << 20,
        stall_timeout: float = 60.0,
        quiet_timeout: float = 90.0,
    ) -> None:
        self.parties = tuple(parties)
        self._queue_bytes, self._stall, self._quiet = queue_bytes, stall_timeout, quiet_timeout
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._streams: dict[tuple[str, bytes], Stream] = {}
        self._handlers = 0
        self._sessions: OrderedDict[bytes, _SessionCount] = OrderedDict()
        self._started = time.time()
        self._dropped = self._refused = 0
        self._stopping = False
        try:
            self._server = _Server(self, listen, tls)
        except (pa.ArrowException, fl.FlightError, OSError):
            raise ConfigError(
                f"the hub cannot listen on {listen}.",
                party=tls.party,
                step="start the hub",
                fix="choose a free port and an address of this machine in [hub] listen",
            ) from None
        self.port: int = self._server.port
        log.info("hub listens on port %d for %d parties", self.port, len(self.parties))

    def __repr__(self) -> str:
        return f"Hub(port={self.port}, parties={list(self.parties)!r})"

    # --- what Flight calls -------------------------------------------------------------------

    def _admitted(self, identity: bytes) -> str:
        party = identity.decode("ascii", "replace")
        if party not in self.parties:
            log.warning("a certificate for %.63r was turned away", party)
            raise AuthenticationError("this certificate's party is not admitted at this hub.")
        return party

    def _action(self, identity: bytes, kind: str) -> bytes:
        self._admitted(identity)
        if kind == "admit":
            answer: dict[str, Any] = {"protocol": PROTOCOL, "release": __version__}
        elif kind == "status":
            answer = self.status()
        else:
            raise PeerProtocolError("the hub knows no such action.")
        return json.dumps(answer).encode()

    def _exchange(self, identity: bytes, command: bytes, reader: Any, writer: Any) -> None:
        party = self._admitted(identity)
        boot, serving = _hello(command)
        writer.begin(SCHEMA)
        stream = Stream(
            party, boot, serving, writer, queue_bytes=self._queue_bytes, quiet=self._quiet
        )
        pump = threading.Thread(target=self._pump, args=(stream,), name=f"hub-{party}", daemon=True)
        self._join(stream)
        pump.start()
        try:
            self._read(stream, reader)
        finally:
            self._leave(stream)
            stream.finish()
            # Flight frees the writer when this handler returns: nobody may use it any more.
            pump.join()
            with self._idle:
                self._handlers -= 1
                self._idle.notify_all()

    def _pump(self, stream: Stream) -> None:
        stream.pump()
        # A reader of a dead connection may hang for long: the others learn of it now.
        self._leave(stream)

    def _read(self, stream: Stream, reader: Any) -> None:
        refused = 0
        while not stream.closed and refused < _MAX_REFUSED:
            stream.waiting_since = time.monotonic()
            try:
                chunk = reader.read_chunk()
            except (StopIteration, pa.ArrowException, fl.FlightError, OSError):
                return
            stream.waiting_since = None
            try:
                self._route(stream, chunk.app_metadata, chunk.data)
            except PeerProtocolError as error:
                self._refused += 1
                refused += 1
                log.warning("a frame from %s was refused: %s", stream.party, error.reason)

    def _route(self, stream: Stream, metadata: pa.Buffer | None, batch: Any) -> None:
        raw = metadata.to_pybytes() if metadata is not None else b""
        frame = Frame.decode(raw)
        if frame.type is FrameType.PING:
            stream.control(Frame(FrameType.PONG))
            return
        if (frame.sender, frame.sender_boot) != (stream.party, stream.boot):
            raise PeerProtocolError("it names another sender.")
        if frame.type not in (FrameType.ENVELOPE, FrameType.ACK, FrameType.RESET):
            raise PeerProtocolError("only the hub sends such frames.")
        if (batch is not None) != (frame.type is FrameType.ENVELOPE):
            raise PeerProtocolError("its body does not fit its type.")
        size = len(raw) + (check_piece(batch) if batch is not None else 0)
        stream.bytes_in += size
        with self._lock:
            target = self._streams.get((frame.recipient, frame.recipient_boot))
            self._count(frame, size)
        if target is None or not target.relay(raw, batch, size, self._stall):
            self._dropped += 1
            if target is not None and target.closed:
                # Its own threads may hang in a dead connection for long.
                self._leave(target)

    def _count(self, frame: Frame, size: int) -> None:
        if frame.type is not FrameType.ENVELOPE or frame.recipient not in self.parties:
            return
        now = time.monotonic()
        count = self._sessions.setdefault(frame.session, _SessionCount(set()))
        count.parties |= {frame.sender, frame.recipient}
        count.bytes += size
        count.frames += 1
        count.last = now
        self._sessions.move_to_end(frame.session)
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    # --- who is connected --------------------------------------------------------------------

    def _join(self, stream: Stream) -> None:
        with self._lock:
            if self._stopping:
                raise PeerProtocolError("the hub is stopping.")
            same = [s for s in self._streams.values() if s.party == stream.party]
            replaced = [s for s in same if s.boot == stream.boot]
            rivals = [s for s in same if stream.serving and s.serving and s not in replaced]
            if len(same) - len(replaced) - len(rivals) >= _MAX_STREAMS:
                raise PeerProtocolError("this party has too many connections.")
            for old in replaced:
                old.close()
            for old in rivals:
                del self._streams[old.party, old.boot]
                old.control(_hub_frame(event="goodbye", code="replaced"))
                old.finish()
            self._streams[stream.party, stream.boot] = stream
            stream.control(
                _hub_frame(
                    event="welcome",
                    release=__version__,
                    online=[_presence(s) for s in self._streams.values() if s is not stream],
                )
            )
            for old in rivals:
                self._tell(stream, _hub_frame(event="offline", **_presence(old)))
            self._tell(stream, _hub_frame(event="online", **_presence(stream)))
            self._handlers += 1
        log.info("%s connected%s", stream.party, " to serve" if stream.serving else "")

    def _leave(self, stream: Stream) -> None:
        with self._lock:
            if self._streams.get((stream.party, stream.boot)) is not stream:
                return
            del self._streams[stream.party, stream.boot]
            self._tell(stream, _hub_frame(event="offline", **_presence(stream)))
        log.info("%s disconnected", stream.party)

    def _tell(self, but: Stream, frame: Frame) -> None:
        for stream in self._streams.values():
            if stream is not but:
                stream.control(frame)

    def status(self) -> dict[str, Any]:
        """Return who is connected, recent sessions and bytes, as plain JSON types."""
        now = time.monotonic()
        with self._lock:
            streams = list(self._streams.values())
            sessions = [
                {
                    "id": session.hex()[:12],
                    "parties": sorted(count.parties),
                    "bytes": count.bytes,
                    "frames": count.frames,
                    "idle_seconds": round(now - count.last, 1),
                }
                for session, count in reversed(self._sessions.items())
                if now - count.last < _SESSION_SECONDS
            ]
        return {
            "release": __version__,
            "uptime_seconds": round(time.time() - self._started, 1),
            "parties": {
                party: [
                    {
                        "process": stream.boot.hex()[:8],
                        "serving": stream.serving,
                        "connected_seconds": round(time.time() - stream.since, 1),
                        "bytes_in": stream.bytes_in,
                        "bytes_out": stream.bytes_out,
                    }
                    for stream in streams
                    if stream.party == party
                ]
                for party in self.parties
            },
            "sessions": sessions,
            "frames_dropped": self._dropped,
            "frames_refused": self._refused,
        }

    def stop(self, grace: float = 5.0) -> bool:
        """Ask every party to disconnect and wait for it.

        Parameters
        ----------
        grace : float
            Seconds to wait.

        Returns
        -------
        bool
            Whether everyone left; otherwise only the end of the process closes their streams.
        """
        with self._idle:
            self._stopping = True
            for stream in self._streams.values():
                stream.control(_hub_frame(event="goodbye", code="stopping"))
            left = self._idle.wait_for(lambda: self._handlers == 0, grace)
        if left:
            self._server.shutdown()
        log.info("hub stopped%s", "" if left else " without waiting for everyone")
        return left


def _hello(command: bytes) -> tuple[bytes, bool]:
    try:
        hello = json.loads(command)
        protocol, boot, serving = hello["protocol"], bytes.fromhex(hello["boot"]), hello["serve"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PeerProtocolError("a stream began with a malformed greeting.") from None
    if protocol != PROTOCOL:
        raise PeerProtocolError(
            "hub and party speak different versions; run the same release of fedcredit at both."
        )
    if len(boot) != BOOT_BYTES or not isinstance(serving, bool):
        raise PeerProtocolError("a stream began with a malformed greeting.")
    return boot, serving


def _presence(stream: Stream) -> dict[str, Any]:
    return {"party": stream.party, "boot": stream.boot.hex(), "serving": stream.serving}


def _hub_frame(**values: Any) -> Frame:
    return Frame(FrameType.HUB, rest=json.dumps(values).encode())
