"""One Flight stream to the hub, and what it means when there is none.

gRPC reports a refused certificate, a wrong hub and a hub that is down alike, as an outage. When
a connection fails, :func:`diagnose` therefore connects once more with plain TLS and says which
it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from fedcredit.errors import (
    AuthenticationError,
    ConfigError,
    PeerProtocolError,
    PeerUnavailable,
    TransportError,
)
from fedcredit.node.certs import TlsMaterial
from fedcredit.node.frames import PROTOCOL, SCHEMA, Frame, piece_batch

__all__ = ["Backoff", "HubConnection", "check_uri", "diagnose", "hub_status"]

_STEP = "connect to the hub"
_CALL_SECONDS = 10.0
_PROBE_SECONDS = 3.0
#: What Flight raises when a call or a stream fails.
_FAILURES = (pa.ArrowException, fl.FlightError, OSError)


def check_uri(uri: str) -> None:
    """Refuse what is not ``grpc+tls://host:port`` (ConfigError)."""
    scheme, separator, rest = uri.partition("://")
    host, colon, port = rest.rpartition(":")
    valid = bool(separator and colon and host) and port.isascii() and port.isdigit()
    if not valid or scheme != "grpc+tls" or int(port) >= 1 << 16:
        raise ConfigError(f"{uri!r} must look like grpc+tls://host:port.", step=_STEP)


def _client(uri: str, tls: TlsMaterial, hub_name: str) -> Any:
    return fl.FlightClient(
        uri,
        tls_root_certs=tls.ca,
        cert_chain=tls.certificate,
        private_key=tls.private_pem(),
        # The hub is known by its certificate's name, wherever it runs.
        override_hostname=hub_name,
        generic_options=[
            # A shared channel would make a new attempt wait out the back-off of the old one.
            ("grpc.use_local_subchannel_pool", 1),
            # A connection that died without a word is noticed, even by a blocked write.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
    )


def _translate(
    error: Exception, party: str, uri: str, tls: TlsMaterial, hub: str
) -> TransportError:
    if isinstance(error, fl.FlightUnauthorizedError | fl.FlightUnauthenticatedError):
        return AuthenticationError(
            f"the hub at {uri} does not admit {party}.",
            party=party,
            step=_STEP,
            fix=f"have {party} added to [hub] parties at the platform",
        )
    if isinstance(error, fl.FlightServerError):
        return TransportError(
            f"the hub at {uri} refused the connection.",
            party=party,
            step=_STEP,
            fix="run the same release of fedcredit at hub and party; see the hub's log",
        )
    return diagnose(uri, tls, hub)


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


class HubConnection:
    """An open stream to the hub.

    Parameters
    ----------
    uri : str
    tls : TlsMaterial
    hub_name : str
        The party whose certificate the hub must show.
    boot : bytes
        This process.
    serve : bool
        Whether it answers proposals of sessions.

    Raises
    ------
    AuthenticationError
        Hub or party is not who it should be, or is not admitted.
    PeerUnavailable
        The hub cannot be reached.
    TransportError
        The hub refused for another reason.
    """

    def __init__(
        self, uri: str, tls: TlsMaterial, hub_name: str, *, boot: bytes, serve: bool
    ) -> None:
        try:
            self._client = _client(uri, tls, hub_name)
            # A call with a deadline of its own: a stream's deadline would be its whole life.
            options = fl.FlightCallOptions(timeout=_CALL_SECONDS)
            list(self._client.do_action(fl.Action("admit", b""), options))
            hello = {"protocol": PROTOCOL, "boot": boot.hex(), "serve": serve}
            descriptor = fl.FlightDescriptor.for_command(json.dumps(hello).encode())
            self._writer, self._reader = self._client.do_exchange(descriptor)
            self._writer.begin(SCHEMA)
        except _FAILURES as error:
            raise _translate(error, tls.party, uri, tls, hub_name) from None

        # Flight's writers are not made for two threads: close waits for a write to return.
        self._writing = threading.Lock()

    def read(self) -> tuple[Frame, pa.RecordBatch | None] | None:
        """Wait for a frame; None when the stream has ended.

        Raises
        ------
        PeerProtocolError
            Something that is no frame arrived.
        """
        try:
            chunk = self._reader.read_chunk()
        except (StopIteration, *_FAILURES):
            return None
        metadata = chunk.app_metadata
        if metadata is None:
            raise PeerProtocolError("a chunk without a header arrived.")
        return Frame.decode(metadata.to_pybytes()), chunk.data

    def write(self, frame: Frame, piece: pa.Buffer | None = None) -> bool:
        """Write a frame; False when the stream has ended."""
        with self._writing:
            try:
                if piece is None:
                    self._writer.write_metadata(frame.encode())
                else:
                    self._writer.write_with_metadata(piece_batch(piece), frame.encode())
            except _FAILURES:
                return False
        return True

    def cancel(self) -> None:
        """End the stream at once; a blocked :meth:`read` returns."""
        with contextlib.suppress(*_FAILURES):
            self._reader.cancel()

    def finish(self) -> None:
        """Say that nothing more will be written; the hub then ends the stream."""
        with self._writing, contextlib.suppress(*_FAILURES):
            self._writer.done_writing()

    def close(self) -> None:
        """Free the connection; nobody may be reading any more, and writes fail from now on."""
        self.cancel()
        with self._writing, contextlib.suppress(*_FAILURES):
            self._writer.close()
        with contextlib.suppress(*_FAILURES):
            self._client.close()


def hub_status(uri: str, tls: TlsMaterial, hub_name: str) -> dict[str, Any]:
    """Ask the hub who is connected; see :meth:`fedcredit.node.hub.Hub.status`.

    Raises
    ------
    TransportError
        As for :class:`HubConnection`.
    """
    try:
        with _client(uri, tls, hub_name) as client:
            options = fl.FlightCallOptions(timeout=_CALL_SECONDS)
            result, *_ = list(client.do_action(fl.Action("status", b""), options))
            body = result.body.to_pybytes()
    except _FAILURES as error:
        raise _translate(error, tls.party, uri, tls, hub_name) from None
    try:
        answer: dict[str, Any] = json.loads(body)
    except ValueError:
        raise TransportError("the hub's answer is malformed.", party=tls.party) from None
    return answer


def diagnose(uri: str, tls: TlsMaterial, hub_name: str) -> TransportError:
    """Find out why the hub could not be reached.

    Parameters
    ----------
    uri : str
        ``grpc+tls://host:port``.
    tls : TlsMaterial
    hub_name : str

    Returns
    -------
    TransportError
        :class:`PeerUnavailable` (nothing listens, or it is no hub) or
        :class:`AuthenticationError` (one side's certificate is refused).
    """
    host, _, port = uri.partition("://")[2].rpartition(":")
    party = tls.party
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return PeerUnavailable(
            f"the hub at {uri} cannot be reached ({reason}).",
            party=party,
            step=_STEP,
            fix="check that the hub runs and that [hub] uri and the network are right",
        )
    with connection, _context(tls) as context:
        try:
            secure = context.wrap_socket(connection, server_hostname=hub_name)
        except ssl.SSLCertVerificationError as error:
            return AuthenticationError(
                f"the certificate of the hub at {uri} was refused: {error.verify_message}.",
                party=party,
                step=_STEP,
                fix=f"the hub must show a valid certificate for {hub_name} of the CA in [tls] ca",
            )
        except OSError:
            return _broken_off(uri, party)
        with secure:
            secure.settimeout(_PROBE_SECONDS)
            if _speaks(secure):
                return _broken_off(uri, party)
    return AuthenticationError(
        f"the hub at {uri} ended the connection on seeing the certificate of {party}.",
        party=party,
        step=_STEP,
        fix="use a certificate that is valid now and of the federation's CA, if the hub is not "
        "just stopping",
    )


def _speaks(secure: ssl.SSLSocket) -> bool:
    """Whether the hub goes on after the handshake.

    It opens HTTP/2 with a settings frame at once. In TLS 1.3 a server sees the client's
    certificate after the client has finished; gRPC then drops the connection without an alert.
    """
    try:
        return bool(secure.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False


def _broken_off(uri: str, party: str) -> PeerUnavailable:
    return PeerUnavailable(
        f"something answers at {uri}, but the connection broke off.",
        party=party,
        step=_STEP,
        fix="the hub may be starting or stopping, or another service has its port",
    )


@contextlib.contextmanager
def _context(tls: TlsMaterial) -> Iterator[ssl.SSLContext]:
    context = ssl.create_default_context(cadata=tls.ca.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    # The ssl module reads keys from files only; mkstemp makes it readable by this user alone.
    descriptor, name = tempfile.mkstemp(prefix="fedcredit-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(tls.private_pem() + b"\n" + tls.certificate)
        context.load_cert_chain(name)
    finally:
        os.unlink(name)
    yield context
