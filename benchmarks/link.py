"""Two or more processes over TCP on this machine: the transport of the benchmarks.

Roles run in a `Session`; every message goes through the Arrow codec and a signed envelope, as it
does between nodes. What is missing is the hub and TLS.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Mapping
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.wire import Envelope, Identity, Opener, Sealer, Session, Transcript, decode, encode

LENGTHS = struct.Struct("<IQ")


class Link:
    """One end of a TCP connection that carries envelopes; threads read ahead and write behind."""

    def __init__(self, sock: socket.socket, on_envelope: Callable[[Envelope | None], None]) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._on_envelope = on_envelope
        self._outbox: queue.Queue[Envelope | None] = queue.Queue(64)
        threading.Thread(target=self._read, daemon=True).start()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def _exactly(self, n: int) -> bytearray:
        data = bytearray(n)
        view = memoryview(data)
        while view:
            got = self._socket.recv_into(view)
            if not got:
                raise ConnectionError("the peer closed the connection")
            view = view[got:]
        return data

    def _read(self) -> None:
        try:
            while True:
                header, body = LENGTHS.unpack(self._exactly(LENGTHS.size))
                head = bytes(self._exactly(header))
                self._on_envelope(Envelope.parse(head, pa.py_buffer(self._exactly(body))))
        except (ConnectionError, OSError):
            self._on_envelope(None)

    def _write(self) -> None:
        while (envelope := self._outbox.get()) is not None:
            header = envelope.header()
            self._socket.sendall(LENGTHS.pack(len(header), envelope.body.size) + header)
            self._socket.sendall(envelope.body)

    def send(self, envelope: Envelope) -> None:
        """Queue one envelope for writing."""
        self._outbox.put(envelope)

    def close(self) -> None:
        """Write what is queued and disconnect."""
        self._outbox.put(None)
        self._writer.join()
        self._socket.close()


class Node:
    """One party with a link to each of its peers."""

    def __init__(self, party: str, sockets: Mapping[str, socket.socket]) -> None:
        self.party = party
        self.identity = Identity.generate(party)
        self._inbox: queue.Queue[Envelope | None] = queue.Queue(256)
        self._links = {name: Link(sock, self._inbox.put) for name, sock in sockets.items()}

    def drive(
        self,
        role: Coroutine[Any, Any, Any],
        session: bytes,
        keys: Mapping[str, Ed25519PublicKey],
        transcript: Transcript,
    ) -> Any:
        """Run one role to its end, recording both directions."""
        run = Session(role, party=self.party)
        sealer, opener = Sealer(self.identity, session), Opener(self.party, session, keys)
        while True:
            for recipient, message in run.outgoing():
                body = encode(message)
                transcript.record(self.party, recipient, message, body)
                self._links[recipient].send(sealer.seal(recipient, message.kind, body))
            if run.done:
                return run.result
            envelope = self._inbox.get()
            if envelope is None:
                raise ConnectionError("a peer closed the connection")
            message = decode(opener.open(envelope))
            transcript.record(envelope.sender, self.party, message, envelope.body)
            run.deliver(envelope.sender, message)

    def close(self) -> None:
        """Close every link."""
        for link in self._links.values():
            link.close()


def accept(port: int, control: Connection) -> socket.socket:
    """Listen on a port of this machine, say so on ``control``, and take one connection."""
    with socket.create_server(("127.0.0.1", port)) as server:
        control.send_bytes(b"listening")
        return server.accept()[0]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
